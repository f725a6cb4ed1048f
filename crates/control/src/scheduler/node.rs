//! Nodes, and what of a pod depends on nothing but the node: taints, labels, names.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::pod::{HostPort, Placed, Pod};
use super::resources::{self, Resources};

/// What a cordoned node is tainted with, as far as tolerations go.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// A mark of a node that keeps pods away that do not tolerate it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, which may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.is_empty() {
            true => write!(f, "{}:{}", self.key, self.effect),
            false => write!(f, "{}={}:{}", self.key, self.value, self.effect),
        }
    }
}

/// Which taints a pod does not mind. Empty fields mean any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toleration {
    key: String,
    /// `None` tolerates any value.
    value: Option<String>,
    effect: String,
}

impl Toleration {
    pub(super) fn parse(value: &Value) -> Self {
        let word = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let is_any = value["operator"] == "Exists";
        Self { key: word("key"), value: (!is_any).then(|| word("value")), effect: word("effect") }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// A condition on a label or a field of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
    /// An operator that nobody knows.
    Never,
}

impl Requirement {
    fn parse(value: &Value) -> Self {
        let values: Vec<String> = strings(&value["values"]);
        let number = || values.first().and_then(|value| value.parse().ok());
        let test = match value["operator"].as_str().unwrap_or_default() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::Absent,
            "Gt" => number().map_or(Test::Never, Test::Greater),
            "Lt" => number().map_or(Test::Never, Test::Less),
            _ => Test::Never,
        };
        Self { key: value["key"].as_str().unwrap_or_default().to_owned(), test }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|own| own == value)),
            Test::NotIn(values) => {
                !value.is_some_and(|value| values.iter().any(|own| own == value))
            }
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Greater(least) => number().is_some_and(|number| number > *least),
            Test::Less(most) => number().is_some_and(|number| number < *most),
            Test::Never => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Test::In(values) => write!(f, "{key} in ({})", values.join(",")),
            Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
            Test::Exists => f.write_str(key),
            Test::Absent => write!(f, "!{key}"),
            Test::Greater(number) => write!(f, "{key}>{number}"),
            Test::Less(number) => write!(f, "{key}<{number}"),
            Test::Never => write!(f, "{key} with an unknown operator"),
        }
    }
}

/// Conditions on a node, all of which it must meet; without any, no node does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NodeTerm {
    pub(super) labels: Vec<Requirement>,
    pub(super) fields: Vec<Requirement>,
}

impl NodeTerm {
    pub(super) fn parse(value: &Value) -> Self {
        let read = |field: &str| -> Vec<Requirement> {
            let all = value[field].as_array().into_iter().flatten();
            all.map(Requirement::parse).collect()
        };
        Self { labels: read("matchExpressions"), fields: read("matchFields") }
    }

    pub(super) fn matches(&self, node: &Node) -> bool {
        !(self.labels.is_empty() && self.fields.is_empty()) && self.unmet(node).next().is_none()
    }

    /// The conditions that a node does not meet.
    pub(super) fn unmet<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Requirement> {
        let of_labels = |own: &&Requirement| !own.holds(node.label(&own.key));
        let of_fields = |own: &&Requirement| {
            !own.holds((own.key == "metadata.name").then_some(node.name.as_str()))
        };
        self.labels.iter().filter(of_labels).chain(self.fields.iter().filter(of_fields))
    }
}

/// A node as the scheduler knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) taints: Vec<Taint>,
    pub(super) is_cordoned: bool,
    pub(super) allocatable: Resources,
    pub(super) pods_max: i64,
    /// Names of images and their sizes in bytes.
    pub(super) images: Vec<(String, i64)>,
}

impl Node {
    pub(super) fn parse(object: &Value) -> Self {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let taint = |value: &Value| Taint {
            key: word(&value["key"]),
            value: word(&value["value"]),
            effect: word(&value["effect"]),
        };
        let images = |image: &Value| -> Vec<(String, i64)> {
            let size = image["sizeBytes"].as_i64().unwrap_or_default();
            strings(&image["names"]).into_iter().map(|name| (name, size)).collect()
        };
        Self {
            name: word(&object["metadata"]["name"]),
            labels: labels(&object["metadata"]["labels"]),
            taints: list(&object["spec"]["taints"]).iter().map(taint).collect(),
            is_cordoned: object["spec"]["unschedulable"] == true,
            allocatable: Resources::parse(&object["status"]["allocatable"]),
            pods_max: resources::pods_max(&object["status"]["allocatable"]),
            images: list(&object["status"]["images"]).iter().flat_map(images).collect(),
        }
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// Region and zone, for the order in which nodes are looked at.
    pub(super) fn zone(&self) -> (&str, &str) {
        let of = |kind: &str, old: &str| self.label(kind).or_else(|| self.label(old)).unwrap_or("");
        let old = "failure-domain.beta.kubernetes.io";
        (
            of("topology.kubernetes.io/region", &format!("{old}/region")),
            of("topology.kubernetes.io/zone", &format!("{old}/zone")),
        )
    }

    /// The taints that keep a pod away.
    pub(super) fn untolerated<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Taint> {
        let keeps_away = |taint: &&Taint| {
            taint.effect != "PreferNoSchedule"
                && !pod.tolerations.iter().any(|own| own.tolerates(taint))
        };
        self.taints.iter().filter(keeps_away)
    }

    /// Whether the node is cordoned, and the pod minds.
    pub(super) fn is_closed_to(&self, pod: &Pod) -> bool {
        let taint = || Taint {
            key: UNSCHEDULABLE.to_owned(),
            value: String::new(),
            effect: "NoSchedule".to_owned(),
        };
        self.is_cordoned && !pod.tolerations.iter().any(|own| own.tolerates(&taint()))
    }

    /// Whether the pod's node selector and one term of its required node affinity hold.
    pub(super) fn is_selected_by(&self, pod: &Pod) -> bool {
        pod.node_selector.iter().all(|(key, value)| self.label(key) == Some(value))
            && pod.node_terms.as_ref().is_none_or(|all| all.iter().any(|term| term.matches(self)))
    }

    fn disliked_taints(&self, pod: &Pod) -> usize {
        let is_disliked = |taint: &&Taint| {
            taint.effect == "PreferNoSchedule"
                && !pod.tolerations.iter().any(|own| {
                    own.tolerates(taint)
                        && (own.effect.is_empty() || own.effect == "PreferNoSchedule")
                })
        };
        self.taints.iter().filter(is_disliked).count()
    }
}

/// What of a pod and a node depends on nothing else, so that it is found once for all pods of one
/// shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fixed {
    pub(super) verdict: Verdict,
    /// Taints of effect `PreferNoSchedule` that the pod does not tolerate.
    pub(super) disliked: u16,
    /// The weights of the preferred node affinity's terms that the node meets.
    pub(super) preference: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Verdict {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    Fits,
    Cordoned,
    Name,
    Taint,
    Affinity,
}

impl Fixed {
    pub(super) fn of(pod: &Pod, node: &Node) -> Self {
        let verdict = match () {
            () if node.is_closed_to(pod) => Verdict::Cordoned,
            () if pod.node.as_ref().is_some_and(|name| *name != node.name) => Verdict::Name,
            () if node.untolerated(pod).next().is_some() => Verdict::Taint,
            () if !node.is_selected_by(pod) => Verdict::Affinity,
            () => Verdict::Fits,
        };
        let met = pod.node_preferences.iter().filter(|(_, term)| term.matches(node));
        Self {
            verdict,
            disliked: node.disliked_taints(pod).try_into().unwrap_or(u16::MAX),
            preference: met.map(|(weight, _)| weight).sum(),
        }
    }
}

/// What every pod asks of a node, apart from the rest and side by side, as each placement reads it of
/// hundreds of nodes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    /// Allocatable.
    pub(super) cpu_milli: i64,
    pub(super) memory: i64,
    /// What is left of them, and of the others.
    pub(super) free_cpu_milli: i64,
    pub(super) free_memory: i64,
    pub(super) free_ephemeral: i64,
    pub(super) free_pods: i64,
    /// Requested, with assumptions for containers that ask for nothing.
    pub(super) assumed_cpu_milli: i64,
    pub(super) assumed_memory: i64,
}

impl Room {
    /// Takes what a node has now.
    pub(super) fn set(&mut self, slot: &Slot) {
        let (all, used) = (&slot.node.allocatable, &slot.requested);
        self.cpu_milli = all.cpu_milli;
        self.memory = all.memory_bytes;
        self.free_cpu_milli = all.cpu_milli - used.cpu_milli;
        self.free_memory = all.memory_bytes - used.memory_bytes;
        self.free_ephemeral = all.ephemeral_bytes - used.ephemeral_bytes;
        self.free_pods = slot.node.pods_max - slot.pods.len() as i64;
    }
}

/// A node and what is on it. One that pods are bound to before it is known is not scheduled to.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) is_known: bool,
    pub(super) node: Node,
    pub(super) requested: Resources,
    pub(super) pods: Vec<Placed>,
    pub(super) ports: Vec<HostPort>,
}

pub(super) fn strings(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

pub(super) fn labels(map: &Value) -> Labels {
    let all = map.as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
