//! The services that every cluster has: names, and the API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

/// Where services have their addresses, as the API gives them.
pub(super) fn range() -> engine::Subnet {
    engine::Subnet::containing(Ipv4Addr::new(10, 96, 0, 0), 12)
}
/// Whom pods ask for names; the tenth address, as kubeadm has it.
pub(crate) const DNS_ADDRESS: &str = "10.96.0.10";
/// The API; the first address.
const API_ADDRESS: &str = "10.96.0.1";

/// A port: its name, its protocol, its number, and the number where it is answered.
type Port<'a> = (&'a str, &'a str, u16, u16);

/// The cluster's name server.
pub(super) fn dns(at: IpAddr, ports: &[Port<'_>]) -> (Value, Value) {
    pair("kube-system", "kube-dns", (DNS_ADDRESS, at), ports)
}

/// The cluster's API.
pub(super) fn api(at: SocketAddr) -> (Value, Value) {
    pair("default", "kubernetes", (API_ADDRESS, at.ip()), &[("https", "TCP", 443, at.port())])
}

/// In the place of where names are answered on the server's node, where they are answered on this one.
pub(super) fn answer_here(slices: &mut [client::Object], own: &client::Object) {
    let is_names = |slice: &&mut client::Object| {
        let metadata = &slice["metadata"];
        metadata["namespace"] == "kube-system" && metadata["name"] == "kube-dns"
    };
    slices.iter_mut().filter(is_names).for_each(|slice| *slice = own.clone());
}

/// A service without a selector, and the slice that says where it is answered.
fn pair(
    namespace: &str,
    name: &str,
    (address, at): (&str, IpAddr),
    ports: &[Port<'_>],
) -> (Value, Value) {
    let labels = match name {
        "kube-dns" => json!({"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}),
        _ => json!({"component": "apiserver", "provider": "kubernetes"}),
    };
    let outer = ports.iter().map(|(name, protocol, port, to)| {
        json!({"name": name, "protocol": protocol, "port": port, "targetPort": to})
    });
    let inner = ports
        .iter()
        .map(|(name, protocol, _, to)| json!({"name": name, "protocol": protocol, "port": to}));
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"clusterIP": address, "type": "ClusterIP", "ports": outer.collect::<Vec<_>>()},
    });
    let family = if at.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "endpoints": [{"addresses": [at.to_string()], "conditions": {"ready": true}}],
        "ports": inner.collect::<Vec<_>>(),
    });
    (service, slice)
}
