//! How many pods have ended. Each is counted once, though the count and the pod are two objects: its
//! uid stands in the job's status before the pod is let go, and is counted after.

use std::collections::BTreeSet;

use client::{Object, kind};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{TRACKING, index_of, policy};
use crate::object::{has_finalizer, is_ending, items, number, time, uid};
use crate::plan::Plan;
use crate::pod;

/// The ends of a job's pods.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// With those that are not counted yet.
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    pub(super) counted_succeeded: i64,
    pub(super) counted_failed: i64,
    /// Uids that stand in the status, or are about to.
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    /// Uids that stand there already.
    noted: BTreeSet<String>,
}

impl Tally {
    pub(super) fn of(job: &Value, pods: &[Object]) -> Self {
        let mut tally = Self {
            counted_succeeded: number(job, "/status/succeeded", 0),
            counted_failed: number(job, "/status/failed", 0),
            ..Self::default()
        };
        let is_kept =
            |id: &str| pods.iter().any(|own| uid(own) == id && has_finalizer(own, TRACKING));
        let uncounted = &job["status"]["uncountedTerminatedPods"];
        let uids = |list: &str| {
            let all = items(&uncounted[list]).iter().filter_map(Value::as_str);
            all.map(str::to_owned).collect::<Vec<_>>()
        };
        for id in uids("succeeded") {
            tally.noted.insert(id.clone());
            match is_kept(&id) {
                true => drop(tally.uncounted_succeeded.insert(id)),
                false => tally.counted_succeeded += 1,
            }
        }
        for id in uids("failed") {
            tally.noted.insert(id.clone());
            match is_kept(&id) {
                true => drop(tally.uncounted_failed.insert(id)),
                false => tally.counted_failed += 1,
            }
        }
        for own in pods.iter().filter(|own| has_finalizer(own, TRACKING)) {
            if pod::phase(own) == "Succeeded" {
                tally.uncounted_succeeded.insert(uid(own).to_owned());
            } else if has_failed(job, own) && !policy::is_ignored(job, own) {
                tally.uncounted_failed.insert(uid(own).to_owned());
            }
        }
        let count = |set: &BTreeSet<String>| i64::try_from(set.len()).unwrap_or(i64::MAX);
        tally.succeeded = tally.counted_succeeded + count(&tally.uncounted_succeeded);
        tally.failed = tally.counted_failed + count(&tally.uncounted_failed);
        tally
    }

    pub(super) fn has_uncounted(&self) -> bool {
        !self.uncounted_succeeded.is_empty() || !self.uncounted_failed.is_empty()
    }

    /// What stands in the status.
    pub(super) fn uncounted(&self) -> Value {
        let list = |set: &BTreeSet<String>| match set.is_empty() {
            true => Value::Null,
            false => set.iter().cloned().collect(),
        };
        crate::object::without_nulls(json!({
            "succeeded": list(&self.uncounted_succeeded),
            "failed": list(&self.uncounted_failed),
        }))
    }

    /// Lets the pods go that stand in the status.
    pub(super) fn let_counted_go(&self, pods: &[Object], plan: &mut Plan) {
        for own in pods.iter().filter(|own| self.noted.contains(uid(own))) {
            let_go(own, plan);
        }
        // An ignored failure is counted nowhere.
        let is_uncounted = |own: &&Object| {
            !self.uncounted_failed.contains(uid(own))
                && !self.uncounted_succeeded.contains(uid(own))
        };
        for own in pods.iter().filter(|own| pod::is_terminal(own)).filter(is_uncounted) {
            let_go(own, plan);
        }
    }
}

/// Takes the finalizer from a pod.
pub(super) fn let_go(pod: &Object, plan: &mut Plan) {
    if !has_finalizer(pod, TRACKING) {
        return;
    }
    let rest: Vec<&Value> =
        items(&pod["metadata"]["finalizers"]).iter().filter(|own| **own != TRACKING).collect();
    let metadata = json!({"uid": uid(pod), "finalizers": rest,
        "resourceVersion": pod["metadata"]["resourceVersion"]});
    plan.merge(kind("Pod"), pod, json!({"metadata": metadata}));
}

fn has_failed(job: &Value, own: &Value) -> bool {
    let only_failed = job["spec"]["podReplacementPolicy"] == "Failed"
        || !job["spec"]["podFailurePolicy"].is_null();
    pod::phase(own) == "Failed"
        || (!only_failed && is_ending(own) && pod::phase(own) != "Succeeded")
}

/// When the last of a pod's containers ended.
pub(super) fn ended(pod: &Value) -> Option<Timestamp> {
    let all = items(&pod["status"]["containerStatuses"]).iter();
    let ends = all.filter_map(|own| time(&own["state"]["terminated"]["finishedAt"]));
    ends.max().or_else(|| time(&pod["metadata"]["deletionTimestamp"]))
}

/// The indexes of pods of a phase that are not in the status's own list yet.
pub(super) fn indexes<'a>(pods: &'a [Object], phase: &'a str) -> impl Iterator<Item = i64> + 'a {
    pods.iter().filter(move |own| pod::phase(own) == phase).filter_map(|own| index_of(own))
}
