//! The options that say how much of the machine a container may use.

use std::path::PathBuf;

use clap::Args;
use docker::grammar::device_rule;
use engine::{Error, Limits, Result, Throttle, Throttled};

use super::value;

/// How much of the machine a container may use.
#[derive(Debug, Args)]
pub(super) struct LimitOptions {
    #[command(flatten)]
    changing: UpdateOptions,
    /// Tune container memory swappiness (0 to 100); -1 leaves it to the kernel
    #[arg(long, value_name = "PERCENT")]
    memory_swappiness: Option<i64>,
    /// Ulimit options
    #[arg(long, value_name = "TYPE=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "SCORE")]
    oom_score_adj: Option<i32>,
    /// Disable OOM Killer (control groups of version 1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_bps: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_iops: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_iops: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "'TYPE MAJOR:MINOR ACCESS'")]
    device_cgroup_rule: Vec<String>,
}

/// The limits that can be changed while a container runs.
#[derive(Debug, Args)]
pub(in crate::command) struct UpdateOptions {
    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES")]
    memory_swap: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    cpus: Option<String>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// Limit CPU real-time period (control groups of version 1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Limit CPU real-time runtime (control groups of version 1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS", default_value = "", hide_default_value = true)]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "NODES", default_value = "", hide_default_value = true)]
    cpuset_mems: String,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "COUNT")]
    pids_limit: Option<i64>,
}

impl LimitOptions {
    pub(super) fn limits(&self) -> Result<Limits> {
        let ulimits = self.ulimit.iter().map(|text| value::ulimit(text)).collect::<Result<_>>()?;
        Ok(Limits {
            memory_swappiness: self.memory_swappiness.map(value::swappiness).transpose()?.flatten(),
            ulimits,
            oom_score_adj: self.oom_score_adj,
            oom_kill_disable: self.oom_kill_disable,
            blkio_weight_devices: each("blkio-weight-device", &self.blkio_weight_device, weight)?,
            blkio_throttles: self.throttles()?,
            device_rules: each("device-cgroup-rule", &self.device_cgroup_rule, device_rule)?,
            ..self.changing.limits()?
        })
    }

    fn throttles(&self) -> Result<Vec<Throttle>> {
        let of_one = |name, texts: &[String], of| each(name, texts, |text| throttle(text, of));
        Ok([
            of_one("device-read-bps", &self.device_read_bps, Throttled::ReadBytes)?,
            of_one("device-write-bps", &self.device_write_bps, Throttled::WriteBytes)?,
            of_one("device-read-iops", &self.device_read_iops, Throttled::Reads)?,
            of_one("device-write-iops", &self.device_write_iops, Throttled::Writes)?,
        ]
        .concat())
    }
}

impl UpdateOptions {
    /// What the options mean.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let bytes = |name: &str, text: &Option<String>| {
            text.as_ref().map(|text| value::bytes(name, text)).transpose()
        };
        Ok(Limits {
            memory: bytes("memory", &self.memory)?,
            memory_reservation: bytes("memory-reservation", &self.memory_reservation)?,
            memory_swap: bytes("memory-swap", &self.memory_swap)?,
            nano_cpus: self.cpus.as_ref().map(|text| value::nano_cpus(text)).transpose()?,
            cpu_shares: self.cpu_shares,
            cpu_period_us: self.cpu_period,
            cpu_quota_us: self.cpu_quota,
            cpu_rt_period_us: self.cpu_rt_period,
            cpu_rt_runtime_us: self.cpu_rt_runtime,
            blkio_weight: self.blkio_weight,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            ..Limits::default()
        })
    }
}

/// Reads the values of an option; a wrong one is told with the option's name, as in Docker.
fn each<T>(name: &str, texts: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let one = |text: &String| {
        parse(text).map_err(|error| {
            let told = format!("invalid argument \"{text}\" for \"--{name}\" flag: {error}");
            let told = Error::invalid(told);
            match error.hint_text() {
                Some(hint) => told.hint(hint),
                None => told,
            }
        })
    };
    texts.iter().map(one).collect()
}

/// `DEVICE:VALUE`, where the device is below /dev.
fn of_device(text: &str) -> Result<(PathBuf, &str)> {
    let bad = |what: &str| {
        Error::invalid(format!("{what}: {text}")).hint("as in /dev/sda:10mb, or /dev/sda:300")
    };
    let (device, value) = text.split_once(':').ok_or_else(|| bad("bad format"))?;
    match device.starts_with("/dev/") {
        true => Ok((device.into(), value)),
        false => Err(bad("bad format for device path")),
    }
}

/// `DEVICE:WEIGHT`.
fn weight(text: &str) -> Result<(PathBuf, u16)> {
    let (device, weight) = of_device(text)?;
    let fits = |weight: &u16| *weight == 0 || (10..=1000).contains(weight);
    let weight = weight.parse().ok().filter(fits);
    weight.map(|weight| (device, weight)).ok_or_else(|| {
        Error::invalid(format!("invalid weight for device: {text}"))
            .hint("a weight is from 10 to 1000, or 0 for none")
    })
}

/// `DEVICE:RATE`; a rate of bytes may have a unit.
fn throttle(text: &str, of: Throttled) -> Result<Throttle> {
    let (device, rate) = of_device(text)?;
    let (rate, unit) = match of {
        Throttled::ReadBytes | Throttled::WriteBytes => (
            docker::parse_ram(rate).ok(),
            "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
        ),
        Throttled::Reads | Throttled::Writes => {
            (rate.parse().ok(), ". Number must be a positive integer")
        }
    };
    let rate = rate.ok_or_else(|| {
        let format = format!("The correct format is <device-path>:<number>{unit}");
        Error::invalid(format!("invalid rate for device: {text}. {format}"))
    })?;
    Ok(Throttle { device, of, rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_weights_and_rates() {
        assert_eq!(weight("/dev/sda:10").unwrap(), ("/dev/sda".into(), 10));
        for bad in ["/dev/sda", "sda:10", "/dev/sda:9", "/dev/sda:1001", "/dev/sda:x"] {
            assert!(weight(bad).is_err(), "{bad}");
        }
        let rate = |text, of| throttle(text, of).map(|throttle| throttle.rate).ok();
        assert_eq!(rate("/dev/sda:1mb", Throttled::ReadBytes), Some(1 << 20));
        assert_eq!(rate("/dev/sda:300", Throttled::Reads), Some(300));
        assert_eq!(rate("/dev/sda:1mb", Throttled::Reads), None);
        assert_eq!(rate("/dev/sda:-1", Throttled::WriteBytes), None);
    }

    #[test]
    fn a_wrong_value_is_told_with_its_option_and_a_hint() {
        let error =
            each("device-read-bps", &["sda".into()], |text| throttle(text, Throttled::ReadBytes));
        let error = error.unwrap_err();
        let expected = "invalid argument \"sda\" for \"--device-read-bps\" flag: bad format: sda";
        assert_eq!(error.to_string(), expected);
        assert!(error.hint_text().is_some());
    }

    #[test]
    fn rules_have_a_kind_numbers_and_an_access() {
        let rule = device_rule("c 1:* rw").unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor, &*rule.access), ('c', Some(1), None, "rw"));
        for bad in ["", "c", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 rwmm", "c 1:3 x", "c 1:-3 r"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }
}
