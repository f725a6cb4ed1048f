//! Pods that are ended since their node runs out of something (upstream's eviction manager).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Object;
use objects::Quantity;
use serde_json::Value;

use crate::field::{items, text};
use crate::host::{Host, Node, NodeError};
use crate::observe::{LABEL_CONTAINER, LABEL_UID};
use crate::pod::{amount, uid};
use crate::pressure::{Left, Signal, Threshold, Thresholds, left};

/// How often it is looked (upstream's `monitoringInterval`).
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// From this priority on, a pod is critical (`system-cluster-critical`) and stays.
const CRITICAL: i64 = 2_000_000_000;

/// What one pod uses of what there is too little of.
struct Candidate {
    pod: Object,
    used: u64,
    requested: u64,
    priority: i64,
}

impl Candidate {
    /// Who goes first, least: those that use more than they asked for, then by priority, then by how
    /// much more it is.
    fn rank(&self) -> (bool, i64, i128) {
        let beyond = i128::from(self.used) - i128::from(self.requested);
        (beyond <= 0, self.priority, -beyond)
    }
}

impl Node {
    /// Keeps some of the host's resources free from now on: pods are ended where less is left.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn keep_free(&self, thresholds: Thresholds) -> Result<(), NodeError> {
        let Thresholds(thresholds) = thresholds;
        if thresholds.is_empty() {
            return Ok(());
        }
        self.0.clone().thread("pressure", move |host| {
            loop {
                host.look_for_pressure(&thresholds);
                std::thread::sleep(LOOK_EVERY);
            }
        })
    }
}

impl Host {
    fn look_for_pressure(self: &Arc<Self>, thresholds: &[Threshold]) {
        let now = Instant::now();
        let (before, mut worst) = (self.pressures().told(now), None);
        for threshold in thresholds {
            let images = self.engine.root();
            let Some(left) = left(threshold.signal, &self.config.directory, images) else {
                continue;
            };
            if left.available < threshold.least(left.all) {
                self.pressures().note(threshold.signal, now);
                // Memory first: it is gone soonest.
                worst = worst.or(Some((*threshold, left)));
            }
        }
        if self.pressures().told(now) != before {
            self.report_node();
        }
        if let Some((threshold, left)) = worst {
            self.evict_one(&threshold, left);
        }
    }

    /// Ends the pod that is the first to go; the next one when that was not enough.
    fn evict_one(self: &Arc<Self>, threshold: &Threshold, left: Left) {
        let signal = threshold.signal;
        let mut candidates: Vec<Candidate> = self
            .cache
            .list("Pod", "")
            .into_iter()
            .filter(|pod| is_evictable(pod))
            .map(|pod| self.candidate(pod, signal))
            .collect();
        candidates.sort_by_key(Candidate::rank);
        let Some(first) = candidates.first() else { return };
        let slot = self.slots().get(uid(&first.pod)).cloned();
        let Some(slot) = slot.filter(|slot| !slot.is_evicted()) else { return };
        let shown = |bytes: u64| match signal {
            Signal::Memory | Signal::Disk | Signal::ImageDisk => format!("{}Ki", bytes / 1024),
            _ => bytes.to_string(),
        };
        let message = format!(
            "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
            signal.resource(),
            shown(threshold.least(left.all)),
            shown(left.available)
        );
        self.recorder.warn(&first.pod, "", "Evicted", message.clone());
        slot.evict(message);
        self.kick(&slot);
    }

    fn candidate(&self, pod: Object, signal: Signal) -> Candidate {
        let containers = items(&pod["spec"], "containers").iter();
        let resource = if signal == Signal::Memory { "memory" } else { "ephemeral-storage" };
        let asked = containers.filter_map(|one| amount(one, "requests", resource));
        let requested =
            asked.map(|amount: Quantity| u64::try_from(amount.value()).unwrap_or(0)).sum();
        let used = match signal {
            Signal::Memory => self.memory_of(&pod),
            Signal::Pids => 0,
            _ => self.disk_of(&pod),
        };
        let priority = pod["spec"]["priority"].as_i64().unwrap_or(0);
        Candidate { pod, used, requested, priority }
    }

    fn containers_of(&self, pod: &Value) -> Vec<engine::Container> {
        let mut all = self.engine.list().unwrap_or_default();
        all.retain(|one| {
            let labels = &one.record.config.labels;
            labels.get(LABEL_UID).is_some_and(|own| own == uid(pod))
                && labels.get(LABEL_CONTAINER).is_some_and(|name| !name.is_empty())
        });
        all
    }

    fn memory_of(&self, pod: &Value) -> u64 {
        let all = self.containers_of(pod);
        all.iter().filter_map(|one| Some(self.engine.usage(one).ok()?.memory_bytes)).sum()
    }

    /// What a pod has written: its volumes, what its containers have changed, and their logs.
    fn disk_of(&self, pod: &Value) -> u64 {
        let own = size(&self.pod_directory(uid(pod)));
        let all = self.containers_of(pod);
        own + all.iter().map(|one| size(one.directory())).sum::<u64>()
    }
}

fn is_evictable(pod: &Value) -> bool {
    let is_over = matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    let priority = pod["spec"]["priority"].as_i64().unwrap_or(0);
    !is_over && priority < CRITICAL && text(pod, &["metadata", "deletionTimestamp"]).is_empty()
}

/// Bytes on disk below a directory; no link is followed.
fn size(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_uses_more_than_it_asked_for_goes_first() {
        let candidate = |name: &str, used, requested, priority| Candidate {
            pod: Object::new(json!({"metadata": {"name": name}})),
            used,
            requested,
            priority,
        };
        let mut all = [
            candidate("modest", 10, 100, 0),
            candidate("important", 500, 100, 1000),
            candidate("greedy", 300, 100, 0),
            candidate("greedier", 400, 100, 0),
        ];
        all.sort_by_key(Candidate::rank);
        let names: Vec<&str> = all.iter().map(|one| crate::pod::name(&one.pod)).collect();
        assert_eq!(names, ["greedier", "greedy", "important", "modest"]);
    }

    #[test]
    fn what_is_critical_or_over_stays() {
        assert!(is_evictable(&json!({"spec": {"priority": 5}})));
        assert!(!is_evictable(&json!({"spec": {"priority": 2_000_001_000}})));
        assert!(!is_evictable(&json!({"status": {"phase": "Failed"}})));
    }
}
