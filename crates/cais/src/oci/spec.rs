//! `spec`.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Serialize as _;
use serde_json::ser::PrettyFormatter;
use serde_json::{Serializer, Value, json};

use super::flag::Flag;
use super::{Args, Call, Verb};

pub(super) const VERB: Verb = Verb {
    name: "spec",
    about: "create a new specification file",
    usage: "",
    flags: &[
        Flag::value("bundle", "path to the root of the bundle directory").short('b'),
        Flag::switch("rootless", "generate a configuration for a rootless container"),
    ],
    args: Args::Exactly(0),
    sealed: false,
    run,
};

const FILE: &str = "config.json";
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn run(call: &Call<'_>) -> Result<i32> {
    let path = Path::new(call.own.text("bundle").unwrap_or(".")).join(FILE);
    if path.symlink_metadata().is_ok() {
        bail!("File {FILE} exists. Remove it first");
    }
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let spec = describe(call.own.is_on("rootless"), unified);
    let mut text = Vec::new();
    let form = PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut Serializer::with_formatter(&mut text, form))?;
    let mut file =
        std::fs::File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
    file.write_all(&text).with_context(|| format!("write {}", path.display()))?;
    Ok(0)
}

/// The specification that runc makes, to begin with.
fn describe(rootless: bool, unified: bool) -> Value {
    json!({
        "ociVersion": runtime::container::VERSION_MAX,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runc",
        "mounts": mounts(rootless),
        "linux": linux(rootless, unified),
    })
}

fn mounts(rootless: bool) -> Value {
    let mount = |on: &str, kind: &str, source: &str, options: &str| {
        let owner = |word: &&str| word.starts_with("gid=") || word.starts_with("uid=");
        let words = options.split(' ').filter(|word| !(rootless && owner(word)));
        let options: Vec<&str> = words.collect();
        json!({ "destination": on, "type": kind, "source": source, "options": options })
    };
    let sys = if rootless {
        mount("/sys", "none", "/sys", "rbind nosuid noexec nodev ro")
    } else {
        mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro")
    };
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"
        ),
        mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
    ])
}

fn linux(rootless: bool, unified: bool) -> Value {
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"];
    let wanted = |kind: &&&str| match **kind {
        "network" => !rootless,
        "cgroup" => unified,
        "user" => rootless,
        _ => true,
    };
    let namespaces: Vec<Value> =
        kinds.iter().filter(wanted).map(|kind| json!({ "type": kind })).collect();
    let mut linux = serde_json::Map::new();
    if rootless {
        let map = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        linux.insert("uidMappings".into(), map(rustix::process::geteuid().as_raw()));
        linux.insert("gidMappings".into(), map(rustix::process::getegid().as_raw()));
    } else {
        let devices = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        linux.insert("resources".into(), devices);
    }
    linux.insert("namespaces".into(), namespaces.into());
    linux.insert("maskedPaths".into(), json!(MASKED));
    linux.insert("readonlyPaths".into(), json!(READ_ONLY));
    linux.into()
}
