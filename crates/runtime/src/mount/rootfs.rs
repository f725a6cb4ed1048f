//! The root file system itself, as a mount that is attached nowhere yet.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci::{Lower, Rootfs};

use super::filesystem::{aside, attach, copy_tree};
use super::idmap::IdMap;
use super::image::Images;
use super::option::Bind;
use super::overlay::{self, Layer, Overlay};
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::sys::{MountAttr, mount_setattr};

/// Makes the mount of `rootfs`, whose images are mounted already; it appears nowhere on the host.
///
/// The kernel mounts a volatile overlay once: afterwards `work/work/incompat/volatile` stays, and
/// the next attempt fails with `EINVAL` until the work directory is emptied.
///
/// # Errors
/// When a directory is missing or the kernel refuses the overlay.
pub(crate) fn make(rootfs: &Rootfs, images: &Images) -> Result<OwnedFd, Error> {
    match rootfs {
        Rootfs::Dir(path) => copy_tree(path, Bind::Recursive),
        Rootfs::Overlay { lower, upper, work, volatile } => {
            let lower = &layers(lower, images)?;
            overlay::make(&Overlay { lower, upper, work, volatile: *volatile })
        }
    }
}

/// As [`make`], for a container with a user namespace: id 0 on disk is root of the container, and
/// what that makes is of id 0 on disk.
///
/// An overlay cannot map ids; its layers can (Linux 5.19), and the overlay passes their owners on.
///
/// # Errors
/// Also [`Error::Unsupported`] when a file system maps no ids.
pub(crate) fn make_mapped(rootfs: &Rootfs, images: &Images, ids: &IdMap) -> Result<OwnedFd, Error> {
    match rootfs {
        Rootfs::Dir(path) => mapped(path, Bind::Recursive, ids),
        Rootfs::Overlay { lower, upper, work, volatile } => {
            aside(|| mapped_overlay((lower, images), (upper, work), *volatile, ids))
        }
    }
}

pub(super) fn layers(lower: &[Lower], images: &Images) -> Result<Vec<Layer>, Error> {
    let layer = |(at, lower)| {
        let mount = images.get(at).map(OwnedFd::try_clone).transpose();
        mount.map(|mount| Layer::new(lower, mount)).doing(|| "hold the mount of an image")
    };
    lower.iter().enumerate().map(layer).collect()
}

fn mapped(path: &Path, extent: Bind, ids: &IdMap) -> Result<OwnedFd, Error> {
    let tree = copy_tree(path, extent)?;
    ids.apply(tree.as_fd(), extent, path)?;
    Ok(tree)
}

/// In the process [`aside`]: an overlay accepts layers of attached mounts only (before Linux 6.15),
/// and makes its own files with the rights of who mounts it, even later.
fn mapped_overlay(
    (lower, images): (&[Lower], &Images),
    (upper, work): (&Path, &Path),
    volatile: bool,
    ids: &IdMap,
) -> Result<OwnedFd, Error> {
    let slash = detached_view()?;
    let place = |path: &Path| {
        let tree = mapped(path, Bind::Single, ids)?;
        // Over the root, where no path of a descriptor passes.
        attach(tree.as_fd(), slash.as_fd()).doing(|| format!("attach `{}`", path.display()))?;
        Ok::<OwnedFd, Error>(tree)
    };
    let mut layers = Vec::with_capacity(lower.len());
    for (at, lower) in lower.iter().enumerate() {
        let Layer { path, mount, is_image } = Layer::new(lower, images.get_own(at)?);
        let mount = match mount {
            Some(mount) => {
                ids.apply(mount.as_fd(), Bind::Single, lower.path())?;
                attach(mount.as_fd(), slash.as_fd())
                    .doing(|| format!("attach `{}`", lower.path().display()))?;
                mount
            }
            None => place(&path)?,
        };
        layers.push(Layer { path: path_of(&mount), mount: Some(mount), is_image });
    }
    // The two must be of one mount.
    let (Some(parent), Some(upper), Some(work)) = (
        upper.parent().filter(|&parent| work.parent() == Some(parent)),
        upper.file_name(),
        work.file_name(),
    ) else {
        return Err(Error::Spec("upper and work must lie side by side in a directory".into()));
    };
    let parent = place(parent)?;
    ids.become_root()?;
    let parent = path_of(&parent);
    let (upper, work) = (&parent.join(upper), &parent.join(work));
    overlay::make_aside(&Overlay { lower: &layers, upper, work, volatile })
}

/// The root of this process' view, whose mounts will not appear on the host.
pub(super) fn detached_view() -> Result<Root, Error> {
    let slash = Root::of_process()?;
    let apart = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
    mount_setattr(slash.as_fd(), apart, true).doing(|| "detach the mounts from the host's")?;
    Ok(slash)
}

/// A path to what a descriptor is of, for interfaces that take paths only.
pub(super) fn path_of(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
