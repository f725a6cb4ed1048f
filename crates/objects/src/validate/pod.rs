//! Pods, and the templates that others make pods from.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Findings, Problem, list};
use crate::{Quantity, name};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Checks a specification that stands at a path.
pub(super) fn check(found: &mut Findings, path: &str, spec: &Value) {
    let volumes = volumes(found, path, &spec["volumes"]);
    if list(&spec["containers"]).is_empty() {
        found.require(format!("{path}.containers"));
    }
    let mut names = BTreeSet::new();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for (place, container) in list(&spec[kind]).iter().enumerate() {
            let path = format!("{path}.{kind}[{place}]");
            self::container(found, &path, container, &volumes);
            let own = container["name"].as_str().unwrap_or_default();
            if !own.is_empty() && !names.insert(own) {
                let value = container["name"].to_string();
                found.add(format!("{path}.name"), Problem::Duplicate(value));
            }
        }
    }
    found.one_of(format!("{path}.restartPolicy"), &spec["restartPolicy"], RESTART_POLICIES);
    found.one_of(format!("{path}.dnsPolicy"), &spec["dnsPolicy"], DNS_POLICIES);
    let grace = &spec["terminationGracePeriodSeconds"];
    found.not_negative(format!("{path}.terminationGracePeriodSeconds"), grace);
    let deadline = &spec["activeDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|seconds| seconds < 1) {
        let field = format!("{path}.activeDeadlineSeconds");
        found.invalid(field, deadline, "must be between 1 and 2147483647, inclusive");
    }
    super::meta::labels(found, &format!("{path}.nodeSelector"), &spec["nodeSelector"]);
    for field in ["hostname", "subdomain"] {
        if !spec[field].is_null() {
            found.named(format!("{path}.{field}"), &spec[field], name::check_label);
        }
    }
}

/// Names of the volumes, which mounts may say.
fn volumes<'v>(found: &mut Findings, path: &str, volumes: &'v Value) -> BTreeSet<&'v str> {
    let mut names = BTreeSet::new();
    for (place, volume) in list(volumes).iter().enumerate() {
        let path = format!("{path}.volumes[{place}]");
        found.named(format!("{path}.name"), &volume["name"], name::check_label);
        let own = volume["name"].as_str().unwrap_or_default();
        if !own.is_empty() && !names.insert(own) {
            found.add(format!("{path}.name"), Problem::Duplicate(volume["name"].to_string()));
        }
        let sources = volume
            .as_object()
            .map_or(0, |fields| fields.keys().filter(|key| *key != "name").count());
        if sources > 1 {
            let second = volume.as_object().into_iter().flatten().map(|(key, _)| key);
            let second = second.filter(|key| *key != "name").nth(1).map_or("", String::as_str);
            found.forbid(format!("{path}.{second}"), "may not specify more than 1 volume type");
        }
    }
    names
}

fn container(found: &mut Findings, path: &str, container: &Value, volumes: &BTreeSet<&str>) {
    found.named(format!("{path}.name"), &container["name"], name::check_label);
    let image = container["image"].as_str().unwrap_or_default();
    if image.is_empty() {
        found.require(format!("{path}.image"));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        found.invalid(format!("{path}.image"), &container["image"], why);
    }
    if !container["imagePullPolicy"].is_null() {
        let field = format!("{path}.imagePullPolicy");
        found.one_of(field, &container["imagePullPolicy"], PULL_POLICIES);
    }
    ports(found, path, &container["ports"]);
    for (place, variable) in list(&container["env"]).iter().enumerate() {
        let field = format!("{path}.env[{place}].name");
        match variable["name"].as_str() {
            None | Some("") => found.require(field),
            Some(own) if own.contains('=') || !own.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
                let why = "a valid environment variable name must consist only of printable ASCII \
                           characters other than '='";
                found.invalid(field, &variable["name"], why);
            }
            Some(_) => {}
        }
        if !variable["value"].as_str().unwrap_or_default().is_empty()
            && !variable["valueFrom"].is_null()
        {
            let field = format!("{path}.env[{place}].valueFrom");
            found.invalid(field, &json!(""), "may not be specified when `value` is not empty");
        }
    }
    mounts(found, path, &container["volumeMounts"], volumes);
    resources(found, &format!("{path}.resources"), &container["resources"]);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if !container[probe].is_null() {
            self::probe(found, &format!("{path}.{probe}"), probe, &container[probe]);
        }
    }
}

fn ports(found: &mut Findings, path: &str, ports: &Value) {
    let mut names = BTreeSet::new();
    for (place, port) in list(ports).iter().enumerate() {
        let path = format!("{path}.ports[{place}]");
        found.port(format!("{path}.containerPort"), &port["containerPort"]);
        if !matches!(port["hostPort"].as_i64(), None | Some(0..=65_535)) {
            let why = "must be between 1 and 65535, inclusive";
            found.invalid(format!("{path}.hostPort"), &port["hostPort"], why);
        }
        if !port["protocol"].is_null() {
            found.one_of(format!("{path}.protocol"), &port["protocol"], PROTOCOLS);
        }
        let own = port["name"].as_str().unwrap_or_default();
        if !own.is_empty() {
            if let Err(why) = check_port_name(own) {
                found.invalid(format!("{path}.name"), &port["name"], why);
            }
            if !names.insert(own) {
                found.add(format!("{path}.name"), Problem::Duplicate(port["name"].to_string()));
            }
        }
    }
}

/// The name of a port (RFC 6335): at most 15 characters, with a letter among them.
pub(super) fn check_port_name(name: &str) -> Result<(), &'static str> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() > 15 {
        Err("must be no more than 15 characters")
    } else if !name.bytes().all(is_inner) {
        Err("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    } else if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Err("must contain at least one letter (a-z)")
    } else if name.contains("--") {
        Err("must not contain consecutive hyphens")
    } else if name.starts_with('-') || name.ends_with('-') {
        Err("must not begin or end with a hyphen")
    } else {
        Ok(())
    }
}

fn mounts(found: &mut Findings, path: &str, mounts: &Value, volumes: &BTreeSet<&str>) {
    let mut paths = BTreeSet::new();
    for (place, mount) in list(mounts).iter().enumerate() {
        let path = format!("{path}.volumeMounts[{place}]");
        match mount["name"].as_str() {
            None | Some("") => found.require(format!("{path}.name")),
            Some(name) if !volumes.contains(name) => {
                found.add(format!("{path}.name"), Problem::NotFound(mount["name"].to_string()));
            }
            Some(_) => {}
        }
        match mount["mountPath"].as_str() {
            None | Some("") => found.require(format!("{path}.mountPath")),
            Some(at) if !paths.insert(at) => {
                let why = "must be unique";
                found.invalid(format!("{path}.mountPath"), &mount["mountPath"], why);
            }
            Some(_) => {}
        }
        for field in ["subPath", "subPathExpr"] {
            let sub = mount[field].as_str().unwrap_or_default();
            if sub.starts_with('/') {
                let why = "must be a relative path";
                found.invalid(format!("{path}.{field}"), &mount[field], why);
            }
            if sub.split('/').any(|part| part == "..") {
                found.invalid(format!("{path}.{field}"), &mount[field], "must not contain '..'");
            }
        }
    }
}

fn resources(found: &mut Findings, path: &str, resources: &Value) {
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok());
    for kind in ["limits", "requests"] {
        for (name, value) in resources[kind].as_object().into_iter().flatten() {
            if amount(value).is_some_and(Quantity::is_negative) {
                let why = "must be greater than or equal to 0";
                found.invalid(format!("{path}.{kind}[{name}]"), value, why);
            }
        }
    }
    for (name, value) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][name];
        let (Some(wanted), Some(most)) = (amount(value), amount(limit)) else { continue };
        if wanted > most {
            let why = format!("must be less than or equal to {name} limit of {most}");
            found.invalid(format!("{path}.requests"), value, why);
        }
    }
}

fn probe(found: &mut Findings, path: &str, kind: &str, probe: &Value) {
    let handlers: Vec<&&str> = HANDLERS.iter().filter(|name| !probe[**name].is_null()).collect();
    match handlers[..] {
        [] => {
            let words = "must specify a handler type";
            found.add(path, Problem::Required(words.to_owned()));
        }
        [_] => {}
        [_, second, ..] => {
            found.forbid(format!("{path}.{second}"), "may not specify more than 1 handler type");
        }
    }
    let numbers = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ];
    for field in numbers {
        found.not_negative(format!("{path}.{field}"), &probe[field]);
    }
    let success = &probe["successThreshold"];
    if kind != "readinessProbe" && success.as_i64().is_some_and(|times| times != 1) {
        found.invalid(format!("{path}.successThreshold"), success, "must be 1");
    }
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        let port = &probe[handler]["port"];
        if probe[handler].is_null() {
            continue;
        }
        let field = format!("{path}.{handler}.port");
        match port.as_str() {
            None => found.port(field, port),
            Some(name) => {
                if let Err(why) = check_port_name(name) {
                    found.invalid(field, port, why);
                }
            }
        }
    }
}

/// A pod's specification stays, but for a few fields.
pub(super) fn check_update(found: &mut Findings, old: &Value, new: &Value) {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for kind in ["containers", "initContainers"] {
            for container in spec[kind].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
                spec.shift_remove(field);
            }
        }
        spec
    };
    if fixed(old) != fixed(new) {
        found.forbid(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
             additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
             set to 1 if it was previously negative)",
        );
    }
    let kept = list(&old["spec"]["tolerations"]);
    let tolerations = list(&new["spec"]["tolerations"]);
    if kept.iter().any(|old| !tolerations.contains(old)) {
        let words = "existing toleration can not be modified except its tolerationSeconds";
        found.forbid("spec.tolerations", words);
    }
}
