//! What is mounted into a container: what every container has, then what was asked for.

use std::path::{Path, PathBuf};

use oci::runtime::Mount;

use crate::container::Container;
use crate::error::Result;
use crate::settings::{MountSource, Settings};

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

/// Mounts in the order in which they are made, and the destinations to be filled with the
/// image's content first.
pub(crate) fn mounts(container: &Container, volumes: &Path) -> Result<(Vec<Mount>, Vec<PathBuf>)> {
    let settings = &container.record.settings;
    let mut mounts = system(settings);
    for file in ["resolv.conf", "hostname", "hosts"] {
        let source = container.name_file(file);
        let mut options = own_bind(settings);
        if settings.security.read_only {
            options.push("ro".into());
        }
        mounts.push(mount(&format!("/etc/{file}"), "bind", &source.to_string_lossy(), &options));
    }
    let mut copy_up = Vec::new();
    for asked in &settings.mounts {
        let target = normal(&asked.target);
        let mut options = vec![if asked.read_only { "ro" } else { "rw" }.to_owned()];
        let made = match &asked.source {
            MountSource::Bind { path, propagation, recursive, .. } => {
                options.push(if *recursive { "rbind" } else { "bind" }.into());
                options.push(propagation.clone());
                mount(&target, "bind", &path.to_string_lossy(), &options)
            }
            MountSource::Volume { name, copy, .. } => {
                if *copy {
                    copy_up.push(PathBuf::from(&target));
                }
                options.extend(own_bind(settings));
                let source = volumes.join(name).join("_data");
                mount(&target, "bind", &source.to_string_lossy(), &options)
            }
            MountSource::Tmpfs { options: asked } => {
                options.extend(["nosuid", "nodev", "noexec"].map(String::from));
                options.extend(asked.iter().cloned());
                mount(&target, "tmpfs", "tmpfs", &options)
            }
        };
        // A mount of the user's takes the place of ours at the same path, as in Docker.
        mounts.retain(|ours| ours.destination() != Path::new(&target));
        mounts.push(made);
    }
    // What lies deeper comes later, so that nothing is hidden by a mount above it, as in Docker.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok((mounts, copy_up))
}

/// How files of Cais' own are bound: with a user namespace, they belong to its ids as the root file
/// system does, so that every container sees the same owners in a volume.
fn own_bind(settings: &Settings) -> Vec<String> {
    let mapped = settings.security.user_namespace.map(|_| "idmap");
    ["rbind", "rprivate"].into_iter().chain(mapped).map(String::from).collect()
}

fn system(settings: &Settings) -> Vec<Mount> {
    let privileged = settings.security.privileged;
    let shm = if settings.shm_bytes == 0 { SHM_BYTES } else { settings.shm_bytes };
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
    if settings.security.host_ipc {
        let bind = ["rbind".into(), "rprivate".into()];
        // Nothing shows the queues on a host that has not mounted them.
        for path in ["/dev/mqueue", "/dev/shm"].into_iter().filter(|path| Path::new(path).exists())
        {
            mounts.push(mount(path, "bind", path, &bind));
        }
    } else {
        mounts.push(fixed("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
        let size = format!("size={shm}");
        let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
        mounts.push(mount("/dev/shm", "tmpfs", "shm", &options.map(str::to_owned)));
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
