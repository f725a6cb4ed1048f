//! Endpoints in slices of a bounded size: an endpoint stays in its slice as long as it is one, so
//! that a change of one pod is a change of one slice.

use std::collections::BTreeMap;

use client::{Object, kind};
use serde_json::{Value, json};

use super::metadata;
use crate::object::items;
use crate::plan::Plan;

/// The most endpoints of a slice.
const ENDPOINTS_MAX: usize = 100;

/// By the text of their ports: the ports, and the endpoints that have them.
pub(super) type Wanted = BTreeMap<String, (Value, Vec<Value>)>;

/// Brings the slices of a service and a family to what they shall say.
pub(super) fn reconcile(
    service: &Object,
    family: &str,
    mut wanted: Wanted,
    slices: &[&Object],
    plan: &mut Plan,
) {
    // A service that answers nowhere says so, with its ports unknown.
    if wanted.is_empty() {
        wanted.insert(String::new(), (Value::Null, Vec::new()));
    }
    let mut unused: Vec<&Object> = slices.to_vec();
    for (ports, endpoints) in wanted.into_values() {
        let own = |slice: &&Object| {
            slice["ports"] == ports || (ports.is_null() && items(&slice["ports"]).is_empty())
        };
        let (mine, others): (Vec<&Object>, Vec<&Object>) = unused.into_iter().partition(own);
        unused = others;
        fill(service, family, &ports, endpoints, &mine, plan);
    }
    for slice in unused {
        plan.delete(kind("EndpointSlice"), slice, None, None);
    }
}

fn address(endpoint: &Value) -> &str {
    endpoint["addresses"][0].as_str().unwrap_or_default()
}

fn fill(
    service: &Object,
    family: &str,
    ports: &Value,
    endpoints: Vec<Value>,
    slices: &[&Object],
    plan: &mut Plan,
) {
    let mut left: BTreeMap<String, Value> =
        endpoints.into_iter().map(|own| (address(&own).to_owned(), own)).collect();
    let mut filled: Vec<(&Object, Vec<Value>)> = Vec::new();
    for slice in slices {
        let stay = items(&slice["endpoints"]).iter().filter_map(|own| left.remove(address(own)));
        filled.push((slice, stay.collect()));
    }
    for (_, own) in &mut filled {
        while own.len() < ENDPOINTS_MAX
            && let Some((_, endpoint)) = left.pop_first()
        {
            own.push(endpoint);
        }
    }
    let has_some = filled.iter().any(|(_, own)| !own.is_empty()) || !left.is_empty();
    for (at, (slice, own)) in filled.into_iter().enumerate() {
        // One that is empty goes, unless it is the last.
        if own.is_empty() && (has_some || at > 0) {
            plan.delete(kind("EndpointSlice"), slice, None, None);
        } else {
            update(service, slice, own, plan);
        }
    }
    let mut rest: Vec<Value> = left.into_values().collect();
    if slices.is_empty() && rest.is_empty() {
        make(service, family, ports, &[], plan);
    }
    while !rest.is_empty() {
        let next = rest.split_off(rest.len().min(ENDPOINTS_MAX));
        make(service, family, ports, &rest, plan);
        rest = next;
    }
}

fn make(service: &Object, family: &str, ports: &Value, endpoints: &[Value], plan: &mut Plan) {
    let slice = json!({
        "metadata": metadata(service),
        "addressType": family,
        "endpoints": endpoints,
        "ports": if ports.is_null() { json!([]) } else { ports.clone() },
    });
    plan.create(kind("EndpointSlice"), slice, service);
}

fn update(service: &Object, slice: &Object, endpoints: Vec<Value>, plan: &mut Plan) {
    let labels = metadata(service)["labels"].take();
    if items(&slice["endpoints"]) == endpoints && slice["metadata"]["labels"] == labels {
        return;
    }
    let mut changed = (**slice).clone();
    changed["metadata"]["labels"] = labels;
    changed["endpoints"] = endpoints.into();
    plan.replace(kind("EndpointSlice"), changed);
}
