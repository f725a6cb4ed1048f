//! How much pods of a namespace may do to their node (`PodSecurity`).

mod check;

use objects::validate::{Invalid, Problem};
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

/// Refuses levels that are none, and tells of pods that a stricter level would not have let in.
pub(super) fn check_namespace(review: &mut Review<'_>) -> Result<(), Failure> {
    if !review.is("", "Namespace") {
        return Ok(());
    }
    check_levels(review)?;
    let Some(old) = review.old else { return Ok(()) };
    let (before, now) = (Policy::of(old, "enforce"), Policy::of(review.object, "enforce"));
    if now.level <= before.level {
        return Ok(());
    }
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for pod in review.cluster.objects("", "pods", review.name(), "")? {
        let found = check::violations(now.level, &pod);
        if found.is_empty() {
            continue;
        }
        let reasons: Vec<&str> = found.iter().filter_map(|one| one.split(" (").next()).collect();
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let reasons = reasons.join(", ");
        match told.iter_mut().find(|(known, _)| *known == reasons) {
            Some((_, names)) => names.push(name),
            None => told.push((reasons, vec![name])),
        }
    }
    if !told.is_empty() {
        let (name, level) = (review.name(), &now.shown);
        review.request.notes.warn(format!(
            "existing pods in namespace {name:?} violate the new PodSecurity enforce level {level:?}"
        ));
    }
    for (reasons, names) in told {
        let who = match names.len() {
            1 => names[0].clone(),
            2 => format!("{} (and 1 other pod)", names[0]),
            more => format!("{} (and {} other pods)", names[0], more - 1),
        };
        review.request.notes.warn(format!("{who}: {reasons}"));
    }
    Ok(())
}

fn check_levels(review: &Review<'_>) -> Result<(), Failure> {
    const LEVELS: [&str; 4] = ["", "privileged", "baseline", "restricted"];
    let mut wrong = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let key = format!("{LABEL}{mode}");
        let label = |object: &Value| {
            object["metadata"]["labels"][&key].as_str().unwrap_or_default().to_owned()
        };
        let level = label(review.object);
        let is_new = review.old.is_none_or(|old| label(old) != level);
        if is_new && !LEVELS.contains(&level.as_str()) {
            wrong.push(Invalid {
                field: format!("metadata.labels[{key}]"),
                problem: Problem::Value(
                    format!("{level:?}"),
                    "must be one of privileged, baseline, restricted".to_owned(),
                ),
            });
        }
    }
    match &wrong[..] {
        [] => Ok(()),
        wrong => Err(Failure::invalid(&review.target.resource, review.name(), wrong)),
    }
}

/// The pod that is made or changed, or that others will be made after; `None` if the change does
/// not matter here.
fn pod_of(review: &Review<'_>) -> Option<Value> {
    let subresource = review.target.subresource.as_str();
    if !matches!(subresource, "" | "ephemeralcontainers") {
        return None;
    }
    let of = &review.target.resource;
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
