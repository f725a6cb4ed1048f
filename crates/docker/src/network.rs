//! `GET /networks/{id}`

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::{Engine, Network, Port, Publication, Result};
use serde_json::{Map, Value, json};

/// A network as Docker's API shows it.
///
/// # Errors
/// If the containers on it cannot be listed.
pub fn network(engine: &Engine, network: &Network) -> Result<Value> {
    let bridge = network.bridge.as_ref();
    let config: Vec<Value> = bridge.iter().flat_map(|bridge| config(bridge)).collect();
    let mut containers = Map::new();
    for (container, place) in engine.network_users(network)? {
        let endpoint = &place.endpoint;
        let value = json!({
            "Name": container.record.name,
            "EndpointID": endpoint_id(&container.record.id, &place.network),
            "MacAddress": mac(endpoint),
            "IPv4Address": format!("{}/{}", endpoint.address, endpoint.prefix),
            "IPv6Address": endpoint.v6.map(|v6| format!("{}/{}", v6.address, v6.prefix)).unwrap_or_default(),
        });
        containers.insert(container.record.id, value);
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": if network.created.is_empty() { crate::container::NO_TIME } else { &network.created },
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": bridge.is_some_and(|bridge| bridge.v6.is_some()),
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

/// One object for each family.
fn config(bridge: &engine::Bridge) -> Vec<Value> {
    let half =
        |subnet: String, range: Option<String>, gateway: IpAddr, is_own: fn(&IpAddr) -> bool| {
            let mut config = Map::new();
            config.insert("Subnet".into(), subnet.into());
            if let Some(range) = range {
                config.insert("IPRange".into(), range.into());
            }
            config.insert("Gateway".into(), gateway.to_string().into());
            let reserved = bridge.reserved.iter().filter(|(_, address)| is_own(address));
            let reserved: Map<String, Value> = reserved
                .map(|(name, address)| (name.clone(), address.to_string().into()))
                .collect();
            if !reserved.is_empty() {
                config.insert("AuxiliaryAddresses".into(), reserved.into());
            }
            Value::Object(config)
        };
    let range = bridge.range.map(|range| range.to_string());
    let v4 = half(bridge.subnet.to_string(), range, bridge.gateway.into(), IpAddr::is_ipv4);
    let v6 = bridge.v6.map(|v6| {
        let range = v6.range.map(|range| range.to_string());
        half(v6.subnet.to_string(), range, v6.gateway.into(), IpAddr::is_ipv6)
    });
    [v4].into_iter().chain(v6).collect()
}

/// There is none where interfaces have their parent's.
pub(crate) fn mac(endpoint: &engine::Endpoint) -> String {
    if endpoint.mac == engine::MacAddress::NONE { String::new() } else { endpoint.mac.to_string() }
}

/// There is none where an interface is its own way out.
pub(crate) fn gateway(address: IpAddr) -> String {
    if address.is_unspecified() { String::new() } else { address.to_string() }
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
