//! What the failure of a pod means (`spec.podFailurePolicy`).

use client::Object;
use serde_json::Value;

use super::{index_of, place_of};
use crate::object::{items, name};
use crate::pod;

/// The message of the first failure that ends the job.
pub(super) fn failure(job: &Value, pods: &[Object]) -> Option<String> {
    let failed = pods.iter().filter(|own| pod::phase(own) == "Failed");
    failed.into_iter().find_map(|own| {
        let (at, rule, why) = first_rule(job, own)?;
        let index = index_of(own).map(|index| format!(" (index {index})")).unwrap_or_default();
        (rule["action"] == "FailJob").then(|| {
            format!("{why} for pod {}{index} matching FailJob rule at index {at}", place_of(own))
        })
    })
}

/// Whether a failure counts for nothing.
pub(super) fn is_ignored(job: &Value, own: &Value) -> bool {
    action(job, own).is_some_and(|action| action == "Ignore")
}

/// Whether a failure ends the pod's index.
pub(super) fn fails_index(job: &Value, own: &Value) -> bool {
    action(job, own).is_some_and(|action| action == "FailIndex")
}

fn action<'a>(job: &'a Value, own: &Value) -> Option<&'a str> {
    first_rule(job, own).and_then(|(_, rule, _)| rule["action"].as_str())
}

/// The first rule that is about a failed pod, and why.
fn first_rule<'a>(job: &'a Value, own: &Value) -> Option<(usize, &'a Value, String)> {
    if pod::phase(own) != "Failed" {
        return None;
    }
    let rules = items(&job["spec"]["podFailurePolicy"]["rules"]);
    rules.iter().enumerate().find_map(|(at, rule)| {
        let why = by_exit_code(&rule["onExitCodes"], own)
            .or_else(|| by_condition(&rule["onPodConditions"], own))?;
        Some((at, rule, why))
    })
}

fn by_exit_code(wanted: &Value, own: &Value) -> Option<String> {
    if wanted.is_null() {
        return None;
    }
    let status = &own["status"];
    let all = items(&status["initContainerStatuses"]).iter();
    let all = all.chain(items(&status["containerStatuses"]));
    let named = wanted["containerName"].as_str();
    all.filter(|own| named.is_none_or(|named| name_of(own) == named)).find_map(|own| {
        let code = own["state"]["terminated"]["exitCode"].as_i64().filter(|code| *code != 0)?;
        let is_listed = items(&wanted["values"]).iter().any(|value| *value == code);
        let is_meant = is_listed == (wanted["operator"] == "In");
        is_meant.then(|| format!("Container {} failed with exit code {code}", name_of(own)))
    })
}

fn by_condition(wanted: &Value, own: &Value) -> Option<String> {
    let has = |condition: &&Value| {
        let wanted_status = condition["status"].as_str().unwrap_or("True");
        let all = items(&own["status"]["conditions"]);
        all.iter().any(|own| own["type"] == condition["type"] && own["status"] == wanted_status)
    };
    let found = items(wanted).iter().find(has)?;
    let kind = found["type"].as_str().unwrap_or_default();
    Some(format!("Pod {} has condition {kind} matching", name(own)))
}

fn name_of(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}
