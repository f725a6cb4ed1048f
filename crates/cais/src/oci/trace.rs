//! What `--debug` tells of a process on its way, under the names by which runc's log is searched:
//! `nsexec` is the part between the clone and the container's view, `init` what comes after.

use oci::runtime::{LinuxSeccomp, Process, Spec};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::log::Log;

/// A container is about to be made.
pub(super) fn creating(log: &Log, spec: &Spec) {
    sealed(log);
    log.debug("nsexec container setup");
    let linux = spec.linux().as_ref();
    filter(log, linux.and_then(|linux| linux.seccomp().as_ref()));
}

/// A container has been made, and waits to be started.
pub(super) fn created(log: &Log) {
    log.debug("child process in init()");
    log.debug("init: closing the pipe to signal completion");
}

/// A process is about to be made in a container.
pub(super) fn executing(log: &Log, process: &Process) {
    log.debug("nsexec container setup");
    let affinity = process.exec_cpu_affinity().as_ref();
    if let Some(mask) = affinity.and_then(|affinity| mask(affinity.initial().as_deref()?)) {
        log.debug(&format!("nsexec: affinity: {mask:#x}"));
    }
}

/// A process has been made in a container.
pub(super) fn executed(log: &Log) {
    log.debug("child process in init()");
    log.debug("setns_init: about to exec");
}

/// Whether the program that runs is kept from being written to.
fn sealed(log: &Log) {
    if !log.is_debug() {
        return;
    }
    let read_only =
        statvfs(EXE).is_ok_and(|files| files.f_flag.contains(StatVfsMountFlags::RDONLY));
    if !read_only {
        log.debug(&format!("exeseal: {EXE} is not sealed"));
        return;
    }
    log.debug(&format!("runc exeseal: using {EXE} clone"));
}

/// The file of the program that runs.
const EXE: &str = "/proc/self/exe";

/// The flags of seccomp(2) with which a profile's filter is installed.
fn filter(log: &Log, profile: Option<&LinuxSeccomp>) {
    let Some(profile) = profile.filter(|_| log.is_debug()) else { return };
    // What is wrong with it is said where it is used.
    let Ok(filter) = runtime::seccomp::compile(profile) else { return };
    let listener = if filter.notifies() { LISTENER } else { 0 };
    log.debug(&format!("seccomp filter flags: {}", filter.flags() | listener));
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of seccomp(2).
const LISTENER: u64 = 8;

/// A list of processors as a mask; `None` where it does not fit, or is no such list.
fn mask(list: &str) -> Option<u64> {
    let mut mask = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        for cpu in first..=last {
            mask |= 1_u64.checked_shl(cpu)?;
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_becomes_a_mask() {
        for (list, expected) in [
            ("0", Some(1)),
            ("0-1,3", Some(0b1011)),
            ("63", Some(1 << 63)),
            ("64", None),
            ("x", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(mask(list), expected, "{list}");
        }
    }
}
