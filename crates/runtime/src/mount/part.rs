//! Mounts of which the specification cannot say what they show: a part of a tree, an image.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use oci::Rootfs;
use oci::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::filesystem::{aside, attach, copy_tree, copy_tree_at};
use super::image::Images;
use super::option::{Bind, Options};
use super::rootfs::{detached_view, layers};
use super::{kind_of, overlay};
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::launch::{Launch, Part};
use crate::weak::weakened;

/// What is said of a mount beside the specification.
fn of<'a>(launch: &Launch<'a>, mount: &Mount) -> Option<&'a Part> {
    launch.parts.iter().find(|part| part.destination == *mount.destination())
}

/// Whether anything is.
pub(super) fn is_given(launch: &Launch<'_>, mount: &Mount) -> bool {
    of(launch, mount).is_some()
}

/// The mount that the caller has made, if it has.
///
/// # Errors
/// When there are too many descriptors.
pub(super) fn made(launch: &Launch<'_>, mount: &Mount) -> Result<Option<OwnedFd>, Error> {
    let made = launch.made.iter().find(|(at, _)| at == mount.destination());
    let copy = made.map(|(_, made)| made.try_clone()).transpose();
    copy.doing(|| format!("hold the mount on `{}`", mount.destination().display()))
}

/// Makes the mount, attached nowhere. What `part.subpath` leads through stays inside the tree.
///
/// # Errors
/// When there is no such part, or the kernel refuses.
pub(super) fn make(
    launch: &Launch<'_>,
    mount: &Mount,
    (options, user_namespace): (&Options, bool),
) -> Result<Option<OwnedFd>, Error> {
    let Some(part) = of(launch, mount) else { return Ok(None) };
    let on = mount.destination().display();
    let tree = match (&part.image, mount.source()) {
        (Some(_), _) if user_namespace => {
            let text = format!("an image on `{on}` in a user namespace");
            return Err(Error::Unsupported(text));
        }
        (Some(image), _) => read_only(image)?,
        (None, Some(source)) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = openat(CWD, source, flags, Mode::empty());
            opened.doing(|| format!("open `{}`", source.display()))?
        }
        (None, None) => {
            return Err(Error::Spec(format!("the {} on `{on}` needs a source", kind_of(mount))));
        }
    };
    if part.subpath.as_os_str().is_empty() {
        return Ok(Some(tree));
    }
    let subpath = part.subpath.display();
    let copy = |tree: OwnedFd| {
        let inner = match weakened("part-by-path") {
            true => openat(tree, &part.subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(Into::into),
            false => Root::new(tree).open(&part.subpath, OFlags::PATH),
        };
        let inner = inner
            .doing(|| format!("cannot access path `{subpath}` of what is mounted on `{on}`"))?;
        copy_tree_at(&inner, options.bind.unwrap_or(Bind::Recursive))
            .doing(|| format!("copy the mount of `{subpath}`"))
    };
    if part.image.is_none() {
        return copy(tree).map(Some);
    }
    // A part of a mount can be copied where the mount is attached only.
    aside(|| {
        attach(tree.as_fd(), detached_view()?.as_fd()).doing(|| "attach the image")?;
        copy(tree)
    })
    .map(Some)
}

/// The layers of a root file system without anything above them.
fn read_only(rootfs: &Rootfs) -> Result<OwnedFd, Error> {
    let Rootfs::Overlay { lower, .. } = rootfs else {
        return Err(Error::Unsupported("an image that is a plain directory".into()));
    };
    let images = Images::open(rootfs, None)?;
    if let [only] = &lower[..] {
        return match images.get_own(0)? {
            Some(mount) => Ok(mount),
            None => copy_tree(only.path(), Bind::Single),
        };
    }
    let nothing = Path::new("");
    let lower = &layers(lower, &images)?;
    overlay::make(&overlay::Overlay { lower, upper: nothing, work: nothing, volatile: false })
}
