//! More or fewer pods of a deployment, while it may be between two templates.

use std::cmp::Reverse;

use client::{Object, kind};
use serde_json::{Map, Value, json};

use super::sets::{self, Sets};
use super::{Slack, is_recreate, replicas};
use crate::object::{annotation, created, name, number};
use crate::plan::Plan;

/// Whether the deployment was given another size than its sets know of.
pub(super) fn is_wanted(deployment: &Value, sets: &Sets) -> bool {
    let wanted = replicas(deployment).to_string();
    let active = sets.all().filter(|set| replicas(set) > 0);
    active.filter_map(|set| annotation(set, sets::DESIRED)).any(|known| known != wanted)
}

/// Gives a set a size, and notes what size its deployment had then.
pub(super) fn resize(deployment: &Object, set: &Object, size: i64, plan: &mut Plan) {
    let now = replicas(set);
    let known = &set["metadata"]["annotations"];
    let noted: Map<String, Value> = sets::sizes(deployment)
        .into_iter()
        .filter(|(key, value)| known[key.as_str()] != *value)
        .collect();
    if size == now && noted.is_empty() {
        return;
    }
    let mut patch = json!({"metadata": {"annotations": noted}});
    if size != now {
        patch["metadata"]["resourceVersion"] = set["metadata"]["resourceVersion"].clone();
        patch["spec"] = json!({"replicas": size});
    }
    plan.merge(kind("ReplicaSet"), set, patch);
    if size != now {
        plan.tell(deployment, "ScalingReplicaSet", told(name(set), now, size));
    }
}

pub(super) fn told(name: &str, from: i64, to: i64) -> String {
    let direction = if to > from { "up" } else { "down" };
    format!("Scaled {direction} replica set {name} from {from} to {to}")
}

/// Shares the new size among the sets, each by its part of the whole.
pub(super) fn proportionally(deployment: &Object, sets: &Sets, plan: &mut Plan) {
    let wanted = replicas(deployment);
    let mut active: Vec<&Object> = sets.all().filter(|set| replicas(set) > 0).collect();
    if active.len() <= 1 {
        let latest = sets.new.as_ref().or_else(|| sets.old.last());
        if let Some(set) = active.first().copied().or(latest) {
            resize(deployment, set, wanted, plan);
        }
        return;
    }
    if sets.new.as_ref().is_some_and(|new| is_saturated(deployment, new)) {
        for set in sets.old.iter().filter(|set| replicas(set) > 0) {
            resize(deployment, set, 0, plan);
        }
        return;
    }
    if is_recreate(deployment) {
        return;
    }
    let most = if wanted > 0 { wanted + Slack::of(deployment).surge } else { 0 };
    let all: i64 = active.iter().map(|set| replicas(set)).sum();
    let more = most - all;
    match more > 0 {
        true => active.sort_by_key(|set| (Reverse(replicas(set)), Reverse(created(set)))),
        false => active.sort_by_key(|set| (Reverse(replicas(set)), created(set))),
    }
    let mut added = 0;
    let mut resized = Vec::new();
    for set in active {
        let part = part(deployment, set, more, added);
        added += part;
        resized.push((set, replicas(set) + part));
    }
    // What rounding left goes to the largest.
    if let Some((_, size)) = resized.first_mut() {
        *size = (*size + more - added).max(0);
    }
    for (set, size) in resized {
        resize(deployment, set, size, plan);
    }
}

fn is_saturated(deployment: &Value, set: &Value) -> bool {
    let wanted = replicas(deployment);
    annotation(set, sets::DESIRED) == Some(&wanted.to_string())
        && replicas(set) == wanted
        && number(set, "/status/availableReplicas", 0) == wanted
}

/// How many of the pods that come or go are a set's (`GetReplicaSetProportion`).
fn part(deployment: &Value, set: &Value, more: i64, added: i64) -> i64 {
    if more == 0 || more == added {
        return 0;
    }
    let wanted = replicas(deployment);
    let own = replicas(set);
    let left = more - added;
    let share = if wanted == 0 {
        -own
    } else {
        let before = annotation(set, sets::MOST).and_then(|text| text.parse().ok());
        let before: i64 = before.unwrap_or_else(|| number(deployment, "/status/replicas", 0));
        if before == 0 {
            return 0;
        }
        let most = wanted + Slack::of(deployment).surge;
        // Rounded to the nearest.
        (2 * own * most + before).div_euclid(2 * before) - own
    };
    if more > 0 { share.min(left) } else { share.max(left) }
}
