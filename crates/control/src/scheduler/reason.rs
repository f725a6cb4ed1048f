//! Why a node cannot have a pod: upstream's words for events, and data for those who want to know more.

use std::collections::BTreeMap;
use std::fmt;

use super::node::Taint;
use super::pod::PodId;
use super::volume::VolumeProblem;

/// Upstream's plugins that refuse nodes, or the whole pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are upstream's names, and say what they look at")]
pub enum Filter {
    SchedulingGates,
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Some filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Filters(u16);

impl Filters {
    pub(super) fn add(&mut self, filter: Filter) {
        self.0 |= 1 << filter as u16;
    }

    pub(super) fn has(self, filter: Filter) -> bool {
        self.0 & (1 << filter as u16) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Why a node cannot have a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    Cordoned,
    Name,
    Taint,
    NodeAffinity,
    Ports,
    Resources,
    /// Another pod uses a claim that only one may use.
    Exclusive,
    Volume(VolumeProblem),
    /// A label that pods are spread over is missing.
    NoTopology,
    Skew,
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
}

impl Rejection {
    pub(super) fn filter(self) -> Filter {
        match self {
            Self::Cordoned => Filter::NodeUnschedulable,
            Self::Name => Filter::NodeName,
            Self::Taint => Filter::TaintToleration,
            Self::NodeAffinity => Filter::NodeAffinity,
            Self::Ports => Filter::NodePorts,
            Self::Resources => Filter::NodeResourcesFit,
            Self::Exclusive => Filter::VolumeRestrictions,
            Self::Volume(VolumeProblem::Zone) => Filter::VolumeZone,
            Self::Volume(_) => Filter::VolumeBinding,
            Self::NoTopology | Self::Skew => Filter::PodTopologySpread,
            Self::Affinity | Self::AntiAffinity | Self::ExistingAntiAffinity => {
                Filter::InterPodAffinity
            }
        }
    }

    /// Whether the node could have the pod if others left it. Of resources more must be known.
    pub(super) fn may_pass(self) -> bool {
        matches!(
            self,
            Self::Ports
                | Self::Resources
                | Self::Exclusive
                | Self::Skew
                | Self::AntiAffinity
                | Self::ExistingAntiAffinity
        )
    }

    /// Upstream's words; those for resources name what is short.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Cordoned => "node(s) were unschedulable",
            Self::Name => "node(s) didn't match the requested node name",
            Self::Taint => "node(s) had untolerated taint(s)",
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::Ports => "node(s) didn't have free ports for the requested pod ports",
            Self::Resources => "Insufficient resources",
            Self::Exclusive => {
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod \
                 access mode"
            }
            Self::Volume(problem) => problem.words(),
            Self::NoTopology => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Self::Skew => "node(s) didn't match pod topology spread constraints",
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules"
            }
        }
    }
}

impl VolumeProblem {
    /// Upstream's words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Elsewhere => "node(s) didn't match PersistentVolume's node affinity",
            Self::Missing => {
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
            }
            Self::NoneFits => "node(s) didn't find available persistent volumes to bind",
            Self::Zone => "node(s) had no available volume zone",
        }
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub(super) fn summary(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut lines: Vec<String> =
        reasons.iter().map(|(words, count)| format!("{count} {words}")).collect();
    lines.sort();
    let head = format!("0/{nodes} nodes are available:");
    if lines.is_empty() { head } else { format!("{head} {}.", lines.join(", ")) }
}

/// Why a pod is not placed, node by node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which pod.
    pub pod: PodId,
    /// What its event says.
    pub message: String,
    /// Every node, with all that speaks against it.
    pub nodes: Vec<NodeReport>,
    /// The least that must change for it to fit somewhere; none if nodes are not what it lacks.
    pub remedy: Option<Remedy>,
}

/// What speaks against a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// The node.
    pub node: String,
    /// By every filter; the pod fits if there is nothing.
    pub reasons: Vec<Reason>,
}

/// What a filter says against a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which filter.
    pub filter: Filter,
    /// What the pod wants: `cpu 2`, `kubernetes.io/os=linux`.
    pub wanted: String,
    /// What the node has: `1500m free of 4`.
    pub found: String,
    /// What would satisfy the filter.
    pub change: Change,
}

/// Something that would satisfy a filter on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The pod asks for less.
    Request {
        /// The resource.
        resource: String,
        /// What it asks for.
        from: String,
        /// What there is.
        to: String,
        /// How much less, in thousandths.
        permille: u64,
    },
    /// The node has more that is free.
    Room {
        /// The resource.
        resource: String,
        /// How much is missing.
        missing: String,
    },
    /// The pod tolerates a taint.
    Toleration(Taint),
    /// The node is uncordoned.
    Uncordon,
    /// The node meets a condition, or the pod does not make it.
    Label(String),
    /// The pod asks for this node, or for none.
    NodeName,
    /// A port of the host is given up.
    Port {
        /// Number and protocol.
        port: String,
        /// Who has it.
        holder: Option<PodId>,
    },
    /// A volume is elsewhere, or another one is there.
    Volume(VolumeProblem),
    /// Nobody else uses a claim.
    Claim,
    /// A constraint allows more skew.
    Skew {
        /// Over which label.
        topology: String,
        /// What it allows.
        from: i64,
        /// What is needed.
        to: i64,
    },
    /// Pods are near that the pod wants near.
    Affinity(String),
    /// Pods are not near that it wants far.
    AntiAffinity(String),
    /// Pods are not near that want it far.
    ExistingAntiAffinity,
}

impl Change {
    /// How much of a change it is: what only the pod's author decides comes first.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Toleration(_) | Self::Uncordon => 10,
            Self::Label(_) | Self::NodeName => 20,
            Self::Skew { from, to, .. } => 50 * (to - from).max(1).unsigned_abs(),
            Self::Request { permille, .. } => *permille,
            Self::Port { .. } => 500,
            Self::Affinity(_) | Self::AntiAffinity(_) | Self::ExistingAntiAffinity => 800,
            Self::Claim | Self::Volume(_) => 1500,
            Self::Room { .. } => 2000,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { resource, from, to, .. } => {
                write!(f, "{resource} request {from} → {to}")
            }
            Self::Room { resource, missing } => write!(f, "{missing} more {resource}"),
            Self::Toleration(taint) => write!(f, "toleration for {taint}"),
            Self::Uncordon => f.write_str("uncordoned"),
            Self::Label(condition) => write!(f, "label {condition}"),
            Self::NodeName => f.write_str("spec.nodeName"),
            Self::Port { port, holder: Some(holder) } => {
                write!(f, "host port {port}, which {holder} has,")
            }
            Self::Port { port, holder: None } => write!(f, "host port {port}"),
            Self::Volume(problem) => write!(f, "a volume ({})", problem.words()),
            Self::Claim => f.write_str("no other pod with its ReadWriteOncePod claim"),
            Self::Skew { topology, from, to } => write!(f, "maxSkew {from} → {to} over {topology}"),
            Self::Affinity(topology) => write!(f, "the pods of its affinity by {topology}"),
            Self::AntiAffinity(topology) => {
                write!(f, "no pod of its anti-affinity by {topology}")
            }
            Self::ExistingAntiAffinity => f.write_str("no pod with anti-affinity to it"),
        }
    }
}

/// The least that must change for a pod to fit on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// The node that lacks least.
    pub node: String,
    /// All of which are needed.
    pub changes: Vec<Change>,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, change) in self.changes.iter().enumerate() {
            let before = if number == 0 { "" } else { ", " };
            write!(f, "{before}{change}")?;
        }
        write!(f, " on {}", self.node)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} wanted, {}", self.filter, self.wanted, self.found)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.pod, self.message)?;
        for own in &self.nodes {
            let reasons: Vec<String> = own.reasons.iter().map(Reason::to_string).collect();
            writeln!(f, "  {}: {}", own.node, reasons.join("; "))?;
        }
        match &self.remedy {
            Some(remedy) => writeln!(f, "it would fit with {remedy}"),
            None => Ok(()),
        }
    }
}
