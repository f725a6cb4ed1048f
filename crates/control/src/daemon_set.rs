//! DaemonSets: one pod on every node that there may be one on.

mod renew;

use client::{Cache, Change, Key, Object, kind};
use serde_json::{Value, json};

use crate::claim::{claim, concerned};
use crate::control::Controller;
use crate::node_selector::{admits, tolerates};
use crate::object::{created, is_ending, items, label, name, namespace, number, without_nulls};
use crate::plan::{Plan, World};
use crate::pod;
use crate::revision::{self, Missing, Revisions};
use crate::template;

pub(crate) const CONTROLLER: Controller =
    Controller { name: "daemonset-controller", concerns, plan };

/// Taints that the pods of a DaemonSet stay in spite of (`AddOrUpdateDaemonPodTolerations`).
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "DaemonSet" => vec![change.key.clone()],
        "Pod" | "ControllerRevision" => concerned(cache, "DaemonSet", change),
        "Node" if is_news(change) => {
            let sets = cache.list("DaemonSet", "");
            sets.iter().map(|set| Key::of("DaemonSet", set)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether there is a node more or less, or one that may be another's now. Their heartbeats are not.
fn is_news(change: &Change) -> bool {
    let what = |node: &Value| (node["metadata"]["labels"].clone(), node["spec"].clone());
    change.before.as_deref().map(what) != change.now.as_deref().map(what)
}

/// What a node is to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It shall have a pod.
    Wanted,
    /// A pod that is there may stay.
    Kept,
    No,
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(set) = world.cache.get(key) else { return plan };
    let pods = claim(world.cache, &set, "Pod", &mut plan);
    let revisions = Revisions::of(world.cache, &set, &mut plan);
    let revision = match revisions.update(world.cache, &set, &mut plan) {
        Ok(revision) => revision,
        Err(Missing::Made) => return plan,
        Err(Missing::Collision(count)) => {
            let mut status = set["status"].clone();
            status["collisionCount"] = count.into();
            plan.status(kind("DaemonSet"), &set, status);
            return plan;
        }
    };
    let nodes = world.cache.list("Node", "");
    let places: Vec<(&Object, Place)> =
        nodes.iter().map(|node| (node, place(&set, node))).collect();
    if !is_ending(&set) {
        let mut step = Step { set: &set, revision: &revision, pods: &pods, plan: &mut plan };
        step.place(&places);
        step.renew(&places, world.now);
        revisions.clean_up(&set, &pods, &[name(&revision)], &mut plan);
    }
    report(world, &set, &revision, &places, &pods, &mut plan);
    plan
}

/// What is done at once for a set.
struct Step<'a> {
    set: &'a Object,
    revision: &'a Object,
    pods: &'a [Object],
    plan: &'a mut Plan,
}

/// Whether a node shall have a pod of a set.
fn place(set: &Value, node: &Value) -> Place {
    let spec = spec(set);
    let named = spec["nodeName"].as_str().unwrap_or_default();
    if (!named.is_empty() && named != name(node)) || !admits(&spec, node) {
        return Place::No;
    }
    let tolerations = items(&spec["tolerations"]);
    let taints = items(&node["spec"]["taints"]);
    let stands_against = |effect: &str| {
        taints.iter().any(|taint| taint["effect"] == effect && !tolerates(tolerations, taint))
    };
    match (stands_against("NoExecute"), stands_against("NoSchedule")) {
        (true, _) => Place::No,
        (false, true) => Place::Kept,
        (false, false) => Place::Wanted,
    }
}

/// The template's pod, with what every pod of a DaemonSet tolerates.
fn spec(set: &Value) -> Value {
    let mut spec = set["spec"]["template"]["spec"].clone();
    let mut tolerations = items(&spec["tolerations"]).to_vec();
    let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
    let network = (spec["hostNetwork"] == true).then_some(&network);
    for (key, effect) in TOLERATED.iter().chain(network) {
        let known = tolerations.iter().any(|own| own["key"] == *key && own["effect"] == *effect);
        if !known {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": effect}));
        }
    }
    spec["tolerations"] = tolerations.into();
    spec
}

/// The node that a pod is on, or is made for.
fn node_of(pod: &Value) -> &str {
    let bound = pod::node(pod);
    if !bound.is_empty() {
        return bound;
    }
    let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
    let terms = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let fields = items(terms).iter().flat_map(|term| items(&term["matchFields"]));
    let mut named = fields.filter(|field| field["key"] == "metadata.name");
    named.next().and_then(|field| field["values"][0].as_str()).unwrap_or_default()
}

impl<'a> Step<'a> {
    fn on(&self, node: &str) -> Vec<&'a Object> {
        let mut here: Vec<&'a Object> =
            self.pods.iter().filter(|own| node_of(own) == node).collect();
        // Who takes over comes after whom it takes over from, even if both are of one second.
        let rank = |own: &Object| (self.is_current(own), created(own), name(own).to_owned());
        here.sort_by_key(|own| rank(own));
        here
    }

    /// One pod on each node that shall have one, none where there may be none.
    fn place(&mut self, places: &[(&Object, Place)]) {
        for (node, place) in places {
            let mut has_one = false;
            for own in self.on(name(node)) {
                if is_ending(own) {
                    has_one = true;
                } else if pod::is_terminal(own) {
                    has_one = true;
                    self.replace_ended(node, own);
                } else if *place == Place::No || (has_one && !self.is_surge(own)) {
                    self.plan.delete(kind("Pod"), own, Some(self.set), None);
                } else {
                    has_one = true;
                }
            }
            if *place == Place::Wanted && !has_one {
                self.make(node);
            }
        }
        // Nodes that are gone take their pods with them.
        let is_known = |own: &&Object| places.iter().any(|(node, _)| name(node) == node_of(own));
        let lost = self.pods.iter().filter(|own| !is_known(own) && !is_ending(own));
        let lost: Vec<Object> = lost.cloned().collect();
        for own in &lost {
            self.plan.delete(kind("Pod"), own, Some(self.set), None);
        }
    }

    fn replace_ended(&mut self, node: &Value, own: &Object) {
        let place = format!("{}/{} on node {}", namespace(own), name(own), name(node));
        match pod::phase(own) {
            "Failed" => {
                let message = format!("Found failed daemon pod {place}, will try to kill it");
                self.plan.warn(self.set, "FailedDaemonPod", message);
            }
            _ => {
                let message = format!("Found succeeded daemon pod {place}, will try to delete it");
                self.plan.tell(self.set, "SucceededDaemonPod", message);
            }
        }
        self.plan.delete(kind("Pod"), own, Some(self.set), None);
    }

    fn make(&mut self, node: &Value) {
        let mut made = template::pod(&self.set["spec"]["template"], self.set);
        made["spec"] = spec(self.set);
        let labels = &mut made["metadata"]["labels"];
        labels[revision::HASH] = revision::hash(self.revision).into();
        let generation = number(self.set, "/metadata/generation", 1);
        labels["pod-template-generation"] = generation.to_string().into();
        let field = json!({"key": "metadata.name", "operator": "In", "values": [name(node)]});
        let required = &mut made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let mut terms = items(&required["nodeSelectorTerms"]).to_vec();
        if terms.is_empty() {
            terms.push(json!({}));
        }
        for term in &mut terms {
            term["matchFields"] = json!([field]);
        }
        *required = json!({"nodeSelectorTerms": terms});
        self.plan.create(kind("Pod"), made, self.set);
    }

    fn is_current(&self, own: &Value) -> bool {
        label(own, revision::HASH) == Some(revision::hash(self.revision))
    }
}

fn report(
    world: &World<'_>,
    set: &Object,
    revision: &Object,
    places: &[(&Object, Place)],
    pods: &[Object],
    plan: &mut Plan,
) {
    let min_ready = number(set, "/spec/minReadySeconds", 0);
    let (mut wanted, mut there, mut misplaced) = (0, 0, 0);
    let (mut ready, mut available, mut updated) = (0, 0, 0);
    for (node, place) in places {
        let here = || pods.iter().filter(|own| node_of(own) == name(node) && !is_ending(own));
        if *place != Place::Wanted {
            misplaced += i64::from(*place == Place::No && here().next().is_some());
            continue;
        }
        wanted += 1;
        let Some(own) = here().max_by_key(|own| (pod::is_ready(own), created(own))) else {
            continue;
        };
        there += 1;
        ready += i64::from(pod::is_ready(own));
        match pod::availability(own, min_ready, world.now) {
            pod::Availability::Available => available += 1,
            pod::Availability::In(rest) => plan.look_again(rest),
            pod::Availability::NotReady => {}
        }
        updated += i64::from(label(own, revision::HASH) == Some(revision::hash(revision)));
    }
    let known = &set["status"];
    let some = |count: i64| if count == 0 { Value::Null } else { count.into() };
    let status = without_nulls(json!({
        "currentNumberScheduled": there,
        "numberMisscheduled": misplaced,
        "desiredNumberScheduled": wanted,
        "numberReady": ready,
        "observedGeneration": set["metadata"]["generation"],
        "updatedNumberScheduled": some(updated),
        "numberAvailable": some(available),
        "numberUnavailable": some(wanted - available),
        "collisionCount": known["collisionCount"],
        "conditions": known["conditions"],
    }));
    plan.status(kind("DaemonSet"), set, status);
}
