//! The device nodes and links below `/dev` (runtime-spec, config-linux.md, "Default Devices").

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxDeviceType, Spec};
use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, major, makedev, minor,
    mknodat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::filesystem::{Description, attach, copy_tree};
use super::option::Bind;
use super::{is_bind, mounts_of};
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::sys::{MountAttr, mount_setattr};
use crate::weak::weakened;

/// The null device of the host.
pub(super) const NULL: &str = "/dev/null";

/// Name, major and minor number of what every container has; all with mode 0666.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Link in `/dev`, and what it points to.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Link to the multiplexer of the container's own devpts, whatever the image has in its place.
const MULTIPLEXER: (&str, &str) = ("ptmx", "pts/ptmx");

/// The inode of the first user namespace (`PROC_USER_INIT_INO` of the kernel).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// One node to make.
#[derive(Debug)]
struct Node {
    path: PathBuf,
    kind: FileType,
    number: Dev,
    mode: u32,
    uid: u32,
    gid: u32,
    /// The host's node, where the container may not make its own.
    bound: Option<OwnedFd>,
}

/// The devices of a container.
#[derive(Debug)]
pub(crate) struct Devices {
    nodes: Vec<Node>,
    wanted: bool,
    /// Whether this kernel shows its memory as a file.
    core: bool,
}

impl Devices {
    /// Collects the default ones and those of the specification; in a user namespace, where
    /// mknod(2) is refused, takes hold of the host's nodes.
    ///
    /// # Errors
    /// When a device of the specification is wrong, or the host has not got it.
    pub(crate) fn make(spec: &Spec, user_namespace: bool) -> Result<Devices, Error> {
        let mut nodes = nodes(spec)?;
        let wanted = !bound_as_a_whole(spec);
        if wanted && (user_namespace || in_user_namespace()) {
            for node in nodes.iter_mut().filter(|node| node.kind != FileType::Fifo) {
                node.bound = Some(host_node(node)?);
            }
        }
        Ok(Devices { nodes, wanted, core: Path::new("/proc/kcore").exists() })
    }

    /// Whether the container's `/dev` is ours to fill: not when it is somebody's directory.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted
    }

    /// Makes nodes and links.
    ///
    /// # Errors
    /// Names the device that failed.
    pub(crate) fn place(&self, root: &Root) -> Result<(), Error> {
        let dev = root.create_dir_all(Path::new("/dev"))?;
        for node in &self.nodes {
            place_node(root, &dev, node)?;
        }
        let (name, target) = MULTIPLEXER;
        let doing = || format!("make `/dev/{name}`");
        match unlinkat(&dev, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => symlinkat(target, &dev, name).doing(doing)?,
            Err(errno) => return Err(Error::kernel(doing(), errno)),
        }
        for (name, target) in LINKS.iter().filter(|(name, _)| *name != "core" || self.core) {
            match symlinkat(*target, &dev, *name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::kernel(format!("make `/dev/{name}`"), errno)),
            }
        }
        Ok(())
    }
}

/// The default ones and those of the specification, which may replace them.
fn nodes(spec: &Spec) -> Result<Vec<Node>, Error> {
    let mut nodes: Vec<Node> = DEFAULT.map(default_node).into();
    let linux = spec.linux().as_ref();
    for device in linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
        let node = node(device)?;
        if node.path == Path::new("/dev").join(MULTIPLEXER.0) {
            continue;
        }
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

/// Where the devices are, in the container and on the host.
///
/// # Errors
/// As [`Devices::make`].
pub(super) fn on_host(spec: &Spec) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let nodes = nodes(spec)?.into_iter().filter(|node| node.kind != FileType::Fifo);
    Ok(nodes.map(|node| (node.path.clone(), host_path(&node))).collect())
}

/// Whether this process itself is inside a user namespace, where nobody may make devices.
pub(super) fn in_user_namespace() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self/ns/user").is_ok_and(|file| file.ino() != FIRST_USER_NAMESPACE)
}

fn bound_as_a_whole(spec: &Spec) -> bool {
    mounts_of(spec).iter().any(|mount| is_bind(mount) && mount.destination() == Path::new("/dev"))
}

fn default_node((name, major, minor): (&str, u32, u32)) -> Node {
    Node {
        path: Path::new("/dev").join(name),
        kind: FileType::CharacterDevice,
        number: makedev(major, minor),
        mode: 0o666,
        uid: 0,
        gid: 0,
        bound: None,
    }
}

fn node(device: &oci::runtime::LinuxDevice) -> Result<Node, Error> {
    let path = device.path();
    let wrong = || Error::Spec(format!("the device `{}` is not a device", path.display()));
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(wrong()),
    };
    let part = |number: i64| u32::try_from(number).map_err(|_| wrong());
    let number = match kind {
        FileType::Fifo => 0,
        _ => makedev(part(device.major())?, part(device.minor())?),
    };
    Ok(Node {
        path: path.clone(),
        kind,
        number,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        bound: None,
    })
}

/// Where the host has a device: under its own name (sysfs(5), "uevent"), or under the container's.
fn host_path(node: &Node) -> PathBuf {
    let kind = if node.kind == FileType::BlockDevice { "block" } else { "char" };
    let (major, minor) = (major(node.number), minor(node.number));
    let event = std::fs::read_to_string(format!("/sys/dev/{kind}/{major}:{minor}/uevent"));
    let name = event.ok().and_then(|text| {
        let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
        Some(Path::new("/dev").join(name))
    });
    name.filter(|name| name.exists()).unwrap_or_else(|| node.path.clone())
}

fn host_node(node: &Node) -> Result<OwnedFd, Error> {
    let mount = copy_tree(&host_path(node), Bind::Single)?;
    let found = fstat(&mount).doing(|| format!("look at `{}`", node.path.display()))?;
    if FileType::from_raw_mode(found.st_mode) == node.kind && found.st_rdev == node.number {
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount_setattr(mount.as_fd(), private, false).doing(|| "take a device from the host")?;
        return Ok(mount);
    }
    Err(Error::Spec(format!("the host's `{}` is another device", node.path.display())))
}

fn place_node(root: &Root, dev: &OwnedFd, node: &Node) -> Result<(), Error> {
    let doing = || format!("make the device `{}`", node.path.display());
    if let Some(bound) = &node.bound {
        let target = root.mount_point(&node.path, false)?;
        return attach(bound.as_fd(), target.as_fd()).doing(doing);
    }
    let (Some(parent), Some(name)) = (node.path.parent(), node.path.file_name()) else {
        return Err(Error::Spec(format!("`{}` cannot be a device", node.path.display())));
    };
    let made;
    let directory = if parent == Path::new("/dev") {
        dev
    } else {
        made = root.create_dir_all(parent)?;
        &made
    };
    // The umask of this process is zero: the mode is exact.
    match mknodat(directory, name, node.kind, Mode::from_raw_mode(node.mode), node.number) {
        Ok(()) if node.uid == 0 && node.gid == 0 => Ok(()),
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).doing(doing)
        }
        Err(Errno::EXIST) => {
            let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).doing(doing)?;
            let same = FileType::from_raw_mode(found.st_mode) == node.kind
                && (node.kind == FileType::Fifo || found.st_rdev == node.number);
            let path = node.path.display();
            (same || weakened("null-by-path"))
                .then_some(())
                .ok_or_else(|| Error::Spec(format!("`{path}` exists and is not that device")))
        }
        Err(errno) => Err(Error::kernel(doing(), errno)),
    }
}

/// Verifies that a descriptor is of the null device, 1:3 (CVE-2025-31133).
///
/// # Errors
/// When it is anything else.
pub(crate) fn is_null(file: BorrowedFd<'_>) -> Result<(), Error> {
    let found = fstat(file).doing(|| "look at `/dev/null`")?;
    let device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    if device && (major(found.st_rdev), minor(found.st_rdev)) == (1, 3) {
        return Ok(());
    }
    Err(Error::Spec("`/dev/null` is not the null device".into()))
}

/// The host's null device, open for reading and writing.
///
/// It is the first that is opened for a container, so its number tells whether 0, 1 and 2 are taken:
/// were they free, what follows would get them, and be overwritten by the container's own.
///
/// # Errors
/// When it is missing or something else, or the caller has closed 0, 1 or 2.
pub(crate) fn host_null() -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null =
        rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()).doing(|| "open `/dev/null`")?;
    is_null(null.as_fd())?;
    if null.as_raw_fd() < 3 {
        return Err(Error::Spec("the caller's descriptors 0, 1 and 2 must be open".into()));
    }
    Ok(null)
}

/// A null device in a file system of its own that is attached nowhere, open for reading and
/// writing.
///
/// # Errors
/// When the kernel refuses, as in a user namespace.
pub(crate) fn new_null() -> Result<OwnedFd, Error> {
    let doing = || "make a null device";
    let files = Description::new("tmpfs")?.mount(0)?;
    let mode = Mode::from_raw_mode(0o666);
    mknodat(&files, "null", FileType::CharacterDevice, mode, makedev(1, 3)).doing(doing)?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = rustix::fs::openat(&files, "null", flags, Mode::empty()).doing(doing)?;
    // Whatever the umask is.
    rustix::fs::fchmod(&null, mode).doing(doing)?;
    Ok(null)
}
