//! Pods, read once from their objects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use objects::Selector;
use serde_json::{Value, json};

use super::index::{Part, Scope};
use super::node::{Labels, Node, NodeTerm, Toleration, labels, strings};
use super::resources::{self, Resources};

/// The scheduler of pods that name none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What tells it from others of its name.
    pub uid: String,
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A port of the host that a pod wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    /// Empty for all addresses.
    address: String,
    protocol: String,
    port: u16,
}

impl HostPort {
    pub(super) fn collides(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_empty()
                || other.address.is_empty()
                || self.address == other.address)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// Pods near which another one is wanted, or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) part: Part,
    pub(super) topology: String,
}

/// How evenly pods shall lie over the values of a label of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) topology: String,
    pub(super) skew_max: i64,
    /// A node that breaks it is no choice.
    pub(super) is_hard: bool,
    pub(super) part: Part,
    pub(super) domains_min: i64,
    pub(super) counted: Counted,
}

/// Which nodes count for a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// Only those that the pod selects.
    pub(super) are_selected: bool,
    /// Only those whose taints the pod tolerates.
    pub(super) are_tolerated: bool,
}

impl Counted {
    /// Whether nodes need not be looked at, as all count.
    pub(super) fn are_all(self, pod: &Pod) -> bool {
        let selects = !pod.node_selector.is_empty() || pod.node_terms.is_some();
        !(self.are_tolerated || self.are_selected && selects)
    }

    pub(super) fn has(self, pod: &Pod, node: &Node) -> bool {
        (!self.are_selected || node.is_selected_by(pod))
            && (!self.are_tolerated || node.untolerated(pod).next().is_none())
    }
}

/// A pod as the scheduler knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) id: PodId,
    pub(super) labels: Labels,
    /// The node that it is bound to, or asks for.
    pub(super) node: Option<String>,
    pub(super) scheduler: String,
    pub(super) priority: i32,
    /// Whether others may be evicted for it.
    pub(super) preempts: bool,
    pub(super) nominated: Option<String>,
    pub(super) gates: Vec<String>,
    pub(super) is_ending: bool,
    /// It is ending because the scheduler evicted it.
    pub(super) is_preempted: bool,
    /// When it started, as RFC 3339 has it; empty before.
    pub(super) started: String,
    /// Why it is not bound, as its status tells already: reason and message.
    pub(super) told: (String, String),
    pub(super) requests: Resources,
    /// Processors and memory, with assumptions for containers that ask for nothing.
    pub(super) assumed: (i64, i64),
    pub(super) ports: Vec<HostPort>,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) node_selector: Vec<(String, String)>,
    /// Required node affinity; any of them will do.
    pub(super) node_terms: Option<Vec<NodeTerm>>,
    pub(super) node_preferences: Vec<(i32, NodeTerm)>,
    pub(super) affinity: Vec<Term>,
    pub(super) anti_affinity: Vec<Term>,
    /// Preferred ones; those of anti-affinity have negative weights.
    pub(super) preferences: Vec<(i64, Term)>,
    pub(super) spreads: Vec<Spread>,
    pub(super) claims: Vec<String>,
    pub(super) images: Vec<String>,
    pub(super) containers: usize,
    /// Kind and name of the controller that it belongs to.
    pub(super) owner: Option<(String, String)>,
    /// The same for pods that nodes cannot tell apart by names, labels and taints.
    pub(super) shape: String,
}

/// A pod that is on a node, and the number of its labels in the index.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) pod: Arc<Pod>,
    pub(super) set: u32,
}

impl Pod {
    /// Whether another version asks for the same: what the scheduler itself tells does not count.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        let told = self.told.clone();
        let nominated = self.nominated.clone();
        *self == Self { told, nominated, ..other.clone() }
    }

    pub(super) fn parse(object: &Value) -> Self {
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let some = |value: &Value| value.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
        let labels = labels(&metadata["labels"]);
        let id = PodId {
            namespace: word(&metadata["namespace"]),
            name: word(&metadata["name"]),
            uid: word(&metadata["uid"]),
        };
        let affinity = Affinity { spec: &spec["affinity"], id: &id, labels: &labels };
        let required = &spec["affinity"]["nodeAffinity"];
        let containers = || all_containers(spec);
        let is_ending = !metadata["deletionTimestamp"].is_null();
        let condition = |kind: &str| list(&status["conditions"]).find(|own| own["type"] == kind);
        Self {
            node: some(&spec["nodeName"]),
            scheduler: some(&spec["schedulerName"]).unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned()),
            priority: spec["priority"].as_i64().unwrap_or_default().try_into().unwrap_or(0),
            preempts: spec["preemptionPolicy"] != "Never",
            nominated: some(&status["nominatedNodeName"]),
            gates: list(&spec["schedulingGates"]).map(|gate| word(&gate["name"])).collect(),
            is_ending,
            is_preempted: is_ending
                && condition("DisruptionTarget").is_some_and(|own| {
                    own["status"] == "True" && own["reason"] == "PreemptionByScheduler"
                }),
            started: word(&status["startTime"]),
            told: condition("PodScheduled")
                .map(|own| (word(&own["reason"]), word(&own["message"])))
                .unwrap_or_default(),
            requests: resources::of_pod(object),
            assumed: resources::of_pod_assumed(object),
            ports: host_ports(spec),
            tolerations: list(&spec["tolerations"]).map(Toleration::parse).collect(),
            node_selector: super::node::labels(&spec["nodeSelector"]).into_iter().collect(),
            node_terms:
                required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
                    .as_array()
                    .map(|terms| terms.iter().map(NodeTerm::parse).collect()),
            node_preferences: list(&required["preferredDuringSchedulingIgnoredDuringExecution"])
                .map(|own| (weight(own), NodeTerm::parse(&own["preference"])))
                .collect(),
            affinity: affinity.required("podAffinity"),
            anti_affinity: affinity.required("podAntiAffinity"),
            preferences: affinity.preferred(),
            spreads: list(&spec["topologySpreadConstraints"])
                .map(|own| spread(own, &id.namespace, &labels))
                .collect(),
            claims: claims(spec, &id.name),
            images: containers().map(|own| image_name(&word(&own["image"]))).collect(),
            containers: containers().count(),
            owner: list(&metadata["ownerReferences"])
                .find(|owner| owner["controller"] == true)
                .map(|owner| (word(&owner["kind"]), word(&owner["name"]))),
            shape: shape(spec),
            id,
            labels,
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn all_containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(&spec["containers"]).chain(list(&spec["initContainers"]))
}

fn weight(own: &Value) -> i32 {
    own["weight"].as_i64().unwrap_or_default().try_into().unwrap_or(0)
}

/// What [`super::node::Fixed`] depends on.
fn shape(spec: &Value) -> String {
    let affinity = &spec["affinity"]["nodeAffinity"];
    json!([spec["nodeName"], spec["nodeSelector"], affinity, spec["tolerations"]]).to_string()
}

/// Only those of sidecars count beside those of containers, as upstream has it.
fn host_ports(spec: &Value) -> Vec<HostPort> {
    let sidecars = list(&spec["initContainers"]).filter(|own| own["restartPolicy"] == "Always");
    let ports = list(&spec["containers"]).chain(sidecars).flat_map(|own| list(&own["ports"]));
    let read = |port: &Value| {
        let number = port["hostPort"].as_u64().and_then(|number| u16::try_from(number).ok());
        let address = port["hostIP"].as_str().filter(|address| *address != "0.0.0.0");
        Some(HostPort {
            address: address.unwrap_or_default().to_owned(),
            protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(),
            port: number.filter(|number| *number != 0)?,
        })
    };
    ports.filter_map(read).collect()
}

/// Claims that its volumes name, and those that are made for it.
fn claims(spec: &Value, pod: &str) -> Vec<String> {
    let name = |volume: &Value| {
        let named = volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned);
        let own = || {
            let name = volume["name"].as_str()?;
            (!volume["ephemeral"].is_null()).then(|| format!("{pod}-{name}"))
        };
        named.or_else(own)
    };
    let all: BTreeSet<String> = list(&spec["volumes"]).filter_map(name).collect();
    all.into_iter().collect()
}

/// As nodes name images.
fn image_name(image: &str) -> String {
    let rest = image.rsplit('/').next().unwrap_or_default();
    if rest.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

/// A selector of labels that some of the pod's own labels make narrower. None selects nothing.
fn selector(own: &Value, labels: &Labels) -> Option<Selector> {
    let selector = &own["labelSelector"];
    if selector.is_null() {
        return None;
    }
    let mut narrower = selector.clone();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in strings(&own[field]) {
            let Some(value) = labels.get(&key) else { continue };
            let condition = json!({"key": key, "operator": operator, "values": [value]});
            match narrower["matchExpressions"].as_array_mut() {
                Some(all) if all.contains(&condition) => {}
                Some(all) => all.push(condition),
                None => narrower["matchExpressions"] = json!([condition]),
            }
        }
    }
    Selector::from_json(&narrower).ok()
}

/// A pod's affinity to other pods, and what its terms are read with.
struct Affinity<'a> {
    spec: &'a Value,
    id: &'a PodId,
    labels: &'a Labels,
}

impl Affinity<'_> {
    fn required(&self, kind: &str) -> Vec<Term> {
        let own = &self.spec[kind]["requiredDuringSchedulingIgnoredDuringExecution"];
        list(own).map(|term| self.term(term)).collect()
    }

    fn preferred(&self) -> Vec<(i64, Term)> {
        let read = |(kind, sign): (&str, i64)| -> Vec<(i64, Term)> {
            let own = &self.spec[kind]["preferredDuringSchedulingIgnoredDuringExecution"];
            let term = |own| (sign * i64::from(weight(own)), self.term(&own["podAffinityTerm"]));
            list(own).map(term).collect()
        };
        [("podAffinity", 1), ("podAntiAffinity", -1)].into_iter().flat_map(read).collect()
    }

    fn term(&self, own: &Value) -> Term {
        let names: BTreeSet<String> = strings(&own["namespaces"]).into_iter().collect();
        let spaces = &own["namespaceSelector"];
        let scope = match (names.is_empty(), spaces.is_null()) {
            (true, true) => Scope::of(&self.id.namespace),
            (_, true) => Scope { names, selector: None },
            (_, false) => Scope { names, selector: Selector::from_json(spaces).ok() },
        };
        let topology = own["topologyKey"].as_str().unwrap_or_default().to_owned();
        Term { part: Part::new(scope, selector(own, self.labels)), topology }
    }
}

fn spread(own: &Value, namespace: &str, labels: &Labels) -> Spread {
    Spread {
        topology: own["topologyKey"].as_str().unwrap_or_default().to_owned(),
        skew_max: own["maxSkew"].as_i64().unwrap_or(1),
        is_hard: own["whenUnsatisfiable"] != "ScheduleAnyway",
        part: Part::new(Scope::of(namespace), selector(own, labels)),
        domains_min: own["minDomains"].as_i64().unwrap_or(1),
        counted: Counted {
            are_selected: own["nodeAffinityPolicy"] != "Ignore",
            are_tolerated: own["nodeTaintsPolicy"] == "Honor",
        },
    }
}
