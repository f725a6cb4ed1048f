//! Deployments: a template replaces another one, some pods at a time.

mod rolling;
mod scale;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use client::{Cache, Change, Key, Object, kind};
use serde_json::{Value, json};

use crate::claim::{claim, concerned};
use crate::control::Controller;
use crate::object::{controller, is_ending, items, namespace, number, scaled};
use crate::plan::{Plan, World};
use crate::pod;
use sets::Sets;

pub(crate) const CONTROLLER: Controller =
    Controller { name: "deployment-controller", concerns, plan };

/// The label that tells the pods of one template from those of another.
pub(crate) const HASH: &str = "pod-template-hash";

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "Deployment" => vec![change.key.clone()],
        "ReplicaSet" => concerned(cache, "Deployment", change),
        // One that recreates waits for the last of the old pods.
        "Pod" if change.now.as_ref().is_none_or(|pod| pod::is_terminal(pod)) => {
            let pod = change.now.as_ref().or(change.before.as_ref());
            pod.and_then(|pod| of_pod(cache, pod)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn of_pod(cache: &Cache, pod: &Value) -> Option<Key> {
    let owner = controller(pod).filter(|owner| owner["kind"] == "ReplicaSet")?;
    let set = Key::new("ReplicaSet", namespace(pod), owner["name"].as_str()?);
    let set = cache.get(&set)?;
    let owner = controller(&set).filter(|owner| owner["kind"] == "Deployment")?;
    Some(Key::new("Deployment", namespace(pod), owner["name"].as_str()?))
}

/// How many pods there may be beyond those wanted, and how many of those wanted may be missing
/// (`ResolveFenceposts`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slack {
    surge: i64,
    unavailable: i64,
}

impl Slack {
    fn of(deployment: &Value) -> Self {
        let wanted = replicas(deployment);
        if is_recreate(deployment) {
            return Self { surge: 0, unavailable: 0 };
        }
        let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
        let surge = scaled(&rolling["maxSurge"], wanted, true, 0);
        let unavailable = scaled(&rolling["maxUnavailable"], wanted, false, 0);
        // With neither, nothing could ever be replaced.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { surge, unavailable: unavailable.min(wanted) }
    }
}

fn replicas(object: &Value) -> i64 {
    number(object, "/spec/replicas", 1)
}

fn is_recreate(deployment: &Value) -> bool {
    deployment["spec"]["strategy"]["type"] == "Recreate"
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(deployment) = world.cache.get(key) else { return plan };
    let all = claim(world.cache, &deployment, "ReplicaSet", &mut plan);
    let sets = Sets::new(&deployment, all);
    if is_ending(&deployment) {
        status::report(world, &deployment, &sets, &mut plan);
        return plan;
    }
    let is_paused = deployment["spec"]["paused"] == true;
    if is_paused || scale::is_wanted(&deployment, &sets) {
        scale::proportionally(&deployment, &sets, &mut plan);
    } else if sets.new.is_none() && !may_begin(world, &deployment, &sets, &mut plan) {
        // The old ones have to go first.
    } else if sets.new.is_none() {
        if let Err(collisions) = sets.make_new(world.cache, &deployment, &mut plan) {
            let mut status = deployment["status"].clone();
            status["collisionCount"] = collisions.into();
            plan.status(kind("Deployment"), &deployment, status);
            return plan;
        }
    } else {
        sets.annotate_new(&deployment, &mut plan);
        match is_recreate(&deployment) {
            true => recreate(world, &deployment, &sets, &mut plan),
            false => rolling::step(&deployment, &sets, &mut plan),
        }
    }
    let revision = sets.revision().to_string();
    if sets.new.is_some() && deployment["metadata"]["annotations"][sets::REVISION] != *revision {
        let patch = json!({"metadata": {"annotations": {sets::REVISION: revision}}});
        plan.merge(kind("Deployment"), &deployment, patch);
    } else {
        status::report(world, &deployment, &sets, &mut plan);
    }
    if is_paused || status::is_complete(&deployment, &deployment["status"]) {
        clean_up(&deployment, &sets, &mut plan);
    }
    plan
}

/// Whether the new set may be made. One that recreates first removes all old pods.
fn may_begin(world: &World<'_>, deployment: &Object, sets: &Sets, plan: &mut Plan) -> bool {
    if !is_recreate(deployment) {
        return true;
    }
    let mut has_old = false;
    for set in sets.old.iter().filter(|set| replicas(set) > 0) {
        scale::resize(deployment, set, 0, plan);
        has_old = true;
    }
    let pods = |set: &Object| world.cache.owned("Pod", crate::object::uid(set));
    !has_old && sets.old.iter().flat_map(pods).all(|own| pod::is_terminal(&own))
}

/// All old pods go, then all new ones come.
fn recreate(world: &World<'_>, deployment: &Object, sets: &Sets, plan: &mut Plan) {
    let Some(new) = &sets.new else { return };
    if may_begin(world, deployment, sets, plan) && replicas(new) != replicas(deployment) {
        scale::resize(deployment, new, replicas(deployment), plan);
    }
}

/// Removes old sets beyond those that are kept to go back to.
fn clean_up(deployment: &Object, sets: &Sets, plan: &mut Plan) {
    let kept = usize::try_from(number(deployment, "/spec/revisionHistoryLimit", 10)).unwrap_or(0);
    let is_over = |set: &&Object| {
        let status = &set["status"];
        replicas(set) == 0
            && number(set, "/status/replicas", 0) == 0
            && status["observedGeneration"] == set["metadata"]["generation"]
            && !is_ending(set)
    };
    let mut over: Vec<&Object> = sets.old.iter().filter(is_over).collect();
    over.sort_by_key(|set| sets::revision(set));
    let surplus = over.len().saturating_sub(kept);
    for set in &over[..surplus] {
        plan.delete(kind("ReplicaSet"), set, None, Some("Background"));
    }
}

/// The condition of a type, as a list has it.
fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|own| own["type"] == kind)
}

fn conditions(object: &Value) -> &[Value] {
    items(&object["status"]["conditions"])
}
