//! Overlays (Documentation/filesystems/overlayfs.rst), attached nowhere.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci::Lower;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags, mount, open_tree};

use super::filesystem::{Description, aside, attach};
use super::rootfs::{detached_view, path_of};
use crate::error::{Doing, Error};

/// What the host may have switched on by default: the upper directory must stay readable as plain
/// directories and whiteouts, whose meaning depends on nothing else.
///
/// Nor numbers of inodes that say in their highest bits which layer they are of (`xino`): 32-bit
/// programs cannot hold them, and such as keep numbers in floating point take them for one.
const FEATURES_OFF: [&str; 4] = ["redirect_dir", "index", "metacopy", "xino"];

/// A layer as overlayfs takes it.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) path: PathBuf,
    /// What the path leads through, if it is no path of the host's.
    pub(super) mount: Option<OwnedFd>,
    /// Whether it is a file system of its own.
    pub(super) is_image: bool,
}

impl Layer {
    /// That of `lower`; `mount` is of its image, attached nowhere.
    pub(super) fn new(lower: &Lower, mount: Option<OwnedFd>) -> Layer {
        let path = mount.as_ref().map_or_else(|| lower.path().into(), path_of);
        Layer { path, is_image: mount.is_some(), mount }
    }
}

/// The directories of an overlay.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    /// The layers, topmost first.
    pub(super) lower: &'a [Layer],
    /// Empty for an overlay that cannot be written.
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    /// Nothing is written back to disk on its account.
    pub(super) volatile: bool,
}

/// Makes the mount.
///
/// # Errors
/// When a directory is missing or the kernel refuses the overlay.
pub(super) fn make(overlay: &Overlay<'_>) -> Result<OwnedFd, Error> {
    make_with(overlay, |overlay| {
        aside(|| {
            let slash = detached_view()?;
            for image in overlay.lower.iter().filter_map(|layer| layer.mount.as_ref()) {
                // Over the root, where no path of a descriptor passes.
                attach(image.as_fd(), slash.as_fd()).doing(|| "attach the mount of an image")?;
            }
            attach_old(overlay)
        })
    })
}

/// As [`make`], for a process that already has a view of its own, detached from the host's.
pub(super) fn make_aside(overlay: &Overlay<'_>) -> Result<OwnedFd, Error> {
    make_with(overlay, attach_old)
}

fn make_with(
    overlay: &Overlay<'_>,
    old: impl FnOnce(&Overlay<'_>) -> Result<OwnedFd, Error>,
) -> Result<OwnedFd, Error> {
    match describe(overlay) {
        // Only what has failed is looked into: new kernels pay nothing for old ones.
        Err(_) if !overlay.lower.is_empty() && is_old(overlay) => old(overlay),
        made => made,
    }
}

/// Names the layers one by one (`lowerdir+`, Linux 6.7), so that neither their number nor what
/// they are called matters.
fn describe(overlay: &Overlay<'_>) -> Result<OwnedFd, Error> {
    if overlay.lower.is_empty() {
        return Err(Error::Spec("an overlay needs at least one layer".into()));
    }
    let made = Description::new("overlay")?;
    made.set("source", Some("overlay"))?;
    for layer in overlay.lower {
        set_path(&made, "lowerdir+", &layer.path)?;
    }
    if !overlay.upper.as_os_str().is_empty() {
        set_path(&made, "upperdir", overlay.upper)?;
        set_path(&made, "workdir", overlay.work)?;
    }
    for feature in FEATURES_OFF {
        // A kernel built without a feature refuses its name, which is as good.
        let _ = made.try_set(feature, Some("off"));
    }
    if overlay.volatile {
        made.set("volatile", None)?;
    }
    made.mount(0)
}

fn set_path(overlay: &Description, key: &str, path: &Path) -> Result<(), Error> {
    overlay.try_set_path(key, path).map_err(|errno| {
        Error::kernel(format!("set `{key}` of the overlay to `{}`", path.display()), errno)
    })
}

/// Whether this kernel is too old for the layers as they are.
fn is_old(overlay: &Overlay<'_>) -> bool {
    let has_images = overlay.lower.iter().any(|layer| layer.is_image);
    !names_layers() || has_images && !takes_detached()
}

/// Whether layers may be mounts that are attached nowhere (Linux 6.15).
fn takes_detached() -> bool {
    let attempt = || -> Result<OwnedFd, Error> {
        let layer = || Description::new("tmpfs")?.mount(libc::MOUNT_ATTR_RDONLY);
        let layers = [layer()?, layer()?];
        let overlay = Description::new("overlay")?;
        for layer in &layers {
            overlay.try_set_path("lowerdir+", &path_of(layer)).doing(|| "try a layer")?;
        }
        overlay.mount(libc::MOUNT_ATTR_RDONLY)
    };
    attempt().is_ok()
}

/// Whether this kernel knows `lowerdir+`. Before Linux 6.5 any word is taken until the overlay is
/// made, from 6.5 on only known ones.
fn names_layers() -> bool {
    let Ok(overlay) = Description::new("overlay") else { return true };
    let refuses_nonsense = overlay.try_set("no such option", Some("")).is_err();
    refuses_nonsense && overlay.try_set_path("lowerdir+", Path::new("/")) != Err(Errno::INVAL)
}

/// By mount(2), whose options fit into a page: the layers are named by their descriptors, which
/// is short, and free of what has a meaning in the options.
///
/// The overlay is attached to its upper directory, of which only this process' view is aware.
fn attach_old(overlay: &Overlay<'_>) -> Result<OwnedFd, Error> {
    let layers =
        overlay.lower.iter().map(|layer| open(&layer.path)).collect::<Result<Vec<_>, Error>>()?;
    let (upper, work) = (open(overlay.upper)?, open(overlay.work)?);
    let (Some(parent), Some(name)) = (overlay.upper.parent(), overlay.upper.file_name()) else {
        return Err(Error::Spec("the upper directory of an overlay must have a name".into()));
    };
    let parent = open(parent)?;
    let shown = |fd: &OwnedFd| path_of(fd).display().to_string();
    let lower: Vec<String> = layers.iter().map(shown).collect();
    let mut options =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), shown(&upper), shown(&work));
    FEATURES_OFF.iter().for_each(|feature| options += &format!(",{feature}=off"));
    if overlay.volatile {
        options += ",volatile";
    }
    let options = CString::new(options).expect("names of descriptors have no NUL");
    mount("overlay", path_of(&upper), "overlay", MountFlags::empty(), options.as_c_str())
        .doing(|| format!("mount an overlay of {} layers", layers.len()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(parent.as_fd(), Path::new(name).as_os_str().as_bytes(), flags)
        .doing(|| "take the overlay's mount")
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .doing(|| format!("open `{}` for an overlay", path.display()))
}
