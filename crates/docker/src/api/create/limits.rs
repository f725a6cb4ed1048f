//! How much of the machine a container may use.

use engine::{Device, Error, Limits, Result, Throttle, Throttled, Ulimit};

use crate::api::host_config::{self as api, Rate, Resources};
use crate::grammar;

/// What is set of the limits: 0 stands for none.
pub(in crate::api) fn limits(resources: &Resources) -> Result<Limits> {
    let set = |value: i64| Some(value).filter(|value| *value != 0);
    let positive = |name: &str, value: i64| {
        let value = u64::try_from(value);
        let value = value.map_err(|_| Error::invalid(format!("{name} cannot be negative")))?;
        Ok::<_, Error>(Some(value).filter(|value| *value != 0))
    };
    let throttles = |rates: &[Rate], of: Throttled| {
        let one = |rate: &Rate| Throttle { device: rate.path.clone().into(), of, rate: rate.rate };
        rates.iter().map(one).collect::<Vec<_>>()
    };
    let rules = resources.device_cgroup_rules.iter().map(|text| grammar::device_rule(text));
    let weights = resources.blkio_weight_device.iter();
    let swappiness = resources.memory_swappiness.map(grammar::swappiness).transpose()?;
    Ok(Limits {
        memory: set(resources.memory),
        memory_reservation: set(resources.memory_reservation),
        memory_swap: set(resources.memory_swap),
        memory_swappiness: swappiness.flatten(),
        nano_cpus: set(resources.nano_cpus),
        cpu_shares: positive("CpuShares", resources.cpu_shares)?,
        cpu_period_us: positive("CpuPeriod", resources.cpu_period)?,
        cpu_quota_us: set(resources.cpu_quota),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        cpu_rt_runtime_us: set(resources.cpu_realtime_runtime),
        cpu_rt_period_us: positive("CpuRealtimePeriod", resources.cpu_realtime_period)?,
        pids: resources.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: Some(resources.blkio_weight).filter(|weight| *weight != 0),
        blkio_weight_devices: weights.map(|w| (w.path.clone().into(), w.weight)).collect(),
        blkio_throttles: [
            throttles(&resources.blkio_device_read_bps, Throttled::ReadBytes),
            throttles(&resources.blkio_device_write_bps, Throttled::WriteBytes),
            throttles(&resources.blkio_device_read_iops, Throttled::Reads),
            throttles(&resources.blkio_device_write_iops, Throttled::Writes),
        ]
        .concat(),
        oom_kill_disable: resources.oom_kill_disable,
        device_rules: rules.collect::<Result<_>>()?,
        ulimits: resources.ulimits.iter().map(ulimit).collect::<Result<_>>()?,
        oom_score_adj: Some(resources.oom_score_adj).filter(|score| *score != 0),
    })
}

/// -1 is no limit.
fn ulimit(limit: &api::Ulimit) -> Result<Ulimit> {
    let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let (soft, hard) = (number(limit.soft), number(limit.hard));
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            limit.soft, limit.hard
        )));
    }
    Ok(Ulimit { name: limit.name.clone(), soft, hard })
}

pub(super) fn device(device: api::Device) -> Result<Device> {
    let api::Device { path_on_host: host, path_in_container, cgroup_permissions } = device;
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let container = or(path_in_container, &host);
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(Error::invalid(format!("invalid device path: {host}:{container}")));
    }
    let permissions = or(cgroup_permissions, "rwm");
    if !permissions.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(Error::invalid(format!("invalid device permissions: {permissions}")));
    }
    Ok(Device { host: host.into(), container: container.into(), permissions })
}
