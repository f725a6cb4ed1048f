//! `events`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use runtime::cgroup::Stats;
use runtime::container::{Container, Status};
use serde_json::{Value, json};

use super::flag::Flag;
use super::{Args, Call, Verb, print, words};

pub(super) const VERB: Verb = Verb {
    name: "events",
    about: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    usage: "<container-id>",
    flags: &[
        Flag::value("interval", "set the stats collection interval (default: 5s)"),
        Flag::switch("stats", "display the container's stats then exit"),
    ],
    args: Args::Exactly(1),
    sealed: false,
    run,
};

const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// How soon it is noticed that memory ran out.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(200);
/// The units of Go's durations, in nanoseconds.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

fn run(call: &Call<'_>) -> Result<i32> {
    let container = Container::open(call.root, call.id()?)?;
    let interval = call.own.text("interval").map(duration).transpose()?;
    let interval = interval.unwrap_or(INTERVAL_DEFAULT);
    if container.status()? == Status::Stopped {
        bail!("container with id {} is not running", call.id()?);
    }
    if call.own.is_on("stats") {
        return show(&container);
    }
    let (mut oom_kills, mut next) = (container.oom_kills(), Instant::now() + interval);
    while !container.wait(LOOK_INTERVAL_MAX.min(interval)).context("wait for the container")? {
        let now = container.oom_kills();
        for _ in oom_kills..now {
            print(&format!("{}\n", json!({ "type": "oom", "id": call.id()? })));
        }
        oom_kills = now.max(oom_kills);
        if Instant::now() >= next {
            next = Instant::now() + interval;
            if let Err(error) = show(&container) {
                call.log.warn(&words(&error));
            }
        }
    }
    Ok(0)
}

fn show(container: &Container) -> Result<i32> {
    let (id, data) = (&container.record().id, describe(&container.stats()?));
    Ok(print(&format!("{}\n", json!({ "type": "stats", "id": id, "data": data }))))
}

/// In runc's form; what the kernel does not tell is left out, or 0 where runc shows that.
fn describe(stats: &Stats) -> Value {
    let (cpu, memory, pids) = (&stats.cpu, &stats.memory, &stats.pids);
    let entry = |limit: Option<u64>, usage: u64, max: Option<u64>, failcnt: u64| {
        let limit = limit.unwrap_or(u64::MAX);
        json!({ "limit": limit, "usage": usage, "max": max.unwrap_or(0), "failcnt": failcnt })
    };
    let io = |of: fn(&runtime::cgroup::IoStats) -> [(&'static str, u64); 2]| {
        let entries = stats.io.iter().flat_map(|device| {
            of(device).map(|(op, value)| {
                json!({ "major": device.major, "minor": device.minor, "op": op, "value": value })
            })
        });
        Value::Array(entries.collect())
    };
    json!({
        "cpu": {
            "usage": {
                "total": cpu.usage_ns,
                "kernel": cpu.system_ns,
                "user": cpu.user_ns,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_ns,
            },
        },
        "memory": {
            "cache": memory.cache_bytes,
            "usage": entry(memory.limit_bytes, memory.usage_bytes, memory.peak_bytes, memory.oom_events),
            "swap": entry(None, memory.swap_bytes, None, 0),
            "raw": {
                "inactive_file": memory.inactive_file_bytes,
                "total_inactive_file": memory.inactive_file_bytes,
                "oom_kill": memory.oom_kills,
            },
        },
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": io(|d| [("Read", d.read_bytes), ("Write", d.write_bytes)]),
            "ioServicedRecursive": io(|d| [("Read", d.read_ops), ("Write", d.write_ops)]),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// A duration as Go spells it: `1.5s`, `1m30s`.
fn duration(text: &str) -> Result<Duration> {
    let invalid = || format!("invalid duration \"{text}\"");
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').with_context(invalid)?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).with_context(invalid)?;
        total += number.parse::<f64>().with_context(invalid)? * unit.1;
        rest = behind;
    }
    if total <= 0.0 {
        bail!("duration interval must be greater than 0");
    }
    Ok(Duration::from_nanos(total as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_as_in_go() {
        for (text, ms) in [("5s", 5000), ("100ms", 100), ("1m1.5s", 61_500), ("1h", 3_600_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "0s", "5", "s", "1x", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
