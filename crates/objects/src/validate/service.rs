//! Services.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::check_port_name;
use super::{Findings, Problem, list};
use crate::name;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const AFFINITIES: &[&str] = &["ClientIP", "None"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

pub(super) fn check(found: &mut Findings, object: &Value) {
    let spec = &object["spec"];
    found.one_of("spec.type", &spec["type"], TYPES);
    if !spec["sessionAffinity"].is_null() {
        found.one_of("spec.sessionAffinity", &spec["sessionAffinity"], AFFINITIES);
    }
    let kind = spec["type"].as_str().unwrap_or_default();
    let is_headless = spec["clusterIP"] == "None";
    let ports = list(&spec["ports"]);
    if ports.is_empty() && kind != "ExternalName" && !is_headless {
        found.require("spec.ports");
    }
    if kind == "ExternalName" {
        found.named("spec.externalName", &spec["externalName"], name::check_subdomain);
    }
    if kind == "LoadBalancer" && is_headless {
        let why = "may not be set to 'None' for LoadBalancer services";
        found.invalid("spec.clusterIP", &spec["clusterIP"], why);
    }
    super::meta::labels(found, "spec.selector", &spec["selector"]);
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (place, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{place}]");
        self::port(found, &path, port, ports.len() > 1);
        let own = port["name"].as_str().unwrap_or_default();
        if !own.is_empty() && !names.insert(own) {
            found.add(format!("{path}.name"), Problem::Duplicate(port["name"].to_string()));
        }
        if !numbers.insert((port["port"].as_i64(), port["protocol"].as_str())) {
            found.add(path, Problem::Duplicate(port.to_string()));
        }
    }
}

fn port(found: &mut Findings, path: &str, port: &Value, must_have_name: bool) {
    let own = &port["name"];
    match own.as_str().unwrap_or_default() {
        "" if must_have_name => found.require(format!("{path}.name")),
        "" => {}
        _ => found.named(format!("{path}.name"), own, name::check_label),
    }
    found.port(format!("{path}.port"), &port["port"]);
    found.one_of(format!("{path}.protocol"), &port["protocol"], PROTOCOLS);
    let target = &port["targetPort"];
    match target.as_str() {
        Some(name) => {
            if let Err(why) = check_port_name(name) {
                found.invalid(format!("{path}.targetPort"), target, why);
            }
        }
        None if target.is_null() => {}
        None => found.port(format!("{path}.targetPort"), target),
    }
}

/// An address that was given stays, as long as the service has one.
pub(super) fn check_update(found: &mut Findings, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    let has_address = |spec: &Value| {
        spec["type"] != "ExternalName"
            && spec["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty())
    };
    if has_address(before) && has_address(after) {
        found.unchanged("spec.clusterIP", &before["clusterIP"], &after["clusterIP"]);
    }
}
