//! Overlayfs' conventions for what a layer hides (kernel, Documentation/filesystems/overlayfs.rst,
//! "whiteouts and opaque directories").

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Stat, XattrFlags};
use rustix::io::Errno;

pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

/// Whether this says "not here any more".
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0
}

/// Whether a directory hides what lies below it.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 2];
    let length = rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value[..]);
    length == Ok(1) && value[0] == b'y'
}

pub(crate) fn set_opaque(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty())
}

/// Whether an attribute is a program's capabilities.
pub(crate) fn is_capability(name: &[u8]) -> bool {
    name == b"security.capability"
}
