//! Parts of pods that are changed while they run: containers to look around with, and resources.

use serde_json::Value;

use super::{Findings, Problem, list};

/// What a container to look around with cannot have (upstream's `validateEphemeralContainers`).
const NOT_EPHEMERAL: [&str; 6] =
    ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources"];
/// The list of such containers.
const EPHEMERAL: &str = "ephemeralContainers";
/// What can be resized.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Containers come, and stay as they are.
pub(super) fn ephemeral(found: &mut Findings, old: &Value, new: &Value) {
    const FIELD: &str = "spec.ephemeralContainers";
    let (before, now) = (list(&old["spec"][EPHEMERAL]), list(&new["spec"][EPHEMERAL]));
    for (place, own) in now.iter().enumerate() {
        let path = format!("{FIELD}[{place}]");
        let is_set = |field: &&&str| match &own[**field] {
            Value::Null => false,
            Value::Object(fields) => !fields.is_empty(),
            Value::Array(all) => !all.is_empty(),
            _ => true,
        };
        for field in NOT_EPHEMERAL.iter().filter(is_set) {
            found.forbid(format!("{path}.{field}"), "cannot be set for an Ephemeral Container");
        }
        let target = own["targetContainerName"].as_str().unwrap_or_default();
        let mut others =
            ["containers", "initContainers"].iter().flat_map(|kind| list(&new["spec"][*kind]));
        if !target.is_empty() && !others.any(|other| other["name"] == target) {
            let field = format!("{path}.targetContainerName");
            found.add(field, Problem::NotFound(own["targetContainerName"].to_string()));
        }
    }
    for own in before {
        match now.iter().find(|other| other["name"] == own["name"]) {
            None => {
                let name = own["name"].as_str().unwrap_or_default();
                let why = format!("existing ephemeral containers {name:?} may not be removed");
                found.forbid(FIELD, &why);
            }
            Some(other) if other != own => {
                let name = own["name"].as_str().unwrap_or_default();
                let why = format!("existing ephemeral containers {name:?} may not be changed");
                found.forbid(FIELD, &why);
            }
            Some(_) => {}
        }
    }
}

/// Amounts of what can be resized change, and none is taken away (upstream's `ValidatePodResize`).
pub(super) fn resize(found: &mut Findings, old: &Value, new: &Value) {
    for kind in ["containers", "initContainers"] {
        let both = list(&old["spec"][kind]).iter().zip(list(&new["spec"][kind]));
        for (place, (before, now)) in both.enumerate() {
            let path = format!("spec.{kind}[{place}].resources");
            let (old, new) = (&before["resources"], &now["resources"]);
            if old == new {
                continue;
            }
            if kind == "initContainers" && before["restartPolicy"] != "Always" {
                found.forbid(path, "resources for non-sidecar init containers are immutable");
                continue;
            }
            for of in ["requests", "limits"] {
                amounts(found, &format!("{path}.{of}"), &old[of], &new[of]);
            }
            if old["claims"] != new["claims"] {
                found.forbid(format!("{path}.claims"), "field is immutable");
            }
        }
    }
}

fn amounts(found: &mut Findings, path: &str, old: &Value, new: &Value) {
    let names = |of: &Value| -> Vec<String> {
        of.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    for name in names(old).into_iter().chain(names(new)) {
        let field = format!("{path}[{name}]");
        let (before, now) = (&old[&name], &new[&name]);
        if before == now {
            continue;
        }
        if !RESIZABLE.contains(&name.as_str()) {
            found.forbid(field, "only cpu and memory resources are mutable");
        } else if now.is_null() {
            found.forbid(field, "resource limits and requests cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check_part;
    use super::*;

    fn said(subresource: &str, old: &Value, new: &Value) -> Vec<String> {
        let pod = |spec: &Value| json!({"spec": spec});
        let found = check_part(subresource, &pod(old), &pod(new));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn containers_to_look_around_with_come_and_stay() {
        let with = |all: Value| json!({"containers": [{"name": "c"}], "ephemeralContainers": all});
        let one = with(json!([{"name": "d", "image": "i", "targetContainerName": "c"}]));
        let none: [&str; 0] = [];
        assert_eq!(said("ephemeralcontainers", &with(json!([])), &one), none);
        assert_eq!(said("ephemeralcontainers", &one, &one), none);
        let other = with(json!([{"name": "d", "image": "j"}]));
        assert!(said("ephemeralcontainers", &one, &other)[0].contains("may not be changed"));
        assert!(said("ephemeralcontainers", &one, &with(json!([])))[0].contains("be removed"));
        let wrong = with(json!([{"name": "d", "targetContainerName": "x", "ports": [1]}]));
        assert_eq!(said("ephemeralcontainers", &with(json!([])), &wrong).len(), 2);
    }

    #[test]
    fn only_amounts_of_processors_and_memory_are_resized() {
        let with =
            |limits: Value| json!({"containers": [{"name": "c", "resources": {"limits": limits}}]});
        let none: [&str; 0] = [];
        let old = with(json!({"cpu": "1", "x": "1"}));
        assert_eq!(
            said("resize", &old, &with(json!({"cpu": "2", "x": "1", "memory": "1Gi"}))),
            none
        );
        assert!(said("resize", &old, &with(json!({"cpu": "1", "x": "2"})))[0].contains("only cpu"));
        assert!(said("resize", &old, &with(json!({"x": "1"})))[0].contains("cannot be removed"));
    }
}
