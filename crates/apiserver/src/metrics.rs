//! What nodes and pods use: `metrics.k8s.io/v1beta1`, as metrics-server answers it, and what nodes
//! themselves answer upstream.

mod exposition;

use std::collections::{BTreeMap, BTreeSet};

use objects::resource::Resource;
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, items};
use crate::failure::Failure;
use crate::request::{Answer, Request};
use crate::select::Select;
use crate::target::Target;

/// The group whose resources are measured.
pub(crate) const GROUP: &str = "metrics.k8s.io";

/// `GET /apis/metrics.k8s.io/v1beta1/…`
pub(crate) fn answer(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    if target.is_watch || request.is_set("watch") {
        return Err(Failure::method_not_allowed());
    }
    let shown = crate::api::shown(request)?;
    let plural = target.resource.plural;
    let of = Cluster::resource("", plural);
    let select = Select::of(request, of)?;
    let is_wanted = |object: &Value| {
        let is_named = target.name.is_empty() || object["metadata"]["name"] == *target.name;
        is_named && select.matches(object)
    };
    let mut objects = cluster.objects("", plural, &target.namespace, &target.name)?;
    objects.retain(is_wanted);
    let found = match plural {
        "nodes" => nodes(cluster, &objects),
        _ => pods(cluster, &objects),
    };
    let found: Vec<Value> = found.iter().map(|one| typed(&target.resource, one)).collect();
    if target.name.is_empty() {
        return Ok(Answer::document(200, shown.list(&target.resource, found, &json!({}))));
    }
    match &found[..] {
        [one] => Ok(Answer::document(200, shown.one(&target.resource, one))),
        _ => Err(missing(target)),
    }
}

/// In the words of metrics-server: a pod with its namespace.
fn missing(target: &Target) -> Failure {
    let name = match target.namespace.as_str() {
        "" => target.name.clone(),
        namespace => format!("{namespace}/{}", target.name),
    };
    let resource = Resource {
        plural: if target.namespace.is_empty() { "nodemetrics" } else { "podmetrics" },
        ..(*target.resource).clone()
    };
    Failure::not_found(&resource, &name)
}

fn typed(of: &Resource, metrics: &Value) -> Value {
    let mut object = Map::new();
    object.insert("kind".to_owned(), of.kind.into());
    object.insert("apiVersion".to_owned(), of.api_version().into());
    object.extend(metrics.as_object().cloned().unwrap_or_default());
    object.into()
}

/// What is measured of nodes, by their names. One that does not answer is left out.
fn summaries<'a>(
    cluster: &Cluster,
    nodes: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, Value> {
    let names: BTreeSet<&str> = nodes.filter(|name| !name.is_empty()).collect();
    let one = |name: &str| Some((name.to_owned(), cluster.summary(name).ok()?));
    names.into_iter().filter_map(one).collect()
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn nodes(cluster: &Cluster, objects: &[Value]) -> Vec<Value> {
    let all = summaries(cluster, objects.iter().map(name_of));
    let metrics = |object: &Value| {
        let node = &all.get(name_of(object))?["node"];
        let (at, window) = measured(&node["cpu"])?;
        Some(json!({
            "metadata": metadata(object, &at),
            "timestamp": at,
            "window": window,
            "usage": usage(node)?,
        }))
    };
    objects.iter().filter_map(metrics).collect()
}

fn pods(cluster: &Cluster, objects: &[Value]) -> Vec<Value> {
    let node_of =
        |object: &Value| object["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = objects.iter().map(node_of).collect();
    let all = summaries(cluster, names.iter().map(String::as_str));
    let by_uid: BTreeMap<&str, &Value> = all
        .values()
        .flat_map(|summary| items(&summary["pods"]))
        .filter_map(|pod| Some((pod["podRef"]["uid"].as_str()?, pod)))
        .collect();
    let metrics = |object: &Value| {
        let pod = by_uid.get(object["metadata"]["uid"].as_str()?)?;
        let all = items(&pod["containers"]);
        let containers: Option<Vec<Value>> = all
            .iter()
            .map(|one| Some(json!({"name": one["name"], "usage": usage(one)?})))
            .collect();
        // A pod of which a part is not known yet would seem to use less.
        let containers = containers.filter(|containers| !containers.is_empty())?;
        let (at, window) = all.iter().filter_map(|one| measured(&one["cpu"])).next_back()?;
        Some(json!({
            "metadata": metadata(object, &at),
            "timestamp": at,
            "window": window,
            "containers": containers,
        }))
    };
    objects.iter().filter_map(metrics).collect()
}

/// Those of the object that metrics-server passes on.
fn metadata(object: &Value, at: &Value) -> Value {
    let mut metadata = json!({"name": object["metadata"]["name"]});
    for field in ["namespace", "labels"] {
        if !object["metadata"][field].is_null() {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    metadata["creationTimestamp"] = at.clone();
    metadata
}

/// When something was measured, and over which time.
fn measured(cpu: &Value) -> Option<(Value, Value)> {
    cpu["window"].is_string().then(|| (cpu["time"].clone(), cpu["window"].clone()))
}

/// As metrics-server writes amounts.
fn usage(of: &Value) -> Option<Value> {
    let cpu = of["cpu"]["usageNanoCores"].as_u64()?;
    let memory = of["memory"]["workingSetBytes"].as_u64()?;
    Some(json!({"cpu": format!("{cpu}n"), "memory": format!("{}Ki", memory / 1024)}))
}

/// `GET /api/v1/nodes/NAME/proxy/…`: what nodes answer upstream, as far as there is any of it here.
pub(crate) fn of_node(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    if request.method != "GET" {
        return Err(Failure::method_not_allowed());
    }
    let whole = Target { subresource: String::new(), rest: String::new(), ..target.clone() };
    cluster.find(&whole)?;
    let summary = || cluster.summary(&target.name);
    match target.rest.as_str() {
        "stats/summary" => Ok(Answer::document(200, summary()?)),
        "metrics/resource" => Ok(Answer::Text(200, exposition::write(&summary()?))),
        "healthz" => Ok(Answer::Text(200, "ok".to_owned())),
        other => Err(Failure::not_implemented(&format!("nodes/proxy to /{other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_metrics_server_writes_them() {
        let of = json!({"cpu": {"usageNanoCores": 1_500_000}, "memory": {"workingSetBytes": 2048}});
        assert_eq!(usage(&of), Some(json!({"cpu": "1500000n", "memory": "2Ki"})));
        assert_eq!(usage(&json!({"cpu": {}})), None);
    }
}
