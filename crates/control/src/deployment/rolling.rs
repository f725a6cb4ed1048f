//! One step of a rolling update: the new set grows as far as there may be more pods, the old ones
//! shrink as far as there may be fewer that can be counted on.

use client::Object;
use serde_json::Value;

use super::scale::resize;
use super::sets::Sets;
use super::{Slack, is_recreate, replicas};
use crate::object::number;
use crate::plan::Plan;

/// How many pods the new set has from its beginning.
pub(super) fn first_size(deployment: &Value, sets: &Sets) -> i64 {
    new_size(deployment, sets, 0)
}

/// How many pods the new set may have now.
fn new_size(deployment: &Value, sets: &Sets, now: i64) -> i64 {
    let wanted = replicas(deployment);
    if is_recreate(deployment) {
        return wanted;
    }
    let most = wanted + Slack::of(deployment).surge;
    let all: i64 = sets.all().map(|set| replicas(set)).sum();
    if all >= most { now } else { now + (most - all).min(wanted - now) }
}

pub(super) fn step(deployment: &Object, sets: &Sets, plan: &mut Plan) {
    let Some(new) = &sets.new else { return };
    let (wanted, now) = (replicas(deployment), replicas(new));
    let size = if now > wanted { wanted } else { new_size(deployment, sets, now) };
    if size != now {
        resize(deployment, new, size, plan);
        return;
    }
    shrink_old(deployment, sets, new, plan);
}

fn available(set: &Value) -> i64 {
    number(set, "/status/availableReplicas", 0)
}

fn shrink_old(deployment: &Object, sets: &Sets, new: &Value, plan: &mut Plan) {
    let old: Vec<&Object> = sets.old.iter().filter(|set| replicas(set) > 0).collect();
    if old.is_empty() {
        return;
    }
    let all: i64 = sets.all().map(|set| replicas(set)).sum();
    let fewest = replicas(deployment) - Slack::of(deployment).unavailable;
    let missing = replicas(new) - available(new);
    let most_removed = all - fewest - missing;
    if most_removed <= 0 {
        return;
    }
    // Those that nobody can count on go first, whatever set they are of.
    let mut sizes: Vec<i64> = old.iter().map(|set| replicas(set)).collect();
    let mut removed = 0;
    for (set, size) in old.iter().zip(&mut sizes) {
        let sick = (*size - available(set)).max(0).min(most_removed - removed);
        *size -= sick;
        removed += sick;
    }
    let can_be_counted_on: i64 = sets.all().map(|set| available(set)).sum();
    let mut surplus = can_be_counted_on - fewest;
    for size in &mut sizes {
        let fewer = (*size).min(surplus.max(0));
        *size -= fewer;
        surplus -= fewer;
    }
    for (set, size) in old.iter().zip(sizes) {
        if size != replicas(set) {
            resize(deployment, set, size, plan);
        }
    }
}
