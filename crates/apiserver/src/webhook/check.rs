//! Whether a configuration of webhooks may be so (apiserver, `admissionregistration/validation`).

use objects::resource::Resource;
use objects::validate::{Invalid, Problem};
use serde_json::Value;

use crate::cluster::items;

/// What of a configuration may not be.
pub(crate) fn check(of: &Resource, object: &Value) -> Vec<Invalid> {
    let mut found = Vec::new();
    if !matches!(of.kind, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") {
        return found;
    }
    let hooks = items(&object["webhooks"]);
    for (number, hook) in hooks.iter().enumerate() {
        let place = format!("webhooks[{number}]");
        check_hook(&mut found, &place, hook);
        if hooks[..number].iter().any(|other| other["name"] == hook["name"]) {
            let problem = Problem::Duplicate(hook["name"].to_string());
            found.push(Invalid { field: format!("{place}.name"), problem });
        }
    }
    found
}

fn check_hook(found: &mut Vec<Invalid>, place: &str, hook: &Value) {
    let mut add = |field: &str, problem: Problem| {
        found.push(Invalid { field: format!("{place}.{field}"), problem });
    };
    let name = hook["name"].as_str().unwrap_or_default();
    if name.split('.').filter(|part| !part.is_empty()).count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        add("name", Problem::Value(hook["name"].to_string(), why.to_owned()));
    }
    let versions = items(&hook["admissionReviewVersions"]);
    if versions.is_empty() {
        let why = "must specify one of v1, v1beta1";
        add("admissionReviewVersions", Problem::Required(why.to_owned()));
    } else if !versions.iter().any(|one| one == "v1" || one == "v1beta1") {
        let why = "must include at least one of v1, v1beta1";
        let shown = hook["admissionReviewVersions"].to_string();
        add("admissionReviewVersions", Problem::Value(shown, why.to_owned()));
    }
    for (field, known) in [
        ("failurePolicy", &["Fail", "Ignore"][..]),
        ("matchPolicy", &["Equivalent", "Exact"]),
        ("sideEffects", &["None", "NoneOnDryRun"]),
        ("reinvocationPolicy", &["IfNeeded", "Never"]),
    ] {
        match hook[field].as_str() {
            None if field == "sideEffects" => {
                let why = "must specify one of None, NoneOnDryRun";
                add(field, Problem::Required(why.to_owned()));
            }
            Some(own) if !known.contains(&own) => {
                let known = known.iter().map(|word| (*word).to_owned()).collect();
                add(field, Problem::Unsupported(hook[field].to_string(), known));
            }
            _ => {}
        }
    }
    let seconds = hook["timeoutSeconds"].as_i64().unwrap_or(10);
    if !(1..=30).contains(&seconds) {
        let why = "the timeout value must be between 1 and 30 seconds";
        add("timeoutSeconds", Problem::Value(seconds.to_string(), why.to_owned()));
    }
    for (number, rule) in items(&hook["rules"]).iter().enumerate() {
        for field in ["operations", "apiGroups", "apiVersions", "resources"] {
            if items(&rule[field]).is_empty() {
                add(&format!("rules[{number}].{field}"), Problem::Required(String::new()));
            }
        }
    }
    check_client(found, &format!("{place}.clientConfig"), &hook["clientConfig"]);
    found.extend(cel::policy::check_conditions(place, &hook["matchConditions"]));
}

/// What of the webhook may not be that converts what a definition defines.
pub(crate) fn check_conversion(definition: &Value) -> Vec<Invalid> {
    let mut found = Vec::new();
    let config = &definition["spec"]["conversion"]["webhook"]["clientConfig"];
    if !config.is_null() {
        check_client(&mut found, "spec.conversion.webhook.clientConfig", config);
    }
    found
}

/// Whom a configuration names: exactly one place.
fn check_client(found: &mut Vec<Invalid>, place: &str, config: &Value) {
    let mut add = |field: &str, problem: Problem| {
        found.push(Invalid { field: format!("{place}{field}"), problem });
    };
    let service = &config["service"];
    match (config["url"].as_str(), service.is_null()) {
        (None, true) | (Some(_), false) => {
            add("", Problem::Required("exactly one of url or service is required".to_owned()));
        }
        (Some(url), true) => {
            if let Err(why) = check_url(url) {
                add(".url", Problem::Value(config["url"].to_string(), why.to_owned()));
            }
        }
        (None, false) => {
            for field in ["name", "namespace"] {
                if service[field].as_str().unwrap_or_default().is_empty() {
                    let why = format!("service {field} is required");
                    add(&format!(".service.{field}"), Problem::Required(why));
                }
            }
            let port = service["port"].as_i64().unwrap_or(443);
            if !(1..=65535).contains(&port) {
                let why = "port is not valid: must be between 1 and 65535, inclusive";
                add(".service.port", Problem::Value(port.to_string(), why.to_owned()));
            }
        }
    }
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("'https' is the only allowed URL scheme; desired format: https://host[/path]");
    };
    let host = rest.split('/').next().unwrap_or_default();
    match () {
        () if host.is_empty() => Err("host must be specified; desired format: https://host[/path]"),
        () if host.contains('@') => {
            Err("user information is not permitted in the URL; desired format: https://host[/path]")
        }
        () if rest.contains('#') => {
            Err("fragments are not permitted in the URL; desired format: https://host[/path]")
        }
        () if rest.contains('?') => Err(
            "query parameters are not permitted in the URL; desired format: https://host[/path]",
        ),
        () => Ok(()),
    }
}
