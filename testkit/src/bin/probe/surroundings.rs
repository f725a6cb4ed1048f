//! What lies around this process: files, devices, terminal, names, network, time.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::{text, verdict};

/// The mount table, in order (proc_pid_mountinfo(5)).
pub(crate) fn mounts() -> Value {
    let table = text("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Value> {
    let (place, source) = line.split_once(" - ")?;
    let place: Vec<&str> = place.split(' ').collect();
    let source: Vec<&str> = source.split(' ').collect();
    let [_, _, _, root, target, options, propagation @ ..] = place.as_slice() else { return None };
    let [kind, device, rest @ ..] = source.as_slice() else { return None };
    Some(json!({
        "target": target,
        "root": root,
        "options": options.split(',').collect::<Vec<_>>(),
        "propagation": propagation,
        "type": kind,
        "source": device,
        "super": rest.concat().split(',').collect::<Vec<_>>(),
    }))
}

/// Open file descriptors and what they are; the one that lists them is left out.
pub(crate) fn descriptors() -> Value {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let own = format!("/proc/{}/fd", std::process::id());
    let found = entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        (target != own).then(|| (entry.file_name().to_string_lossy().into_owned(), json!(target)))
    });
    Value::Object(found.collect())
}

/// Every device below `/dev`: its numbers, and what opening it for reading and writing gives.
pub(crate) fn devices() -> Value {
    let mut found = Map::new();
    let mut open = vec![Path::new("/dev").to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let kind = meta.file_type();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_char_device() || kind.is_block_device() {
                let name = entry.path().to_string_lossy().into_owned();
                found.insert(name, device(&entry.path(), &meta));
            }
        }
    }
    Value::Object(found)
}

fn device(path: &Path, meta: &fs::Metadata) -> Value {
    let number = meta.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    json!({
        "number": format!("{major}:{minor}"),
        "mode": format!("{:o}", meta.mode() & 0o7777),
        "block": meta.file_type().is_block_device(),
        "open": verdict(opening(true, true).open(path)),
    })
}

/// Opening without waiting, and without getting a terminal that way.
fn opening(read: bool, write: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(read).write(write).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Whether each path can be read, listed, written; and how much a reader gets.
pub(crate) fn open(paths: &[&str]) -> Value {
    let found = paths.iter().map(|&path| {
        let bytes = fs::read(path).map(|bytes| bytes.len()).ok();
        let entries = fs::read_dir(path).map(Iterator::count).ok();
        let answer = json!({
            "read": verdict(opening(true, false).open(path)),
            "write": verdict(opening(false, true).open(path)),
            "bytes": bytes,
            "entries": entries,
        });
        (path.to_owned(), answer)
    });
    Value::Object(found.collect())
}

/// How many regular files lie below a path, and a digest over all of them in the order of paths:
/// each path without its leading slash, a zero byte, the content.
pub(crate) fn files(path: &str) -> Value {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new(path).to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => _ = found.insert(entry.path()),
                _ => {}
            }
        }
    }
    let mut hasher = oci::Hasher::default();
    for path in &found {
        hasher.update(path.to_string_lossy().trim_start_matches('/').as_bytes());
        hasher.update(&[0]);
        hasher.update(&fs::read(path).unwrap_or_default());
    }
    json!({ "count": found.len(), "digest": hasher.finish().to_string() })
}

/// For each standard stream whether it is a terminal and how large; whether there is `/dev/tty`.
pub(crate) fn terminal() -> Value {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let size = |stream: BorrowedFd<'_>| {
        let size = rustix::termios::tcgetwinsize(stream).ok()?;
        Some(json!([size.ws_col, size.ws_row]))
    };
    json!({
        "terminals": streams.map(rustix::termios::isatty),
        "sizes": streams.map(size),
        "controlling": verdict(opening(true, true).open("/dev/tty")),
    })
}

/// The environment.
pub(crate) fn environment() -> Value {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (lossy(name), json!(lossy(value))));
    Value::Object(variables.collect())
}

/// The working directory.
pub(crate) fn directory() -> Value {
    json!(std::env::current_dir().ok())
}

/// Host and domain name, and the files in which names are looked up.
pub(crate) fn names() -> Value {
    json!({
        "hostname": text("/proc/sys/kernel/hostname"),
        "domainname": text("/proc/sys/kernel/domainname"),
        "/etc/hostname": text("/etc/hostname"),
        "/etc/hosts": text("/etc/hosts"),
        "/etc/resolv.conf": text("/etc/resolv.conf"),
    })
}

/// The network's devices, and its routes as the kernel prints them.
pub(crate) fn network() -> Value {
    let devices = text("/proc/net/dev").unwrap_or_default();
    let names = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let routes = text("/proc/net/route").unwrap_or_default();
    json!({
        "devices": names.collect::<Vec<_>>(),
        "routes": routes.lines().skip(1).collect::<Vec<_>>(),
    })
}

/// Seconds since 1970.
pub(crate) fn clock() -> Value {
    json!(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
}
