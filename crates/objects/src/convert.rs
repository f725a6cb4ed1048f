//! The versions of a kind: each object is kept in one, and shown and taken in any.
//!
//! Versions that Kubernetes has removed are here, too: their objects are those of the version that
//! came after, and who uses them is [told](warning).

mod autoscaling;
mod event;
mod ingress;

use serde_json::Value;

/// Kinds that are kept in another version than this: group and version, kinds, and the version that
/// they are kept in. Of one without kinds, all are.
const KEPT: &[(&str, &[&str], &str)] = &[
    ("autoscaling/v1", &[], "autoscaling/v2"),
    ("events.k8s.io/v1", &[], "v1"),
    ("autoscaling/v2beta1", &[], "autoscaling/v2"),
    ("autoscaling/v2beta2", &[], "autoscaling/v2"),
    ("batch/v1beta1", &[], "batch/v1"),
    ("policy/v1beta1", &[], "policy/v1"),
    ("networking.k8s.io/v1beta1", &[], "networking.k8s.io/v1"),
    ("apps/v1beta1", &[], "apps/v1"),
    ("apps/v1beta2", &[], "apps/v1"),
    ("extensions/v1beta1", &["Deployment", "DaemonSet", "ReplicaSet"], "apps/v1"),
    ("extensions/v1beta1", &["Ingress", "NetworkPolicy"], "networking.k8s.io/v1"),
];

/// Versions whose types are those of another: only what they are called differs.
const ALIKE: &[(&str, &[&str], &str)] = &[
    ("autoscaling/v2beta2", &[], "autoscaling/v2"),
    ("batch/v1beta1", &[], "batch/v1"),
    ("policy/v1beta1", &[], "policy/v1"),
    ("networking.k8s.io/v1beta1", &["IngressClass", "IngressClassList"], "networking.k8s.io/v1"),
    ("apps/v1beta1", &[], "apps/v1"),
    ("apps/v1beta2", &[], "apps/v1"),
    (
        "extensions/v1beta1",
        &[
            "Deployment",
            "DaemonSet",
            "ReplicaSet",
            "DeploymentList",
            "DaemonSetList",
            "ReplicaSetList",
        ],
        "apps/v1",
    ),
    ("extensions/v1beta1", &["NetworkPolicy", "NetworkPolicyList"], "networking.k8s.io/v1"),
    ("extensions/v1beta1", &["Ingress", "IngressList"], "networking.k8s.io/v1beta1"),
];

/// Since when versions are deprecated, and with which they were removed (Kubernetes' deprecated API
/// migration guide).
const REMOVED: &[(&str, &str, &str, &str)] = &[
    ("extensions/v1beta1", "Ingress", "v1.14", "v1.22"),
    ("extensions/v1beta1", "", "v1.8", "v1.16"),
    ("apps/v1beta1", "", "v1.8", "v1.16"),
    ("apps/v1beta2", "", "v1.9", "v1.16"),
    ("networking.k8s.io/v1beta1", "", "v1.19", "v1.22"),
    ("batch/v1beta1", "", "v1.21", "v1.25"),
    ("policy/v1beta1", "", "v1.21", "v1.25"),
    ("autoscaling/v2beta1", "", "v1.22", "v1.25"),
    ("autoscaling/v2beta2", "", "v1.23", "v1.26"),
];

fn other(
    table: &[(&str, &[&str], &'static str)],
    version: &str,
    kind: &str,
) -> Option<&'static str> {
    let is = |(known, kinds, _): &&(&str, &[&str], &'static str)| {
        *known == version && (kinds.is_empty() || kinds.contains(&kind))
    };
    table.iter().find(is).map(|(_, _, to)| *to)
}

/// The version that objects of a kind are kept in: `autoscaling/v2` of `autoscaling/v1`.
#[must_use]
pub fn kept<'a>(api_version: &'a str, kind: &str) -> &'a str {
    other(KEPT, api_version, kind).unwrap_or(api_version)
}

/// The version whose types a version without its own has.
pub(crate) fn alike(api_version: &str, kind: &str) -> Option<&'static str> {
    other(ALIKE, api_version, kind)
}

/// What who uses a removed version is told; nothing for those that Kubernetes has.
#[must_use]
pub fn warning(api_version: &str, kind: &str) -> Option<String> {
    let is = |(version, of, ..): &&(&str, &str, &str, &str)| {
        *version == api_version && (of.is_empty() || *of == kind)
    };
    let (_, _, since, gone) = REMOVED.iter().find(is)?;
    let now = kept(api_version, kind);
    Some(format!(
        "{api_version} {kind} is deprecated in {since}+, unavailable in {gone}+; use {now} {kind}"
    ))
}

/// Brings an object into the version that its kind is kept in.
pub fn keep(object: &mut Value) {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (from, kind) = (text("apiVersion"), text("kind"));
    let to = kept(&from, &kind).to_owned();
    if to == from {
        return;
    }
    match (from.as_str(), kind.as_str()) {
        ("autoscaling/v1", _) => autoscaling::from_1(object),
        ("autoscaling/v2beta1", _) => autoscaling::from_2_beta_1(object),
        ("events.k8s.io/v1", _) => event::to_core(object),
        (_, "Ingress") => ingress::from_beta(object),
        ("extensions/v1beta1" | "apps/v1beta1", _) => select_by_template(object),
        _ => {}
    }
    object["apiVersion"] = to.into();
}

/// Brings an object into a version of its kind.
pub fn show(object: &mut Value, api_version: &str) {
    if object["apiVersion"] == api_version {
        return;
    }
    keep(object);
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if object["apiVersion"] == api_version {
        return;
    }
    match (api_version, kind.as_str()) {
        ("autoscaling/v1", _) => autoscaling::to_1(object),
        ("autoscaling/v2beta1", _) => autoscaling::to_2_beta_1(object),
        ("events.k8s.io/v1", _) => event::from_core(object),
        ("extensions/v1beta1" | "networking.k8s.io/v1beta1", "Ingress") => {
            ingress::to_beta(object);
        }
        _ => {}
    }
    object["apiVersion"] = api_version.into();
}

/// In their first versions workloads select what their template makes, unless they say otherwise.
fn select_by_template(object: &mut Value) {
    let spec = &mut object["spec"];
    if spec["selector"].is_null() && spec["template"]["metadata"]["labels"].is_object() {
        let labels = spec["template"]["metadata"]["labels"].clone();
        spec["selector"] = serde_json::json!({"matchLabels": labels});
    }
}

/// Moves a field, if it is there.
fn rename(object: &mut Value, from: &str, to: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    if let Some(value) = fields.shift_remove(from) {
        fields.insert(to.to_owned(), value);
    }
}

fn take(object: &mut Value, field: &str) -> Option<Value> {
    object.as_object_mut()?.shift_remove(field).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Schema;
    use crate::resource::Resource;

    #[test]
    fn whoever_uses_a_removed_version_is_told() {
        let said = warning("extensions/v1beta1", "Ingress").unwrap();
        let words = "extensions/v1beta1 Ingress is deprecated in v1.14+, unavailable in v1.22+; use \
                     networking.k8s.io/v1 Ingress";
        assert_eq!(said, words);
        assert_eq!(warning("apps/v1", "Deployment"), None);
        assert_eq!(warning("autoscaling/v1", "HorizontalPodAutoscaler"), None);
    }

    #[test]
    fn every_version_is_kept_in_one_that_there_is() {
        for resource in Resource::built_in() {
            let version = resource.api_version();
            let kept = kept(&version, resource.kind).to_owned();
            let there = |r: &&Resource| r.api_version() == kept && r.kind == resource.kind;
            assert!(Resource::built_in().iter().any(|r| there(&r)), "{version} {}", resource.kind);
            assert_eq!(super::kept(&kept, resource.kind), kept);
            assert!(Schema::built_in().kind(&version, resource.kind).is_some());
        }
    }

    fn there_and_back(object: &Value, kept: &Value) {
        let version = object["apiVersion"].as_str().unwrap().to_owned();
        let mut other = object.clone();
        keep(&mut other);
        assert_eq!(other, *kept);
        show(&mut other, &version);
        assert_eq!(other, *object);
    }

    #[test]
    fn an_ingress_has_other_names_for_its_backends() {
        let old = json!({
            "apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "a"},
            "spec": {
                "backend": {"serviceName": "s", "servicePort": "http"},
                "rules": [{"host": "h", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix", "backend": {"serviceName": "t", "servicePort": 80}},
                    {"path": "/r", "pathType": "Exact", "backend": {"resource": {"kind": "K", "name": "n"}}},
                ]}}],
            },
        });
        let new = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"},
            "spec": {
                "rules": [{"host": "h", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "t", "port": {"number": 80}}}},
                    {"path": "/r", "pathType": "Exact", "backend": {"resource": {"kind": "K", "name": "n"}}},
                ]}}],
                "defaultBackend": {"service": {"name": "s", "port": {"name": "http"}}},
            },
        });
        there_and_back(&old, &new);
    }

    #[test]
    fn an_autoscaler_has_one_metric_in_its_first_version() {
        let first = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
        });
        let second = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
        });
        there_and_back(&first, &second);
        let mut rich = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Max"}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "m"},
                    "target": {"type": "AverageValue", "averageValue": "1"}}},
            ]},
            "status": {"desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let before = rich.clone();
        show(&mut rich, "autoscaling/v1");
        assert!(
            rich["metadata"]["annotations"]
                .to_string()
                .contains("autoscaling.alpha.kubernetes.io/metrics")
        );
        assert!(rich["spec"]["metrics"].is_null() && rich["spec"]["behavior"].is_null());
        keep(&mut rich);
        assert_eq!(rich, before);
    }

    #[test]
    fn metrics_were_written_otherwise_in_the_beta() {
        let old = json!({
            "apiVersion": "autoscaling/v2beta1", "kind": "HorizontalPodAutoscaler", "metadata": {},
            "spec": {"metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 50}},
                {"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "1"}},
                {"type": "Object", "object": {"target": {"kind": "K", "name": "n"}, "metricName": "o", "targetValue": "2"}},
                {"type": "External", "external": {"metricName": "e", "targetValue": "3"}},
            ]},
        });
        let new = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {},
            "spec": {"metrics": [
                {"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Pods", "pods": {"metric": {"name": "m"},
                    "target": {"type": "AverageValue", "averageValue": "1"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "K", "name": "n"},
                    "metric": {"name": "o"}, "target": {"type": "Value", "value": "2"}}},
                {"type": "External", "external": {"metric": {"name": "e"},
                    "target": {"type": "Value", "value": "3"}}},
            ]},
        });
        there_and_back(&old, &new);
    }

    #[test]
    fn events_are_the_same_in_both_groups() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "R", "type": "Normal",
            "regarding": {"kind": "Pod"}, "note": "n", "reportingController": "c",
            "deprecatedCount": 2, "deprecatedSource": {"component": "x"},
        });
        let old = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "R", "type": "Normal",
            "involvedObject": {"kind": "Pod"}, "message": "n", "reportingComponent": "c",
            "count": 2, "source": {"component": "x"},
        });
        there_and_back(&new, &old);
    }
}
