//! Files that appear whole or not at all, wherever the user wants them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;

use crate::disk::hidden_name;
use crate::error::{Doing as _, Error};

/// A file that has no name until it is complete: a process that is killed leaves nothing.
#[derive(Debug)]
pub struct Fresh {
    file: File,
    place: PathBuf,
    /// Where the file is meanwhile, on file systems that have no files without names.
    hidden: Option<PathBuf>,
}

impl Fresh {
    /// A file that is to be at `place`, with these permissions but for the process' umask.
    ///
    /// # Errors
    /// [`Error::Io`] if its directory cannot be written to.
    pub fn create(place: &Path, mode: u32) -> Result<Self, Error> {
        let doing = || format!("create `{}`", place.display());
        let directory = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let place = place.to_owned();
        match openat(CWD, directory, flags, Mode::from(mode)) {
            Ok(file) => Ok(Self { file: file.into(), place, hidden: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let hidden = directory.join(hidden_name()?);
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(CWD, &hidden, flags, Mode::from(mode)).doing(doing)?;
                Ok(Self { file: file.into(), place, hidden: Some(hidden) })
            }
            Err(error) => Err(error).doing(doing),
        }
    }

    /// Gives the file its name, in the place of whatever has that.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep(mut self) -> Result<(), Error> {
        let place = self.place.clone();
        let doing = || format!("write `{}`", place.display());
        if self.hidden.is_none() {
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            match linkat(CWD, &own, CWD, &place, AtFlags::SYMLINK_FOLLOW) {
                Err(Errno::EXIST) => {}
                linked => return linked.doing(doing),
            }
            // A link cannot replace a file; a name beside it can.
            let hidden = place.with_file_name(hidden_name()?);
            linkat(CWD, &own, CWD, &hidden, AtFlags::SYMLINK_FOLLOW).doing(doing)?;
            self.hidden = Some(hidden);
        }
        if let Some(hidden) = &self.hidden {
            fs::rename(hidden, &place).doing(doing)?;
        }
        self.hidden = None;
        Ok(())
    }
}

impl Write for Fresh {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            let _ = fs::remove_file(hidden);
        }
    }
}
