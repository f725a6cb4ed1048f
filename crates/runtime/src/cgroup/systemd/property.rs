//! Limits as properties of a unit (systemd.resource-control(5)), as runc sets them.
//!
//! They only tell systemd what the files of the group say anyway, so that it does not take it back.
//! What has no property is in the files alone.

use oci::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::super::hierarchy::Version;
use super::super::limit::{swap_alone, weight_of_shares};
use super::super::{Error, device};
use super::dbus::Value;

/// The kernel's period, in microseconds.
const PERIOD_DEFAULT: u64 = 100_000;
const SECOND_US: u64 = 1_000_000;
/// systemd keeps whole hundredths of a processor.
const QUOTA_STEP_US: u64 = 10_000;
/// A processor list names no larger number (`CPU_SET` of the kernel has at most 8192).
const CPU_MAX: usize = 8192;

/// Name and value of each.
pub(super) type Properties = Vec<(String, Value)>;

/// The properties for `resources`, where `version` tells which interface a controller has.
pub(super) fn of(
    resources: &LinuxResources,
    version: &dyn Fn(&str) -> Option<Version>,
) -> Result<Properties, Error> {
    let mut all = Vec::new();
    if let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) {
        all.extend(devices(&device::Rules::read(rules)?)?);
    }
    if let Some(memory) = resources.memory() {
        all.extend(of_memory(memory, version("memory"))?);
    }
    if let Some(cpu) = resources.cpu() {
        all.extend(of_cpu(cpu, version("cpu"))?);
    }
    if let Some(pids) = resources.pids() {
        all.push(number("TasksMax", pids.limit(), 1));
    }
    for (file, value) in resources.unified().iter().flatten() {
        all.extend(of_file(file, value.trim())?);
    }
    Ok(all)
}

/// Negative values stand for infinity.
fn number(name: &str, value: i64, least: u64) -> (String, Value) {
    let value = u64::try_from(value).map_or(u64::MAX, |value| value.max(least));
    (name.to_owned(), Value::U64(value))
}

fn of_memory(memory: &LinuxMemory, version: Option<Version>) -> Result<Properties, Error> {
    let asked = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = asked(memory.limit());
    if version == Some(Version::V1) {
        return Ok(limit.map(|limit| number("MemoryLimit", limit, 0)).into_iter().collect());
    }
    let mut all: Properties = Vec::new();
    all.extend(limit.map(|limit| number("MemoryMax", limit, 0)));
    all.extend(asked(memory.reservation()).map(|low| number("MemoryLow", low, 0)));
    if let Some(swap) = asked(memory.swap()) {
        // Without a limit of memory the files decide what it means.
        if swap < 0 || limit.is_some() {
            all.push(number("MemorySwapMax", swap_alone(swap, limit)?, 0));
        }
    }
    Ok(all)
}

fn of_cpu(cpu: &LinuxCpu, version: Option<Version>) -> Result<Properties, Error> {
    let mut all = Vec::new();
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        all.push(match version {
            Some(Version::V1) => ("CPUShares".to_owned(), Value::U64(shares)),
            // What idles has no weight.
            _ if cpu.idle() == Some(1) => ("CPUWeight".to_owned(), Value::U64(0)),
            _ => ("CPUWeight".to_owned(), Value::U64(weight_of_shares(shares))),
        });
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    all.extend(bandwidth(quota, cpu.period().filter(|period| *period != 0)));
    for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            all.push((name.to_owned(), bits(list)?));
        }
    }
    Ok(all)
}

/// systemd counts time per second, not per period.
fn bandwidth(quota: Option<i64>, period: Option<u64>) -> Properties {
    let mut all = Vec::new();
    all.extend(period.map(|period| ("CPUQuotaPeriodUSec".to_owned(), Value::U64(period))));
    if quota.is_some() || period.is_some() {
        let each = match quota.and_then(|quota| u64::try_from(quota).ok()) {
            Some(quota) => {
                let each = quota.saturating_mul(SECOND_US) / period.unwrap_or(PERIOD_DEFAULT);
                each.checked_next_multiple_of(QUOTA_STEP_US).unwrap_or(u64::MAX)
            }
            None => u64::MAX,
        };
        all.push(("CPUQuotaPerSecUSec".to_owned(), Value::U64(each)));
    }
    all
}

/// A list such as `0-2,7` as a bit for each number, the lowest first.
fn bits(list: &str) -> Result<Value, Error> {
    let invalid = || Error::Invalid(format!("{list:?} is no list of processors or memory nodes"));
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number < CPU_MAX);
        let (first, last) = number(first).zip(number(last)).ok_or_else(invalid)?;
        if first > last {
            return Err(invalid());
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|number| bytes[number / 8] |= 1 << (number % 8));
    }
    if bytes.is_empty() {
        return Err(invalid());
    }
    Ok(Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()))
}

/// systemd knows lists of what is allowed. Where all is allowed but a few, the group's own program
/// decides alone.
fn devices(rules: &device::Rules) -> Result<Properties, Error> {
    let allowed = rules.allowed()?;
    let policy = if allowed.is_some() { "strict" } else { "auto" };
    let entry = |(path, access)| Value::Struct(vec![Value::Text(path), Value::Text(access)]);
    let list = |entries: Vec<Value>| Value::Array("(ss)".into(), entries);
    // An empty list clears what is there, and further ones add to it.
    Ok(vec![
        ("DeviceAllow".to_owned(), list(Vec::new())),
        ("DevicePolicy".to_owned(), Value::text(policy)),
        ("DeviceAllow".to_owned(), list(allowed.into_iter().flatten().map(entry).collect())),
    ])
}

/// The property for a file of version 2, where there is one.
fn of_file(file: &str, value: &str) -> Result<Properties, Error> {
    let invalid = || Error::Invalid(format!("limit unified.{file} = {value:?} is not a value"));
    let limit = || match value {
        "max" => Ok(u64::MAX),
        number => number.parse().map_err(|_| invalid()),
    };
    let property = match file {
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "cpu.weight" => "CPUWeight",
        "pids.max" => return Ok(vec![("TasksMax".to_owned(), Value::U64(limit()?.max(1)))]),
        "cpuset.cpus" => return Ok(vec![("AllowedCPUs".to_owned(), bits(value)?)]),
        "cpuset.mems" => return Ok(vec![("AllowedMemoryNodes".to_owned(), bits(value)?)]),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let quota = match words.next().ok_or_else(invalid)? {
                "max" => -1,
                quota => quota.parse().map_err(|_| invalid())?,
            };
            let period = words.next().map(str::parse).transpose().map_err(|_| invalid())?;
            return Ok(bandwidth(Some(quota), period));
        }
        // The file itself is written all the same.
        _ => return Ok(Vec::new()),
    };
    Ok(vec![(property.to_owned(), Value::U64(limit()?))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(version: Version, json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let all = of(&resources, &|_| Some(version)).unwrap();
        let value = |value: &Value| match value {
            Value::U64(u64::MAX) => "infinity".to_owned(),
            Value::U64(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::Array(_, values) => values.iter().map(|v| format!("{v:?};")).collect(),
            other => format!("{other:?}"),
        };
        let mut lines: Vec<String> =
            all.iter().map(|(name, v)| format!("{name}={}", value(v))).collect();
        // A map has no order.
        if json.contains("unified") {
            lines.sort();
        }
        lines
    }

    #[test]
    fn limits_become_properties() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (r"{}", &[], &[]),
            (
                r#"{"memory": {"limit": 100, "swap": 300, "reservation": 50}}"#,
                &["MemoryLimit=100"],
                &["MemoryMax=100", "MemoryLow=50", "MemorySwapMax=200"],
            ),
            (
                r#"{"memory": {"limit": -1, "swap": -1}}"#,
                &["MemoryLimit=infinity"],
                &["MemoryMax=infinity", "MemorySwapMax=infinity"],
            ),
            (r#"{"cpu": {"shares": 1024}}"#, &["CPUShares=1024"], &["CPUWeight=100"]),
            (
                r#"{"cpu": {"quota": 33333, "period": 100000}}"#,
                &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=340000"],
                &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=340000"],
            ),
            (
                r#"{"cpu": {"quota": -1}}"#,
                &["CPUQuotaPerSecUSec=infinity"],
                &["CPUQuotaPerSecUSec=infinity"],
            ),
            (
                r#"{"cpu": {"cpus": "0,9"}}"#,
                &["AllowedCPUs=Byte(1);Byte(2);"],
                &["AllowedCPUs=Byte(1);Byte(2);"],
            ),
            (r#"{"pids": {"limit": 0}}"#, &["TasksMax=1"], &["TasksMax=1"]),
            (r#"{"pids": {"limit": -1}}"#, &["TasksMax=infinity"], &["TasksMax=infinity"]),
        ];
        for (json, v1, v2) in cases {
            assert_eq!(shown(Version::V1, json), *v1, "{json}");
            assert_eq!(shown(Version::V2, json), *v2, "{json}");
        }
        let unified = r#"{"unified": {"memory.high": "7", "cpu.max": "max 5000", "pids.max": "max",
            "cpu.weight": "9", "cpuset.cpus": "1", "io.max": "x"}}"#;
        assert_eq!(
            shown(Version::V2, unified),
            [
                "AllowedCPUs=Byte(2);",
                "CPUQuotaPerSecUSec=infinity",
                "CPUQuotaPeriodUSec=5000",
                "CPUWeight=9",
                "MemoryHigh=7",
                "TasksMax=infinity",
            ]
        );
    }

    #[test]
    fn devices_become_a_list_where_there_is_one() {
        let one = r#"{"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
            {"allow": true, "type": "b", "major": 7, "access": "m"},
            {"allow": true, "type": "c", "access": "m"},
            {"allow": true, "type": "c", "minor": 4, "access": "m"}]}"#;
        let lines = shown(Version::V2, one);
        assert_eq!(lines[..2], ["DeviceAllow=", "DevicePolicy=strict"]);
        for want in ["/dev/char/1:3", "block-7", "char-*"] {
            assert!(lines[2].contains(want), "{want}: {lines:?}");
        }
        assert_eq!(lines[2].matches("Struct").count(), 3, "{lines:?}");
        let all_but_one = r#"{"devices": [{"allow": true, "access": "rwm"},
            {"allow": false, "type": "c", "major": 1, "minor": 3, "access": "rw"}]}"#;
        assert_eq!(shown(Version::V2, all_but_one)[1], "DevicePolicy=auto");
    }

    #[test]
    fn lists_are_bounded() {
        for list in ["", ",", "x", "3-1", "99999", "0-99999", "-1"] {
            assert!(bits(list).is_err(), "{list}");
        }
    }
}
