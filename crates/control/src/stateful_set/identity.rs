//! What a pod of a StatefulSet is called, and which claims are its own.

use client::Object;
use serde_json::{Value, json};

use crate::object::{items, name, namespace, owner_reference};
use crate::revision;
use crate::template;

/// The number at the end of a pod's name, if it is one of the set's names.
pub(super) fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    let (parent, ordinal) = name(pod).rsplit_once('-')?;
    (parent == name(set)).then(|| ordinal.parse().ok())?
}

/// The pod of a number, of a revision's template.
pub(super) fn pod(set: &Object, revision: &Value, ordinal: i64) -> Value {
    let own = format!("{}-{ordinal}", name(set));
    let mut pod = template::pod(&revision::template(revision), set);
    let metadata = &mut pod["metadata"];
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.shift_remove("generateName");
    }
    metadata["name"] = own.as_str().into();
    metadata["labels"]["statefulset.kubernetes.io/pod-name"] = own.as_str().into();
    metadata["labels"]["apps.kubernetes.io/pod-index"] = ordinal.to_string().into();
    metadata["labels"][revision::HASH] = name(revision).into();
    let spec = &mut pod["spec"];
    spec["hostname"] = own.into();
    spec["subdomain"] = set["spec"]["serviceName"].clone();
    let claims = items(&set["spec"]["volumeClaimTemplates"]);
    let is_claimed = |volume: &Value| claims.iter().any(|claim| volume["name"] == name(claim));
    let mut volumes: Vec<Value> =
        items(&spec["volumes"]).iter().filter(|volume| !is_claimed(volume)).cloned().collect();
    volumes.extend(claims.iter().map(|claim| {
        let claim_name = claim_name(set, claim, ordinal);
        json!({"name": name(claim), "persistentVolumeClaim": {"claimName": claim_name}})
    }));
    if !volumes.is_empty() {
        spec["volumes"] = volumes.into();
    }
    pod
}

fn claim_name(set: &Value, claim: &Value, ordinal: i64) -> String {
    format!("{}-{}-{ordinal}", name(claim), name(set))
}

/// The claims of the pod of a number.
pub(super) fn claims(set: &Value, ordinal: i64) -> Vec<Value> {
    let policy = &set["spec"]["persistentVolumeClaimRetentionPolicy"];
    let go_with_set = policy["whenDeleted"] == "Delete";
    let make = |template: &Value| {
        let mut claim = template.clone();
        claim["metadata"]["name"] = claim_name(set, template, ordinal).into();
        claim["metadata"]["namespace"] = namespace(set).into();
        let labels = set["spec"]["selector"]["matchLabels"].as_object();
        for (key, value) in labels.into_iter().flatten() {
            claim["metadata"]["labels"][key] = value.clone();
        }
        if go_with_set {
            claim["metadata"]["ownerReferences"] = json!([owner_reference(set)]);
        }
        claim
    };
    items(&set["spec"]["volumeClaimTemplates"]).iter().map(make).collect()
}
