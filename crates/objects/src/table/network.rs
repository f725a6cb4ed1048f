//! How what runs is reached: services, endpoints, ingresses, policies.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, Printer, age, column, count, joined, labels, list, or_none, selector, text, wide,
};

/// Addresses that a cell shows; of more it says how many.
const SHOWN_MAX: usize = 3;

pub(super) fn core(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Service" => Printer::new(SERVICE, service),
        "Endpoints" => Printer::new(const { &[column("Endpoints"), AGE] }, |o, now| {
            vec![endpoints(o).into(), age(o, now)]
        }),
        _ => return None,
    })
}

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        ("networking.k8s.io", "Ingress") => Printer::new(
            const { &[column("Class"), column("Hosts"), column("Address"), column("Ports"), AGE] },
            ingress,
        ),
        ("networking.k8s.io", "IngressClass") => {
            Printer::new(const { &[column("Controller"), column("Parameters"), AGE] }, |o, now| {
                let parameters = &o["spec"]["parameters"];
                let group = text(&parameters["apiGroup"]);
                let dot = if group.is_empty() { "" } else { "." };
                let shown = match parameters.is_null() {
                    true => "<none>".to_owned(),
                    false => {
                        let (kind, name) = (text(&parameters["kind"]), text(&parameters["name"]));
                        format!("{kind}{dot}{group}/{name}")
                    }
                };
                vec![text(&o["spec"]["controller"]).into(), shown.into(), age(o, now)]
            })
        }
        ("networking.k8s.io", "NetworkPolicy") => {
            Printer::new(const { &[column("Pod-Selector"), AGE] }, |o, now| {
                vec![selector(&o["spec"]["podSelector"]).into(), age(o, now)]
            })
        }
        ("networking.k8s.io", "ServiceCIDR") => {
            Printer::new(const { &[column("CIDRs"), AGE] }, |o, now| {
                vec![joined(list(&o["spec"]["cidrs"]).iter().map(text), ",").into(), age(o, now)]
            })
        }
        ("networking.k8s.io", "IPAddress") => {
            Printer::new(const { &[column("ParentRef"), AGE] }, |o, now| {
                let parent = &o["spec"]["parentRef"];
                let place =
                    [text(&parent["resource"]), text(&parent["namespace"]), text(&parent["name"])];
                let filled = place.into_iter().filter(|word| !word.is_empty());
                vec![joined(filled, "/").into(), age(o, now)]
            })
        }
        ("discovery.k8s.io", "EndpointSlice") => Printer::new(
            const { &[column("AddressType"), column("Ports"), column("Endpoints"), AGE] },
            slice,
        ),
        _ => return None,
    })
}

const SERVICE: &[Column] = &[
    column("Type"),
    column("Cluster-IP"),
    column("External-IP"),
    column("Port(s)"),
    AGE,
    wide("Selector"),
];

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let ports = list(&spec["ports"]).iter().map(|port| {
        let (own, node) = (count(&port["port"]), count(&port["nodePort"]));
        let protocol = text(&port["protocol"]);
        match node {
            0 => format!("{own}/{protocol}"),
            node => format!("{own}:{node}/{protocol}"),
        }
    });
    let kind = text(&spec["type"]);
    vec![
        kind.into(),
        or_none(text(&spec["clusterIP"])),
        external(object, kind).into(),
        or_none(&ports.collect::<Vec<_>>().join(",")),
        age(object, now),
        or_none(&labels(&spec["selector"])),
    ]
}

fn external(service: &Value, kind: &str) -> String {
    let spec = &service["spec"];
    let given = joined(list(&spec["externalIPs"]).iter().map(text), ",");
    match kind {
        "ExternalName" => text(&spec["externalName"]).to_owned(),
        "LoadBalancer" => {
            let own = balancers(service);
            match (own.is_empty(), given.is_empty()) {
                (true, true) => "<pending>".to_owned(),
                (true, false) => given,
                (false, true) => own,
                (false, false) => format!("{own},{given}"),
            }
        }
        _ if given.is_empty() => "<none>".to_owned(),
        _ => given,
    }
}

/// Addresses or names of a load balancer.
fn balancers(object: &Value) -> String {
    let entries = list(&object["status"]["loadBalancer"]["ingress"]);
    let places = entries.iter().map(|entry| match text(&entry["ip"]) {
        "" => text(&entry["hostname"]),
        address => address,
    });
    joined(places, ",")
}

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let hosts = list(&spec["rules"]).iter().map(|rule| text(&rule["host"]));
    let hosts = joined(hosts.filter(|host| !host.is_empty()), ",");
    let ports = if list(&spec["tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        or_none(text(&spec["ingressClassName"])),
        if hosts.is_empty() { "*".into() } else { hosts.into() },
        balancers(object).into(),
        ports.into(),
        age(object, now),
    ]
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(&object["subsets"]) {
        let addresses = list(&subset["addresses"]).iter().map(|address| text(&address["ip"]));
        let ports = list(&subset["ports"]);
        for address in addresses {
            match ports {
                [] => all.push(address.to_owned()),
                ports => {
                    all.extend(ports.iter().map(|p| format!("{address}:{}", count(&p["port"]))));
                }
            }
        }
    }
    some_of(&all, "<none>", " + ", " more...")
}

fn slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match port["port"].as_i64() {
        Some(number) => number.to_string(),
        None => "*".to_owned(),
    };
    let ports: Vec<String> = list(&object["ports"]).iter().map(port).collect();
    let addresses = list(&object["endpoints"]).iter().flat_map(|one| list(&one["addresses"]));
    let addresses: Vec<String> = addresses.map(|address| text(address).to_owned()).collect();
    vec![
        text(&object["addressType"]).into(),
        some_of(&ports, "<unset>", " + ", " more...").into(),
        some_of(&addresses, "<unset>", " + ", " more...").into(),
        age(object, now),
    ]
}

fn some_of(all: &[String], none: &str, and: &str, more: &str) -> String {
    match all.len() {
        0 => none.to_owned(),
        many if many > SHOWN_MAX => {
            format!("{}{and}{}{more}", all[..SHOWN_MAX].join(","), many - SHOWN_MAX)
        }
        _ => all.join(","),
    }
}
