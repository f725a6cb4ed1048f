//! Nodes that are silent: they are marked, and after a while their pods are replaced.

use std::time::Duration;

use client::{Cache, Change, Deletion, Key, Object, kind};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::control::Controller;
use crate::node_selector::tolerates_by;
use crate::object::{condition, created, is_ending, items, name, stamp, time, uid};
use crate::plan::{Action, Plan, World};
use crate::pod;

pub(crate) const CONTROLLER: Controller = Controller { name: "node-controller", concerns, plan };

/// How long a pod may stand on a node that is not known.
const QUARANTINE: Duration = Duration::from_secs(40);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Taints that conditions make, which keep new pods away.
const PRESSURES: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

fn concerns(_cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "Node" => vec![change.key.clone()],
        // A lease is renewed all the time: only one that was not is news, and it comes by the clock.
        "Lease" if change.key.namespace == "kube-node-lease" && change.before.is_none() => {
            vec![Key::new("Node", "", &change.key.name)]
        }
        "Pod" => {
            let pod = change.now.as_ref();
            let node = pod.map(|pod| pod::node(pod)).filter(|node| !node.is_empty());
            let was = change.before.as_ref().map(|pod| pod::node(pod)).unwrap_or_default();
            let is_news =
                node.is_some_and(|node| node != was) || pod.is_some_and(|pod| is_ending(pod));
            node.filter(|_| is_news).map(|node| Key::new("Node", "", node)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let pods: Vec<Object> =
        world.cache.list("Pod", "").into_iter().filter(|own| pod::node(own) == key.name).collect();
    let Some(node) = world.cache.get(key) else {
        forget(world, &pods, &mut plan);
        return plan;
    };
    give_addresses(world, &node, &mut plan);
    let (silent, longest) = (silence(world, &node), world.settings.silence_max);
    let is_lost = silent >= longest;
    match is_lost {
        true => mark(world, &node, &mut plan),
        false => plan.look_again(longest - silent + Duration::from_secs(1)),
    }
    let taints = taints(&node, is_lost, world.now);
    if items(&node["spec"]["taints"]) != taints {
        let taints = if taints.is_empty() { Value::Null } else { taints.clone().into() };
        plan.merge(kind("Node"), &node, json!({"spec": {"taints": taints}}));
    }
    evict(world, &taints, &pods, &mut plan);
    if is_lost {
        for own in &pods {
            not_ready(world.now, own, &mut plan);
        }
    }
    plan
}

/// A node that has brought no addresses for its pods gets some.
fn give_addresses(world: &World<'_>, node: &Object, plan: &mut Plan) {
    let (Some(range), true) = (&world.settings.pods, node["spec"]["podCIDR"].is_null()) else {
        return;
    };
    let nodes = world.cache.list("Node", "");
    let free = range.free(nodes.iter().filter_map(|own| own["spec"]["podCIDR"].as_str()));
    match free {
        Some(free) => {
            plan.merge(kind("Node"), node, json!({"spec": {"podCIDR": free, "podCIDRs": [free]}}));
        }
        None => {
            let message = format!("Node {} status is now: CIDRNotAvailable", name(node));
            plan.warn(node, "CIDRNotAvailable", message);
        }
    }
}

/// How long a node has said nothing.
fn silence(world: &World<'_>, node: &Value) -> Duration {
    let lease = world.cache.get(&Key::new("Lease", "kube-node-lease", name(node)));
    let renewed = lease.and_then(|lease| time(&lease["spec"]["renewTime"]));
    let beat = condition(node, "Ready").and_then(|own| time(&own["lastHeartbeatTime"]));
    let last = renewed.max(beat).or_else(|| created(node)).unwrap_or(world.now);
    Duration::try_from(world.now.duration_since(last)).unwrap_or_default()
}

/// What a silent node says of itself is not known to be so.
fn mark(world: &World<'_>, node: &Object, plan: &mut Plan) {
    let mut conditions = items(&node["status"]["conditions"]).to_vec();
    if conditions.iter().all(|own| own["type"] != "Ready") {
        conditions.push(json!({"type": "Ready", "status": ""}));
    }
    let was_ready = condition(node, "Ready").is_some_and(|own| own["status"] == "True");
    for own in &mut conditions {
        if own["status"] != "Unknown" {
            own["status"] = "Unknown".into();
            own["reason"] = "NodeStatusUnknown".into();
            own["message"] = "Kubelet stopped posting node status.".into();
            own["lastTransitionTime"] = stamp(world.now).into();
        }
    }
    let mut status = node["status"].clone();
    status["conditions"] = conditions.into();
    plan.status(kind("Node"), node, status);
    if was_ready {
        let message = format!("Node {} status is now: NodeNotReady", name(node));
        plan.tell(node, "NodeNotReady", message);
    }
}

/// The taints that a node shall have: those of others, and those that follow from its state.
fn taints(node: &Value, is_lost: bool, now: Timestamp) -> Vec<Value> {
    let known = items(&node["spec"]["taints"]);
    let ready = condition(node, "Ready").and_then(|own| own["status"].as_str());
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready {
        _ if is_lost => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some("True") => {}
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        _ => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|own| own["status"] == "True") {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node["spec"]["unschedulable"] == true {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_ours = |taint: &Value| {
        let keys = PRESSURES.iter().map(|(_, key)| *key);
        keys.chain([NOT_READY, UNREACHABLE, UNSCHEDULABLE]).any(|key| taint["key"] == key)
    };
    let is_wanted = |taint: &Value| {
        wanted.iter().any(|(key, effect)| taint["key"] == *key && taint["effect"] == *effect)
    };
    let mut taints: Vec<Value> =
        known.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if taints.iter().any(|taint| taint["key"] == key && taint["effect"] == effect) {
            continue;
        }
        let mut taint = json!({"key": key, "effect": effect});
        if effect == "NoExecute" {
            taint["timeAdded"] = stamp(now).into();
        }
        taints.push(taint);
    }
    taints
}

/// Removes the pods that a node's taints drive out, as soon as they no longer tolerate them.
fn evict(world: &World<'_>, taints: &[Value], pods: &[Object], plan: &mut Plan) {
    let driving: Vec<&Value> = taints.iter().filter(|own| own["effect"] == "NoExecute").collect();
    if driving.is_empty() {
        return;
    }
    for own in pods.iter().filter(|own| !is_ending(own)) {
        match patience(world.now, own, &driving) {
            Patience::Endless => {}
            Patience::For(rest) => plan.look_again(rest),
            Patience::None => {
                let message = format!(
                    "Marking for deletion Pod {}/{}",
                    crate::object::namespace(own),
                    name(own)
                );
                plan.tell(own, "TaintManagerEviction", message);
                plan.delete(kind("Pod"), own, None, None);
            }
        }
    }
}

/// How long a pod stays in spite of taints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Endless,
    For(Duration),
    None,
}

fn patience(now: Timestamp, pod: &Value, taints: &[&Value]) -> Patience {
    let tolerations = items(&pod["spec"]["tolerations"]);
    let mut shortest = None::<Duration>;
    for taint in taints {
        let by: Vec<&Value> = tolerations.iter().filter(|own| tolerates_by(own, taint)).collect();
        if by.is_empty() {
            return Patience::None;
        }
        let limits = by.iter().filter_map(|own| own["tolerationSeconds"].as_i64());
        if let Some(limit) = limits.min() {
            let limit = Duration::from_secs(u64::try_from(limit).unwrap_or(0));
            let since = time(&taint["timeAdded"]).map(|since| now.duration_since(since));
            let since = since.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
            let rest = limit.saturating_sub(since);
            shortest = Some(shortest.map_or(rest, |own| own.min(rest)));
        }
    }
    match shortest {
        None => Patience::Endless,
        Some(Duration::ZERO) => Patience::None,
        Some(rest) => Patience::For(rest),
    }
}

/// A pod on a lost node is no longer known to be ready.
fn not_ready(now: Timestamp, own: &Object, plan: &mut Plan) {
    if !pod::is_ready(own) {
        return;
    }
    let mut status = own["status"].clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        if condition["type"] == "Ready" {
            condition["status"] = "False".into();
            condition["lastTransitionTime"] = stamp(now).into();
        }
    }
    plan.status(kind("Pod"), own, status);
}

/// Pods of a node that nobody knows are removed at once, some time after.
fn forget(world: &World<'_>, pods: &[Object], plan: &mut Plan) {
    for own in pods {
        let since = created(own).map(|since| world.now.duration_since(since));
        let since = since.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
        match QUARANTINE.checked_sub(since) {
            Some(rest) if !rest.is_zero() => plan.look_again(rest),
            _ => plan.actions.push(Action::Delete {
                of: kind("Pod"),
                object: own.clone(),
                how: Deletion { uid: Some(uid(own).to_owned()), grace: Some(0), propagation: None },
                owner: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_stays_as_long_as_it_says() {
        let taint =
            json!({"key": NOT_READY, "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:10Z"});
        let of = |tolerations: Value, second: i64| {
            let pod = json!({"spec": {"tolerations": tolerations}});
            patience(Timestamp::from_second(second).unwrap(), &pod, &[&taint])
        };
        let for_300 = json!([{"key": NOT_READY, "operator": "Exists", "tolerationSeconds": 300}]);
        assert_eq!(of(json!([]), 10), Patience::None);
        assert_eq!(of(json!([{"operator": "Exists"}]), 9999), Patience::Endless);
        assert_eq!(of(for_300.clone(), 20), Patience::For(Duration::from_secs(290)));
        assert_eq!(of(for_300, 310), Patience::None);
    }

    #[test]
    fn taints_follow_conditions_and_leave_those_of_others() {
        let other = json!({"key": "own", "effect": "NoSchedule"});
        let node = |status: &str, unschedulable: bool| {
            json!({
                "spec": {"taints": [other, {"key": NOT_READY, "effect": "NoSchedule"}],
                    "unschedulable": unschedulable},
                "status": {"conditions": [{"type": "Ready", "status": status}]},
            })
        };
        let keys = |node: &Value, is_lost: bool| {
            let now = Timestamp::UNIX_EPOCH;
            let word = |taint: Value| {
                format!("{}:{}", taint["key"].as_str().unwrap(), taint["effect"].as_str().unwrap())
            };
            taints(node, is_lost, now).into_iter().map(word).collect::<Vec<_>>()
        };
        assert_eq!(keys(&node("True", false), false), ["own:NoSchedule"]);
        let unschedulable = format!("{UNSCHEDULABLE}:NoSchedule");
        assert_eq!(keys(&node("True", true), false), ["own:NoSchedule", &unschedulable]);
        assert_eq!(keys(&node("True", false), true).len(), 3);
        assert_eq!(keys(&node("False", false), false).len(), 3);
    }
}
