//! `GET /containers/{id}/stats`

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use engine::{Container, Engine, GroupStats, Kind, Usage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use super::call::{Answer, Call, json, write_json};
use super::failure::Failure;
use crate::container::NO_TIME;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Nanoseconds of a clock tick of /proc/stat (`USER_HZ`, which is 100 everywhere).
const TICK_NS: u64 = 10_000_000;

pub(super) fn stats(call: &mut Call<'_, '_>) -> Answer {
    let container = call.container()?;
    let engine = call.engine();
    let streams = call.text("stream").is_empty() || call.flag("stream");
    let is_once = call.flag("one-shot");
    if is_once && streams {
        return Err(Failure::bad("cannot have stream=true and one-shot=true"));
    }
    if streams {
        return stream(call, &container);
    }
    let first = Look::take(engine, &container)?;
    if is_once || first.usage.is_none() {
        return json(200, &first.view(None));
    }
    if !passes(call.exchange.client()) {
        return Ok(None);
    }
    json(200, &Look::take(engine, &container)?.view(Some(&first)))
}

fn stream(call: &mut Call<'_, '_>, container: &Container) -> Answer {
    let engine = call.engine();
    let mut before: Option<Look> = None;
    let first = Look::take(engine, container)?;
    let Ok(mut out) = call.stream("application/json") else { return Ok(None) };
    let mut next = Some(first);
    while let Some(now) = next {
        if write_json(&mut out, &now.view(before.as_ref())).is_err() || !passes(out.as_fd()) {
            return Ok(None);
        }
        before = Some(now);
        // One that was removed has no more to tell.
        next = Look::take(engine, container).ok();
    }
    let _ = out.end();
    Ok(None)
}

/// Waits until the next look; whether the client is still there.
fn passes(client: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(client, PollFlags::RDHUP)];
    let patience = Timespec::try_from(INTERVAL).unwrap_or_default();
    matches!(rustix::io::retry_on_intr(|| poll(&mut set, Some(&patience))), Ok(0))
}

/// What a container used when it was looked at.
#[derive(Debug)]
struct Look {
    container: Container,
    at: String,
    /// `None` for one that does not run.
    usage: Option<Usage>,
    /// Processor time of the whole machine, in nanoseconds, and its processors.
    machine: (u64, usize),
}

impl Look {
    fn take(engine: &Engine, container: &Container) -> engine::Result<Self> {
        let container = engine.find(&container.record.id)?;
        let usage = match engine.usage(&container) {
            Ok(usage) => Some(usage),
            Err(error) if error.kind() == Kind::Conflict => None,
            Err(error) => return Err(error),
        };
        let at = engine::clock::now();
        Ok(Self { container, at, usage, machine: machine() })
    }

    fn view(&self, before: Option<&Self>) -> Value {
        let record = &self.container.record;
        let mut view = json!({
            "read": if self.usage.is_some() { &self.at } else { NO_TIME },
            "preread": before.map_or(NO_TIME, |before| before.at.as_str()),
            "pids_stats": {},
            "blkio_stats": blkio(None),
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": self.cpu(),
            "precpu_stats": before.map_or_else(|| cpu(None, (0, 0)), Self::cpu),
            "memory_stats": {},
            "name": format!("/{}", record.name),
            "id": record.id,
        });
        let Some(usage) = &self.usage else { return view };
        view["pids_stats"] = json!({ "current": usage.pids });
        if let Some(limit) = record.settings.limits.pids.filter(|limit| *limit > 0) {
            view["pids_stats"]["limit"] = limit.into();
        }
        view["blkio_stats"] = blkio(Some(&usage.groups));
        view["memory_stats"] = memory(usage);
        if !usage.interfaces.is_empty() {
            view["networks"] = networks(usage);
        }
        view
    }

    fn cpu(&self) -> Value {
        cpu(self.usage.as_ref().map(|usage| &usage.groups), self.machine)
    }
}

fn cpu(groups: Option<&GroupStats>, (machine_ns, processors): (u64, usize)) -> Value {
    let Some(GroupStats { cpu, .. }) = groups else {
        return json!({
            "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        });
    };
    let mut usage = json!({
        "total_usage": cpu.usage_ns,
        "usage_in_kernelmode": cpu.system_ns,
        "usage_in_usermode": cpu.user_ns,
    });
    if !cpu.by_processor_ns.is_empty() {
        usage["percpu_usage"] = json!(cpu.by_processor_ns);
    }
    json!({
        "cpu_usage": usage,
        "system_cpu_usage": machine_ns,
        "online_cpus": processors,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_ns,
        },
    })
}

/// Clients take the inactive part of the page cache from the usage themselves.
fn memory(usage: &Usage) -> Value {
    let memory = &usage.groups.memory;
    json!({
        "usage": memory.usage_bytes,
        "max_usage": memory.peak_bytes.unwrap_or(0),
        "failcnt": memory.oom_events,
        "stats": {
            "cache": memory.cache_bytes,
            "inactive_file": memory.inactive_file_bytes,
            "total_inactive_file": memory.inactive_file_bytes,
        },
        "limit": usage.memory_limit_bytes,
    })
}

fn blkio(groups: Option<&GroupStats>) -> Value {
    let io = groups.map_or(&[][..], |groups| &groups.io);
    let both = |of: fn(&engine::GroupIo) -> (u64, u64)| -> Value {
        let rows = io.iter().flat_map(|device| {
            let (read, written) = of(device);
            [("read", read), ("write", written)].map(|(operation, value)| {
                json!({
                    "major": device.major, "minor": device.minor,
                    "op": operation, "value": value,
                })
            })
        });
        if io.is_empty() { Value::Null } else { rows.collect() }
    };
    json!({
        "io_service_bytes_recursive": both(|device| (device.read_bytes, device.write_bytes)),
        "io_serviced_recursive": both(|device| (device.read_ops, device.write_ops)),
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

fn networks(usage: &Usage) -> Value {
    let all = usage.interfaces.iter().map(|(name, traffic)| {
        let ([rx_bytes, rx_packets, rx_errors, rx_dropped], sent) =
            (traffic.received, traffic.sent);
        let [tx_bytes, tx_packets, tx_errors, tx_dropped] = sent;
        let counts = json!({
            "rx_bytes": rx_bytes, "rx_packets": rx_packets,
            "rx_errors": rx_errors, "rx_dropped": rx_dropped,
            "tx_bytes": tx_bytes, "tx_packets": tx_packets,
            "tx_errors": tx_errors, "tx_dropped": tx_dropped,
        });
        (name.clone(), counts)
    });
    Value::Object(all.collect::<Map<_, _>>())
}

/// The processor time that the machine has had, in nanoseconds, and its processors
/// (proc_stat(5)).
fn machine() -> (u64, usize) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    // What guests had is in what users had.
    let ticks = first.split_whitespace().skip(1).take(8);
    let ticks: u64 = ticks.filter_map(|number| number.parse::<u64>().ok()).sum();
    let processors = lines.take_while(|line| line.starts_with("cpu")).count();
    (ticks * TICK_NS, processors.max(1))
}
