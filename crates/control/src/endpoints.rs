//! Where the pods of a service answer: EndpointSlices, and Endpoints for older clients.

mod slice;

use std::collections::BTreeMap;

use client::{Cache, Change, Key, Object, kind};
use serde_json::{Value, json};

use crate::control::Controller;
use crate::object::{
    is_ending, items, label, name, namespace, owner_reference, selector, selects, uid,
};
use crate::plan::{Plan, World};
use crate::pod;
use slice::Wanted;

pub(crate) const CONTROLLER: Controller =
    Controller { name: "endpoint-slice-controller", concerns, plan };

/// The label that names a slice's service.
pub(crate) const SERVICE: &str = "kubernetes.io/service-name";
/// The label that says who keeps a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const OWN: &str = "endpointslice-controller.k8s.io";
/// The most addresses of Endpoints, which have them all in one object.
const ADDRESSES_MAX: usize = 1000;

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "Service" => vec![change.key.clone()],
        "Pod" if is_news(change) => {
            let services = cache.list("Service", &change.key.namespace);
            let objects: Vec<&Object> =
                [&change.before, &change.now].into_iter().flatten().collect();
            let is_of = |service: &&Object| {
                let selector = selector(service);
                objects.iter().any(|pod| selects(&selector, pod))
            };
            services.iter().filter(is_of).map(|service| Key::of("Service", service)).collect()
        }
        "EndpointSlice" => {
            let slice = change.now.as_ref().or(change.before.as_ref());
            let service = slice.and_then(|slice| label(slice, SERVICE));
            service.map(|own| Key::new("Service", &change.key.namespace, own)).into_iter().collect()
        }
        "Endpoints" => vec![Key::new("Service", &change.key.namespace, &change.key.name)],
        _ => Vec::new(),
    }
}

/// Whether anything about a pod has changed that others can see of it.
fn is_news(change: &Change) -> bool {
    let seen = |pod: &Value| {
        let (status, spec) = (&pod["status"], &pod["spec"]);
        (
            pod["metadata"]["labels"].clone(),
            status["podIPs"].clone(),
            (spec["nodeName"].clone(), spec["hostname"].clone(), spec["subdomain"].clone()),
            (pod::is_ready(pod), is_ending(pod), pod::is_terminal(pod)),
        )
    };
    change.before.as_deref().map(seen) != change.now.as_deref().map(seen)
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let slices = slices(world.cache, key);
    let endpoints = world.cache.get(&Key::new("Endpoints", &key.namespace, &key.name));
    let service = world.cache.get(key).filter(|service| !is_ending(service));
    let Some(service) = service else {
        // Slices belong to their service and go with it; Endpoints have its name only.
        if let Some(endpoints) = endpoints.filter(|own| !is_ending(own)) {
            plan.delete(kind("Endpoints"), &endpoints, None, None);
        }
        return plan;
    };
    // Without a selector, somebody else says where it answers.
    if service["spec"]["selector"].is_null() || service["spec"]["type"] == "ExternalName" {
        return plan;
    }
    let selector = selector(&service);
    let mut pods = world.cache.list("Pod", &key.namespace);
    pods.retain(|own| {
        selects(&selector, own) && pod::phase(own) != "Succeeded" && pod::phase(own) != "Failed"
    });
    for family in families(&service) {
        let wanted = wanted(world.cache, &service, &pods, family);
        let here: Vec<&Object> =
            slices.iter().filter(|slice| slice["addressType"] == family).collect();
        slice::reconcile(&service, family, wanted, &here, &mut plan);
    }
    let families = families(&service);
    let is_other = |slice: &&Object| !families.iter().any(|own| slice["addressType"] == *own);
    for slice in slices.iter().filter(is_other) {
        plan.delete(kind("EndpointSlice"), slice, None, None);
    }
    legacy(world, &service, &pods, endpoints.as_ref(), &mut plan);
    plan
}

fn slices(cache: &Cache, key: &Key) -> Vec<Object> {
    let mut slices = cache.list("EndpointSlice", &key.namespace);
    slices.retain(|slice| {
        label(slice, SERVICE) == Some(&key.name) && label(slice, MANAGED_BY) == Some(OWN)
    });
    slices
}

fn families(service: &Value) -> Vec<&'static str> {
    let named = items(&service["spec"]["ipFamilies"]).iter().filter_map(Value::as_str);
    let families: Vec<&str> = named.collect();
    let has = |family: &str| families.contains(&family);
    let mut found = Vec::new();
    if has("IPv4") || families.is_empty() {
        found.push("IPv4");
    }
    if has("IPv6") {
        found.push("IPv6");
    }
    found
}

fn address<'a>(pod: &'a Value, family: &str) -> Option<&'a str> {
    let is_six = family == "IPv6";
    let mut all = items(&pod["status"]["podIPs"]).iter().filter_map(|own| own["ip"].as_str());
    all.find(|ip| ip.contains(':') == is_six)
}

/// What slices shall say, by the ports that their pods have.
fn wanted(cache: &Cache, service: &Value, pods: &[Object], family: &str) -> Wanted {
    let mut wanted: Wanted = BTreeMap::new();
    for pod in pods {
        let Some(ip) = address(pod, family) else { continue };
        let ports = ports(service, pod);
        let entry = wanted.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new()));
        entry.1.push(endpoint(cache, service, pod, ip));
    }
    wanted
}

fn endpoint(cache: &Cache, service: &Value, pod: &Object, ip: &str) -> Value {
    let serving = pod::is_ready(pod);
    let is_published = service["spec"]["publishNotReadyAddresses"] == true;
    let mut endpoint = json!({
        "addresses": [ip],
        "conditions": {
            "ready": is_published || (serving && !is_ending(pod)),
            "serving": serving,
            "terminating": is_ending(pod),
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": namespace(pod),
            "name": name(pod),
            "uid": uid(pod),
        },
    });
    let node = pod::node(pod);
    if !node.is_empty() {
        endpoint["nodeName"] = node.into();
        let node = cache.get(&Key::new("Node", "", node));
        let zone = node.as_ref().and_then(|node| label(node, "topology.kubernetes.io/zone"));
        if let Some(zone) = zone {
            endpoint["zone"] = zone.into();
        }
    }
    let spec = &pod["spec"];
    if !spec["hostname"].is_null() && spec["subdomain"] == name(service) {
        endpoint["hostname"] = spec["hostname"].clone();
    }
    endpoint
}

/// The ports of a service as a pod has them: a name is a container's own.
fn ports(service: &Value, pod: &Value) -> Value {
    let found = items(&service["spec"]["ports"]).iter().filter_map(|port| {
        let number = target_port(port, pod)?;
        let mut found = json!({
            "name": port["name"].as_str().unwrap_or_default(),
            "port": number,
            "protocol": port["protocol"].as_str().unwrap_or("TCP"),
        });
        if !port["appProtocol"].is_null() {
            found["appProtocol"] = port["appProtocol"].clone();
        }
        Some(found)
    });
    found.collect()
}

fn target_port(port: &Value, pod: &Value) -> Option<i64> {
    let target = &port["targetPort"];
    let Some(wanted) = target.as_str() else {
        return target.as_i64().filter(|number| *number != 0).or_else(|| port["port"].as_i64());
    };
    if let Ok(number) = wanted.parse() {
        return Some(number);
    }
    let spec = &pod["spec"];
    let sidecars =
        items(&spec["initContainers"]).iter().filter(|own| own["restartPolicy"] == "Always");
    let containers = items(&spec["containers"]).iter().chain(sidecars);
    let mut all = containers.flat_map(|container| items(&container["ports"]));
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let is = |own: &&Value| {
        own["name"] == wanted && own["protocol"].as_str().unwrap_or("TCP") == protocol
    };
    all.find(is)?["containerPort"].as_i64()
}

/// Endpoints, of the first family.
fn legacy(
    world: &World<'_>,
    service: &Object,
    pods: &[Object],
    known: Option<&Object>,
    plan: &mut Plan,
) {
    let family = families(service)[0];
    let mut subsets = Vec::new();
    for (ports, endpoints) in wanted(world.cache, service, pods, family).into_values() {
        let (mut ready, mut not_ready) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            if endpoint["conditions"]["terminating"] == true
                && endpoint["conditions"]["ready"] != true
            {
                continue;
            }
            let mut address = json!({"ip": endpoint["addresses"][0]});
            for field in ["hostname", "nodeName", "targetRef"] {
                if !endpoint[field].is_null() {
                    address[field] = endpoint[field].clone();
                }
            }
            match endpoint["conditions"]["ready"] == true {
                true => ready.push(address),
                false => not_ready.push(address),
            }
        }
        ready.truncate(ADDRESSES_MAX);
        not_ready.truncate(ADDRESSES_MAX - ready.len());
        let mut subset = json!({});
        for (field, list) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            if !list.is_empty() {
                subset[field] = list.into();
            }
        }
        if subset.as_object().is_some_and(|own| !own.is_empty()) {
            subset["ports"] = without_empty_names(&ports);
            subsets.push(subset);
        }
    }
    let mut metadata = json!({"name": name(service), "namespace": namespace(service)});
    let mut labels = service["metadata"]["labels"].clone();
    labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller".into();
    if service["spec"]["clusterIP"] == "None" {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    metadata["labels"] = labels;
    let subsets = if subsets.is_empty() { Value::Null } else { subsets.into() };
    match known {
        None => {
            let mut made = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata});
            if !subsets.is_null() {
                made["subsets"] = subsets;
            }
            plan.create(kind("Endpoints"), made, service);
        }
        Some(known)
            if known["subsets"] != subsets || known["metadata"]["labels"] != metadata["labels"] =>
        {
            let mut changed = (**known).clone();
            changed["metadata"]["labels"] = metadata["labels"].clone();
            changed["subsets"] = subsets;
            let changed = crate::object::without_nulls(changed);
            plan.replace(kind("Endpoints"), changed);
        }
        Some(_) => {}
    }
}

fn without_empty_names(ports: &Value) -> Value {
    let plain = |port: &Value| {
        let mut port = port.clone();
        if port["name"] == "" {
            port.as_object_mut().map(|own| own.shift_remove("name"));
        }
        port
    };
    items(ports).iter().map(plain).collect()
}

/// What every slice of a service says of itself.
fn metadata(service: &Object) -> Value {
    let mut labels = service["metadata"]["labels"].clone();
    labels[SERVICE] = name(service).into();
    labels[MANAGED_BY] = OWN.into();
    if service["spec"]["clusterIP"] == "None" {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    json!({
        "generateName": format!("{}-", name(service)),
        "namespace": namespace(service),
        "labels": labels,
        "ownerReferences": [owner_reference(service)],
    })
}
