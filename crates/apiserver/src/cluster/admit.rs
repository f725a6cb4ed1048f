//! What the server gives a new object: a service an address, a pod its class.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::PoisonError;

use objects::resource::Resource;
use serde_json::{Value, json};

use super::Cluster;
use super::list::items;
use crate::failure::Failure;
use crate::log::Range;

/// Where services have their addresses: 10.96.0.0/12, as kubeadm has it. The first is the API's own.
const SERVICES: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 96, 0, 0), 12);
/// Ports of nodes for services.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

impl Cluster {
    /// Completes a new object by what else there is.
    pub(super) fn admit(&self, of: &Resource, object: &mut Value) -> Result<(), Failure> {
        match (of.group, of.kind) {
            ("", "Namespace") => {
                let name = object["metadata"]["name"].clone();
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            }
            ("", "Pod") => object["status"]["qosClass"] = quality(&object["spec"]).into(),
            ("", "Service") => self.give_addresses(of, object, None)?,
            ("batch", "Job") => select_own_pods(object),
            _ => {}
        }
        Ok(())
    }

    /// An address, and ports of nodes, for a service that needs them and has not had them before.
    pub(super) fn give_addresses(
        &self,
        of: &Resource,
        object: &mut Value,
        before: Option<&Value>,
    ) -> Result<(), Failure> {
        let kind = object["spec"]["type"].as_str().unwrap_or_default().to_owned();
        if kind == "ExternalName" {
            return Ok(());
        }
        let _one_at_a_time = self.allocation.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut addresses, ports) = self.allocated(of)?;
        if let Some(own) = before.and_then(|before| before["spec"]["clusterIP"].as_str()) {
            addresses.remove(own);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let spec = &mut object["spec"];
        match spec["clusterIP"].as_str().unwrap_or_default() {
            "" => spec["clusterIP"] = free_address(&addresses)?.to_string().into(),
            "None" => {}
            wanted if addresses.contains(wanted) => {
                let why = format!("provided IP is already allocated: {wanted}");
                return Err(Failure::forbidden(of, &name, &why));
            }
            _ => {}
        }
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
        if spec["ipFamilies"].is_null() {
            spec["ipFamilies"] = json!(["IPv4"]);
        }
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = "SingleStack".into();
        }
        if kind == "NodePort" || kind == "LoadBalancer" {
            give_node_ports(spec, ports)?;
        }
        Ok(())
    }

    /// Addresses and ports that services have.
    fn allocated(&self, of: &Resource) -> Result<(BTreeSet<String>, BTreeSet<i64>), Failure> {
        let prefix = crate::target::prefix(of, "");
        let page = self.log.range(Range { prefix: &prefix, ..Range::default() })?;
        let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for entry in &page.entries {
            let service = self.read(of, entry).object;
            addresses.extend(service["spec"]["clusterIP"].as_str().map(str::to_owned));
            let own = items(&service["spec"]["ports"]).iter();
            ports.extend(own.filter_map(|port| port["nodePort"].as_i64()));
        }
        Ok((addresses, ports))
    }
}

/// A job selects its own pods, by its uid, unless it says that it selects others.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let labels = &mut job["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
        labels[key] = value.clone();
        labels[format!("batch.kubernetes.io/{key}")] = value.clone();
    }
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}

fn free_address(taken: &BTreeSet<String>) -> Result<Ipv4Addr, Failure> {
    let (first, bits) = SERVICES;
    let count = 1_u32 << (32 - bits);
    // 0 is the network, 1 the API, the last one for everybody.
    let mut all = (2..count - 1).map(|number| Ipv4Addr::from(u32::from(first) + number));
    let free = all.find(|address| !taken.contains(&address.to_string()));
    free.ok_or_else(|| Failure::internal("failed to allocate a serviceIP: range is full"))
}

fn give_node_ports(spec: &mut Value, mut taken: BTreeSet<i64>) -> Result<(), Failure> {
    let ports = spec["ports"].as_array_mut().into_iter().flatten();
    for port in ports.filter(|port| port["nodePort"].as_i64().unwrap_or_default() == 0) {
        let free = NODE_PORTS.clone().find(|number| !taken.contains(number));
        let free =
            free.ok_or_else(|| Failure::internal("failed to allocate a nodePort: range is full"))?;
        taken.insert(free);
        port["nodePort"] = free.into();
    }
    Ok(())
}

/// Who replaces a service need not know what it was given.
pub(super) fn keep_addresses(old: &Value, new: &mut Value) {
    let (old, new) = (&old["spec"], &mut new["spec"]);
    if new["type"] == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if new[field].as_str().unwrap_or_default().is_empty() && !new[field].is_array() {
            new[field] = old[field].clone();
        }
    }
    let before = items(&old["ports"]).to_vec();
    for port in new["ports"].as_array_mut().into_iter().flatten() {
        let same =
            |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        let own = before.iter().find(same).map(|other| other["nodePort"].clone());
        if let (true, Some(own @ Value::Number(_))) = (port["nodePort"].is_null(), own) {
            port["nodePort"] = own;
        }
    }
}

/// The class of a pod by what it requests and may use at most.
pub(super) fn quality(spec: &Value) -> &'static str {
    let containers = [items(&spec["containers"]), items(&spec["initContainers"])].concat();
    let amounts = |container: &Value, kind: &str| container["resources"][kind].clone();
    let is_nothing = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    let asks_nothing = |container: &Value| {
        is_nothing(&amounts(container, "requests")) && is_nothing(&amounts(container, "limits"))
    };
    if containers.iter().all(asks_nothing) {
        return "BestEffort";
    }
    let is_guaranteed = |container: &Value| {
        ["cpu", "memory"].iter().all(|name| {
            let (limit, request) = (
                &container["resources"]["limits"][name],
                &container["resources"]["requests"][name],
            );
            limit.is_string() && (request.is_null() || request == limit)
        })
    };
    if containers.iter().all(is_guaranteed) { "Guaranteed" } else { "Burstable" }
}
