//! What a deployment tells of itself.

use std::time::Duration;

use client::{Object, kind};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::sets::Sets;
use super::{Slack, conditions, find, replicas};
use crate::object::{name, number, stamp, time, without_nulls};
use crate::plan::{Plan, World};

/// What upstream takes for "no deadline".
const NO_DEADLINE: i64 = 2_147_483_647;

/// Whether everything wanted of a deployment is there, and nothing else.
pub(super) fn is_complete(deployment: &Value, status: &Value) -> bool {
    let wanted = replicas(deployment);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    count("updatedReplicas") == wanted
        && count("replicas") == wanted
        && count("availableReplicas") == wanted
        && count("observedGeneration") >= number(deployment, "/metadata/generation", 0)
}

pub(super) fn report(world: &World<'_>, deployment: &Object, sets: &Sets, plan: &mut Plan) {
    let sum = |pointer: &str| sets.all().map(|set| number(set, pointer, 0)).sum::<i64>();
    let some = |count: i64| if count == 0 { Value::Null } else { count.into() };
    let available = sum("/status/availableReplicas");
    let all: i64 = sets.all().map(|set| replicas(set)).sum();
    let updated = sets.new.as_ref().map_or(0, |new| number(new, "/status/replicas", 0));
    let known = &deployment["status"];
    let mut status = without_nulls(json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": some(sum("/status/replicas")),
        "updatedReplicas": some(updated),
        "readyReplicas": some(sum("/status/readyReplicas")),
        "availableReplicas": some(available),
        "unavailableReplicas": some((all - available).max(0)),
        "collisionCount": known["collisionCount"],
    }));
    let mut list = conditions(deployment).to_vec();
    let fewest = replicas(deployment) - Slack::of(deployment).unavailable;
    let (is, cause) = match available >= fewest {
        true => ("True", ("MinimumReplicasAvailable", "Deployment has minimum availability.")),
        false => {
            let words = "Deployment does not have minimum availability.";
            ("False", ("MinimumReplicasUnavailable", words))
        }
    };
    set(&mut list, "Available", is, cause, false, world.now);
    progress(world, deployment, sets, &status, &mut list, plan);
    failure(sets, &mut list, world.now);
    status["conditions"] = list.into();
    plan.status(kind("Deployment"), deployment, status);
}

/// Sets a condition. `is_news` renews the time of its last update even if it says the same.
fn set(
    list: &mut Vec<Value>,
    kind: &str,
    status: &str,
    (reason, message): (&str, &str),
    is_news: bool,
    now: Timestamp,
) {
    let known = list.iter().find(|own| own["type"] == kind);
    if let Some(own) = known
        && own["status"] == status
        && own["reason"] == reason
        && !is_news
    {
        return;
    }
    let moved = match known {
        Some(own) if own["status"] == status => own["lastTransitionTime"].clone(),
        _ => stamp(now).into(),
    };
    list.retain(|own| own["type"] != kind);
    list.push(json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp(now),
        "lastTransitionTime": moved,
    }));
}

/// How far the roll-out is, and whether it takes too long.
fn progress(
    world: &World<'_>,
    deployment: &Object,
    sets: &Sets,
    status: &Value,
    list: &mut Vec<Value>,
    plan: &mut Plan,
) {
    const KIND: &str = "Progressing";
    let deadline = number(deployment, "/spec/progressDeadlineSeconds", NO_DEADLINE);
    if deadline == NO_DEADLINE {
        list.retain(|own| own["type"] != KIND);
        return;
    }
    let known = find(list, KIND).cloned();
    let reason = known.as_ref().and_then(|own| own["reason"].as_str()).unwrap_or_default();
    if deployment["spec"]["paused"] == true {
        let cause = ("DeploymentPaused", "Deployment is paused");
        set(list, KIND, "Unknown", cause, false, world.now);
        return;
    }
    if reason == "DeploymentPaused" {
        let cause = ("DeploymentResumed", "Deployment is resumed");
        set(list, KIND, "Unknown", cause, false, world.now);
        return;
    }
    let what = match &sets.new {
        Some(new) => format!("ReplicaSet {:?}", name(new)),
        None => format!("Deployment {:?}", name(deployment)),
    };
    let words = |end: &str| format!("{what} {end}");
    let is_done =
        status["replicas"] == status["updatedReplicas"] && reason == "NewReplicaSetAvailable";
    if is_done {
        return;
    }
    if is_complete(deployment, status) && sets.new.is_some() {
        let words = words("has successfully progressed.");
        set(list, KIND, "True", ("NewReplicaSetAvailable", &words), true, world.now);
    } else if known.is_none() {
        match &sets.new {
            None => {
                let words = "Created new replica set";
                set(list, KIND, "True", ("NewReplicaSetCreated", words), true, world.now);
            }
            Some(new) => {
                let words = format!("Found new replica set {:?}", name(new));
                set(list, KIND, "True", ("FoundNewReplicaSet", &words), true, world.now);
            }
        }
        plan.look_again(seconds(deadline));
    } else if has_moved(&deployment["status"], status) {
        let words = words("is progressing.");
        set(list, KIND, "True", ("ReplicaSetUpdated", &words), true, world.now);
        plan.look_again(seconds(deadline));
    } else if let Some(rest) = rest(known.as_ref(), reason, deadline, world.now) {
        plan.look_again(rest);
    } else {
        let words = words("has timed out progressing.");
        set(list, KIND, "False", ("ProgressDeadlineExceeded", &words), false, world.now);
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.unsigned_abs() + 1)
}

/// Whether a roll-out has come nearer to its end.
fn has_moved(known: &Value, now: &Value) -> bool {
    let count = |status: &Value, field: &str| status[field].as_i64().unwrap_or(0);
    let old = |status: &Value| count(status, "replicas") - count(status, "updatedReplicas");
    let more = |field: &str| count(now, field) > count(known, field);
    more("updatedReplicas")
        || old(now) < old(known)
        || more("readyReplicas")
        || more("availableReplicas")
}

/// How long a roll-out may still stand still; none if it is too late.
fn rest(known: Option<&Value>, reason: &str, deadline: i64, now: Timestamp) -> Option<Duration> {
    if reason == "ProgressDeadlineExceeded" {
        return None;
    }
    let since = known.and_then(|own| time(&own["lastUpdateTime"]))?;
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    seconds(deadline).checked_sub(waited).filter(|rest| !rest.is_zero())
}

/// What keeps a set from making pods is told of its deployment, too.
fn failure(sets: &Sets, list: &mut Vec<Value>, now: Timestamp) {
    const KIND: &str = "ReplicaFailure";
    let of = |set: &Object| find(conditions(set), KIND).cloned();
    let found = sets.new.iter().chain(sets.old.iter().rev()).find_map(of);
    match found {
        None => list.retain(|own| own["type"] != KIND),
        Some(own) => {
            let word = |field: &str| own[field].as_str().unwrap_or_default();
            let cause = (word("reason"), word("message"));
            set(list, KIND, word("status"), cause, false, now);
        }
    }
}
