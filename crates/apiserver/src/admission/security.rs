//! How much pods of a namespace may do to their node (`PodSecurity`).

mod check;

use serde_json::Value;

use super::Review;
use crate::failure::Failure;

const LABEL: &str = "pod-security.kubernetes.io/";

/// How much is allowed, from everything to little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    /// What is no level allows as little as the strictest one.
    fn read(label: &str) -> Self {
        match label {
            "" | "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            _ => Self::Restricted,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// What a namespace wants in one of three ways: a level, and how it calls it.
struct Policy {
    level: Level,
    shown: String,
}

impl Policy {
    fn of(namespace: &Value, mode: &str) -> Self {
        let label = |name: &str| {
            namespace["metadata"]["labels"][format!("{LABEL}{name}")].as_str().unwrap_or_default()
        };
        let level = Level::read(label(mode));
        let version = match label(&format!("{mode}-version")) {
            "" => "latest",
            version => version,
        };
        Self { level, shown: format!("{}:{version}", level.word()) }
    }

    /// What of a pod the policy forbids, in upstream's words.
    fn violations(&self, pod: &Value) -> Option<String> {
        let found = check::violations(self.level, pod);
        (!found.is_empty())
            .then(|| format!("violate PodSecurity {:?}: {}", self.shown, found.join(", ")))
    }
}

/// Refuses pods that the namespace does not want, and tells of those that it would rather not have.
pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    let Some(pod) = pod_of(review) else { return Ok(()) };
    let Some(namespace) = review.cluster.object("", "namespaces", "", review.namespace()) else {
        return Ok(());
    };
    let is_pod = review.target.resource.kind == "Pod";
    let notes = &review.request.notes;
    if is_pod {
        let enforced = Policy::of(&namespace, "enforce");
        notes.annotate("pod-security.kubernetes.io/enforce-policy", &enforced.shown);
        if let Some(violations) = enforced.violations(&pod) {
            return Err(review.forbidden(&violations.replacen("violate", "violates", 1)));
        }
    }
    if let Some(violations) = Policy::of(&namespace, "audit").violations(&pod) {
        let key = "pod-security.kubernetes.io/audit-violations";
        notes.annotate(key, &format!("would {violations}"));
    }
    if let Some(violations) = Policy::of(&namespace, "warn").violations(&pod) {
        notes.warn(format!("would {violations}"));
    }
    Ok(())
}

/// The pod that is made or changed, or that others will be made after; `None` if the change does
/// not matter here.
fn pod_of(review: &Review<'_>) -> Option<Value> {
    let subresource = review.target.subresource.as_str();
    if !matches!(subresource, "" | "ephemeralcontainers") {
        return None;
    }
    let of = review.target.resource;
    let path = match (of.group, of.kind) {
        ("", "Pod") => "",
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => "/spec/template",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template",
        ("", "PodTemplate") => "/template",
        _ => return None,
    };
    let pod = review.object.pointer(path)?;
    let old = review.old.and_then(|old| old.pointer(path));
    let is_same = old.is_some_and(|old| {
        old["spec"] == pod["spec"]
            && old["metadata"]["annotations"] == pod["metadata"]["annotations"]
    });
    (!is_same).then(|| pod.clone())
}
