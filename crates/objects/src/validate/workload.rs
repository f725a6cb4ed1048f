//! What keeps pods running, and what scales and guards them.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Findings, Problem, list, pod};
use crate::Selector;

const RUNS_ON: &[&str] = &["Always"];
const ENDS: &[&str] = &["Never", "OnFailure"];

pub(super) fn check(found: &mut Findings, group: &str, kind: &str, object: &Value) {
    let spec = &object["spec"];
    match (group, kind) {
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            selected_template(found, spec);
            for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
                found.not_negative(format!("spec.{field}"), &spec[field]);
            }
        }
        ("", "ReplicationController") => {
            found.not_negative("spec.replicas", &spec["replicas"]);
            template(found, "spec.template", &spec["template"], RUNS_ON);
        }
        ("batch", "Job") => job(found, "spec", spec),
        ("batch", "CronJob") => {
            let schedule = &spec["schedule"];
            match schedule.as_str() {
                None | Some("") => found.require("spec.schedule"),
                Some(text) if !is_schedule(text) => {
                    let why = format!("expected exactly 5 fields: [{text}]");
                    found.invalid("spec.schedule", schedule, why);
                }
                Some(_) => {}
            }
            found.one_of(
                "spec.concurrencyPolicy",
                &spec["concurrencyPolicy"],
                &["Allow", "Forbid", "Replace"],
            );
            job(found, "spec.jobTemplate.spec", &spec["jobTemplate"]["spec"]);
        }
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler(found, spec),
        ("policy", "PodDisruptionBudget")
            if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() =>
        {
            let why = "minAvailable and maxUnavailable cannot be both set";
            found.invalid("spec", spec, why);
        }
        ("", "PersistentVolumeClaim") => claim(found, spec),
        ("networking.k8s.io", "Ingress")
            if list(&spec["rules"]).is_empty() && spec["defaultBackend"].is_null() =>
        {
            let why = "either `defaultBackend` or `rules` must be specified";
            found.invalid("spec", spec, why);
        }
        _ => {}
    }
}

pub(super) fn check_update(
    found: &mut Findings,
    group: &str,
    kind: &str,
    old: &Value,
    new: &Value,
) {
    let (before, after) = (&old["spec"], &new["spec"]);
    match (group, kind) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => {
            found.unchanged("spec.selector", &before["selector"], &after["selector"]);
        }
        ("apps", "StatefulSet") => {
            let changeable = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            let fixed = |spec: &Value| {
                let mut fixed = spec.as_object().cloned().unwrap_or_default();
                fixed.retain(|field, _| !changeable.contains(&field.as_str()));
                fixed
            };
            if fixed(before) != fixed(after) {
                found.forbid(
                    "spec",
                    "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                     'template', 'updateStrategy', 'revisionHistoryLimit', \
                     'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                );
            }
        }
        ("batch", "Job") => {
            for field in ["completions", "selector", "completionMode", "podFailurePolicy"] {
                found.unchanged(format!("spec.{field}"), &before[field], &after[field]);
            }
            if before["suspend"] != true {
                found.unchanged("spec.template", &before["template"], &after["template"]);
            }
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if old["roleRef"] != new["roleRef"] =>
        {
            found.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
        }
        ("storage.k8s.io", "StorageClass") => {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                if old[field] != new[field] {
                    found.forbid(field, "updates to this field are forbidden.");
                }
            }
        }
        ("scheduling.k8s.io", "PriorityClass") if old["value"] != new["value"] => {
            found.forbid("value", "may not be changed in an update.");
        }
        _ => {}
    }
}

fn selected_template(found: &mut Findings, spec: &Value) {
    let selector = &spec["selector"];
    let is_empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    if selector.is_null() {
        found.require("spec.selector");
    } else if is_empty(selector) {
        let why = "empty selector is invalid for deployment";
        found.invalid("spec.selector", selector, why);
    } else {
        match Selector::from_json(selector) {
            Err(why) => found.invalid("spec.selector", selector, why.to_string()),
            Ok(parsed) if !parsed.matches_object(&spec["template"]) => {
                let labels = &spec["template"]["metadata"]["labels"];
                let why = "`selector` does not match template `labels`";
                found.invalid("spec.template.metadata.labels", labels, why);
            }
            Ok(_) => {}
        }
    }
    let whole = with_claims(&spec["template"], list(&spec["volumeClaimTemplates"]));
    template(found, "spec.template", &whole, RUNS_ON);
}

/// A template with the volumes that its pods get from templates of claims.
fn with_claims<'a>(template: &'a Value, claims: &[Value]) -> Cow<'a, Value> {
    if claims.is_empty() {
        return Cow::Borrowed(template);
    }
    let names: Vec<&Value> = claims.iter().map(|claim| &claim["metadata"]["name"]).collect();
    let mut volumes = list(&template["spec"]["volumes"]).to_vec();
    // A claim takes the place of a volume of its name.
    volumes.retain(|volume| !names.contains(&&volume["name"]));
    let volume =
        |name: &&Value| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    volumes.extend(names.iter().map(volume));
    let mut whole = template.clone();
    whole["spec"]["volumes"] = volumes.into();
    Cow::Owned(whole)
}

fn template(found: &mut Findings, path: &str, template: &Value, policies: &[&'static str]) {
    let labels = &template["metadata"]["labels"];
    super::meta::labels(found, &format!("{path}.metadata.labels"), labels);
    pod::check(found, &format!("{path}.spec"), &template["spec"]);
    let policy = &template["spec"]["restartPolicy"];
    if policy.as_str().is_some_and(|own| !policies.contains(&own)) {
        let field = format!("{path}.spec.restartPolicy");
        let problem = Problem::unsupported(policy, policies);
        if !found.0.iter().any(|one| one.field == field) {
            found.add(field, problem);
        }
    }
}

fn job(found: &mut Findings, path: &str, spec: &Value) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ];
    for field in numbers {
        found.not_negative(format!("{path}.{field}"), &spec[field]);
    }
    template(found, &format!("{path}.template"), &spec["template"], ENDS);
    if spec["completionMode"] == "Indexed" && spec["completions"].is_null() {
        let words = "when completion mode is Indexed";
        found.add(format!("{path}.completions"), Problem::Required(words.to_owned()));
    }
}

/// Five fields, or a word for one; what they hold is read by whoever runs it.
fn is_schedule(text: &str) -> bool {
    let text = text.trim();
    let words = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    let is_part = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*,-/?".contains(&byte))
    };
    words.contains(&text)
        || text.starts_with("@every ")
        || (text.split_whitespace().count() == 5 && text.split_whitespace().all(is_part))
}

fn autoscaler(found: &mut Findings, spec: &Value) {
    let (min, max) = (spec["minReplicas"].as_i64(), spec["maxReplicas"].as_i64().unwrap_or(0));
    if max < 1 {
        let why = "must be greater than 0";
        found.invalid("spec.maxReplicas", &spec["maxReplicas"], why);
    } else if min.is_some_and(|min| min > max) {
        let why = "must be greater than or equal to `minReplicas`";
        found.invalid("spec.maxReplicas", &spec["maxReplicas"], why);
    }
    for field in ["kind", "name"] {
        if spec["scaleTargetRef"][field].as_str().is_none_or(str::is_empty) {
            found.require(format!("spec.scaleTargetRef.{field}"));
        }
    }
}

fn claim(found: &mut Findings, spec: &Value) {
    if list(&spec["accessModes"]).is_empty() {
        let words = "at least 1 access mode is required";
        found.add("spec.accessModes", Problem::Required(words.to_owned()));
    }
    if spec["resources"]["requests"]["storage"].is_null() {
        found.require("spec.resources[storage]");
    }
}
