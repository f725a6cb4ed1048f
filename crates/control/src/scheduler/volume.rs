//! Claims of volumes: which nodes can have them, and what is to be done before a pod is bound.

use std::collections::{BTreeMap, HashMap};

use objects::Selector;
use serde_json::Value;

use super::node::{Labels, Node, NodeTerm, labels, strings};
use super::pod::Pod;
use super::resources::Resources;

/// Where a claim that waits for its first pod shall be.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// A class of volumes that nobody makes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// Labels of volumes that say where they are.
const PLACES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// Namespace and name.
type Name = (String, String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// The volume it is bound to.
    volume: Option<String>,
    /// The volume that is to be bound to it.
    wanted: Option<String>,
    class: Option<String>,
    is_lost: bool,
    is_ending: bool,
    /// Only one pod may use it.
    is_exclusive: bool,
    bytes: i64,
    modes: Vec<String>,
    is_block: bool,
    selector: Option<Selector>,
    selected_node: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    class: String,
    bytes: i64,
    modes: Vec<String>,
    is_block: bool,
    terms: Option<Vec<NodeTerm>>,
    labels: Labels,
    claim: Option<Name>,
    is_ending: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    waits: bool,
    is_made: bool,
    /// Where volumes can be; any of them. Empty is everywhere.
    topologies: Vec<Vec<(String, Vec<String>)>>,
}

/// What is to be done with a claim before its pod is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimStep {
    /// A volume that is there becomes the claim's.
    Take {
        /// The claim's name, in the namespace of the pod.
        claim: String,
        /// The volume's.
        volume: String,
    },
    /// One is to be made for it, on the pod's node.
    Make {
        /// The claim's name, in the namespace of the pod.
        claim: String,
    },
}

/// Why a node does not have a pod's volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeProblem {
    /// A volume that a claim is bound to is reached from other nodes.
    Elsewhere,
    /// A volume that a claim is bound to is not there.
    Missing,
    /// No volume fits a claim, and none can be made here.
    NoneFits,
    /// A volume is in another zone.
    Zone,
}

/// What a pod needs of volumes.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    volumes: Vec<String>,
    /// Names of claims that wait for their first pod.
    waiting: Vec<String>,
}

impl Needs {
    pub(super) fn is_nothing(&self) -> bool {
        self.volumes.is_empty() && self.waiting.is_empty()
    }
}

/// All claims, volumes and classes.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    claims: BTreeMap<Name, Claim>,
    volumes: BTreeMap<String, Volume>,
    classes: BTreeMap<String, Class>,
    /// How many pods on nodes use a claim.
    users: HashMap<Name, u32>,
    /// Volumes that are about to become a claim's.
    taken: BTreeMap<String, Name>,
}

fn word(value: &Value) -> Option<String> {
    value.as_str().filter(|word| !word.is_empty()).map(str::to_owned)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Claim {
    pub(super) fn parse(object: &Value) -> Self {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let volume = word(&spec["volumeName"]);
        let is_bound = object["status"]["phase"] == "Bound";
        let modes = strings(&spec["accessModes"]);
        let requests = Resources::parse(&spec["resources"]["requests"]);
        Self {
            volume: volume.clone().filter(|_| is_bound),
            wanted: volume,
            class: word(&spec["storageClassName"]),
            is_lost: object["status"]["phase"] == "Lost",
            is_ending: !metadata["deletionTimestamp"].is_null(),
            is_exclusive: modes.iter().any(|mode| mode == "ReadWriteOncePod"),
            bytes: requests.get("storage"),
            modes,
            is_block: spec["volumeMode"] == "Block",
            selector: Selector::from_json(&spec["selector"]).ok(),
            selected_node: word(&metadata["annotations"][SELECTED_NODE]),
        }
    }
}

impl Volume {
    pub(super) fn parse(object: &Value) -> Self {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let terms = spec["nodeAffinity"]["required"]["nodeSelectorTerms"].as_array();
        let claim = &spec["claimRef"];
        Self {
            class: word(&spec["storageClassName"]).unwrap_or_default(),
            bytes: Resources::parse(&spec["capacity"]).get("storage"),
            modes: strings(&spec["accessModes"]),
            is_block: spec["volumeMode"] == "Block",
            terms: terms.map(|terms| terms.iter().map(NodeTerm::parse).collect()),
            labels: labels(&metadata["labels"]),
            claim: word(&claim["name"])
                .map(|name| (word(&claim["namespace"]).unwrap_or_default(), name)),
            is_ending: !metadata["deletionTimestamp"].is_null(),
        }
    }

    fn is_reached_from(&self, node: &Node) -> bool {
        self.terms.as_ref().is_none_or(|all| all.iter().any(|term| term.matches(node)))
    }

    /// Whether the labels that say where it is agree with the node's.
    fn is_in_place(&self, node: &Node) -> bool {
        PLACES.iter().all(|place| {
            let (own, other) = (self.labels.get(*place), node.label(place));
            match (own, other) {
                (Some(own), Some(other)) => own.split("__").any(|one| one == other),
                // A node that is nowhere takes all.
                _ => true,
            }
        })
    }

    fn fits(&self, claim: &Claim) -> bool {
        let has = |mode: &String| self.modes.contains(mode);
        let selects =
            |selector: &Selector| selector.matches(|key| self.labels.get(key).map(String::as_str));
        !self.is_ending
            && self.class == claim.class.as_deref().unwrap_or_default()
            && self.bytes >= claim.bytes
            && self.is_block == claim.is_block
            && claim.modes.iter().all(has)
            && claim.selector.as_ref().is_none_or(selects)
    }
}

impl Class {
    pub(super) fn parse(object: &Value) -> Self {
        let expressions = |term: &Value| {
            let read =
                |own: &Value| (word(&own["key"]).unwrap_or_default(), strings(&own["values"]));
            array(&term["matchLabelExpressions"]).map(read).collect()
        };
        Self {
            waits: object["volumeBindingMode"] == "WaitForFirstConsumer",
            is_made: object["provisioner"] != NO_PROVISIONER,
            topologies: array(&object["allowedTopologies"]).map(expressions).collect(),
        }
    }

    fn makes_on(&self, node: &Node) -> bool {
        let holds = |(key, values): &(String, Vec<String>)| {
            node.label(key).is_some_and(|value| values.iter().any(|own| own == value))
        };
        let is_allowed =
            self.topologies.is_empty() || self.topologies.iter().any(|all| all.iter().all(holds));
        self.is_made && is_allowed
    }
}

impl Volumes {
    pub(super) fn set_claim(&mut self, name: Name, claim: Option<Claim>) {
        match claim {
            Some(claim) => self.claims.insert(name, claim),
            None => self.claims.remove(&name),
        };
    }

    pub(super) fn set_volume(&mut self, name: String, volume: Option<Volume>) {
        // Who it belongs to is told now, or it is nobody's any more.
        if volume.as_ref().is_none_or(|volume| volume.claim.is_some()) {
            self.taken.remove(&name);
        }
        match volume {
            Some(volume) => self.volumes.insert(name, volume),
            None => self.volumes.remove(&name),
        };
    }

    pub(super) fn set_class(&mut self, name: String, class: Option<Class>) {
        match class {
            Some(class) => self.classes.insert(name, class),
            None => self.classes.remove(&name),
        };
    }

    /// A pod that uses claims comes to a node, or leaves it.
    pub(super) fn moved(&mut self, pod: &Pod, delta: i32) {
        for claim in &pod.claims {
            let name = (pod.id.namespace.clone(), claim.clone());
            let users = self.users.entry(name.clone()).or_default();
            *users = users.saturating_add_signed(delta);
            if *users == 0 {
                self.users.remove(&name);
            }
        }
    }

    /// Whether another pod uses a claim that only one may use.
    pub(super) fn is_in_use(&self, pod: &Pod) -> bool {
        pod.claims.iter().any(|claim| {
            let name = (pod.id.namespace.clone(), claim.clone());
            self.claims.get(&name).is_some_and(|claim| claim.is_exclusive)
                && self.users.contains_key(&name)
        })
    }

    /// What a pod needs.
    ///
    /// # Errors
    /// Why no node will do, in upstream's words.
    pub(super) fn needs(&self, pod: &Pod) -> Result<Needs, String> {
        let mut needs = Needs::default();
        for name in &pod.claims {
            let claim = self.claim(pod, name)?;
            match (&claim.volume, self.class_of(claim)) {
                (Some(volume), _) => needs.volumes.push(volume.clone()),
                (None, Some(class)) if class.waits && claim.wanted.is_none() => {
                    needs.waiting.push(name.clone());
                }
                (None, _) => {
                    return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
                }
            }
        }
        Ok(needs)
    }

    /// Whether every claim of a pod has its volume.
    pub(super) fn are_bound(&self, pod: &Pod) -> bool {
        pod.claims.iter().all(|name| {
            let key = (pod.id.namespace.clone(), name.clone());
            self.claims.get(&key).is_some_and(|claim| claim.volume.is_some())
        })
    }

    fn class_of(&self, claim: &Claim) -> Option<&Class> {
        self.classes.get(claim.class.as_ref()?)
    }

    fn claim(&self, pod: &Pod, name: &str) -> Result<&Claim, String> {
        let key = (pod.id.namespace.clone(), name.to_owned());
        let Some(claim) = self.claims.get(&key) else {
            let is_made = name.strip_prefix(&pod.id.name).is_some_and(|rest| rest.starts_with('-'));
            return Err(match is_made {
                true => format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \
                     \"{name}\""
                ),
                false => format!("persistentvolumeclaim \"{name}\" not found"),
            });
        };
        if claim.is_lost {
            let volume = claim.wanted.as_deref().unwrap_or_default();
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
            ));
        }
        if claim.is_ending {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        Ok(claim)
    }

    /// Whether a node can have what is needed.
    pub(super) fn problem(&self, pod: &Pod, needs: &Needs, node: &Node) -> Option<VolumeProblem> {
        for name in &needs.volumes {
            let Some(volume) = self.volumes.get(name) else { return Some(VolumeProblem::Missing) };
            if !volume.is_reached_from(node) {
                return Some(VolumeProblem::Elsewhere);
            }
            if !volume.is_in_place(node) {
                return Some(VolumeProblem::Zone);
            }
        }
        self.plan(pod, needs, node).is_none().then_some(VolumeProblem::NoneFits)
    }

    /// What is to be done with claims that wait, if the pod comes to a node.
    pub(super) fn plan(&self, pod: &Pod, needs: &Needs, node: &Node) -> Option<Vec<ClaimStep>> {
        let mut steps: Vec<ClaimStep> = Vec::new();
        for name in &needs.waiting {
            let key = (pod.id.namespace.clone(), name.clone());
            let claim = self.claims.get(&key)?;
            if let Some(selected) = &claim.selected_node {
                if *selected != node.name {
                    return None;
                }
                steps.push(ClaimStep::Make { claim: name.clone() });
                continue;
            }
            let is_free = |(volume, own): &(&String, &Volume)| {
                let is_planned = steps.iter().any(
                    |step| matches!(step, ClaimStep::Take { volume: taken, .. } if taken == *volume),
                );
                let holder = own.claim.as_ref().or_else(|| self.taken.get(*volume));
                !is_planned && holder.is_none_or(|holder| *holder == key)
            };
            let fitting = self.volumes.iter().filter(|(_, own)| {
                own.fits(claim) && own.is_reached_from(node) && own.is_in_place(node)
            });
            let smallest =
                fitting.filter(is_free).min_by_key(|(_, own)| (own.claim.is_none(), own.bytes));
            steps.push(match smallest {
                Some((volume, _)) => {
                    ClaimStep::Take { claim: name.clone(), volume: volume.clone() }
                }
                None if self.class_of(claim)?.makes_on(node) => {
                    ClaimStep::Make { claim: name.clone() }
                }
                None => return None,
            });
        }
        Some(steps)
    }

    /// Notes what is about to be done, or that it is not.
    pub(super) fn reserve(&mut self, namespace: &str, steps: &[ClaimStep], is_wanted: bool) {
        for step in steps {
            let ClaimStep::Take { claim, volume } = step else { continue };
            if is_wanted {
                self.taken.insert(volume.clone(), (namespace.to_owned(), claim.clone()));
            } else {
                self.taken.remove(volume);
            }
        }
    }
}
