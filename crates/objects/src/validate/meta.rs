//! `metadata`, and what is little more than that: maps of configuration.

use serde_json::Value;

use super::{Findings, Problem, list};
use crate::name;

/// What all annotations together may take, in bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;

pub(super) fn check(
    found: &mut Findings,
    group: &str,
    kind: &str,
    is_namespaced: bool,
    object: &Value,
) {
    let metadata = &object["metadata"];
    let rule: fn(&str) -> Result<(), String> = match (group, kind) {
        ("", "Namespace") => name::check_label,
        ("", "Service") => name::check_service,
        ("rbac.authorization.k8s.io", _) => name::check_path_segment,
        _ => name::check_subdomain,
    };
    let own = &metadata["name"];
    match own.as_str() {
        None | Some("") => {
            let words = "name or generateName is required";
            found.add("metadata.name", Problem::Required(words.to_owned()));
        }
        Some(_) => found.named("metadata.name", own, rule),
    }
    let namespace = &metadata["namespace"];
    match (is_namespaced, namespace.as_str().unwrap_or_default()) {
        (true, _) => found.named("metadata.namespace", namespace, name::check_label),
        (false, "") => {}
        (false, _) => found.forbid("metadata.namespace", "not allowed on this type"),
    }
    labels(found, "metadata.labels", &metadata["labels"]);
    annotations(found, &metadata["annotations"]);
    for (place, finalizer) in list(&metadata["finalizers"]).iter().enumerate() {
        found.named(format!("metadata.finalizers[{place}]"), finalizer, name::check_label_key);
    }
    owners(found, &metadata["ownerReferences"]);
    if matches!((group, kind), ("", "ConfigMap" | "Secret")) {
        for field in ["data", "binaryData"] {
            keys(found, field, &object[field]);
        }
    }
}

pub(super) fn check_update(found: &mut Findings, old: &Value, new: &Value) {
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (old, new) = (&old["metadata"][field], &new["metadata"][field]);
        if !new.is_null() || field == "name" {
            found.unchanged(format!("metadata.{field}"), old, new);
        }
    }
}

pub(super) fn labels(found: &mut Findings, field: &str, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Err(why) = name::check_label_key(key) {
            found.invalid(field, &key.as_str().into(), why);
        }
        if let Err(why) = name::check_label_value(value.as_str().unwrap_or_default()) {
            found.invalid(field, value, why);
        }
    }
}

fn annotations(found: &mut Findings, annotations: &Value) {
    const FIELD: &str = "metadata.annotations";
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        if let Err(why) = name::check_label_key(&key.to_lowercase()) {
            found.invalid(FIELD, &key.as_str().into(), why);
        }
    }
    if bytes > ANNOTATIONS_MAX {
        found.forbid(FIELD, &format!("must not be more than {ANNOTATIONS_MAX} bytes together"));
    }
}

fn owners(found: &mut Findings, owners: &Value) {
    let mut controllers = 0;
    for (place, owner) in list(owners).iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let field = format!("metadata.ownerReferences[{place}].{field}");
                found.add(field, Problem::Required("must not be empty".to_owned()));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        found.invalid("metadata.ownerReferences", owners, why);
    }
}

/// Names of files that a volume makes of it.
fn keys(found: &mut Findings, field: &str, data: &Value) {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    for key in data.as_object().into_iter().flatten().map(|(key, _)| key) {
        let is_right = !key.is_empty()
            && key.len() <= 253
            && key.bytes().all(is_inner)
            && key != "."
            && !key.starts_with("..");
        if !is_right {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
                       (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation \
                       is '[-._a-zA-Z0-9]+')";
            found.invalid(format!("{field}[{key}]"), &key.as_str().into(), why);
        }
    }
}
