//! `GET /networks/{id}`

use std::collections::BTreeMap;

use engine::{Engine, Network, Port, Publication, Result};
use serde_json::{Map, Value, json};

/// A network as Docker's API shows it.
///
/// # Errors
/// If the containers on it cannot be listed.
pub fn network(engine: &Engine, network: &Network) -> Result<Value> {
    let bridge = network.bridge.as_ref();
    let config: Vec<Value> = bridge.iter().map(|bridge| config(bridge)).collect();
    let mut containers = Map::new();
    for (container, place) in engine.network_users(network)? {
        let endpoint = &place.endpoint;
        let value = json!({
            "Name": container.record.name,
            "EndpointID": endpoint_id(&container.record.id, &place.network),
            "MacAddress": endpoint.mac.to_string(),
            "IPv4Address": format!("{}/{}", endpoint.address, endpoint.prefix),
            "IPv6Address": "",
        });
        containers.insert(container.record.id, value);
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": if network.created.is_empty() { crate::container::NO_TIME } else { &network.created },
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": {}, "Config": config },
        "Internal": bridge.is_some_and(|bridge| bridge.internal),
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    }))
}

fn config(bridge: &engine::Bridge) -> Value {
    let mut config = Map::new();
    config.insert("Subnet".into(), bridge.subnet.to_string().into());
    if let Some(range) = bridge.range {
        config.insert("IPRange".into(), range.to_string().into());
    }
    config.insert("Gateway".into(), bridge.gateway.to_string().into());
    Value::Object(config)
}

/// Docker's endpoints are objects with ids; ours are a container's place on a network.
pub(crate) fn endpoint_id(container: &str, network: &str) -> String {
    oci::Digest::of(format!("{container}/{network}").as_bytes()).hex().to_owned()
}

/// `80/tcp` with the ports of the host that stand for it.
pub(crate) fn ports(container: &engine::Container) -> Value {
    if !container.is_running() {
        return json!({});
    }
    let exposed = container.exposed().into_iter();
    let mut all: Map<String, Value> = exposed
        .map(|(port, protocol)| (format!("{port}/{}", protocol.name()), Value::Null))
        .collect();
    for Port { protocol, address, port, to_port, .. } in &container.state.ports {
        let binding = json!({ "HostIp": address.to_string(), "HostPort": port.to_string() });
        push(&mut all, format!("{to_port}/{}", protocol.name()), binding);
    }
    sorted(all)
}

/// What was asked to be published.
pub(crate) fn bindings(publications: &[Publication]) -> Value {
    let mut all = Map::new();
    for Publication { protocol, port, address, host } in publications {
        let host = match host {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        let binding = json!({ "HostIp": address, "HostPort": host });
        push(&mut all, format!("{port}/{}", protocol.name()), binding);
    }
    sorted(all)
}

/// In the order in which Go writes maps.
fn sorted(all: Map<String, Value>) -> Value {
    let all: BTreeMap<String, Value> = all.into_iter().collect();
    Value::Object(all.into_iter().collect())
}

fn push(all: &mut Map<String, Value>, key: String, binding: Value) {
    match all.get_mut(&key) {
        Some(Value::Array(known)) => known.push(binding),
        _ => drop(all.insert(key, Value::Array(vec![binding]))),
    }
}
