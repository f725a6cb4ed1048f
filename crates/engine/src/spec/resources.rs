//! Limits as the runtime specification has them.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci::runtime::{
    LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids,
    LinuxResources, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use crate::error::{Doing, Error, Result};
use crate::monitor::honest;
use crate::settings::{Device, DeviceRule, Limits, Settings};

use super::{blockio, cpuset};

/// Bytes below which no container can start; Docker's bound.
const MEMORY_BYTES_MIN: i64 = 6 * 1024 * 1024;
/// Length of the accounting period for `--cpus`, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// The shortest quota that the kernel takes, in microseconds.
const CPU_QUOTA_US_MIN: i64 = 1_000;
/// The longest accounting period that the kernel takes, in microseconds.
const CPU_PERIOD_US_MAX: u64 = 1_000_000;
/// The highest swappiness, in percent; newer kernels take more, which means something else.
const SWAPPINESS_MAX: u64 = 100;
/// What a process' badness may be changed by: proc(5), `/proc/pid/oom_score_adj`.
const OOM_SCORE_ADJ: RangeInclusive<i32> = -1000..=1000;
/// Nodes of the host's /dev that a privileged container is given.
const HOST_DEVICES_MAX: usize = 4096;

/// The limits of a container's cgroup.
pub(crate) fn resources(settings: &Settings, devices: &[LinuxDevice]) -> Result<LinuxResources> {
    let limits = &settings.limits;
    let mut resources = LinuxResources::default();
    check_oom_score(limits)?;
    resources.set_memory(memory(limits)?);
    resources.set_cpu(cpu(limits)?);
    if let (Some(first), true) = (settings.honest_proc, limits.cpuset_cpus.is_empty()) {
        let mut cpu = resources.cpu().clone().unwrap_or_default();
        cpu.set_cpus(honest::processors(limits, first));
        resources.set_cpu(Some(cpu));
    }
    if let Some(count) = limits.pids.filter(|count| *count != 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(count);
        resources.set_pids(Some(pids));
    }
    resources.set_block_io(blockio::block_io(limits)?);
    resources.set_devices(Some(device_rules(settings, devices)));
    Ok(resources)
}

fn memory(limits: &Limits) -> Result<Option<LinuxMemory>> {
    let given = |value: Option<i64>| value.filter(|bytes| *bytes != 0);
    let (limit, reservation) = (given(limits.memory), given(limits.memory_reservation));
    let swap = given(limits.memory_swap);
    if limit.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB").hint("raise --memory"));
    }
    if reservation.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB")
            .hint("raise --memory-reservation"));
    }
    if let (Some(limit), Some(reservation)) = (limit, reservation)
        && reservation > limit
    {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        )
        .hint("lower --memory-reservation, or raise --memory"));
    }
    match (limit, swap) {
        (None, Some(_)) => {
            return Err(Error::invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            )
            .hint("add --memory"));
        }
        (Some(limit), Some(swap)) if swap > 0 && swap < limit => {
            return Err(Error::invalid(
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            )
            .hint("--memory-swap is the sum of memory and swap; -1 means unlimited swap"));
        }
        _ => {}
    }
    if let Some(swappiness) = limits.memory_swappiness.filter(|percent| *percent > SWAPPINESS_MAX) {
        return Err(Error::invalid(format!("invalid value: {swappiness}"))
            .hint("--memory-swappiness is from 0 to 100"));
    }
    let tuned = limits.memory_swappiness.is_some() || limits.oom_kill_disable;
    if limit.is_none() && reservation.is_none() && !tuned {
        return Ok(None);
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(limit);
    memory.set_reservation(reservation);
    // As much swap as memory, as in Docker, where the kernel accounts for swap at all.
    let implied = || limit.filter(|_| runtime::cgroup::accounts_swap()).map(|bytes| 2 * bytes);
    memory.set_swap(swap.or_else(implied));
    memory.set_swappiness(limits.memory_swappiness);
    memory.set_disable_oom_killer(limits.oom_kill_disable.then_some(true));
    Ok(Some(memory))
}

/// What no cgroup holds.
fn check_oom_score(limits: &Limits) -> Result<()> {
    match limits.oom_score_adj.filter(|score| !OOM_SCORE_ADJ.contains(score)) {
        None => Ok(()),
        Some(score) => Err(Error::invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        ))),
    }
}

/// Limits that the kernel would refuse, with less to say.
fn check_cpu(limits: &Limits) -> Result<()> {
    let period = limits.cpu_period_us.filter(|period| *period != 0);
    let shortest = CPU_QUOTA_US_MIN.unsigned_abs();
    if period.is_some_and(|period| !(shortest..=CPU_PERIOD_US_MAX).contains(&period)) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        )
        .hint("--cpu-period is in microseconds"));
    }
    if limits.cpu_quota_us.is_some_and(|quota| quota > 0 && quota < CPU_QUOTA_US_MIN) {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
            .hint("--cpu-quota is in microseconds; -1 is no limit"));
    }
    let (runtime, period) = (limits.cpu_rt_runtime_us, limits.cpu_rt_period_us);
    if let (Some(runtime), Some(period)) = (runtime, period)
        && runtime > 0
        && period > 0
        && runtime.unsigned_abs() > period
    {
        return Err(Error::invalid(
            "cpu real-time runtime cannot be higher than cpu real-time period",
        )
        .hint("raise --cpu-rt-period, or lower --cpu-rt-runtime"));
    }
    let online = |kind| PathBuf::from(format!("/sys/devices/system/{kind}/online"));
    cpuset::check(&limits.cpuset_cpus, "cpuset cpus", "CPUs", &online("cpu"))?;
    cpuset::check(&limits.cpuset_mems, "cpuset mems", "memory nodes", &online("node"))
}

fn cpu(limits: &Limits) -> Result<Option<LinuxCpu>> {
    check_cpu(limits)?;
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares.filter(|shares| *shares != 0));
    cpu.set_period(limits.cpu_period_us.filter(|period| *period != 0));
    cpu.set_quota(limits.cpu_quota_us.filter(|quota| *quota != 0));
    if let Some(nano) = limits.nano_cpus.filter(|nano| *nano != 0) {
        if cpu.period().is_some() || cpu.quota().is_some() {
            return Err(Error::invalid(
                "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.",
            )
            .hint("use --cpus alone"));
        }
        let quota = nano / (1_000_000_000 / 100_000);
        if quota < CPU_QUOTA_US_MIN {
            return Err(Error::invalid("Range of CPUs is from 0.01 up, as the kernel has it")
                .hint("raise --cpus"));
        }
        let online = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let online = i64::try_from(online).unwrap_or(i64::MAX);
        if nano > online * 1_000_000_000 {
            return Err(Error::invalid(format!(
                "Range of CPUs is from 0.01 to {online}.00, as there are only {online} CPUs available"
            ))
            .hint("lower --cpus"));
        }
        cpu.set_period(Some(CPU_PERIOD_US));
        cpu.set_quota(Some(quota));
    }
    cpu.set_realtime_runtime(limits.cpu_rt_runtime_us.filter(|runtime| *runtime != 0));
    cpu.set_realtime_period(limits.cpu_rt_period_us.filter(|period| *period != 0));
    let text = |value: &String| Some(value.clone()).filter(|value| !value.is_empty());
    cpu.set_cpus(text(&limits.cpuset_cpus));
    cpu.set_mems(text(&limits.cpuset_mems));
    Ok(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()))
}

/// The rules of the device controller, later ones winning: nothing, then what every container
/// needs, then what was asked for.
fn device_rules(settings: &Settings, devices: &[LinuxDevice]) -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{A, C};
    if settings.security.privileged {
        return vec![rule(true, A, None, None, "rwm")];
    }
    let mut rules = vec![rule(false, A, None, None, "rwm")];
    rules.push(rule(true, C, None, None, "m"));
    rules.push(rule(true, LinuxDeviceType::B, None, None, "m"));
    // null, zero, full, random, urandom; tty, console, ptmx; the pseudo-terminals.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, C, Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, C, Some(136), None, "rwm"));
    for (node, device) in devices.iter().zip(&settings.devices) {
        let (major, minor) = (Some(node.major()), Some(node.minor()));
        rules.push(rule(true, node.typ(), major, minor, &device.permissions));
    }
    for DeviceRule { kind, major, minor, access } in &settings.limits.device_rules {
        let kind = match kind {
            'b' => LinuxDeviceType::B,
            'c' => C,
            _ => A,
        };
        rules.push(rule(true, kind, *major, *minor, access));
    }
    rules
}

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(Some(typ)).set_major(major).set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

/// The device nodes to make: those asked for, or all of the host's for a privileged container.
pub(crate) fn devices(settings: &Settings) -> Result<Vec<LinuxDevice>> {
    let mut nodes = Vec::new();
    for Device { host, container, .. } in &settings.devices {
        let node = node(host, container).doing(|| format!("look at device {}", host.display()))?;
        nodes.push(node.ok_or_else(|| {
            Error::invalid(format!("{} is not a device node", host.display()))
                .hint("use --mount for files and directories")
        })?);
    }
    if settings.security.privileged {
        host_devices(Path::new("/dev"), &mut nodes);
    }
    Ok(nodes)
}

/// Nodes that each container has of its own.
const OWN: &[&str] =
    &["pts", "shm", "fd", "mqueue", "console", "ptmx", ".udev", "lxc", "hugepages"];

fn host_devices(dir: &Path, nodes: &mut Vec<LinuxDevice>) {
    // A directory that cannot be read has nothing to offer.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let own = dir == Path::new("/dev") && OWN.iter().any(|name| entry.file_name() == **name);
        if own || nodes.len() >= HOST_DEVICES_MAX || nodes.iter().any(|n| *n.path() == path) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => host_devices(&path, nodes),
            Ok(kind) if kind.is_symlink() => {}
            _ => nodes.extend(node(&path, &path).ok().flatten()),
        }
    }
}

fn node(host: &PathBuf, container: &Path) -> std::io::Result<Option<LinuxDevice>> {
    let meta = fs::metadata(host)?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    let mut node = LinuxDevice::default();
    node.set_path(container.to_owned()).set_typ(kind);
    node.set_major(i64::from(rustix::fs::major(meta.rdev())));
    node.set_minor(i64::from(rustix::fs::minor(meta.rdev())));
    node.set_file_mode(Some(meta.mode() & 0o7777))
        .set_uid(Some(meta.uid()))
        .set_gid(Some(meta.gid()));
    Ok(Some(node))
}

/// The limits per process.
pub(crate) fn rlimits(limits: &Limits) -> Result<Vec<PosixRlimit>> {
    let convert = |ulimit: &crate::settings::Ulimit| {
        let typ = rlimit_type(&ulimit.name).ok_or_else(|| {
            Error::invalid(format!("invalid ulimit type: {}", ulimit.name))
                .hint("types are those of getrlimit(2) in lower case: nofile, nproc, core, …")
        })?;
        let limit = PosixRlimitBuilder::default().typ(typ).soft(ulimit.soft).hard(ulimit.hard);
        limit.build().map_err(|error| Error::invalid(error.to_string()))
    };
    limits.ulimits.iter().map(convert).collect()
}

fn rlimit_type(name: &str) -> Option<PosixRlimitType> {
    use PosixRlimitType as T;
    Some(match name {
        "core" => T::RlimitCore,
        "cpu" => T::RlimitCpu,
        "data" => T::RlimitData,
        "fsize" => T::RlimitFsize,
        "locks" => T::RlimitLocks,
        "memlock" => T::RlimitMemlock,
        "msgqueue" => T::RlimitMsgqueue,
        "nice" => T::RlimitNice,
        "nofile" => T::RlimitNofile,
        "nproc" => T::RlimitNproc,
        "rss" => T::RlimitRss,
        "rtprio" => T::RlimitRtprio,
        "rttime" => T::RlimitRttime,
        "sigpending" => T::RlimitSigpending,
        "stack" => T::RlimitStack,
        "as" => T::RlimitAs,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn contradicting_limits_are_refused_in_dockers_words() {
        let check = |limits: &Limits, expected: &str| {
            let error = memory(limits).err().or_else(|| cpu(limits).err()).unwrap().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&limits(|l| l.memory = Some(4096)), "Minimum memory limit allowed is 6MB");
        check(&limits(|l| l.memory_swap = Some(1 << 30)), "You should always set the Memory limit");
        let swap = limits(|l| (l.memory, l.memory_swap) = (Some(1 << 30), Some(1 << 29)));
        check(&swap, "Minimum memoryswap limit should be larger");
        check(&limits(|l| l.memory_reservation = Some(1)), "Minimum memory reservation allowed");
        check(&limits(|l| l.memory_swappiness = Some(101)), "invalid value: 101");
        check(&limits(|l| l.nano_cpus = Some(1 << 50)), "Range of CPUs is from 0.01 to");
        check(&limits(|l| l.cpu_period_us = Some(999)), "CPU cfs period can not be less than 1ms");
        check(&limits(|l| l.cpu_period_us = Some(1_000_001)), "CPU cfs period");
        check(&limits(|l| l.cpu_quota_us = Some(1)), "CPU cfs quota can not be less than 1ms");
        check(&limits(|l| l.cpuset_cpus = "a".into()), "Invalid value a for cpuset cpus");
        check(&limits(|l| l.cpuset_mems = "8000".into()), "Requested memory nodes are not");
        assert!(check_oom_score(&limits(|l| l.oom_score_adj = Some(-1001))).is_err());
        assert!(cpu(&limits(|l| l.cpu_quota_us = Some(-1))).is_ok());
    }

    #[test]
    fn cpus_become_a_quota() {
        let cpu = cpu(&limits(|l| l.nano_cpus = Some(1_500_000_000)));
        let Ok(Some(cpu)) = cpu else {
            return assert!(std::thread::available_parallelism().unwrap().get() < 2);
        };
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
    }
}
