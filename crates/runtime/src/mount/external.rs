//! Mounts of a container that show files of the host, for who saves the container and makes it
//! again (CRIU): it cannot save what is behind them, and must be told what to mount there.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxNamespaceType, Mount, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::filesystem::{aside, attach, change, copy_tree, copy_tree_at};
use super::image::Images;
use super::option::{Bind, Options, attributes_of};
use super::rootfs::{self, detached_view};
use super::{cgroupfs, device, has_namespace, has_own_map, host_source, inside};
use super::{is_bind, is_cgroup, kind_of, mounts_of, place, words_of};
use crate::error::{Doing, Error};
use crate::inroot::{Root, file_type};
use crate::launch::Launch;
use crate::sys::{self, MountAttr, mount_setattr};

/// One such mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    /// Where it is in the container, without links.
    pub(crate) at: PathBuf,
    /// What it shows.
    pub(crate) source: PathBuf,
}

/// Refuses what would not be there again, or not as it was.
///
/// # Errors
/// [`Error::Unsupported`] names it.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    if !has_namespace(spec, LinuxNamespaceType::Mount) {
        let text = "a checkpoint of a container without a mount namespace of its own";
        return Err(Error::Unsupported(text.into()));
    }
    let mapped =
        |mount: &&Mount| has_own_map(mount) || Options::parse(words_of(mount)).mapped.is_some();
    match mounts_of(spec).iter().find(mapped) {
        None => Ok(()),
        Some(mount) => Err(Error::Unsupported(format!(
            "a checkpoint of the id-mapped mount on `{}`, which CRIU would restore without its map,",
            mount.destination().display()
        ))),
    }
}

/// The bind mounts of the specification whose source is the host's.
fn binds<'a>(launch: &'a Launch<'_>) -> impl Iterator<Item = &'a Mount> {
    mounts_of(launch.spec).iter().filter(|mount| {
        let options = Options::parse(words_of(mount));
        is_bind(mount) && !options.remount && inside(launch, mount, &options).is_none()
    })
}

/// Those of the running container whose first process is `pid`; in the place of a source each has
/// the name under which the source is to be given when the container is restored.
///
/// # Errors
/// When its files cannot be looked at.
pub(crate) fn of_running(launch: &Launch<'_>, pid: i32) -> Result<Vec<External>, Error> {
    let root = Root::of(pid)?;
    let mut places = Vec::new();
    for mount in binds(launch) {
        let path = place::destination(launch, mount)?;
        places.push(match root.open(&path, OFlags::PATH) {
            Ok(target) => resolved(&root, &target)?,
            // It has been unmounted, or the way to it covered.
            Err(_) => path,
        });
    }
    places.extend(of_cgroups(launch, pid)?.into_iter().map(|mount| mount.at));
    places.extend(of_devices(launch.spec)?.into_iter().map(|mount| mount.at));
    let named = |at: PathBuf| External { source: at.clone(), at };
    let mut found: Vec<External> = places.into_iter().map(named).collect();
    found.extend(masks(launch.spec, &root)?);
    Ok(found)
}

/// The masked files: what covers them is the host's null device, under one name.
fn masks(spec: &Spec, root: &Root) -> Result<Vec<External>, Error> {
    let paths = spec.linux().as_ref().and_then(|linux| linux.masked_paths().as_deref());
    let mut masks = Vec::new();
    for path in paths.unwrap_or_default() {
        let Ok(target) = root.open(Path::new(path), OFlags::PATH) else { continue };
        let kind = file_type(&target).doing(|| format!("look at `{path}`"))?;
        if kind != FileType::Directory {
            masks.push(External { at: resolved(root, &target)?, source: device::NULL.into() });
        }
    }
    Ok(masks)
}

/// Hierarchies of version 1 that are bound from the host's.
///
/// # Errors
/// When they cannot be looked for.
pub(crate) fn of_cgroups(launch: &Launch<'_>, pid: i32) -> Result<Vec<External>, Error> {
    let mut found = Vec::new();
    for mount in mounts_of(launch.spec).iter().filter(|mount| is_cgroup(mount)) {
        let on = place::destination(launch, mount)?;
        for (name, source) in cgroupfs::bound(launch.spec, kind_of(mount), pid)? {
            found.push(External { at: on.join(name), source });
        }
    }
    Ok(found)
}

/// The devices, which are the host's in a user namespace.
///
/// # Errors
/// When a device of the specification is wrong.
pub(crate) fn of_devices(spec: &Spec) -> Result<Vec<External>, Error> {
    if !has_namespace(spec, LinuxNamespaceType::User) && !device::in_user_namespace() {
        return Ok(Vec::new());
    }
    let bound = device::on_host(spec)?.into_iter();
    Ok(bound.map(|(at, source)| External { at, source }).collect())
}

/// Where a descriptor is, seen from `root`.
fn resolved(root: &Root, target: &OwnedFd) -> Result<PathBuf, Error> {
    let path = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}"));
    let doing = || "look where a mount is";
    let (root, target) = (path(root.as_fd().as_raw_fd()), path(target.as_raw_fd()));
    let (root, target) = (root.doing(doing)?, target.doing(doing)?);
    let below = target.strip_prefix(&root).unwrap_or(&target);
    Ok(Path::new("/").join(below))
}

/// Does something in a mount namespace of its own, whose mounts the host does not see, and
/// returns; what is started there stays there.
///
/// # Errors
/// Those of `work`; when the kernel refuses.
pub(crate) fn in_own_view<T, E: From<Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let hold = |path: &str, flags: OFlags| {
        rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("hold `{path}`"))
    };
    let namespace = hold("/proc/self/ns/mnt", OFlags::RDONLY)?;
    let (root, directory) = (hold("/", OFlags::PATH)?, hold(".", OFlags::PATH)?);
    sys::unshare(libc::CLONE_NEWNS).doing(|| "make a mount namespace")?;
    let done = detached_view().map_err(E::from).and_then(|_| work());
    let doing = || "return to the own mount namespace";
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).doing(doing)?;
    // Joining changes both to the root of the namespace.
    rustix::process::fchdir(&root).doing(doing)?;
    rustix::process::chroot(".").doing(doing)?;
    rustix::process::fchdir(&directory).doing(doing)?;
    done
}

/// Mounts the root file system on the directory `on`, in this process' mount namespace, for CRIU:
/// that wants a mount whose parent nothing covers. The mount points that are missing in it are made
/// as for a new container. Returns what its bind mounts show.
///
/// # Errors
/// Names the mount whose place cannot be made.
pub(crate) fn make_root(launch: &Launch<'_>, on: &Path) -> Result<Vec<External>, Error> {
    let doing = || format!("mount the root file system on `{}`", on.display());
    let made = mount_root(launch, on)?;
    let externals = make_places(launch, &made)?;
    drop(made);
    // With what was mounted in it.
    unmount(on, UnmountFlags::DETACH).doing(doing)?;
    mount_root(launch, on)?;
    Ok(externals)
}

/// Gives the mounts of a restored container, whose first process is `pid`, the attributes that the
/// specification asks for: CRIU leaves out those of the root and of what it binds twice, such as the
/// host's null device over masked files, which root inside could change then.
///
/// # Errors
/// Names the mount.
pub(crate) fn confirm(launch: &Launch<'_>, pid: i32) -> Result<(), Error> {
    let doing = || "enter the mount namespace of the container";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::openat(CWD, format!("/proc/{pid}/ns/mnt"), flags, Mode::empty());
    let namespace = namespace.doing(doing)?;
    aside(|| {
        let kind = Some(LinkNameSpaceType::Mount);
        move_into_link_name_space(namespace.as_fd(), kind).doing(doing)?;
        let root = Root::of_process()?;
        confirm_inside(launch, &root)?;
        root.open(Path::new("/"), OFlags::PATH).doing(doing)
    })
    .map(drop)
}

fn confirm_inside(launch: &Launch<'_>, root: &Root) -> Result<(), Error> {
    let read_only = libc::MOUNT_ATTR_RDONLY;
    let covered = read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let linux = launch.spec.linux().as_ref();
    let masked = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
    let kept = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
    let masked = masked.iter().map(|path| (path, covered));
    for (path, set) in masked.chain(kept.iter().map(|path| (path, read_only))) {
        let Ok(target) = root.open(Path::new(path), OFlags::PATH) else { continue };
        match mount_setattr(target.as_fd(), MountAttr { set, ..MountAttr::default() }, false) {
            // Nothing is mounted there: it was not there when the container was made.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            other => other.doing(|| format!("restrict `{path}` again"))?,
        }
    }
    let locked = has_namespace(launch.spec, LinuxNamespaceType::User);
    for mount in binds(launch) {
        let path = place::destination(launch, mount)?;
        let Ok(target) = root.open(&path, OFlags::PATH) else { continue };
        let doing = || format!("give the mount on `{}` its attributes", path.display());
        let options = Options::parse(words_of(mount));
        let attr = attributes_of(target.as_fd()).and_then(|own| options.bind_attr(own, locked));
        match attr.and_then(|attr| change(target.as_fd(), attr, false)) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            other => other.doing(doing)?,
        }
    }
    let whole = launch.spec.root().as_ref().and_then(oci::runtime::Root::readonly);
    let set = if whole == Some(true) { read_only } else { 0 };
    change(root.as_fd(), MountAttr { set, ..MountAttr::default() }, false)
        .doing(|| "make the root file system read-only")
}

fn mount_root(launch: &Launch<'_>, on: &Path) -> Result<Root, Error> {
    let doing = || format!("mount the root file system on `{}`", on.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(CWD, on, flags, Mode::empty()).doing(doing)?;
    let root = rootfs::make(launch.rootfs, &Images::open(launch.rootfs, None)?)?;
    attach(root.as_fd(), target.as_fd()).doing(doing)?;
    Ok(Root::new(root))
}

/// Makes the places of mounts that are missing, but for those on a tmpfs, which is saved with what
/// it holds. Sources are mounted meanwhile: there may be places in them.
fn make_places(launch: &Launch<'_>, root: &Root) -> Result<Vec<External>, Error> {
    let mut externals = Vec::new();
    for mount in mounts_of(launch.spec) {
        let options = Options::parse(words_of(mount));
        if is_cgroup(mount) || options.remount {
            continue;
        }
        let path = place::destination(launch, mount)?;
        let saved = is_on_tmpfs(launch, &path);
        let source = host_source(launch, mount).filter(|_| is_bind(mount)).unwrap_or_default();
        let within = inside(launch, mount, &options);
        if saved {
            if is_bind(mount) && within.is_none() {
                externals.push(External { at: path, source });
            }
            continue;
        }
        let bind = options.bind.unwrap_or(Bind::Single);
        let doing = || format!("bind `{}` on `{}`", source.display(), path.display());
        let tree = match &within {
            Some(within) => {
                let tree = root.open(within, OFlags::PATH).doing(doing)?;
                Some(copy_tree_at(&tree, bind).doing(doing)?)
            }
            None if is_bind(mount) => Some(copy_tree(&source, bind)?),
            None => None,
        };
        let kind = tree.as_ref().map_or(Ok(FileType::Directory), file_type).doing(doing)?;
        let target = root.mount_point(&path, kind == FileType::Directory)?;
        let at = resolved(root, &target)?;
        if let Some(tree) = tree {
            attach(tree.as_fd(), target.as_fd()).doing(doing)?;
        }
        if is_bind(mount) && within.is_none() {
            externals.push(External { at, source });
        }
    }
    Ok(externals)
}

fn is_on_tmpfs(launch: &Launch<'_>, path: &Path) -> bool {
    mounts_of(launch.spec).iter().any(|mount| {
        let on = place::destination(launch, mount);
        kind_of(mount) == "tmpfs" && on.is_ok_and(|on| path != on && path.starts_with(on))
    })
}
