//! Services with an address outside of the cluster: the cluster's own nodes are where they are reached,
//! at once and without a cloud.

use std::net::IpAddr;

use client::{Cache, Change, Key, kind};
use serde_json::{Value, json};

use crate::control::Controller;
use crate::object::{is_ending, is_true, items, label};
use crate::plan::{Plan, World};

pub(crate) const CONTROLLER: Controller = Controller { name: "service-controller", concerns, plan };

/// Nodes that are no way in.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "Service" => vec![change.key.clone()],
        "Node" => {
            let facts = |node: &Option<client::Object>| node.as_ref().and_then(|own| way_in(own));
            if facts(&change.before) == facts(&change.now) {
                return Vec::new();
            }
            let all = cache.list("Service", "").into_iter();
            all.filter(|own| is_ours(own)).map(|own| Key::of("Service", &own)).collect()
        }
        _ => Vec::new(),
    }
}

fn is_ours(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer"
        && service["spec"]["loadBalancerClass"].is_null()
        && !is_ending(service)
}

/// The address of a node that is a way in.
fn way_in(node: &Value) -> Option<IpAddr> {
    if !is_true(node, "Ready") || label(node, EXCLUDED).is_some() {
        return None;
    }
    let mut all = items(&node["status"]["addresses"]).iter();
    let inner = all.find(|own| own["type"] == "InternalIP")?;
    inner["address"].as_str()?.parse().ok()
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(service) = world.cache.get(key).filter(|own| is_ours(own)) else { return plan };
    let nodes = world.cache.list("Node", "");
    let mut addresses: Vec<IpAddr> = nodes.iter().filter_map(|node| way_in(node)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let ingress = addresses.iter().map(|own| json!({"ip": own.to_string(), "ipMode": "VIP"}));
    let ingress: Vec<Value> = ingress.collect();
    if items(&service["status"]["loadBalancer"]["ingress"]) == ingress {
        return plan;
    }
    let mut status = service["status"].clone();
    status["loadBalancer"] =
        if ingress.is_empty() { json!({}) } else { json!({"ingress": ingress}) };
    plan.status(kind("Service"), &service, status);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_well_are_ways_in() {
        let node = |ready: &str, labels: Value| {
            json!({
                "metadata": {"labels": labels},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "addresses": [
                        {"type": "Hostname", "address": "n"},
                        {"type": "InternalIP", "address": "192.0.2.1"},
                    ],
                },
            })
        };
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(way_in(&node("True", json!({}))), address);
        assert_eq!(way_in(&node("Unknown", json!({}))), None);
        assert_eq!(way_in(&node("True", json!({EXCLUDED: ""}))), None);
    }
}
