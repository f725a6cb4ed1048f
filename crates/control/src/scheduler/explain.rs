//! All that speaks against each node, and the least that would have to change.

use super::cycle::Cycle;
use super::node::Node;
use super::pod::Pod;
use super::reason::{Change, NodeReport, Reason, Rejection, Remedy};
use super::resources::show;
use super::state::State;

/// A resource that a node has too little of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortage<'a> {
    pub(super) resource: &'a str,
    pub(super) wanted: i64,
    pub(super) free: i64,
    pub(super) all: i64,
}

/// What a node has too little of; the number of pods is called `pods`.
pub(super) fn shortages<'a>(state: &State, pod: &'a Pod, slot: u32) -> Vec<Shortage<'a>> {
    let own = state.slot(slot);
    let mut short = Vec::new();
    let most = own.node.pods_max;
    let free = most - own.pods.len() as i64;
    if free < 1 {
        short.push(Shortage { resource: "pods", wanted: 1, free, all: most });
    }
    for (resource, wanted) in pod.requests.each() {
        let all = own.node.allocatable.get(resource);
        let free = all - own.requested.get(resource);
        if wanted > free {
            short.push(Shortage { resource, wanted, free, all });
        }
    }
    short
}

/// Whether the pod might fit if others left the node.
pub(super) fn may_pass(state: &State, pod: &Pod, slot: u32, why: Rejection) -> bool {
    let is_possible = |own: &Shortage<'_>| own.wanted <= own.all;
    why.may_pass()
        && (why != Rejection::Resources || shortages(state, pod, slot).iter().all(is_possible))
}

/// Upstream's words for what speaks against a node.
pub(super) fn words(state: &State, pod: &Pod, slot: u32, why: Rejection) -> Vec<String> {
    if why != Rejection::Resources {
        return vec![why.words().to_owned()];
    }
    let word = |short: &Shortage<'_>| match short.resource {
        "pods" => "Too many pods".to_owned(),
        resource => format!("Insufficient {resource}"),
    };
    shortages(state, pod, slot).iter().map(word).collect()
}

/// Everything that speaks against a node.
pub(super) fn node(state: &State, cycle: &Cycle, slot: u32) -> NodeReport {
    let node = state.slot(slot).node.name.clone();
    NodeReport { node, reasons: reasons(state, cycle, slot) }
}

/// The least that must change.
pub(super) fn remedy(nodes: &[NodeReport]) -> Option<Remedy> {
    let weight = |own: &&NodeReport| {
        let sum: u64 = own.reasons.iter().map(|reason| reason.change.weight()).sum();
        (own.reasons.len(), sum)
    };
    let least = nodes.iter().filter(|own| !own.reasons.is_empty()).min_by_key(weight)?;
    let changes = least.reasons.iter().map(|reason| reason.change.clone()).collect();
    Some(Remedy { node: least.node.clone(), changes })
}

fn reasons(state: &State, cycle: &Cycle, slot: u32) -> Vec<Reason> {
    let pod = cycle.pod();
    let node = &state.slot(slot).node;
    let mut all = of_node(pod, node);
    if !cycle.has_ports(state, slot) {
        all.push(of_ports(state, pod, slot));
    }
    all.extend(shortages(state, pod, slot).iter().map(of_shortage));
    if cycle.is_claim_in_use() {
        let found = "another pod uses it".to_owned();
        all.push(reason(Rejection::Exclusive, "a claim for one pod", found, Change::Claim));
    }
    if let Some(problem) = state.volumes.problem(pod, &cycle.needs, node) {
        let found = problem.words().to_owned();
        all.push(reason(Rejection::Volume(problem), "volumes", found, Change::Volume(problem)));
    }
    all.extend(of_spreads(state, cycle, slot));
    all.extend(cycle.check_pods(state, slot).map(|why| of_pods(pod, why)));
    all
}

fn reason(why: Rejection, wanted: impl Into<String>, found: String, change: Change) -> Reason {
    Reason { filter: why.filter(), wanted: wanted.into(), found, change }
}

fn of_node(pod: &Pod, node: &Node) -> Vec<Reason> {
    let mut all = Vec::new();
    if node.is_closed_to(pod) {
        let found = "the node is cordoned".to_owned();
        all.push(reason(Rejection::Cordoned, "a schedulable node", found, Change::Uncordon));
    }
    if let Some(name) = pod.node.as_ref().filter(|name| **name != node.name) {
        all.push(reason(Rejection::Name, name, node.name.clone(), Change::NodeName));
    }
    for taint in node.untolerated(pod) {
        let change = Change::Toleration(taint.clone());
        all.push(reason(Rejection::Taint, "no taint", taint.to_string(), change));
    }
    for (key, value) in pod.node_selector.iter().filter(|(k, v)| node.label(k) != Some(v)) {
        all.push(of_label(node, key, format!("{key}={value}")));
    }
    if let Some(terms) = pod.node_terms.as_ref().filter(|all| !all.iter().any(|t| t.matches(node)))
    {
        // The term that lacks least.
        let best = terms.iter().min_by_key(|term| term.unmet(node).count());
        match best {
            Some(term) if term.unmet(node).next().is_some() => {
                all.extend(term.unmet(node).map(|own| of_label(node, &own.key, own.to_string())));
            }
            _ => all.push(of_label(node, "", "of a term that matches no node".to_owned())),
        }
    }
    all
}

fn of_label(node: &Node, key: &str, condition: String) -> Reason {
    let found = match (key, node.label(key)) {
        ("metadata.name", _) => node.name.clone(),
        (_, Some(value)) => format!("{key}={value}"),
        (_, None) => "no such label".to_owned(),
    };
    reason(Rejection::NodeAffinity, condition.clone(), found, Change::Label(condition))
}

fn of_ports(state: &State, pod: &Pod, slot: u32) -> Reason {
    let own = state.slot(slot);
    let taken = pod.ports.iter().find(|port| own.ports.iter().any(|other| port.collides(other)));
    let port = taken.map(ToString::to_string).unwrap_or_default();
    let has = |other: &Pod| taken.is_some_and(|port| other.ports.iter().any(|o| port.collides(o)));
    let holder = own.pods.iter().map(|placed| &placed.pod).find(|other| has(other));
    let holder = holder.map(|holder| holder.id.clone());
    let found = match &holder {
        Some(holder) => format!("{holder} has it"),
        None => "in use".to_owned(),
    };
    reason(Rejection::Ports, format!("host port {port}"), found, Change::Port { port, holder })
}

fn of_shortage(own: &Shortage<'_>) -> Reason {
    let resource = own.resource.to_owned();
    let shown = |amount: i64| show(own.resource, amount);
    let change = if own.resource == "pods" || own.free <= 0 {
        Change::Room { resource, missing: shown(own.wanted - own.free) }
    } else {
        let permille = ((own.wanted - own.free) as u64).saturating_mul(1000) / own.wanted as u64;
        Change::Request { resource, from: shown(own.wanted), to: shown(own.free), permille }
    };
    let wanted = format!("{} {}", own.resource, shown(own.wanted));
    let found = format!("{} free of {}", shown(own.free.max(0)), shown(own.all));
    reason(Rejection::Resources, wanted, found, change)
}

fn of_spreads(state: &State, cycle: &Cycle, slot: u32) -> Vec<Reason> {
    let hard = cycle.pod().spreads.iter().filter(|own| own.is_hard);
    let mut all = Vec::new();
    for (skew, spread) in cycle.skews.iter().zip(hard) {
        let topology = spread.topology.clone();
        let value = state.topologies.of(skew.topology, slot);
        if value == 0 {
            let change = Change::Label(topology.clone());
            all.push(reason(Rejection::NoTopology, topology, "no such label".to_owned(), change));
            continue;
        }
        let with = skew.with(value);
        if with > skew.skew_max {
            let wanted = format!("a skew of at most {} over {topology}", skew.skew_max);
            let change = Change::Skew { topology, from: skew.skew_max, to: with };
            all.push(reason(Rejection::Skew, wanted, format!("it would be {with}"), change));
        }
    }
    all
}

fn of_pods(pod: &Pod, why: Rejection) -> Reason {
    let by = |terms: &[super::pod::Term]| {
        let keys: Vec<&str> = terms.iter().map(|term| term.topology.as_str()).collect();
        keys.join(", ")
    };
    let (wanted, change) = match why {
        Rejection::Affinity => ("pods near", Change::Affinity(by(&pod.affinity))),
        Rejection::AntiAffinity => ("pods far", Change::AntiAffinity(by(&pod.anti_affinity))),
        _ => ("a place among others", Change::ExistingAntiAffinity),
    };
    reason(why, wanted, why.words().to_owned(), change)
}
