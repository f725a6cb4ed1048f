//! `events`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use runtime::cgroup::{CpuStats, CpusetStats, IoStats, MemoryEntry, MemoryStats, Stats, Waiting};
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

/// In runc's form (its package `types`); what the kernel does not tell is left out, or 0 where runc
/// shows that.
fn describe(stats: &Stats) -> Value {
    let pids = &stats.pids;
    let huge = stats.hugetlb.iter().map(|(size, huge)| {
        let entry =
            json!({ "usage": huge.usage_bytes, "max": huge.peak_bytes, "failcnt": huge.failures });
        (size.clone(), entry)
    });
    let mut all = json!({
        "cpu": cpu(&stats.cpu),
        "cpuset": cpuset(&stats.cpuset),
        "memory": memory(&stats.memory),
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
        "blkio": block_io(stats),
        "hugetlb": huge.collect::<serde_json::Map<_, _>>(),
        "intel_rdt": {},
        "network_interfaces": null,
    });
    let pressures = [
        ("cpu", &stats.cpu.pressure),
        ("memory", &stats.memory.pressure),
        ("blkio", &stats.io_pressure),
    ];
    for (part, pressure) in pressures {
        if let Some(pressure) = pressure {
            all[part]["psi"] =
                json!({ "some": waiting(&pressure.some), "full": waiting(&pressure.full) });
        }
    }
    all
}

fn cpu(cpu: &CpuStats) -> Value {
    let mut usage = json!({
        "total": cpu.usage_ns,
        "kernel": cpu.system_ns,
        "user": cpu.user_ns,
    });
    let by_processor = [
        ("percpu", &cpu.by_processor_ns),
        ("percpu_kernel", &cpu.system_by_processor_ns),
        ("percpu_user", &cpu.user_by_processor_ns),
    ];
    for (name, times) in by_processor.iter().filter(|(_, times)| !times.is_empty()) {
        usage[*name] = json!(times);
    }
    json!({
        "usage": usage,
        "throttling": {
            "periods": cpu.periods,
            "throttledPeriods": cpu.throttled_periods,
            "throttledTime": cpu.throttled_ns,
        },
    })
}

fn cpuset(cpuset: &CpusetStats) -> Value {
    /// In runc's order; 0 where the kernel has no such file.
    const SETTINGS: [&str; 9] = [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ];
    let mut shown = json!({});
    for (name, list) in [("cpus", &cpuset.cpus), ("mems", &cpuset.mems)] {
        if !list.is_empty() {
            shown[name] = json!(list);
        }
    }
    for name in SETTINGS {
        shown[name] = json!(cpuset.settings.get(name).copied().unwrap_or(0));
    }
    shown
}

fn memory(memory: &MemoryStats) -> Value {
    let entry = |entry: &MemoryEntry| {
        json!({
            "limit": entry.limit_bytes.unwrap_or(u64::MAX),
            "usage": entry.usage_bytes,
            "max": entry.peak_bytes,
            "failcnt": entry.failures,
        })
    };
    json!({
        "cache": memory.cache_bytes,
        "usage": entry(&memory.total),
        "swap": entry(&memory.with_swap),
        "kernel": entry(&memory.kernel),
        "kernelTCP": entry(&memory.kernel_tcp),
        "raw": memory.raw,
    })
}

fn block_io(stats: &Stats) -> Value {
    let table = |of: fn(&IoStats) -> [(&'static str, u64); 2]| {
        let entries = stats.io.iter().flat_map(|device| {
            of(device).map(|(op, value)| {
                json!({ "major": device.major, "minor": device.minor, "op": op, "value": value })
            })
        });
        Value::Array(entries.collect())
    };
    json!({
        "ioServiceBytesRecursive": table(|d| [("Read", d.read_bytes), ("Write", d.write_bytes)]),
        "ioServicedRecursive": table(|d| [("Read", d.read_ops), ("Write", d.write_ops)]),
    })
}

fn waiting(waiting: &Waiting) -> Value {
    let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
    json!({
        "avg10": percent(waiting.avg10),
        "avg60": percent(waiting.avg60),
        "avg300": percent(waiting.avg300),
        "total": waiting.total_us,
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
