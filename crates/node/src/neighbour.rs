//! The other nodes of the cluster: how their pods are reached. And what others say of this one.

use std::net::Ipv4Addr;
use std::time::Duration;

use client::{Cache, Reflector, kind};
use engine::service::Neighbour;
use serde_json::Value;

use crate::field::{items, text};
use crate::host::{Host, NETWORK, NodeError};

/// How long a watch waits at once.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How soon ways are made again that the kernel has removed with a link that was down for a while.
const REPAIR_EVERY: Duration = Duration::from_secs(10);
/// After the API could not be asked, or the kernel could not do it.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a new node waits for its pods' addresses.
const ADDRESSES_MAX: Duration = Duration::from_secs(60);

impl Host {
    /// Keeps the ways to the pods of other nodes, for as long as the process lives.
    pub(crate) fn keep_neighbours(&self) {
        let cache = Cache::default();
        let mut reflector = Reflector::new(self.client.clone(), kind("Node"), &[]);
        let mut known: Option<Vec<Neighbour>> = None;
        loop {
            let longest = match &known {
                None => RETRY_AFTER,
                Some(all) if all.is_empty() => LOOK_EVERY,
                Some(_) => REPAIR_EVERY,
            };
            let begun = std::time::Instant::now();
            if reflector.step(&cache, longest).is_err() {
                std::thread::sleep(RETRY_AFTER);
                continue;
            }
            if begun.elapsed() >= REPAIR_EVERY {
                known = None;
            }
            let nodes = cache.list("Node", "");
            let own =
                nodes.iter().find(|node| text(node, &["metadata", "name"]) == self.config.name);
            if let Some(own) = own.filter(|own| !is_ready(own)) {
                // It was silent for a while, and taken for lost.
                let _ = self.tell_status(&own["status"]);
            }
            let wanted = neighbours(nodes.iter().map(|node| &**node), &self.config.name);
            if known.as_ref() != Some(&wanted) {
                let met = self.engine.meet(NETWORK, &wanted);
                known = met.is_ok().then_some(wanted);
            }
        }
    }

    /// Waits until it is known where the addresses of this node's pods come from.
    pub(crate) fn learn_subnet(&self) -> Result<(), NodeError> {
        let selector = format!("metadata.name={}", self.config.name);
        let query = [("fieldSelector", selector.as_str())];
        let cache = Cache::default();
        let mut reflector = Reflector::new(self.client.clone(), kind("Node"), &query);
        let begun = std::time::Instant::now();
        while self.subnet.get().is_none() {
            reflector.step(&cache, RETRY_AFTER)?;
            let nodes = cache.list("Node", "");
            let given = nodes.first().and_then(|own| text(own, &["spec", "podCIDR"]).parse().ok());
            if let Some(given) = given {
                let _ = self.subnet.set(given);
            } else if begun.elapsed() > ADDRESSES_MAX {
                return Err(NodeError::NoAddresses(self.config.name.clone()));
            }
        }
        Ok(())
    }
}

fn is_ready(node: &Value) -> bool {
    let all = items(&node["status"], "conditions");
    all.iter().any(|own| own["type"] == "Ready" && own["status"] == "True")
}

/// The other nodes that have pods, as far as it is known where.
fn neighbours<'a>(nodes: impl Iterator<Item = &'a Value>, own: &str) -> Vec<Neighbour> {
    let read = |node: &Value| {
        let mut all = items(&node["status"], "addresses").iter();
        let inner = all.find(|own| own["type"] == "InternalIP")?;
        let address: Ipv4Addr = text(inner, &["address"]).parse().ok()?;
        let subnet = text(node, &["spec", "podCIDR"]).parse().ok()?;
        Some(Neighbour { subnet, address })
    };
    let others = nodes.filter(|node| text(node, &["metadata", "name"]) != own);
    let mut all: Vec<Neighbour> = others.filter_map(read).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn others_with_a_place_for_pods_are_neighbours() {
        let node = |name: &str, subnet: Value, address: &str| {
            json!({
                "metadata": {"name": name}, "spec": {"podCIDR": subnet},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]},
            })
        };
        let all = [
            node("n", json!("10.42.0.0/24"), "192.0.2.1"),
            node("m", json!("10.42.1.0/24"), "192.0.2.2"),
            node("new", Value::Null, "192.0.2.3"),
        ];
        let found = neighbours(all.iter(), "n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(found[0].subnet.to_string(), "10.42.1.0/24");
    }
}
