//! Mounts of images that are attached nowhere: seen through a descriptor, gone with it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{fstatfs, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::format::{ID_AT, MAGIC};
use crate::loop_device;

/// Mounts the image in a file, attached nowhere: the descriptor of its root directory. `devices`
/// are the images that its data lies in, in the order in which it was made of them.
///
/// From Linux 6.12 on the kernel reads the file itself, if its file system lets it; else it is
/// given a loop device that ends with the mount. The kernel trusts an image no more than any disk,
/// but bugs in its reader are possible: images should be one's own.
///
/// # Errors
/// When the kernel knows no EROFS, refuses the image or the caller (`CAP_SYS_ADMIN` outside of user
/// namespaces), or has no loop device left.
pub fn mount(image: &Path, devices: &[PathBuf]) -> io::Result<OwnedFd> {
    let files = [image].into_iter().chain(devices.iter().map(PathBuf::as_path)).map(File::open);
    let files = files.collect::<io::Result<Vec<File>>>()?;
    // A path of any length in few bytes: one value of `fsconfig` holds at most 255.
    let through = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match mount_sources(files.iter().map(through)) {
        // Before 6.12, and on file systems that cannot be read from inside of the kernel.
        Err(Errno::NOTBLK | Errno::INVAL | Errno::NOTSUP) => mount_by_loop(&files),
        mounted => Ok(mounted?),
    }
}

/// Whether the kernel reads an image from its file: without a loop device.
#[must_use]
pub fn mounts_from_file(image: &Path) -> bool {
    let Ok(file) = File::open(image) else { return false };
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    mount_sources([path].into_iter()).is_ok()
}

/// By loop devices, which end with their last user: these descriptors first, then the mount.
pub(crate) fn mount_by_loop(files: &[File]) -> io::Result<OwnedFd> {
    let attached = files.iter().map(loop_device::attach).collect::<io::Result<Vec<_>>>()?;
    Ok(mount_sources(attached.iter().map(|device| device.path().to_owned()))?)
}

fn mount_sources(mut sources: impl Iterator<Item = PathBuf>) -> Result<OwnedFd, Errno> {
    let description = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let description = description.as_fd();
    let image = sources.next().ok_or(Errno::INVAL)?;
    fsconfig_set_string(description, "source", &image)?;
    for device in sources {
        fsconfig_set_string(description, "device", &device)?;
    }
    // A block device would be opened for writing otherwise.
    fsconfig_set_flag(description, "ro")?;
    fsconfig_create(description)?;
    fsmount(description, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// What tells a file system from all others: the number in its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id([u8; 16]);

impl Id {
    /// That of an image.
    ///
    /// # Errors
    /// Those of reading; [`io::ErrorKind::UnexpectedEof`].
    pub fn of(image: &Path) -> io::Result<Id> {
        let mut id = [0; 16];
        File::open(image)?.read_exact_at(&mut id, ID_AT)?;
        Ok(Id(id))
    }

    /// Whether `mount` is of this file system, as statfs(2) shows it.
    #[must_use]
    pub fn is_of(&self, mount: impl AsFd) -> bool {
        let half = |at| u64::from_le_bytes(std::array::from_fn(|index| self.0[at + index]));
        // As the kernel folds it (uuid_to_fsid, Linux 5.19).
        let folded = half(0) ^ half(8);
        fstatfs(&mount).is_ok_and(|fs| fs.f_type as u32 == MAGIC)
            && fstatvfs(&mount).is_ok_and(|fs| fs.f_fsid == folded)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, Builder};

    #[test]
    fn a_loop_device_ends_with_its_mount() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let file = File::create(&path).unwrap();
        let attributes = || Attributes { mode: 0o755, ..Attributes::default() };
        let mut image = Builder::new(file, attributes(), &[]);
        image.add_directory((crate::ROOT, b"here"), attributes()).unwrap();
        image.finish([7; 16]).unwrap();
        let mounts: Vec<OwnedFd> =
            (0..3).map(|_| mount_by_loop(&[File::open(&path).unwrap()]).unwrap()).collect();
        for mount in &mounts {
            let root = format!("/proc/self/fd/{}/here", mount.as_raw_fd());
            assert!(Path::new(&root).is_dir());
        }
        drop(mounts);
        let backs = |name: &std::ffi::OsStr| {
            let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
            std::fs::read_to_string(backing).is_ok_and(|of| of.trim() == path.to_str().unwrap())
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while std::fs::read_dir("/sys/block").unwrap().any(|e| backs(&e.unwrap().file_name())) {
            assert!(std::time::Instant::now() < deadline, "a loop device stayed");
            std::thread::yield_now();
        }
    }
}
