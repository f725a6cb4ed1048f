//! Paths that a container must not read, or must not write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::filesystem::{Description, attach, copy_tree, copy_tree_at};
use super::option::Bind;
use crate::error::{Doing, Error};
use crate::inroot::{Root, file_type};
use crate::sys::{MountAttr, mount_setattr};
use crate::weak::weakened;

/// Covers files with the host's `/dev/null` and directories with one shared empty tmpfs.
pub(crate) struct Masks<'a> {
    root: &'a Root,
    null: BorrowedFd<'a>,
    /// The SELinux label of mounts.
    label: Option<&'a str>,
    null_attached: bool,
    /// Attached at the first directory; copied for the others.
    empty: Option<OwnedFd>,
}

impl<'a> Masks<'a> {
    /// `null` is an unattached mount of the host's `/dev/null`, already verified.
    pub(crate) fn new(root: &'a Root, null: BorrowedFd<'a>, label: Option<&'a str>) -> Masks<'a> {
        Masks { root, null, label, null_attached: false, empty: None }
    }

    /// Covers `path`; what does not exist needs no cover.
    ///
    /// # Errors
    /// When it exists and cannot be covered: a path that stays readable is not an option.
    pub(crate) fn cover(&mut self, path: &Path) -> Result<(), Error> {
        let Some(target) = open_existing(self.root, path)? else { return Ok(()) };
        let doing = || format!("mask `{}`", path.display());
        if file_type(&target).doing(doing)? == FileType::Directory {
            self.cover_directory(target.as_fd(), path)
        } else {
            self.cover_file(target.as_fd(), path)
        }
    }

    /// The cover is read-only, so that chmod(2) on it cannot reach the host's device.
    fn cover_file(&mut self, target: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        let doing = || format!("mask `{}`", path.display());
        if weakened("null-by-path") {
            let null = copy_tree(Path::new("/dev/null"), Bind::Single)?;
            return attach(null.as_fd(), target).doing(doing);
        }
        if self.null_attached {
            let copy = copy_tree_at(self.null, Bind::Single).doing(doing)?;
            return attach(copy.as_fd(), target).doing(doing);
        }
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        let attr = MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE };
        mount_setattr(self.null, attr, false).doing(doing)?;
        attach(self.null, target).doing(doing)?;
        self.null_attached = true;
        Ok(())
    }

    fn cover_directory(&mut self, target: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        let doing = || format!("mask `{}`", path.display());
        if let Some(empty) = &self.empty {
            let copy = copy_tree_at(empty, Bind::Single).doing(doing)?;
            return attach(copy.as_fd(), target).doing(doing);
        }
        let tmpfs = Description::new("tmpfs")?;
        if let Some(label) = self.label {
            tmpfs.set("context", Some(label))?;
        }
        tmpfs.set("nr_inodes", Some("2"))?;
        tmpfs.set("mode", Some("755"))?;
        let attributes = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC;
        let empty = tmpfs.mount(attributes)?;
        attach(empty.as_fd(), target).doing(doing)?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// Makes the tree at `path` read-only; what does not exist needs nothing.
///
/// # Errors
/// When it exists and stays writable.
pub(crate) fn make_read_only(root: &Root, path: &Path) -> Result<(), Error> {
    let Some(target) = open_existing(root, path)? else { return Ok(()) };
    let doing = || format!("make `{}` read-only", path.display());
    let copy = copy_tree_at(&target, Bind::Recursive).doing(doing)?;
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(copy.as_fd(), attr, true).doing(doing)?;
    attach(copy.as_fd(), target.as_fd()).doing(doing)
}

fn open_existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Error> {
    match root.open(path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            Ok(None)
        }
        Err(error) => Err(Error::kernel(format!("open `{}`", path.display()), error)),
    }
}
