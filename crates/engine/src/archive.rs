//! Files of containers, in and out as archives: `docker cp`, and the API's `archive`.

mod files;

use std::io::{Read, Write};
use std::path::Path;

use store::{Owner, PathStat, Unpack, clean};

use crate::container::Container;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
pub use files::Files;

/// How an archive is put into a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extract {
    /// Whether it is an error to put a directory in the place of something else, or the other way
    /// round.
    pub keeps_kinds: bool,
    /// Whether the files become those of the user that the container runs as, if it names one;
    /// else they are whose the archive says.
    pub own_user: bool,
}

impl Files<'_> {
    /// What is at a path. A link is not followed, unless the path ends with a slash or `/.`.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn stat(&self, path: &Path) -> Result<PathStat> {
        use rustix::io::Errno;
        if path.as_os_str().is_empty() {
            return Err(no_file(&self.container, path));
        }
        self.live.stat(&clean(path)).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => no_file(&self.container, path),
            error => {
                let doing = format!("inspect {}", path.display());
                store::Error::Io { doing, source: error.into() }.into()
            }
        })
    }

    /// Writes what is at a path, and below it, as an archive. Its first entry is called `title`, or
    /// as Docker calls it: the last part of the path.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if nothing is there, [`Kind::Invalid`] for a file that the kernel makes
    /// up, as those below /proc.
    pub fn archive<W: Write>(&self, path: &Path, title: Option<&[u8]>, out: W) -> Result<W> {
        let packed = self.live.pack(&clean(path), title, out);
        let out = packed.map_err(|error| failed(&self.container, path, error))?;
        self.engine.emit(Event::container("archive-path", &self.container));
        Ok(out)
    }

    /// Unpacks an archive, plain or compressed, in a directory. What is in the way is replaced.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the directory; [`Kind::Invalid`] if it is none, or can only be
    /// read, or for an archive that is malformed or leads outside.
    pub fn extract(
        &self,
        path: &Path,
        options: Extract,
        archive: &mut (dyn Read + Send),
    ) -> Result<()> {
        let directory = clean(path);
        self.check_writable(&directory)?;
        let user = &self.container.record.config.user;
        let owner = match options.own_user && !user.is_empty() {
            false => Owner::Archive,
            true => self.owner(user)?,
        };
        let unpack = Unpack { path: &directory, owner, keeps_kinds: options.keeps_kinds };
        let unpacked = self.as_owner(|live| Ok(live.unpack(unpack, archive)))?;
        unpacked.map_err(|error| failed(&self.container, path, error))?;
        self.engine.emit(Event::container("extract-to-dir", &self.container));
        Ok(())
    }
}

fn no_file(container: &Container, path: &Path) -> Error {
    let (path, name) = (path.display(), &container.record.name);
    Error::new(Kind::NotFound, format!("Could not find the file {path} in container {name}"))
}

fn failed(container: &Container, path: &Path, error: store::Error) -> Error {
    match error {
        store::Error::NotFound(_) => no_file(container, path),
        error => error.into(),
    }
}
