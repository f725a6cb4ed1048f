//! Images among the layers of a root file system: mounted before the container is, and shared.
//!
//! Each mount of an image from its file is a file system of its own to the kernel, with a page cache
//! of its own. So whoever holds a container keeps the descriptor of the mount open and says so in a
//! directory: an empty file, whose name is the image's id, the holder's process id and start time,
//! and the descriptor's number. Another container of that image takes a copy of the descriptor
//! (pidfd_getfd(2)) and says so as well: the file system stays as long as any of them.
//!
//! A name promises nothing. The process must be the one that wrote it, and what is taken from it must
//! be a mount of this very image, which its id tells; else the image is mounted anew.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci::{Lower, Rootfs};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open, test_kill_process,
};

use super::filesystem::copy_tree_at;
use super::option::Bind;
use crate::error::{Doing, Error};
use crate::signal::start_time;

/// From this version on an overlay takes, and open_tree(2) copies, mounts that are attached nowhere.
const SHARES_FROM: (u32, u32) = (6, 15);

/// The mounts of a root file system's images, attached nowhere.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// One for each layer of an overlay; `None` for a directory.
    mounts: Vec<Option<Image>>,
}

#[derive(Debug)]
struct Image {
    mount: OwnedFd,
    /// Where it is said that this process holds the mount.
    entry: Option<PathBuf>,
    is_shared: bool,
}

impl Images {
    /// Mounts them, or takes them from other containers that are held by who wrote into `shared`.
    ///
    /// # Errors
    /// When the kernel does not mount an image.
    pub(crate) fn open(rootfs: &Rootfs, shared: Option<&Path>) -> Result<Images, Error> {
        let Rootfs::Overlay { lower, .. } = rootfs else { return Ok(Images::default()) };
        let mut images = Images::default();
        for lower in lower {
            images.mounts.push(match lower {
                Lower::Directory(_) => None,
                Lower::Image { path, devices } => Some(
                    Image::open(path, devices, shared)
                        .doing(|| format!("mount the image `{}`", path.display()))?,
                ),
            });
        }
        Ok(images)
    }

    /// The mount for the layer at this place, if that is an image.
    pub(super) fn get(&self, layer: usize) -> Option<&OwnedFd> {
        self.mounts.get(layer)?.as_ref().map(|image| &image.mount)
    }

    /// As [`Images::get`], a mount whose attributes may be changed.
    ///
    /// # Errors
    /// Those of open_tree(2) and dup(2).
    pub(super) fn get_own(&self, layer: usize) -> Result<Option<OwnedFd>, Error> {
        let Some(image) = self.mounts.get(layer).and_then(Option::as_ref) else { return Ok(None) };
        let own = if image.is_shared {
            copy_tree_at(&image.mount, Bind::Single).map_err(io::Error::from)
        } else {
            image.mount.try_clone()
        };
        own.map(Some).doing(|| "copy the mount of an image")
    }

    /// Only what others may use as well: the rest is the container's alone from now on.
    pub(crate) fn shared(mut self) -> Images {
        self.mounts.retain(|image| image.as_ref().is_some_and(|image| image.is_shared));
        self
    }
}

impl Image {
    fn open(path: &Path, devices: &[PathBuf], shared: Option<&Path>) -> io::Result<Image> {
        let Some(directory) = shared.filter(|_| can_share()) else {
            let mount = erofs::mount(path, devices)?;
            return Ok(Image { mount, entry: None, is_shared: false });
        };
        let id = erofs::Id::of(path)?;
        let mount = match take(directory, &id) {
            Some(mount) => mount,
            None => erofs::mount(path, devices)?,
        };
        // Without an entry nobody finds it, which costs memory and nothing else.
        let entry = announce(directory, &id, mount.as_raw_fd()).ok();
        Ok(Image { mount, entry, is_shared: true })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            let _ = fs::remove_file(entry);
        }
    }
}

fn can_share() -> bool {
    let system = rustix::system::uname();
    let mut numbers = system.release().to_str().unwrap_or_default().split(['.', '-']);
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (next(), next()) >= SHARES_FROM
}

/// Says that this process holds a mount of the image `id`.
fn announce(directory: &Path, id: &erofs::Id, number: RawFd) -> io::Result<PathBuf> {
    let pid = getpid().as_raw_nonzero().get();
    let entry = directory.join(Holder { pid, start: start_time(pid)?, number }.name(id));
    let create =
        || fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&entry);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            create()?
        }
        created => created?,
    };
    Ok(entry)
}

/// A mount of the image `id` that some process holds. Entries of processes that have ended go.
fn take(directory: &Path, id: &erofs::Id) -> Option<OwnedFd> {
    let names: Vec<_> = fs::read_dir(directory).ok()?.flatten().map(|e| e.file_name()).collect();
    let mut holders = names.iter().filter_map(|name| Holder::parse(name.to_str()?));
    let found = holders.find_map(|(of, holder)| {
        if of != id.to_string() {
            return None;
        }
        let taken = holder.take(id);
        if let Err(Errno::SRCH) = taken {
            let _ = fs::remove_file(directory.join(holder.name(id)));
        }
        taken.ok()
    });
    if found.is_none() {
        // Once for each image that is not mounted: what was killed is not there to tidy up.
        for name in names {
            let holder = name.to_str().and_then(Holder::parse);
            let pid = holder.and_then(|(_, holder)| Pid::from_raw(holder.pid));
            if pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
                let _ = fs::remove_file(directory.join(name));
            }
        }
    }
    found
}

/// Who holds a mount, and by which descriptor.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    pid: i32,
    /// See [`start_time`].
    start: u64,
    number: RawFd,
}

impl Holder {
    fn name(&self, id: &erofs::Id) -> String {
        format!("{id}.{}.{}.{}", self.pid, self.start, self.number)
    }

    /// The id of an image, as text, and who holds it.
    fn parse(name: &str) -> Option<(&str, Holder)> {
        let mut words = name.split('.');
        let id = words.next()?;
        let pid = words.next()?.parse().ok().filter(|&pid| pid > 0)?;
        let (start, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some((id, Holder { pid, start, number }))
    }

    /// A copy of its descriptor.
    ///
    /// # Errors
    /// [`Errno::SRCH`] if the process has ended or holds something else there; those of
    /// pidfd_getfd(2), which wants the rights of ptrace(2).
    fn take(&self, id: &erofs::Id) -> Result<OwnedFd, Errno> {
        let pid = Pid::from_raw(self.pid).ok_or(Errno::SRCH)?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        // Asked after it was opened: the number had no time to become another's.
        if start_time(self.pid).ok() != Some(self.start) {
            return Err(Errno::SRCH);
        }
        match pidfd_getfd(process.as_fd(), self.number, PidfdGetfdFlags::empty()) {
            Ok(mount) if id.is_of(&mount) => Ok(mount),
            Ok(_) | Err(Errno::BADF) => Err(Errno::SRCH),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_holds_a_mount() {
        let holder = Holder { pid: 7, start: 99, number: 12 };
        assert_eq!(Holder::parse("ab.7.99.12"), Some(("ab", holder)));
        for name in ["", "ab", "ab.7.99", "ab.7.99.12.1", "ab.0.99.12", "ab.-7.99.12", "ab.x.9.1"] {
            assert_eq!(Holder::parse(name), None, "{name}");
        }
    }
}
