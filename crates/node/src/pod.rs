//! What a pod's object says, in the words of this crate.

use objects::Quantity;
use serde_json::Value;

use crate::field::{at, items, text};

/// Seconds that a pod has to end, if it does not say.
const GRACE_S: i64 = 30;

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before the next one.
    Init,
    /// Begins before the others, and goes on beside them.
    Sidecar,
    /// What the pod is for.
    Regular,
    /// Came later, to look around.
    Ephemeral,
}

/// When a container that has ended runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Each time.
    Always,
    /// If it has failed.
    OnFailure,
    /// Not again.
    Never,
}

/// The quality of service that a pod gets by what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quality {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Quality {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// A container of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) restart: Restart,
    pub(crate) spec: &'a Value,
}

/// A pod's containers, in the order in which they begin.
pub(crate) fn parts(pod: &Value) -> Vec<Part<'_>> {
    let spec = &pod["spec"];
    let of_pod = restart(text(spec, &["restartPolicy"])).unwrap_or(Restart::Always);
    let part = |spec, kind, restart| Part { name: text(spec, &["name"]), kind, restart, spec };
    let init =
        items(spec, "initContainers").iter().map(|one| match text(one, &["restartPolicy"]) {
            "Always" => part(one, Kind::Sidecar, Restart::Always),
            own => {
                let default = if of_pod == Restart::Never { of_pod } else { Restart::OnFailure };
                part(one, Kind::Init, restart(own).unwrap_or(default))
            }
        });
    let regular = items(spec, "containers").iter().map(|one| {
        part(one, Kind::Regular, restart(text(one, &["restartPolicy"])).unwrap_or(of_pod))
    });
    let later = items(spec, "ephemeralContainers").iter();
    let later = later.map(|one| part(one, Kind::Ephemeral, Restart::Never));
    init.chain(regular).chain(later).collect()
}

fn restart(word: &str) -> Option<Restart> {
    match word {
        "Always" => Some(Restart::Always),
        "OnFailure" => Some(Restart::OnFailure),
        "Never" => Some(Restart::Never),
        _ => None,
    }
}

pub(crate) fn uid(pod: &Value) -> &str {
    text(pod, &["metadata", "uid"])
}

pub(crate) fn namespace(pod: &Value) -> &str {
    text(pod, &["metadata", "namespace"])
}

pub(crate) fn name(pod: &Value) -> &str {
    text(pod, &["metadata", "name"])
}

/// Seconds that it has to end: what the deletion says, or the pod itself.
pub(crate) fn grace_s(pod: &Value) -> i64 {
    let deletion = at(pod, &["metadata", "deletionGracePeriodSeconds"]).as_i64();
    let own = at(pod, &["spec", "terminationGracePeriodSeconds"]).as_i64();
    deletion.or(own).unwrap_or(GRACE_S)
}

pub(crate) fn is_on_host_network(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] == true
}

/// The name that its processes know the host by.
pub(crate) fn hostname(pod: &Value) -> String {
    let spec = &pod["spec"];
    let name = match (text(spec, &["hostnameOverride"]), text(spec, &["hostname"])) {
        ("", "") => name(pod),
        ("", name) => name,
        (name, _) => return name.to_owned(),
    };
    // The kernel's limit (uname(2)), at no dot or dash.
    name.get(..63).unwrap_or(name).trim_end_matches(['.', '-']).to_owned()
}

/// An amount that a container asks for; `of` is `requests` or `limits`.
pub(crate) fn amount(container: &Value, of: &str, resource: &str) -> Option<Quantity> {
    let amount = &container["resources"][of][resource];
    let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    text.parse().ok()
}

/// Which quality of service a pod gets (upstream's `GetPodQOS`).
pub(crate) fn quality(pod: &Value) -> Quality {
    let spec = &pod["spec"];
    let all = items(spec, "containers").iter().chain(items(spec, "initContainers"));
    let (mut asks, mut is_guaranteed) = (false, true);
    for container in all {
        for resource in ["cpu", "memory"] {
            let positive = |of| amount(container, of, resource).filter(|q| *q > Quantity::ZERO);
            let (request, limit) = (positive("requests"), positive("limits"));
            asks |= request.is_some() || limit.is_some();
            // What is not requested is what is the limit.
            is_guaranteed &=
                limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (asks, is_guaranteed) {
        (false, _) => Quality::BestEffort,
        (true, true) => Quality::Guaranteed,
        (true, false) => Quality::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn qualities_are_upstreams() {
        let check = |resources: &[Value], expected: &str| {
            let containers: Vec<Value> =
                resources.iter().map(|r| json!({"name": "c", "resources": r})).collect();
            let pod = json!({"spec": {"containers": containers}});
            assert_eq!(quality(&pod).word(), expected, "{resources:?}");
        };
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        check(&[json!({})], "BestEffort");
        check(std::slice::from_ref(&full), "Guaranteed");
        check(&[full.clone(), json!({})], "Burstable");
        check(&[json!({"requests": {"cpu": "1"}})], "Burstable");
        check(
            &[json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1"}})],
            "Burstable",
        );
        check(
            &[
                json!({"requests": {"cpu": "1000m", "memory": 1}, "limits": {"cpu": 1, "memory": "1"}}),
            ],
            "Guaranteed",
        );
        check(&[json!({"requests": {"cpu": "0"}})], "BestEffort");
    }

    #[test]
    fn parts_come_in_their_order_with_their_policies() {
        let pod = json!({"spec": {
            "restartPolicy": "Never",
            "initContainers": [{"name": "a"}, {"name": "b", "restartPolicy": "Always"}],
            "containers": [{"name": "c"}],
            "ephemeralContainers": [{"name": "d"}],
        }});
        let all: Vec<_> = parts(&pod).into_iter().map(|p| (p.name, p.kind, p.restart)).collect();
        assert_eq!(
            all,
            [
                ("a", Kind::Init, Restart::Never),
                ("b", Kind::Sidecar, Restart::Always),
                ("c", Kind::Regular, Restart::Never),
                ("d", Kind::Ephemeral, Restart::Never),
            ]
        );
    }
}
