//! What controllers ask of pods.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use client::Object;
use jiff::Timestamp;
use serde_json::Value;

use crate::object::{annotation, condition, created, is_ending, items, time};

pub(crate) fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or("Pending")
}

pub(crate) fn is_terminal(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it counts: neither ended nor ending.
pub(crate) fn is_active(pod: &Value) -> bool {
    !is_terminal(pod) && !is_ending(pod)
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    ready_since(pod).is_some()
}

/// Since when it is ready.
pub(crate) fn ready_since(pod: &Value) -> Option<Timestamp> {
    let ready = condition(pod, "Ready")?;
    let since = || time(&ready["lastTransitionTime"]).or_else(|| created(pod));
    (ready["status"] == "True").then(since)?
}

/// Whether it has been ready long enough; if not yet, when it will have been.
pub(crate) fn availability(pod: &Value, min_ready: i64, now: Timestamp) -> Availability {
    let Some(since) = ready_since(pod) else { return Availability::NotReady };
    if min_ready <= 0 {
        return Availability::Available;
    }
    let ready = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let wanted = Duration::from_secs(min_ready.unsigned_abs());
    match wanted.checked_sub(ready) {
        None | Some(Duration::ZERO) => Availability::Available,
        Some(rest) => Availability::In(rest),
    }
}

/// Whether a pod can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    NotReady,
    /// It is ready, and will have been for long enough in this time.
    In(Duration),
    Available,
}

impl Availability {
    pub(crate) fn is_available(self) -> bool {
        self == Self::Available
    }
}

fn restarts(pod: &Value) -> i64 {
    let status = &pod["status"];
    let all =
        items(&status["containerStatuses"]).iter().chain(items(&status["initContainerStatuses"]));
    all.filter_map(|own| own["restartCount"].as_i64()).max().unwrap_or(0)
}

fn deletion_cost(pod: &Value) -> i64 {
    let cost = annotation(pod, "controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Those to be removed first, first (kube's `ActivePodsWithRanks`): without a node, not running, not
/// ready, cheap, beside many others on their node, ready for a short time, restarted often, young.
pub(crate) fn first_to_go(pods: &mut [Object]) {
    let mut beside: HashMap<String, usize> = HashMap::new();
    for pod in pods.iter() {
        *beside.entry(node(pod).to_owned()).or_default() += 1;
    }
    pods.sort_by(|a, b| compare(a, b, &beside));
}

pub(crate) fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn compare(a: &Value, b: &Value, beside: &HashMap<String, usize>) -> Ordering {
    let phase_rank = |pod: &Value| match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let company = |pod: &Value| beside.get(node(pod)).copied().unwrap_or(0);
    // A time that is not known is the longest.
    let youngest_first = |a: Option<Timestamp>, b: Option<Timestamp>| b.cmp(&a);
    (!node(a).is_empty())
        .cmp(&!node(b).is_empty())
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| company(b).cmp(&company(a)))
        .then_with(|| youngest_first(ready_since(a), ready_since(b)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| youngest_first(created(a), created(b)))
        .then_with(|| crate::object::name(a).cmp(crate::object::name(b)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_least_missed_goes_first() {
        let pod = |name: &str, node: &str, phase: &str, ready: &str, cost: &str| -> Object {
            Arc::new(json!({
                "metadata": {
                    "name": name,
                    "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost},
                },
                "spec": {"nodeName": node},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
        };
        let mut pods = [
            pod("good", "n", "Running", "True", "1"),
            pod("cheap", "n", "Running", "True", "-1"),
            pod("sick", "n", "Running", "False", "5"),
            pod("pending", "n", "Pending", "False", "5"),
            pod("nowhere", "", "Pending", "False", "5"),
            pod("lonely", "m", "Running", "True", "1"),
        ];
        first_to_go(&mut pods);
        let names: Vec<&str> = pods.iter().map(|pod| crate::object::name(pod)).collect();
        assert_eq!(names, ["nowhere", "pending", "sick", "cheap", "good", "lonely"]);
    }

    #[test]
    fn available_is_ready_for_long_enough() {
        let pod = json!({"status": {"conditions": [{"type": "Ready", "status": "True",
            "lastTransitionTime": "1970-01-01T00:00:10Z"}]}});
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(availability(&pod, 0, at(10)), Availability::Available);
        assert_eq!(availability(&pod, 5, at(12)), Availability::In(Duration::from_secs(3)));
        assert_eq!(availability(&pod, 5, at(15)), Availability::Available);
        assert_eq!(availability(&json!({}), 5, at(15)), Availability::NotReady);
    }
}
