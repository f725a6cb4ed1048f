//! What the kernel keeps about this process.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};

use crate::{errno_name, text};

/// The inode numbers of the namespaces, by kind; two processes share one when these are equal.
pub(crate) fn namespaces() -> Value {
    let entries = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.split(['[', ']']).nth(1)?.parse::<u64>().ok()?;
        Some((entry.file_name().into_string().ok()?, json!(inode)))
    });
    Value::Object(found.collect())
}

/// The names of linux/capability.h, by number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The five sets, each as names.
pub(crate) fn capabilities() -> Value {
    let status = status();
    let set = |field: &str| {
        let bits = status.get(field).and_then(|bits| u64::from_str_radix(bits, 16).ok());
        let bits = bits.unwrap_or_default();
        let names = CAPABILITIES.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
        names.map(|(_, name)| *name).collect::<Vec<_>>()
    };
    json!({
        "inheritable": set("CapInh"),
        "permitted": set("CapPrm"),
        "effective": set("CapEff"),
        "bounding": set("CapBnd"),
        "ambient": set("CapAmb"),
    })
}

/// no_new_privs, seccomp (0 off, 2 filter), the OOM adjustment, and the LSM's label.
pub(crate) fn security() -> Value {
    let status = status();
    json!({
        "no_new_privs": status.get("NoNewPrivs").is_some_and(|value| value == "1"),
        "seccomp": status.get("Seccomp"),
        "seccomp_filters": status.get("Seccomp_filters"),
        "oom_score_adj": text("/proc/self/oom_score_adj"),
        "label": text("/proc/self/attr/current"),
    })
}

/// Files of cgroup v1 by controller; below, those of v2.
const CGROUP_V1: &[&str] = &[
    "blkio/blkio.weight",
    "cpu/cpu.cfs_period_us",
    "cpu/cpu.cfs_quota_us",
    "cpu/cpu.shares",
    "cpuset/cpuset.cpus",
    "devices/devices.list",
    "memory/memory.limit_in_bytes",
    "memory/memory.memsw.limit_in_bytes",
    "memory/memory.soft_limit_in_bytes",
    "pids/pids.max",
];
const CGROUP_V2: &[&str] = &[
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "io.weight",
    "memory.low",
    "memory.max",
    "memory.swap.max",
    "pids.max",
];

/// `/proc/self/cgroup`, and the limits that can be read below `/sys/fs/cgroup`.
pub(crate) fn cgroups() -> Value {
    let files = CGROUP_V1.iter().chain(CGROUP_V2);
    let limits: Map<String, Value> = files
        .filter_map(|file| {
            Some(((*file).to_owned(), json!(text(&format!("/sys/fs/cgroup/{file}"))?)))
        })
        .collect();
    let membership = text("/proc/self/cgroup").unwrap_or_default();
    json!({ "membership": membership.lines().collect::<Vec<_>>(), "limits": limits })
}

/// Soft and hard resource limits, by the kernel's names.
pub(crate) fn limits() -> Value {
    let table = text("/proc/self/limits").unwrap_or_default();
    let limits = table.lines().skip(1).filter_map(|line| {
        // The name has 25 columns (fs/proc/base.c).
        let (name, values) = line.split_at_checked(25)?;
        let mut values = values.split_whitespace();
        Some((name.trim().to_owned(), json!([values.next()?, values.next()?])))
    });
    Value::Object(limits.collect())
}

/// User, groups, umask, and the maps of the user namespace.
pub(crate) fn ids() -> Value {
    let status = status();
    let numbers = |field: &str| -> Vec<u32> {
        let words = status.get(field).map(String::as_str).unwrap_or_default();
        words.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    json!({
        "uid": numbers("Uid").first(),
        "gid": numbers("Gid").first(),
        "groups": numbers("Groups"),
        "umask": status.get("Umask"),
        "uid_map": text("/proc/self/uid_map"),
        "gid_map": text("/proc/self/gid_map"),
    })
}

/// This process' numbers, and all processes that it can see.
pub(crate) fn processes() -> Value {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut seen: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    seen.sort_unstable();
    let status = status();
    json!({ "pid": std::process::id(), "parent": status.get("PPid"), "seen": seen })
}

/// `/proc/self/status`, by field (proc_pid_status(5)).
fn status() -> BTreeMap<String, String> {
    let text = text("/proc/self/status").unwrap_or_default();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// System calls that a container must not make, with arguments for which an allowed call fails in
/// another way than a denied one, or does nothing: `EPERM` or `ENOSYS` is a denial.
const CALLS: &[(&str, libc::c_long, [libc::c_long; 5])] = &[
    ("add_key", libc::SYS_add_key, [0, 0, 0, 0, 0]),
    ("bpf", libc::SYS_bpf, [-1, 0, 0, 0, 0]),
    ("clock_settime", libc::SYS_clock_settime, [0, 0, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0, 0, 0, 0, 0]),
    ("delete_module", libc::SYS_delete_module, [0, 0, 0, 0, 0]),
    ("init_module", libc::SYS_init_module, [0, 0, 0, 0, 0]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [0, 0, 0, 0, 0]),
    ("kexec_load", libc::SYS_kexec_load, [0, 0, 0, -1, 0]),
    ("keyctl", libc::SYS_keyctl, [-1, 0, 0, 0, 0]),
    ("mount", libc::SYS_mount, [0, 0, 0, 0, 0]),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]),
    ("perf_event_open", libc::SYS_perf_event_open, [0, 0, -1, -1, 0]),
    ("pivot_root", libc::SYS_pivot_root, [0, 0, 0, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as libc::c_long, -1, 0, 0, 0]),
    ("reboot", libc::SYS_reboot, [0, 0, 0, 0, 0]),
    ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0]),
    ("socket of vsock", libc::SYS_socket, [libc::AF_VSOCK as libc::c_long, 1, 0, 0, 0]),
    ("swapon", libc::SYS_swapon, [0, 0, 0, 0, 0]),
    ("userfaultfd", libc::SYS_userfaultfd, [-1, 0, 0, 0, 0]),
    ("unshare of user", libc::SYS_unshare, [libc::CLONE_NEWUSER as libc::c_long, 0, 0, 0, 0]),
];

/// What each of [`CALLS`] gives: `ok` or the name of the error.
pub(crate) fn calls() -> Value {
    let answers =
        CALLS.iter().map(|(name, number, a)| ((*name).to_owned(), json!(call(*number, a))));
    Value::Object(answers.collect())
}

#[expect(
    unsafe_code,
    reason = "no safe wrapper makes calls with arguments that are wrong on purpose"
)]
fn call(number: libc::c_long, a: &[libc::c_long; 5]) -> String {
    // SAFETY: every pointer among the arguments in `CALLS` is null, and none of the calls changes
    // this process' memory or descriptors in use.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4]) };
    match result {
        0.. => "ok".to_owned(),
        _ => errno_name(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}
