//! ReplicaSets and ReplicationControllers: so many pods of one template.

use client::{Cache, Change, Key, Object, kind};
use serde_json::{Value, json};

use crate::claim::{claim, concerned};
use crate::control::Controller;
use crate::object::{is_ending, items, number, selects, set_condition, without_nulls};
use crate::plan::{Plan, World};
use crate::pod::{self, Availability};
use crate::template;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    concerns: |cache, change| concerns(cache, change, "ReplicaSet"),
    plan,
};

pub(crate) const REPLICATION_CONTROLLER: Controller = Controller {
    name: "replication-controller",
    concerns: |cache, change| concerns(cache, change, "ReplicationController"),
    plan,
};

/// How many pods are made or removed at once.
const BURST: usize = 500;

fn concerns(cache: &Cache, change: &Change, own: &'static str) -> Vec<Key> {
    match change.key.kind {
        changed if changed == own => vec![change.key.clone()],
        "Pod" => concerned(cache, own, change),
        _ => Vec::new(),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(set) = world.cache.get(key) else { return plan };
    let pods = claim(world.cache, &set, "Pod", &mut plan);
    let active: Vec<Object> = pods.into_iter().filter(|own| pod::is_active(own)).collect();
    status(world, &set, &active, &mut plan);
    if !is_ending(&set) {
        resize(&set, active, &mut plan);
    }
    plan
}

fn resize(set: &Object, mut active: Vec<Object>, plan: &mut Plan) {
    let wanted = usize::try_from(number(set, "/spec/replicas", 1)).unwrap_or(0);
    let pods = kind("Pod");
    if active.len() < wanted {
        for _ in 0..(wanted - active.len()).min(BURST) {
            plan.create(pods, template::pod(&set["spec"]["template"], set), set);
        }
    } else {
        let surplus = (active.len() - wanted).min(BURST);
        pod::first_to_go(&mut active);
        for pod in &active[..surplus] {
            plan.delete(pods, pod, Some(set), None);
        }
    }
}

fn status(world: &World<'_>, set: &Object, active: &[Object], plan: &mut Plan) {
    let min_ready = number(set, "/spec/minReadySeconds", 0);
    let (mut ready, mut available, mut labelled) = (0, 0, 0);
    let labels = json!({"matchLabels": set["spec"]["template"]["metadata"]["labels"]});
    for own in active {
        labelled += i64::from(selects(&labels, own));
        ready += i64::from(pod::is_ready(own));
        match pod::availability(own, min_ready, world.now) {
            Availability::Available => available += 1,
            Availability::In(rest) => plan.look_again(rest),
            Availability::NotReady => {}
        }
    }
    let known = &set["status"];
    let some = |count: i64| if count == 0 { Value::Null } else { count.into() };
    let mut status = without_nulls(json!({
        "replicas": active.len(),
        "fullyLabeledReplicas": some(labelled),
        "readyReplicas": some(ready),
        "availableReplicas": some(available),
        "observedGeneration": set["metadata"]["generation"],
    }));
    let mut conditions = items(&known["conditions"]).to_vec();
    let name = match set["kind"].as_str() {
        Some("ReplicationController") => REPLICATION_CONTROLLER.name,
        _ => CONTROLLER.name,
    };
    let kind = if name == CONTROLLER.name { "ReplicaSet" } else { "ReplicationController" };
    match world.failures.get(&(name, Key::of(kind, set))) {
        Some(why) => {
            let cause = ("FailedCreate", why.as_str());
            set_condition(&mut conditions, "ReplicaFailure", "True", cause, world.now);
        }
        None => conditions.retain(|own| own["type"] != "ReplicaFailure"),
    }
    if !conditions.is_empty() {
        status["conditions"] = conditions.into();
    }
    let of = client::kind(kind);
    plan.status(of, set, status);
}
