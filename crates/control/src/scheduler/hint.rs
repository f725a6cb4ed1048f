//! Whether a change may help a pod that no node could have (upstream's queueing hints).

use super::node::Node;
use super::pod::{Pod, Term};
use super::reason::{Filter, Filters};
use super::state::{Name, State};

/// Something that has happened.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A pod is on a node now.
    Placed(&'a Pod),
    /// A pod is on its node no more.
    Left(&'a Pod),
    /// A pod on a node has changed.
    Changed(&'a Pod, &'a Pod),
    NodeAdded(&'a Node),
    NodeChanged(&'a Node, &'a Node),
    NodeGone,
    Claim(&'a Name),
    /// A volume or a class of volumes.
    Storage,
    /// The labels of a namespace.
    Namespace,
}

/// Whether an event may have satisfied one of the filters that refused a pod.
pub(super) fn helps(state: &State, pod: &Pod, filters: Filters, event: &Event<'_>) -> bool {
    let helps = |filter: Filter, how: &dyn Fn() -> bool| filters.has(filter) && how();
    helps(Filter::NodeUnschedulable, &|| node(event, |node| !node.is_closed_to(pod)))
        || helps(Filter::NodeName, &|| node(event, |node| pod.node.as_ref() == Some(&node.name)))
        || helps(Filter::TaintToleration, &|| {
            node(event, |node| node.untolerated(pod).next().is_none())
        })
        || helps(Filter::NodeAffinity, &|| node(event, |node| node.is_selected_by(pod)))
        || helps(Filter::NodePorts, &|| frees_ports(pod, event))
        || helps(Filter::NodeResourcesFit, &|| frees_resources(pod, event))
        || helps(Filter::VolumeRestrictions, &|| frees_claim(pod, event))
        || helps(Filter::VolumeBinding, &|| concerns_volumes(pod, event))
        || helps(Filter::VolumeZone, &|| concerns_volumes(pod, event))
        || helps(Filter::PodTopologySpread, &|| concerns_spread(state, pod, event))
        || helps(Filter::InterPodAffinity, &|| concerns_affinity(state, pod, event))
}

/// A node that is new or has changed, if it has something.
fn node(event: &Event<'_>, has: impl Fn(&Node) -> bool) -> bool {
    match event {
        Event::NodeAdded(node) => has(node),
        Event::NodeChanged(before, now) => !has(before) && has(now),
        _ => false,
    }
}

fn frees_ports(pod: &Pod, event: &Event<'_>) -> bool {
    match event {
        Event::NodeAdded(_) => true,
        Event::Left(other) => {
            pod.ports.iter().any(|port| other.ports.iter().any(|own| port.collides(own)))
        }
        _ => false,
    }
}

fn frees_resources(pod: &Pod, event: &Event<'_>) -> bool {
    let has_all = |node: &Node| {
        node.pods_max > 0
            && pod.requests.each().all(|(name, own)| own <= node.allocatable.get(name))
    };
    let has_more = |before: &Node, now: &Node| {
        now.pods_max > before.pods_max
            || now.allocatable.each().any(|(name, own)| own > before.allocatable.get(name))
    };
    match event {
        Event::Left(_) => true,
        Event::Changed(before, now) => {
            before.requests.each().any(|(name, own)| own > now.requests.get(name))
        }
        Event::NodeAdded(node) => has_all(node),
        Event::NodeChanged(before, now) => has_more(before, now) && has_all(now),
        _ => false,
    }
}

fn frees_claim(pod: &Pod, event: &Event<'_>) -> bool {
    match event {
        Event::Left(other) => {
            other.id.namespace == pod.id.namespace
                && pod.claims.iter().any(|claim| other.claims.contains(claim))
        }
        Event::Claim(_) => concerns_volumes(pod, event),
        _ => false,
    }
}

fn concerns_volumes(pod: &Pod, event: &Event<'_>) -> bool {
    match event {
        Event::Claim((namespace, name)) => {
            *namespace == pod.id.namespace && pod.claims.contains(name)
        }
        Event::Storage | Event::NodeAdded(_) => true,
        Event::NodeChanged(before, now) => before.labels != now.labels,
        _ => false,
    }
}

fn concerns_spread(state: &State, pod: &Pod, event: &Event<'_>) -> bool {
    let counts = |other: &Pod| {
        let id = &other.id.namespace;
        pod.spreads.iter().any(|own| state.index.means_labels(&own.part, id, &other.labels))
    };
    match event {
        Event::Placed(other) | Event::Left(other) => counts(other),
        Event::Changed(before, now) => {
            (before.labels != now.labels || before.is_ending != now.is_ending)
                && (counts(before) || counts(now))
        }
        Event::NodeAdded(_) | Event::NodeGone => true,
        Event::NodeChanged(before, now) => {
            (&before.labels, &before.taints) != (&now.labels, &now.taints)
        }
        _ => false,
    }
}

fn concerns_affinity(state: &State, pod: &Pod, event: &Event<'_>) -> bool {
    let means = |terms: &[Term], other: &Pod| {
        let namespace = &other.id.namespace;
        terms.iter().any(|own| state.index.means_labels(&own.part, namespace, &other.labels))
    };
    match event {
        Event::Placed(other) => means(&pod.affinity, other),
        Event::Left(other) => means(&pod.anti_affinity, other) || means(&other.anti_affinity, pod),
        Event::Changed(before, now) => {
            before.labels != now.labels
                && (means(&pod.affinity, now) || means(&pod.anti_affinity, before))
        }
        Event::NodeAdded(_) | Event::Namespace => true,
        Event::NodeChanged(before, now) => before.labels != now.labels,
        _ => false,
    }
}
