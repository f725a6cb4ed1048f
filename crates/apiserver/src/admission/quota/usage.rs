//! What an object takes from a quota (upstream's `pkg/quota/v1/evaluator/core`).

use std::collections::{BTreeMap, BTreeSet};

use objects::Quantity;
use objects::resource::{Access, Resource};
use serde_json::Value;

use super::scopes;
use crate::admission::pod::{Amounts, add, amounts, containers, quantity, total};
use crate::cluster::{Cluster, items};
use crate::failure::Failure;

/// Kinds that quotas count by their names alone, as they did before all could be.
const BY_NAME: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
/// What a quota of pods wants to be told of each container.
const TOLD: &[&str] =
    &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Whether quotas count objects of a resource. Events come and go as they like.
pub(super) fn is_counted(of: &Resource) -> bool {
    of.kind != "Event" && of.access == Access::Stored
}

/// What an object takes from a quota; nothing where the quota is not about it.
pub(super) fn of(quota: &Value, of: &Resource, object: &Value) -> Amounts {
    if !matches(quota, of, object) {
        return Amounts::new();
    }
    let hard = quota["spec"]["hard"].as_object();
    let mut all = all(of, object);
    all.retain(|name, amount| {
        hard.is_some_and(|hard| hard.contains_key(name)) && *amount != Quantity::ZERO
    });
    all
}

/// What all objects of a namespace take from a quota.
pub(super) fn count(cluster: &Cluster, quota: &Value, namespace: &str) -> Result<Amounts, Failure> {
    let mut sum = Amounts::new();
    let mut seen = BTreeSet::new();
    let counted = Resource::built_in().iter().filter(|of| of.is_namespaced && is_counted(of));
    for of in counted.filter(|of| is_about(quota, of)) {
        // All versions of a group have the same objects.
        if seen.insert((of.group, of.plural)) {
            for object in cluster.objects(of.group, of.plural, namespace, "")? {
                add(&mut sum, &self::of(quota, of, &object));
            }
        }
    }
    Ok(sum)
}

/// Whether a quota limits anything that objects of a resource take.
fn is_about(quota: &Value, of: &Resource) -> bool {
    let counted = counted_as(of);
    let mut names = quota["spec"]["hard"].as_object().into_iter().flatten().map(|(name, _)| name);
    names.any(|name| match (of.group, of.kind) {
        ("", "Pod") => !name.starts_with("count/") || *name == counted,
        ("", "PersistentVolumeClaim") => {
            name.contains("storage") || name == "persistentvolumeclaims" || *name == counted
        }
        ("", "Service") => name.starts_with("services") || *name == counted,
        _ => *name == counted || name == of.plural,
    })
}

fn counted_as(of: &Resource) -> String {
    match of.group {
        "" => format!("count/{}", of.plural),
        group => format!("count/{}.{group}", of.plural),
    }
}

fn all(of: &Resource, object: &Value) -> Amounts {
    let one = Quantity::units(1);
    let mut all = Amounts::from([(counted_as(of), one)]);
    if of.group.is_empty() && BY_NAME.contains(&of.plural) {
        all.insert(of.plural.to_owned(), one);
    }
    match (of.group, of.kind) {
        ("", "Pod") if !has_ended(object) => {
            all.insert("pods".to_owned(), one);
            all.extend(compute(&total(object, "requests"), &total(object, "limits")));
        }
        ("", "Service") => all.extend(of_service(object)),
        ("", "PersistentVolumeClaim") => all.extend(of_claim(object)),
        _ => {}
    }
    all
}

fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// What is requested and limited, under the names that quotas have for it.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut all = Amounts::new();
    for (name, amount) in requests {
        let is_plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if is_plain || name.starts_with("hugepages-") {
            all.insert(name.clone(), *amount);
        }
        if is_plain || name.starts_with("hugepages-") || name.contains('/') {
            all.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            all.insert(format!("limits.{name}"), *amount);
        }
    }
    all
}

fn of_service(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let ports = Quantity::units(items(&spec["ports"]).len() as i64);
    let allocates = spec["allocateLoadBalancerNodePorts"] != false;
    let own = match spec["type"].as_str() {
        Some("NodePort") => vec![("services.nodeports", ports)],
        Some("LoadBalancer") if allocates => {
            vec![("services.loadbalancers", Quantity::units(1)), ("services.nodeports", ports)]
        }
        Some("LoadBalancer") => vec![("services.loadbalancers", Quantity::units(1))],
        _ => Vec::new(),
    };
    own.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

fn of_claim(claim: &Value) -> Amounts {
    let bytes = quantity(&claim["spec"]["resources"]["requests"]["storage"]);
    let mut all = Amounts::from([("requests.storage".to_owned(), bytes)]);
    let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
    if !class.is_empty() {
        let own = format!("{class}.storageclass.storage.k8s.io");
        all.insert(format!("{own}/persistentvolumeclaims"), Quantity::units(1));
        all.insert(format!("{own}/requests.storage"), bytes);
    }
    all
}

/// Whether an object is within all scopes of a quota.
fn matches(quota: &Value, of: &Resource, object: &Value) -> bool {
    let is_pod = of.group.is_empty() && of.kind == "Pod";
    scopes(quota)
        .iter()
        .all(|(scope, operator, values)| is_pod && is_in_scope(object, scope, operator, values))
}

fn is_in_scope(pod: &Value, scope: &str, operator: &str, values: &[String]) -> bool {
    let spec = &pod["spec"];
    let is_best_effort = || {
        containers(pod).all(|container| {
            let resources = &container["resources"];
            amounts(&resources["requests"]).is_empty() && amounts(&resources["limits"]).is_empty()
        })
    };
    match scope {
        "BestEffort" => is_best_effort(),
        "NotBestEffort" => !is_best_effort(),
        "Terminating" => spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0),
        "NotTerminating" => spec["activeDeadlineSeconds"].is_null(),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().unwrap_or_default();
            match operator {
                "In" => values.iter().any(|value| value == class),
                "NotIn" => !values.iter().any(|value| value == class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

/// Whether a pod wants to be near or far from pods of other namespaces.
fn crosses_namespaces(spec: &Value) -> bool {
    let crosses = |term: &Value| {
        !items(&term["namespaces"]).is_empty() || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][kind];
        let needed = items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]);
        let wanted = items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"]);
        needed.iter().any(crosses) || wanted.iter().any(|one| crosses(&one["podAffinityTerm"]))
    })
}

/// Refuses a pod that does not say what a quota counts.
pub(super) fn check_complete(quota: &Value, of: &Resource, pod: &Value) -> Result<(), String> {
    let hard = quota["spec"]["hard"].as_object();
    if !of.group.is_empty() || of.kind != "Pod" || !matches(quota, of, pod) {
        return Ok(());
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in containers(pod) {
        let resources = &container["resources"];
        let told = compute(&amounts(&resources["requests"]), &amounts(&resources["limits"]));
        let wanted = TOLD.iter().filter(|name| hard.is_some_and(|hard| hard.contains_key(**name)));
        for name in wanted.filter(|name| !told.contains_key(**name)) {
            let own = container["name"].as_str().unwrap_or_default();
            missing.entry(name).or_default().insert(own);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let one = |(name, of): (&&str, &BTreeSet<&str>)| {
        format!("{name} for: {}", of.iter().copied().collect::<Vec<_>>().join(","))
    };
    let all: Vec<String> = missing.iter().map(one).collect();
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    Err(format!("failed quota: {name}: must specify {}", all.join("; ")))
}
