//! Subresources by which a part of a pod's specification is changed: containers to look around with,
//! and resources of containers that run.

use objects::validate::{self, Invalid, Problem};
use serde_json::Value;

use super::items;

/// Whether a subresource is one of these.
pub(super) fn is_part(subresource: &str) -> bool {
    matches!(subresource, "ephemeralcontainers" | "resize")
}

/// What a request makes of a pod: everything but the subresource's part stays (upstream's
/// `dropNonResizeUpdates` and `dropNonEphemeralContainerUpdates`).
pub(super) fn keep(subresource: &str, old: &Value, new: &mut Value) {
    let mut kept = old.clone();
    match subresource {
        "resize" => {
            for list in ["containers", "initContainers"] {
                let asked = items(&new["spec"][list]).to_vec();
                for own in kept["spec"][list].as_array_mut().into_iter().flatten() {
                    let other = asked.iter().find(|other| other["name"] == own["name"]);
                    if let Some(other) = other {
                        take(own, "resources", &other["resources"]);
                    }
                }
            }
        }
        _ => {
            let asked = new["spec"]["ephemeralContainers"].clone();
            take(&mut kept["spec"], "ephemeralContainers", &asked);
        }
    }
    let managed = &new["metadata"]["managedFields"];
    if managed.is_array() {
        kept["metadata"]["managedFields"] = managed.clone();
    }
    *new = kept;
}

fn take(object: &mut Value, field: &str, value: &Value) {
    match (object.as_object_mut(), value) {
        (Some(fields), Value::Null) => drop(fields.shift_remove(field)),
        (Some(fields), value) => drop(fields.insert(field.to_owned(), value.clone())),
        (None, _) => {}
    }
}

/// Whether a part may be changed so.
pub(super) fn check(subresource: &str, old: &Value, new: &Value) -> Vec<Invalid> {
    let mut found = validate::check_part(subresource, old, new);
    let quality = |pod: &Value| super::admit::quality(&pod["spec"]);
    if subresource == "resize" && quality(old) != quality(new) {
        let problem = Problem::Value(
            format!("{:?}", quality(new)),
            "Pod QOS Class may not change as a result of resizing".to_owned(),
        );
        found.push(Invalid { field: "spec".to_owned(), problem });
    }
    found
}
