//! Mounts that are attached nowhere yet: new file systems, and copies of existing trees.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    fspick, move_mount, open_tree,
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::mount::option::Bind;
use crate::namespace::Birth;
use crate::sync::{Point, Sync as Socket};
use crate::sys::{MountAttr, mount_setattr};

/// How much of the kernel's own explanation of a refused mount is read, in bytes.
const EXPLANATION_MAX: usize = 512;

/// A file system that is being described to the kernel (fsopen(2)).
pub(crate) struct Description {
    kind: String,
    fd: OwnedFd,
}

impl Description {
    /// Begins to describe a file system of the type `kind`.
    pub(crate) fn new(kind: &str) -> Result<Description, Error> {
        let fd = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .doing(|| format!("open the file system type `{kind}`"))?;
        Ok(Description { kind: kind.into(), fd })
    }

    /// Begins to describe changes of the file system that `mounted` is in (fspick(2)).
    pub(crate) fn of_mounted(mounted: BorrowedFd<'_>, kind: &str) -> Result<Description, Error> {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let fd = fspick(mounted, "", flags).doing(|| format!("look at the mounted `{kind}`"))?;
        Ok(Description { kind: kind.into(), fd })
    }

    /// Makes the described changes.
    pub(crate) fn reconfigure(self) -> Result<(), Error> {
        fsconfig_reconfigure(self.fd.as_fd()).map_err(|errno| self.refused("change it", errno))
    }

    /// Sets a parameter; a bare key is a flag.
    pub(crate) fn set(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        self.try_set(key, value).map_err(|errno| {
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            self.refused(&format!("set `{key}{value}`"), errno)
        })
    }

    /// Sets a parameter that this kernel may not know.
    pub(crate) fn try_set(&self, key: &str, value: Option<&str>) -> Result<(), Errno> {
        match value {
            Some(value) => fsconfig_set_string(self.fd.as_fd(), key, value),
            None => fsconfig_set_flag(self.fd.as_fd(), key),
        }
    }

    /// Sets a parameter to a path.
    pub(crate) fn try_set_path(&self, key: &str, path: &Path) -> Result<(), Errno> {
        fsconfig_set_string(self.fd.as_fd(), key, path)
    }

    /// Makes the file system, as a mount that is attached nowhere.
    pub(crate) fn mount(self, attributes: u64) -> Result<OwnedFd, Error> {
        fsconfig_create(self.fd.as_fd()).map_err(|errno| self.refused("create it", errno))?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.refused("mount it", errno))
    }

    /// An error with what the kernel says about it, which it leaves in the descriptor.
    fn refused(&self, doing: &str, errno: Errno) -> Error {
        let mut bytes = [0; EXPLANATION_MAX];
        let length = rustix::io::read(&self.fd, &mut bytes[..]).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..length]);
        let text = text.trim_start_matches(['e', 'w', 'i', ' ']).trim();
        let separator = if text.is_empty() { "" } else { ": " };
        let kind = &self.kind;
        Error::kernel(format!("describe a file system `{kind}`, {doing}{separator}{text}"), errno)
    }
}

/// Makes a mount in a process of its own, which has a mount namespace of its own and whose rights
/// are its own.
///
/// # Errors
/// Those of `make`, and when the kernel refuses the process.
pub(crate) fn aside(make: impl FnOnce() -> Result<OwnedFd, Error>) -> Result<OwnedFd, Error> {
    let (ours, theirs) = Socket::pair()?;
    let maker = Birth { flags: libc::CLONE_NEWNS as u64, cgroup: None }.here(|| {
        ours.close_in_child();
        if let Err(error) = make().and_then(|mount| theirs.tell(Point::Ready, Some(&mount))) {
            theirs.fail(&error);
        }
        0
    })?;
    drop(theirs);
    let mount = ours.expect(Point::Ready);
    maker.wait().doing(|| "wait for the maker of a mount")?;
    mount?.ok_or(Errno::PROTO).doing(|| "receive a mount")
}

/// A copy of the mount at `path`, without links, in the view of the process of a pidfd: attached
/// nowhere, and the same file system.
///
/// # Errors
/// When the process has ended, nothing is there, or the kernel refuses.
pub fn copy_of(process: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    let copy = || {
        move_into_thread_name_spaces(process, ThreadNameSpaceType::MOUNT)
            .doing(|| "enter the mount namespace")?;
        let found = Root::of_process()?
            .open_without_links(path, OFlags::PATH)
            .doing(|| format!("look for `{}`", path.display()))?;
        copy_tree_at(&found, Bind::Single).doing(|| format!("copy `{}`", path.display()))
    };
    aside(copy)
}

/// A copy of the tree at `path` of this process' view, attached nowhere.
pub(crate) fn copy_tree(path: &Path, bind: Bind) -> Result<OwnedFd, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | extent(bind);
    open_tree(rustix::fs::CWD, path, flags).doing(|| format!("bind `{}`", path.display()))
}

/// A copy of the tree at a descriptor of an attached mount.
pub(crate) fn copy_tree_at(tree: impl AsFd, bind: Bind) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(tree.as_fd(), "", flags | OpenTreeFlags::AT_EMPTY_PATH | extent(bind))
}

fn extent(bind: Bind) -> OpenTreeFlags {
    match bind {
        Bind::Single => OpenTreeFlags::empty(),
        Bind::Recursive => OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Attaches `mount` on top of `target`: both are descriptors, so no path is walked.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Changes attributes unless there is nothing to change.
pub(crate) fn change(
    mount: BorrowedFd<'_>,
    attr: MountAttr,
    recursive: bool,
) -> std::io::Result<()> {
    if attr == MountAttr::default() { Ok(()) } else { mount_setattr(mount, attr, recursive) }
}
