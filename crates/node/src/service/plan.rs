//! What the kernel is to do for services; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use client::Object;
use engine::service::{Backend, Frontend, Plan, ServiceProtocol};
use serde_json::Value;

use super::book::Name;
use super::socket;
use crate::field::{items, text, texts};

/// How long a client stays with an endpoint; upstream's default.
const STICKY_S: u32 = 10_800;

/// Who comes, which is what policies go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Inside,
    Outside,
}

/// Where a service is reached on the node `node`, which others reach by `address`, and what becomes
/// of whoever comes there.
pub(crate) fn frontends(
    service: &Value,
    slices: &[Object],
    node: &str,
    address: &str,
) -> BTreeMap<Frontend, Backend> {
    let spec = &service["spec"];
    let mut all = BTreeMap::new();
    if matches!(text(spec, &["clusterIP"]), "" | "None")
        || text(spec, &["type"]) == "ExternalName"
        || !service["metadata"]["deletionTimestamp"].is_null()
    {
        return all;
    }
    for port in items(spec, "ports") {
        let Some(protocol) = protocol(port) else { continue };
        for (address, from) in addresses(service, address) {
            let Some(number) = number(&port["port"]) else { continue };
            let at = Frontend { protocol, address, port: number };
            all.insert(at, backend(spec, slices, (port, node), (address, from)));
        }
        if let Some(number) = number(&port["nodePort"]) {
            let address = IpAddr::from(Ipv4Addr::UNSPECIFIED);
            let at = Frontend { protocol, address, port: number };
            all.insert(at, backend(spec, slices, (port, node), (address, From::Outside)));
        }
    }
    all
}

/// The addresses that are a service's own.
fn addresses(service: &Value, node_address: &str) -> Vec<(IpAddr, From)> {
    let spec = &service["spec"];
    let mut inside = texts(spec, "clusterIPs");
    if inside.is_empty() {
        inside.push(text(spec, &["clusterIP"]).to_owned());
    }
    let mut outside = texts(spec, "externalIPs");
    if text(spec, &["type"]) == "LoadBalancer" {
        if spec["loadBalancerClass"].is_null() {
            outside.push(node_address.to_owned());
        }
        // A proxy in front passes on by node ports.
        let told = items(&service["status"]["loadBalancer"], "ingress").iter();
        let own = told.filter(|one| text(one, &["ipMode"]) != "Proxy");
        outside.extend(own.map(|one| text(one, &["ip"]).to_owned()));
    }
    let with = |all: Vec<String>, from: From| {
        all.into_iter().filter_map(move |one| Some((one.parse().ok()?, from)))
    };
    let is_usable = |(address, _): &(IpAddr, From)| !address.is_unspecified();
    with(inside, From::Inside).chain(with(outside, From::Outside)).filter(is_usable).collect()
}

fn protocol(port: &Value) -> Option<ServiceProtocol> {
    match text(port, &["protocol"]) {
        "" | "TCP" => Some(ServiceProtocol::Tcp),
        "UDP" => Some(ServiceProtocol::Udp),
        "SCTP" => Some(ServiceProtocol::Sctp),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok().filter(|number| *number > 0)
}

/// What becomes of whoever comes to one port of one address.
fn backend(
    spec: &Value,
    slices: &[Object],
    (port, node): (&Value, &str),
    (address, from): (IpAddr, From),
) -> Backend {
    let policy = match from {
        From::Inside => text(spec, &["internalTrafficPolicy"]),
        From::Outside => text(spec, &["externalTrafficPolicy"]),
    };
    let all = endpoints(slices, port, address);
    let local = all.iter().filter(|one| one.node == node).cloned().collect::<Vec<_>>();
    let chosen = choose(if policy == "Local" { &local } else { &all });
    if chosen.is_empty() {
        // Another node may have some.
        let is_elsewhere = policy == "Local" && !choose(&all).is_empty();
        return if is_elsewhere { Backend::Drop } else { Backend::Refuse };
    }
    let is_sticky = text(spec, &["sessionAffinity"]) == "ClientIP";
    let seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_u64();
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(STICKY_S);
    Backend::Spread {
        endpoints: chosen.into_iter().collect(),
        sticky_s: is_sticky.then_some(seconds),
    }
}

/// One of those that answer for a service.
#[derive(Debug, Clone)]
struct Endpoint {
    at: SocketAddr,
    node: String,
    is_ready: bool,
    /// It is going to end, and answers until then.
    is_last_resort: bool,
}

fn endpoints(slices: &[Object], port: &Value, address: IpAddr) -> Vec<Endpoint> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut all = Vec::new();
    for slice in slices.iter().filter(|slice| slice["addressType"] == family) {
        let is_own = |own: &&Value| {
            text(own, &["name"]) == text(port, &["name"]) && protocol(own) == protocol(port)
        };
        let found = items(slice, "ports").iter().find(is_own);
        let Some(number) = found.and_then(|own| number(&own["port"])) else { continue };
        for endpoint in items(slice, "endpoints") {
            let conditions = &endpoint["conditions"];
            let is_ready = conditions["ready"] != false;
            let serves = conditions["serving"].as_bool().unwrap_or(is_ready);
            // All addresses of an endpoint are the same one's; the first is used.
            let first = texts(endpoint, "addresses").into_iter().next().unwrap_or_default();
            all.extend(socket(&first, number).map(|at| Endpoint {
                at,
                node: text(endpoint, &["nodeName"]).to_owned(),
                is_ready,
                is_last_resort: conditions["terminating"] == true && serves,
            }));
        }
    }
    all
}

/// Those that are ready; those that end, and answer still, if none is.
fn choose(all: &[Endpoint]) -> BTreeSet<SocketAddr> {
    let ready: BTreeSet<_> = all.iter().filter(|one| one.is_ready).map(|one| one.at).collect();
    if !ready.is_empty() {
        return ready;
    }
    all.iter().filter(|one| one.is_last_resort).map(|one| one.at).collect()
}

/// Which services are reached where: of those that claim the same place, the first by its name has it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    claims: BTreeMap<Frontend, BTreeMap<Name, Backend>>,
    own: BTreeMap<Name, BTreeSet<Frontend>>,
}

impl Claims {
    /// Sets where one service is reached; the places that may have changed.
    pub(crate) fn set(&mut self, name: &Name, all: BTreeMap<Frontend, Backend>) -> Vec<Frontend> {
        let mut places = self.own.remove(name).unwrap_or_default();
        for at in &places {
            if let Some(claimants) = self.claims.get_mut(at) {
                claimants.remove(name);
                if claimants.is_empty() {
                    self.claims.remove(at);
                }
            }
        }
        if !all.is_empty() {
            self.own.insert(name.clone(), all.keys().copied().collect());
        }
        for (at, backend) in all {
            self.claims.entry(at).or_default().insert(name.clone(), backend);
            places.insert(at);
        }
        places.into_iter().collect()
    }

    /// What is at these places now.
    pub(crate) fn now(&self, places: &[Frontend]) -> BTreeMap<Frontend, Option<Backend>> {
        let first = |at: &Frontend| Some(self.claims.get(at)?.values().next()?.clone());
        places.iter().map(|at| (*at, first(at))).collect()
    }

    /// What is at all places.
    pub(crate) fn all(&self) -> Plan {
        let first = |claimants: &BTreeMap<Name, Backend>| claimants.values().next().cloned();
        self.claims.iter().filter_map(|(at, all)| Some((*at, first(all)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn service(spec: &Value) -> Value {
        let mut service = json!({"spec": {
            "clusterIP": "10.96.0.7", "ports": [{"port": 80, "name": "http"}],
        }});
        for (key, value) in spec.as_object().unwrap() {
            service["spec"][key] = value.clone();
        }
        service
    }

    fn slices(endpoints: &Value) -> Vec<Object> {
        let ports = json!([{"name": "http", "protocol": "TCP", "port": 8080}]);
        let slice = json!({"addressType": "IPv4", "ports": ports, "endpoints": endpoints});
        vec![Arc::new(slice)]
    }

    fn one(last: u8, node: &str, conditions: &Value) -> Value {
        json!({"addresses": [format!("10.42.0.{last}")], "nodeName": node, "conditions": conditions})
    }

    fn at(address: &str, port: u16) -> Frontend {
        let address = address.parse().unwrap();
        Frontend { protocol: ServiceProtocol::Tcp, address, port }
    }

    fn spread(all: &[u8]) -> Backend {
        let endpoints =
            all.iter().map(|last| SocketAddr::from(([10, 42, 0, *last], 8080))).collect();
        Backend::Spread { endpoints, sticky_s: None }
    }

    #[test]
    fn those_that_are_ready_answer_and_else_those_that_end() {
        let (ready, ends) = (
            json!({"ready": true}),
            json!({
                "ready": false, "serving": true, "terminating": true,
            }),
        );
        let check = |endpoints: Value, expected: Backend| {
            let all = frontends(&service(&json!({})), &slices(&endpoints), "n", "192.0.2.1");
            assert_eq!(all, BTreeMap::from([(at("10.96.0.7", 80), expected)]), "{endpoints}");
        };
        let not = json!({"ready": false, "serving": false});
        check(
            json!([one(3, "n", &ready), one(2, "m", &ready), one(4, "n", &ends)]),
            spread(&[2, 3]),
        );
        check(json!([one(4, "n", &ends), one(5, "n", &not)]), spread(&[4]));
        check(json!([one(5, "n", &not)]), Backend::Refuse);
        check(json!([]), Backend::Refuse);
    }

    #[test]
    fn policies_choose_what_is_on_the_node() {
        let ready = json!({"ready": true});
        let slices = slices(&json!([one(2, "n", &ready), one(3, "m", &ready)]));
        let spec = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.9"],
            "ports": [{"port": 80, "name": "http", "nodePort": 30001}],
        });
        let all = frontends(&service(&spec), &slices, "n", "192.0.2.1");
        let expected = BTreeMap::from([
            (at("10.96.0.7", 80), spread(&[2, 3])),
            (at("192.0.2.9", 80), spread(&[2])),
            (at("192.0.2.1", 80), spread(&[2])),
            (at("0.0.0.0", 30001), spread(&[2])),
        ]);
        assert_eq!(all, expected);
        let all = frontends(&service(&spec), &slices, "o", "192.0.2.1");
        assert_eq!(all[&at("0.0.0.0", 30001)], Backend::Drop);
        let spec = json!({"internalTrafficPolicy": "Local"});
        let all = frontends(&service(&spec), &slices, "m", "192.0.2.1");
        assert_eq!(all[&at("10.96.0.7", 80)], spread(&[3]));
        for spec in [json!({"clusterIP": "None"}), json!({"type": "ExternalName"})] {
            assert!(frontends(&service(&spec), &slices, "n", "192.0.2.1").is_empty());
        }
    }

    #[test]
    fn a_place_that_two_claim_goes_to_the_first_and_then_to_the_other() {
        let name = |name: &str| ("default".to_owned(), name.to_owned());
        let place = at("192.0.2.1", 80);
        let mut claims = Claims::default();
        assert_eq!(claims.set(&name("b"), BTreeMap::from([(place, spread(&[2]))])), [place]);
        assert_eq!(claims.set(&name("a"), BTreeMap::from([(place, spread(&[3]))])), [place]);
        assert_eq!(claims.now(&[place])[&place], Some(spread(&[3])));
        assert_eq!(claims.set(&name("a"), BTreeMap::new()), [place]);
        assert_eq!(claims.all(), Plan::from([(place, spread(&[2]))]));
        claims.set(&name("b"), BTreeMap::new());
        assert_eq!(claims.now(&[place])[&place], None);
    }
}
