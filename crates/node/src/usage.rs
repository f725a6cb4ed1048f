//! What this node and its pods use, measured when somebody asks.
//!
//! The use of a processor is a difference of two samples. The last two are kept, so that whoever asks
//! each second gets the last second, and nothing is measured while nobody asks.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::Key;
use engine::{Container, Usage};
use serde_json::{Value, json};

use crate::field::time;
use crate::host::{Host, Node};
use crate::observe::{LABEL_CONTAINER, LABEL_NAME, LABEL_NAMESPACE, LABEL_NODE, LABEL_UID};
use crate::observe::{end_of, started_ms};
use crate::timer::now_ms;

/// What was measured within this time is good enough.
const FRESH: Duration = Duration::from_millis(500);
/// An older sample says little of now (upstream's metrics-server measures every 15 s).
const OLD: Duration = Duration::from_secs(15);
/// Between the two samples for whoever asks first.
const FIRST: Duration = Duration::from_millis(250);
/// What runs for less has no use to tell yet (ms).
const SHORTEST_MS: i64 = 100;
/// Nanoseconds of a tick in /proc/stat (`USER_HZ`).
const TICK_NS: u64 = 10_000_000;

/// The last two samples, the older one first.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Option<(Sample, Sample)>>);

#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    at_ms: i64,
    node: NodeUse,
    /// By the ids of the engine.
    containers: BTreeMap<String, (Container, Usage)>,
}

/// What the machine has used, and has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeUse {
    /// Processor time since the machine was started.
    cpu_ns: u64,
    total_bytes: u64,
    free_bytes: u64,
    inactive_file_bytes: u64,
    anonymous_bytes: u64,
}

impl NodeUse {
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::read(&read("/proc/stat"), &read("/proc/meminfo"))
    }

    /// What proc_stat(5) and proc_meminfo(5) say.
    fn read(stat: &str, meminfo: &str) -> Self {
        let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let times: Vec<u64> = times.map(|ticks| ticks.parse().unwrap_or(0)).collect();
        // All but idle and iowait; guests are in the first two already.
        let busy: u64 = times
            .iter()
            .take(8)
            .enumerate()
            .filter(|(at, _)| !matches!(at, 3 | 4))
            .map(|t| t.1)
            .sum();
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.strip_prefix(':')?.split_whitespace().next());
            number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Self {
            cpu_ns: busy * TICK_NS,
            total_bytes: bytes("MemTotal"),
            free_bytes: bytes("MemFree"),
            inactive_file_bytes: bytes("Inactive(file)"),
            anonymous_bytes: bytes("AnonPages"),
        }
    }

    /// Memory that cannot be had without taking it from somebody, in bytes.
    pub(crate) fn working_set_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.free_bytes).saturating_sub(self.inactive_file_bytes)
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Memory that can be had, in bytes.
    pub(crate) fn available_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.working_set_bytes())
    }

    fn memory(&self, at_ms: i64) -> Value {
        json!({
            "time": time(at_ms),
            "availableBytes": self.available_bytes(),
            "usageBytes": self.total_bytes.saturating_sub(self.free_bytes),
            "workingSetBytes": self.working_set_bytes(),
            "rssBytes": self.anonymous_bytes,
        })
    }
}

impl Node {
    /// What this node and its pods use: upstream's `stats/summary`. Each `cpu` also has `window`, the
    /// time that its `usageNanoCores` are of, as Go writes durations.
    ///
    /// # Errors
    /// In words for a person: the engine cannot tell.
    pub fn summary(&self) -> Result<Value, String> {
        self.0.summary()
    }
}

impl Host {
    fn summary(&self) -> Result<Value, String> {
        let mut samples = self.meter.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = samples.as_ref().map(|(_, last)| last.at.elapsed());
        let before = match (samples.take(), age) {
            (Some(both), Some(age)) if age < FRESH => {
                let document = self.document(&both.0, &both.1);
                *samples = Some(both);
                return Ok(document);
            }
            (Some((_, last)), Some(age)) if age < OLD => last,
            _ => {
                let first = self.sample()?;
                std::thread::sleep(FIRST);
                first
            }
        };
        let last = self.sample()?;
        let document = self.document(&before, &last);
        *samples = Some((before, last));
        Ok(document)
    }

    fn sample(&self) -> Result<Sample, String> {
        let all = self.engine.list().map_err(|error| crate::image::chain(&error))?;
        let label = |one: &Container, name: &str| {
            one.record.config.labels.get(name).cloned().unwrap_or_default()
        };
        let own = all.into_iter().filter(|one| {
            one.is_running()
                && end_of(one).is_none()
                && label(one, LABEL_NODE) == self.config.name
                && !label(one, LABEL_CONTAINER).is_empty()
        });
        // One that has ended meanwhile uses nothing.
        let used = own.filter_map(|one| Some((self.engine.usage(&one).ok()?, one)));
        let containers = used.map(|(usage, one)| (one.record.id.clone(), (one, usage))).collect();
        Ok(Sample { at: Instant::now(), at_ms: now_ms(), node: NodeUse::look(), containers })
    }

    fn document(&self, before: &Sample, last: &Sample) -> Value {
        let elapsed = last.at.duration_since(before.at);
        let used = last.node.cpu_ns.saturating_sub(before.node.cpu_ns);
        let disk = disk(&self.config.directory, last.at_ms);
        let mut pods: BTreeMap<&str, Value> = BTreeMap::new();
        for (container, usage) in last.containers.values() {
            let label =
                |name: &str| container.record.config.labels.get(name).map_or("", String::as_str);
            let key = Key::new("Pod", label(LABEL_NAMESPACE), label(LABEL_NAME));
            let pod = pods.entry(label(LABEL_UID)).or_insert_with(|| {
                json!({
                    "podRef": {
                        "name": key.name, "namespace": key.namespace, "uid": label(LABEL_UID),
                    },
                    "startTime": self.started(&key),
                    "containers": [],
                    "network": network(usage, last.at_ms),
                })
            });
            let own = container_document(label(LABEL_CONTAINER), container, before, last);
            if let Some(all) = pod["containers"].as_array_mut() {
                all.push(own);
            }
        }
        let pods = pods.into_values().map(whole).collect::<Vec<_>>();
        json!({
            "node": {
                "nodeName": self.config.name,
                "startTime": time(last.at_ms - uptime_ms()),
                "cpu": cpu(last.node.cpu_ns, Some((used, elapsed)), last.at_ms),
                "memory": last.node.memory(last.at_ms),
                "fs": disk,
                "runtime": {"imageFs": disk},
            },
            "pods": pods,
        })
    }

    fn started(&self, key: &Key) -> Value {
        let pod = self.cache.get(key);
        pod.map_or(Value::Null, |pod| pod["status"]["startTime"].clone())
    }
}

fn container_document(name: &str, own: &Container, before: &Sample, last: &Sample) -> Value {
    let usage = &last.containers[&own.record.id].1;
    let ran_ms = last.at_ms - started_ms(own);
    let rate = match before.containers.get(&own.record.id) {
        Some((_, old)) => {
            let used = usage.cpu_ns.saturating_sub(old.cpu_ns);
            Some((used, last.at.duration_since(before.at)))
        }
        // What has begun meanwhile has used all of it since then.
        None if ran_ms >= SHORTEST_MS => {
            Some((usage.cpu_ns, Duration::from_millis(ran_ms.unsigned_abs())))
        }
        None => None,
    };
    let memory = &usage.groups.memory;
    let raw = |names: &[&str]| names.iter().find_map(|name| memory.raw.get(*name)).copied();
    json!({
        "name": name,
        "startTime": time(started_ms(own)),
        "cpu": cpu(usage.cpu_ns, rate, last.at_ms),
        "memory": {
            "time": time(last.at_ms),
            "usageBytes": memory.usage_bytes,
            "workingSetBytes": usage.memory_bytes,
            "rssBytes": raw(&["anon", "total_rss", "rss"]).unwrap_or(0),
            "pageFaults": raw(&["pgfault", "total_pgfault"]).unwrap_or(0),
            "majorPageFaults": raw(&["pgmajfault", "total_pgmajfault"]).unwrap_or(0),
        },
    })
}

/// Processor time in all, and its rate by what was used within a time.
fn cpu(all_ns: u64, rate: Option<(u64, Duration)>, at_ms: i64) -> Value {
    let mut cpu = json!({"time": time(at_ms), "usageCoreNanoSeconds": all_ns});
    if let Some((used_ns, within)) = rate.filter(|(_, within)| !within.is_zero()) {
        let per_second = u128::from(used_ns) * 1_000_000_000 / within.as_nanos();
        cpu["usageNanoCores"] = u64::try_from(per_second).unwrap_or(u64::MAX).into();
        cpu["window"] = format!("{:.3}s", within.as_secs_f64()).into();
    }
    cpu
}

/// A pod with the sums of what its containers use.
fn whole(mut pod: Value) -> Value {
    let sum = |part: &str, field: &str| -> u64 {
        let all = pod["containers"].as_array().into_iter().flatten();
        all.filter_map(|one| one[part][field].as_u64()).sum()
    };
    let at = pod["containers"][0]["cpu"]["time"].clone();
    let cpu = json!({
        "time": at,
        "usageNanoCores": sum("cpu", "usageNanoCores"),
        "usageCoreNanoSeconds": sum("cpu", "usageCoreNanoSeconds"),
    });
    let memory = json!({
        "time": at,
        "usageBytes": sum("memory", "usageBytes"),
        "workingSetBytes": sum("memory", "workingSetBytes"),
        "rssBytes": sum("memory", "rssBytes"),
    });
    (pod["cpu"], pod["memory"]) = (cpu, memory);
    pod
}

fn network(usage: &Usage, at_ms: i64) -> Value {
    let one = |(name, traffic): (&String, &engine::Traffic)| {
        json!({
            "name": name,
            "rxBytes": traffic.received[0], "rxErrors": traffic.received[2],
            "txBytes": traffic.sent[0], "txErrors": traffic.sent[2],
        })
    };
    let interfaces: Vec<Value> = usage.interfaces.iter().map(one).collect();
    let mut network = interfaces.first().cloned().unwrap_or_else(|| json!({}));
    (network["time"], network["interfaces"]) = (time(at_ms).into(), interfaces.into());
    network
}

fn disk(directory: &std::path::Path, at_ms: i64) -> Value {
    let Ok(disk) = rustix::fs::statvfs(directory) else { return json!({"time": time(at_ms)}) };
    json!({
        "time": time(at_ms),
        "availableBytes": disk.f_bavail * disk.f_frsize,
        "capacityBytes": disk.f_blocks * disk.f_frsize,
        "usedBytes": disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize,
        "inodesFree": disk.f_ffree,
        "inodes": disk.f_files,
        "inodesUsed": disk.f_files.saturating_sub(disk.f_ffree),
    })
}

fn uptime_ms() -> i64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    (seconds.unwrap_or(0.0) * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_uses_is_read() {
        let stat = "cpu  10 1 5 1000 500 2 3 4 9 9\ncpu0 1 1 1 1\n";
        let meminfo = "MemTotal: 100 kB\nMemFree: 40 kB\nInactive(file): 10 kB\nAnonPages: 5 kB\n";
        let found = NodeUse::read(stat, meminfo);
        assert_eq!(found.cpu_ns, 25 * TICK_NS);
        assert_eq!((found.working_set_bytes(), found.available_bytes()), (50 << 10, 50 << 10));
    }

    #[test]
    fn a_rate_is_of_its_time() {
        let half = cpu(7, Some((1_000_000_000, Duration::from_secs(2))), 0);
        assert_eq!(
            (&half["usageNanoCores"], &half["window"]),
            (&json!(500_000_000), &json!("2.000s"))
        );
        assert_eq!(cpu(7, None, 0)["usageNanoCores"], Value::Null);
    }
}
