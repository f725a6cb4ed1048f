//! What is decided about a pod.

use serde_json::{Value, json};

use super::pod::PodId;
use super::volume::ClaimStep;

/// What is said of pods whose gates are closed (upstream's API server says the same).
const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";

/// What is to be done about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes to a node.
    Bind {
        /// Which pod.
        pod: PodId,
        /// The node.
        node: String,
    },
    /// Its claims get volumes on a node; when they have them it is bound.
    Provide {
        /// Which pod.
        pod: PodId,
        /// The node.
        node: String,
        /// What is to be done with which claim.
        steps: Vec<ClaimStep>,
    },
    /// No node can have it.
    Unschedulable(Unschedulable),
    /// Its gates are closed; its status does not say so yet.
    Gated {
        /// Which pod.
        pod: PodId,
    },
}

/// No node can have a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unschedulable {
    /// Which pod.
    pub pod: PodId,
    /// Why, in upstream's words.
    pub message: String,
    /// Whether its status has not said yet that it is not scheduled.
    pub is_first: bool,
    /// Whether its status says all of this already.
    pub is_told: bool,
    /// The node where it waits for room.
    pub nominated: Option<String>,
    /// Pods that are evicted to make it, the most important first.
    pub victims: Vec<PodId>,
    /// Less important pods that waited for the same room and wait no more.
    pub outranked: Vec<PodId>,
}

impl Decision {
    /// Which pod it is about.
    #[must_use]
    pub fn pod(&self) -> &PodId {
        match self {
            Self::Bind { pod, .. } | Self::Provide { pod, .. } | Self::Gated { pod } => pod,
            Self::Unschedulable(own) => &own.pod,
        }
    }

    /// A strategic merge patch for the status of the pod, if that has to say something: condition
    /// `PodScheduled`, and the node it is nominated to. `time` is RFC 3339.
    #[must_use]
    pub fn status_patch(&self, time: &str) -> Option<Value> {
        let (reason, message, is_first) = match self {
            Self::Unschedulable(own) if !own.is_told => {
                ("Unschedulable", own.message.as_str(), own.is_first)
            }
            Self::Gated { .. } => ("SchedulingGated", GATED, true),
            _ => return None,
        };
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        });
        if is_first {
            condition["lastTransitionTime"] = time.into();
        }
        let mut status = json!({"conditions": [condition]});
        if let Self::Unschedulable(own) = self {
            status["nominatedNodeName"] = own.nominated.clone().into();
        }
        Some(json!({"status": status}))
    }
}
