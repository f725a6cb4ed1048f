//! Parts of objects that have a form of their own: how many replicas, which node.

use objects::custom::Path;
use objects::resource::Resource;
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::request::{Answer, Request};
use crate::target::Target;
use crate::webhook;

pub(crate) fn answer(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    if webhook::is_connection(&target.subresource) {
        let options = webhook::connection_options(request, target);
        cluster.enforce(request, target, &Value::Null, &options)?;
    }
    match (target.subresource.as_str(), request.method.as_str()) {
        ("scale", "GET") => {
            let object = cluster.find(&whole(target))?.object;
            Ok(Answer::document(200, scale_of(&target.resource, &object)?))
        }
        ("scale", "PUT" | "PATCH") => set_scale(cluster, request, target),
        ("token", "POST") => crate::authentication::request_token(cluster, request, &whole(target)),
        ("binding", "POST") => bind(cluster, request, target),
        ("eviction", "POST") => evict(cluster, request, target),
        ("exec" | "attach", "GET" | "POST") => crate::pods::talk(cluster, request, target),
        ("portforward", "GET" | "POST") => crate::forward::answer(cluster, request, target),
        ("log", "GET") if target.resource.kind == "Pod" => {
            crate::pods::log(cluster, request, target)
        }
        ("proxy", _) if target.resource.kind == "Node" => {
            crate::metrics::of_node(cluster, request, target)
        }
        ("proxy", _) => crate::proxy::answer(cluster, request, target),
        ("scale" | "binding" | "eviction" | "token", _) => Err(Failure::method_not_allowed()),
        (other, _) => Err(Failure::not_implemented(&format!("{}/{other}", target.resource.plural))),
    }
}

/// The object that it is a part of.
fn whole(target: &Target) -> Target {
    Target { subresource: String::new(), ..target.clone() }
}

/// `autoscaling/v1`, `Scale`.
fn scale_of(of: &Resource, object: &Value) -> Result<Value, Failure> {
    let metadata = &object["metadata"];
    let (wanted, there, selected) = match of.definition.as_ref().and_then(|d| d.scale.as_ref()) {
        Some(scale) => {
            let get = |path: &Path| path.get(object).cloned().unwrap_or_default();
            let selected = scale.selector.as_ref().map(get).unwrap_or_default();
            let selected = selected.as_str().unwrap_or_default().to_owned();
            (get(&scale.spec), get(&scale.status).as_i64().unwrap_or_default(), selected)
        }
        None => (
            object["spec"]["replicas"].clone(),
            object["status"]["replicas"].as_i64().unwrap_or_default(),
            selector_of(object),
        ),
    };
    if wanted.is_null() && of.definition.is_some() {
        let message = "the spec replicas field of the object has no value to scale";
        return Err(Failure::internal(message));
    }
    Ok(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": wanted},
        "status": {"replicas": there, "selector": selected},
    }))
}

/// Which pods are those of a workload, as a selector in one line.
fn selector_of(object: &Value) -> String {
    let selector = match object["kind"].as_str() {
        Some("ReplicationController") => json!({"matchLabels": object["spec"]["selector"]}),
        _ => object["spec"]["selector"].clone(),
    };
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut terms: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    terms.sort();
    terms.join(",")
}

fn set_scale(cluster: &Cluster, request: &Request, target: &Target) -> Result<Answer, Failure> {
    let body: Map<String, Value> = match request.method.as_str() {
        "PUT" => request.object()?,
        _ => {
            let found = cluster.find(&whole(target))?.object;
            let mut scale = scale_of(&target.resource, &found)?;
            match request.content_type.as_str() {
                "application/json-patch+json" => {
                    crate::operations::patch(&mut scale, &crate::request::json(&request.body)?)?;
                }
                _ => objects::patch::merge(&mut scale, crate::request::json(&request.body)?),
            }
            crate::request::object(scale)?
        }
    };
    let replicas = body.get("spec").map_or(Value::Null, |spec| spec["replicas"].clone());
    if !replicas.is_i64() && !replicas.is_null() {
        return Err(Failure::bad_request("spec.replicas must be a number"));
    }
    let replicas = Value::from(replicas.as_i64().unwrap_or_default());
    let custom = target.resource.definition.as_ref().and_then(|d| d.scale.as_ref());
    let mut patch = match custom {
        Some(scale) => scale.spec.patch(replicas),
        None => json!({"spec": {"replicas": replicas}}),
    };
    let version = body.get("metadata").map_or(Value::Null, |m| m["resourceVersion"].clone());
    if request.method == "PUT" && version.is_string() {
        patch["metadata"] = json!({"resourceVersion": version});
    }
    let inner = Request {
        method: "PATCH".to_owned(),
        content_type: "application/merge-patch+json".to_owned(),
        body: patch.to_string().into_bytes(),
        ..request.clone()
    };
    let changed = cluster.patch(&inner, &whole(target))?;
    Ok(Answer::document(200, scale_of(&target.resource, &changed.object)?))
}

/// A node for a pod.
fn bind(cluster: &Cluster, request: &Request, target: &Target) -> Result<Answer, Failure> {
    let body = request.object()?;
    let node = body.get("target").map_or("", |t| t["name"].as_str().unwrap_or_default());
    if node.is_empty() {
        return Err(Failure::bad_request("target.name: Required value"));
    }
    let uid = body.get("metadata").map_or("", |own| own["uid"].as_str().unwrap_or_default());
    cluster.bind(request, &whole(target), (node, uid))?;
    Ok(Answer::document(201, success()))
}

fn evict(cluster: &Cluster, request: &Request, target: &Target) -> Result<Answer, Failure> {
    use crate::cluster::delete::Options;
    let body = request.object()?;
    let options = body.get("deleteOptions").cloned().unwrap_or_else(|| json!({}));
    let inner = Request {
        content_type: "application/json".to_owned(),
        body: options.to_string().into_bytes(),
        ..request.clone()
    };
    let options = Options::of(&inner)?;
    if !options.is_dry_run {
        cluster.may_evict(&cluster.find(&whole(target))?.object)?;
    }
    let _ = cluster.delete(request, &whole(target), &options)?;
    Ok(Answer::document(201, success()))
}

fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
