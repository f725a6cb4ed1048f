//! What is mounted into a container: what every container has, then what was asked for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci::Digest;
use oci::runtime::{LinuxIdMappingBuilder, Mount};

use crate::container::Container;
use crate::error::{Doing, Error, Kind, Result};
use crate::join::SHM;
use crate::monitor::honest;
use crate::settings::{Mount as Asked, MountSource, Settings, Sharing};
use crate::volume;

/// Bytes of /dev/shm unless asked otherwise; Docker's default.
const SHM_BYTES: u64 = 64 * 1024 * 1024;

/// The group of terminals, which a small user namespace has not got.
const TTY_GROUP: u32 = 5;

/// Paths that no container may read, as in Docker.
pub(crate) const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that no container may write, as in Docker.
pub(crate) const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What is mounted into a container.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// In the order in which they are made.
    pub(crate) all: Vec<Mount>,
    /// The destinations to be filled with the image's content first.
    pub(crate) copy_up: Vec<PathBuf>,
    /// Destinations at which only a directory of what they name is mounted.
    pub(crate) subpaths: Vec<(PathBuf, PathBuf)>,
    /// Destinations and layers of images.
    pub(crate) images: Vec<(PathBuf, Vec<Digest>)>,
}

/// Everything that is mounted into a container.
pub(crate) fn mounts(container: &Container, volumes: &Path) -> Result<Mounts> {
    let settings = &container.record.settings;
    let mut mounts = system(settings);
    for file in ["resolv.conf", "hostname", "hosts"] {
        let source = match settings.in_pod.as_str() {
            "" => container.name_file(file),
            // The same for all that are in the pod.
            pod => container.directory().with_file_name(pod).join(file),
        };
        let mut options = own_bind(settings);
        if settings.security.read_only {
            options.push("ro".into());
        }
        mounts.push(mount(&format!("/etc/{file}"), "bind", &source.to_string_lossy(), &options));
    }
    if settings.honest_proc.is_some() {
        let options = ["ro", "nosuid", "nodev"].map(str::to_owned);
        mounts.extend(honest::FILES.map(|file| mount(file, "fuse", "cais", &options)));
    }
    let mut found = Mounts::default();
    for asked in &settings.mounts {
        let target = normal(&asked.target);
        let mut made = one(asked, &target, (settings, volumes), &mut found)?;
        if let Some(owner) = &asked.owner {
            map_owner(&mut made, owner.ids, settings)?;
        }
        // A mount of the user's takes the place of ours at the same path, as in Docker.
        mounts.retain(|ours| ours.destination() != Path::new(&target));
        mounts.push(made);
    }
    // What lies deeper comes later, so that nothing is hidden by a mount above it, as in Docker.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    found.all = mounts;
    Ok(found)
}

/// A mount that was asked for; what cannot be said in it is added to `found`.
fn one(
    asked: &Asked,
    target: &str,
    (settings, volumes): (&Settings, &Path),
    found: &mut Mounts,
) -> Result<Mount> {
    let mut options = vec![if asked.read_only { "ro" } else { "rw" }.to_owned()];
    match &asked.source {
        MountSource::Bind { path, propagation, recursive, writable_below, subpath, .. } => {
            if !subpath.as_os_str().is_empty() {
                found.subpaths.push((PathBuf::from(target), subpath.clone()));
            }
            if asked.read_only && *recursive && !writable_below {
                options.push("rro".into());
            }
            options.push(if *recursive { "rbind" } else { "bind" }.into());
            options.push(propagation.clone());
            Ok(mount(target, "bind", &path.to_string_lossy(), &options))
        }
        MountSource::Volume { name, copy, subpath, options: described, .. } => {
            if !subpath.as_os_str().is_empty() {
                found.subpaths.push((PathBuf::from(target), subpath.clone()));
            }
            let described = volume::describe(described)?;
            // Memory is empty at each start, and says by its options whose it is.
            let is_memory = described.as_ref().is_some_and(|described| described.kind == "tmpfs");
            if *copy && subpath.as_os_str().is_empty() && !is_memory {
                found.copy_up.push(PathBuf::from(target));
            }
            if let Some(described) = described {
                if !subpath.as_os_str().is_empty() {
                    let text = "a subpath of a volume with a type";
                    return Err(Error::new(
                        Kind::Unsupported,
                        format!("{text} is not supported yet"),
                    )
                    .hint("bind the directory itself: -o type=none -o o=bind -o device=/DIR"));
                }
                options.extend(described.options);
                return Ok(mount(target, &described.kind, &described.source, &options));
            }
            options.extend(own_bind(settings));
            let source = volumes.join(name).join("_data");
            Ok(mount(target, "bind", &source.to_string_lossy(), &options))
        }
        MountSource::Memory { .. } => {
            options.extend(["rbind", "rprivate"].map(String::from));
            Ok(mount(target, "bind", "/", &options))
        }
        MountSource::Tmpfs { options: asked } => {
            options.extend(["nosuid", "nodev", "noexec"].map(String::from));
            options.extend(asked.iter().cloned());
            Ok(mount(target, "tmpfs", "tmpfs", &options))
        }
        MountSource::Image { name, layers, subpath, .. } => {
            found.images.push((PathBuf::from(target), layers.clone()));
            found.subpaths.push((PathBuf::from(target), subpath.clone()));
            Ok(mount(target, "image", name, &["ro".to_owned()]))
        }
    }
}

/// Shows the files of the source's owner, on the host, as those of a user of the container, and the
/// other way round; nobody else can make files there.
fn map_owner(mount: &mut Mount, (uid, gid): (u32, u32), settings: &Settings) -> Result<()> {
    let source = mount.source().clone().unwrap_or_default();
    let doing = || format!("find the owner of {}", source.display());
    if mount.typ().as_deref() != Some("bind") {
        let text =
            format!("user of the mount on {} is not supported", mount.destination().display());
        return Err(Error::new(Kind::Unsupported, text)
            .hint("a user is for directories of the host and for volumes without a type"));
    }
    let owner = match fs::metadata(&source) {
        // It is made when the container is created.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        meta => meta.doing(doing)?,
    };
    let first = settings.security.user_namespace.map_or(0, |(first, _)| first);
    let map = |on_disk: u32, inside: u32| {
        let map = LinuxIdMappingBuilder::default().container_id(on_disk).host_id(first + inside);
        let map = map.size(1u32).build();
        map.map(|map| Some(vec![map])).map_err(|error| Error::invalid(error.to_string()))
    };
    let (users, groups) = (map(owner.uid(), uid)?, map(owner.gid(), gid)?);
    let options = mount.options().clone().unwrap_or_default();
    let recursive = options.iter().any(|word| word == "rbind");
    let mut options: Vec<String> = options.into_iter().filter(|word| word != "idmap").collect();
    options.push(if recursive { "ridmap" } else { "idmap" }.into());
    mount.set_options(Some(options)).set_uid_mappings(users).set_gid_mappings(groups);
    Ok(())
}

/// How files of Cais' own are bound: with a user namespace, they belong to its ids as the root file
/// system does, so that every container sees the same owners in a volume.
fn own_bind(settings: &Settings) -> Vec<String> {
    let mapped = settings.security.user_namespace.map(|_| "idmap");
    ["rbind", "rprivate"].into_iter().chain(mapped).map(String::from).collect()
}

fn system(settings: &Settings) -> Vec<Mount> {
    let privileged = settings.security.privileged;
    let ro = if privileged { "rw" } else { "ro" };
    let fixed = |target, kind, options: &[&str]| {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        mount(target, kind, kind, &options)
    };
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if settings.security.user_namespace.is_none_or(|(_, count)| count > TTY_GROUP) {
        pts.push("gid=5");
    }
    let mut mounts = vec![
        fixed("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        fixed("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fixed("/dev/pts", "devpts", &pts),
        fixed("/sys", "sysfs", &["nosuid", "noexec", "nodev", ro]),
        fixed("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", ro]),
    ];
    mounts.extend(ipc(settings));
    mounts
}

/// What shows the IPC namespace.
fn ipc(settings: &Settings) -> Vec<Mount> {
    let bind = ["rbind".into(), "rprivate".into()];
    if settings.security.ipc == Sharing::Host {
        // Nothing shows the queues on a host that has not mounted them.
        let there = ["/dev/mqueue", SHM].into_iter().filter(|path| Path::new(path).exists());
        return there.map(|path| mount(path, "bind", path, &bind)).collect();
    }
    let bytes = if settings.shm_bytes == 0 { SHM_BYTES } else { settings.shm_bytes };
    let options = ["nosuid", "noexec", "nodev"].map(str::to_owned);
    let in_pod = !settings.in_pod.is_empty();
    let mut mounts = vec![mount("/dev/mqueue", "mqueue", "mqueue", &options)];
    match settings.security.ipc {
        Sharing::None => {}
        // The other container's takes the place of the host's, or the pod's.
        _ if in_pod => mounts.push(mount(SHM, "bind", SHM, &bind)),
        Sharing::Container(_) => mounts.push(mount(SHM, "bind", SHM, &bind)),
        _ => {
            let size = [format!("size={bytes}"), "mode=1777".to_owned()];
            let options: Vec<String> = options.into_iter().chain(size).collect();
            mounts.push(mount(SHM, "tmpfs", "shm", &options));
        }
    }
    mounts
}

fn mount(target: &str, kind: &str, source: &str, options: &[String]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(target)).set_typ(Some(kind.to_owned()));
    mount.set_source(Some(PathBuf::from(source))).set_options(Some(options.to_vec()));
    mount
}

/// Without `.`, doubled slashes and a slash at the end; `..` stays and is resolved in the root.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}
