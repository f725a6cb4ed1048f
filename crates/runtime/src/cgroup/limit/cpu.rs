//! Limits on processor time and processors.

use oci::runtime::LinuxCpu;

use super::{Host, Setting, unsupported};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Version;

/// `cpu.weight` (1–10000, default 100) for `cpu.shares` (2–262144, default 1024): through both
/// ends and the default, as runc and crun convert since 2025 (opencontainers/cgroups 0.0.5).
pub(in crate::cgroup) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // Rounded up, but not for the noise of the last bits: 1024 is 100.
            (10_f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

pub(super) fn settings(
    cpu: &LinuxCpu,
    version: Version,
    host: &Host<'_>,
) -> Result<Vec<Setting>, Error> {
    let mut made = Vec::new();
    let idle = cpu.idle().map(|idle| {
        Setting::new("cpu.idle", "cpu.idle", idle.to_string())
            .remedy("cpu.idle needs Linux 5.15 or later")
    });
    // An idle group refuses a weight, so idleness ends before and begins after.
    let ends = cpu.idle() == Some(0);
    made.extend(idle.clone().filter(|_| ends));
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        made.push(match version {
            Version::V1 => Setting::new("cpu.shares", "cpu.shares", shares.to_string()),
            Version::V2 => {
                Setting::new("cpu.shares", "cpu.weight", weight_of_shares(shares).to_string())
            }
        });
    }
    made.extend(idle.filter(|_| !ends));
    made.extend(match version {
        Version::V1 => bandwidth_v1(cpu, host),
        Version::V2 => bandwidth_v2(cpu, host),
    });
    let mut realtime = [
        ("cpu.realtimePeriod", "cpu.rt_period_us", cpu.realtime_period().map(|p| p.to_string())),
        ("cpu.realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime().map(|r| r.to_string())),
    ];
    // Their ratio may at no moment exceed the parent's: what shrinks it comes first.
    let present = (host.read)("cpu", "cpu.rt_runtime_us").and_then(|text| text.trim().parse().ok());
    if cpu.realtime_runtime() < present {
        realtime.reverse();
    }
    for (limit, file, value) in realtime {
        let Some(value) = value.filter(|value| value != "0") else { continue };
        if version == Version::V2 {
            return Err(unsupported(limit, value, "version 2 of control groups has no such limit"));
        }
        let remedy = "the kernel needs CONFIG_RT_GROUP_SCHED";
        made.push(Setting::new(limit, file, value).remedy(remedy));
    }
    Ok(made)
}

/// No period leaves the kernel's 100 ms; no quota means no limit.
fn asked_bandwidth(cpu: &LinuxCpu) -> (Option<i64>, Option<u64>) {
    (cpu.quota().filter(|quota| *quota != 0), cpu.period().filter(|period| *period != 0))
}

const BURST_REMEDY: &str = "a burst needs Linux 5.14 or later";

/// A burst may not exceed the quota, nor quota/period the parent's share, at any moment: lift
/// first, then set.
fn bandwidth_v1(cpu: &LinuxCpu, host: &Host<'_>) -> Vec<Setting> {
    let present = |file: &str| (host.read)("cpu", file).map(|text| text.trim().to_owned());
    let (quota, period) = asked_bandwidth(cpu);
    let mut made = Vec::new();
    if cpu.burst().is_some() && present("cpu.cfs_burst_us").is_some_and(|burst| burst != "0") {
        made.push(Setting::new("cpu.burst", "cpu.cfs_burst_us", "0"));
    }
    let limited = present("cpu.cfs_quota_us").filter(|quota| quota != "-1");
    if let Some(period) = period {
        if limited.is_some() {
            made.push(Setting::new("cpu.quota", "cpu.cfs_quota_us", "-1"));
        }
        made.push(Setting::new("cpu.period", "cpu.cfs_period_us", period.to_string()));
    }
    let quota = quota.map(|quota| quota.max(-1).to_string());
    // A new period alone keeps the quota that was lifted for it.
    if let Some(quota) = quota.or(limited.filter(|_| period.is_some())) {
        made.push(Setting::new("cpu.quota", "cpu.cfs_quota_us", quota));
    }
    if let Some(burst) = cpu.burst() {
        made.push(
            Setting::new("cpu.burst", "cpu.cfs_burst_us", burst.to_string()).remedy(BURST_REMEDY),
        );
    }
    made
}

fn bandwidth_v2(cpu: &LinuxCpu, host: &Host<'_>) -> Vec<Setting> {
    let present = |file: &str| (host.read)("cpu", file).map(|text| text.trim().to_owned());
    let mut made = Vec::new();
    if cpu.burst().is_some() && present("cpu.max.burst").is_some_and(|burst| burst != "0") {
        made.push(Setting::new("cpu.burst", "cpu.max.burst", "0"));
    }
    let (quota, period) = asked_bandwidth(cpu);
    let text = |quota: i64| if quota < 0 { "max".to_owned() } else { quota.to_string() };
    match (quota.map(text), period) {
        (Some(quota), Some(period)) => {
            made.push(Setting::new("cpu.quota", "cpu.max", format!("{quota} {period}")));
        }
        (Some(quota), None) => made.push(Setting::new("cpu.quota", "cpu.max", quota)),
        (None, Some(period)) => {
            let max = present("cpu.max").unwrap_or_default();
            let quota = max.split(' ').next().filter(|quota| !quota.is_empty()).unwrap_or("max");
            made.push(Setting::new("cpu.period", "cpu.max", format!("{quota} {period}")));
        }
        (None, None) => {}
    }
    if let Some(burst) = cpu.burst() {
        made.push(
            Setting::new("cpu.burst", "cpu.max.burst", burst.to_string()).remedy(BURST_REMEDY),
        );
    }
    made
}

pub(super) fn cpuset(cpu: &LinuxCpu) -> Vec<Setting> {
    let asked = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    let cpus = asked(cpu.cpus()).map(|cpus| Setting::new("cpu.cpus", "cpuset.cpus", cpus));
    let mems = asked(cpu.mems()).map(|mems| Setting::new("cpu.mems", "cpuset.mems", mems));
    cpus.into_iter().chain(mems).collect()
}
