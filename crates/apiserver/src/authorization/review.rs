//! Questions that are answered at once: who am I, whose token is this, and who may do what.

use serde_json::{Value, json};

use super::{Attributes, Decision};
use crate::authentication::User;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::request::{Answer, Request};
use crate::target::Target;

/// Answers a review.
pub(crate) fn answer(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    if request.method != "POST" {
        return Err(Failure::method_not_allowed());
    }
    let of = &target.resource;
    let mut asked = request.object()?;
    let metadata = asked.remove("metadata").filter(Value::is_object);
    let spec = asked.remove("spec").unwrap_or_else(|| json!({}));
    let status = status(cluster, request, target, &spec)?;
    let mut metadata = metadata.unwrap_or_else(|| json!({}));
    metadata["creationTimestamp"] = Value::Null;
    let mut answer = json!({"kind": of.kind, "apiVersion": of.api_version(), "metadata": metadata});
    if of.kind != "SelfSubjectReview" {
        answer["spec"] = spec;
    }
    answer["status"] = status;
    Ok(Answer::document(201, answer))
}

fn status(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    spec: &Value,
) -> Result<Value, Failure> {
    let kind = target.resource.kind;
    match kind {
        "SelfSubjectReview" => Ok(json!({"userInfo": request.user.to_json()})),
        "SelfSubjectAccessReview" => access(cluster, kind, &request.user, spec),
        "SubjectAccessReview" => access(cluster, kind, &subject(kind, spec)?, spec),
        "LocalSubjectAccessReview" => {
            let asked = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
            if asked != target.namespace {
                let why = format!("must match metadata.namespace {:?}", target.namespace);
                return Err(invalid(kind, "spec.resourceAttributes.namespace", asked, &why));
            }
            access(cluster, kind, &subject(kind, spec)?, spec)
        }
        "SelfSubjectRulesReview" => rules(cluster, &request.user, spec),
        "TokenReview" => Ok(token(cluster, spec)),
        other => Err(Failure::not_implemented(other)),
    }
}

fn invalid(kind: &str, field: &str, value: &str, why: &str) -> Failure {
    let message = format!(
        "{kind}.authorization.k8s.io \"\" is invalid: {field}: Invalid value: {value:?}: {why}"
    );
    Failure { code: 422, reason: "Invalid", ..Failure::bad_request(message) }
}

/// Of whom a review asks.
fn subject(kind: &str, spec: &Value) -> Result<User, Failure> {
    let list = |value: &Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    let user = User {
        name: text("user"),
        uid: text("uid"),
        groups: list(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.to_lowercase(), list(values))).collect(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(invalid(kind, "spec.user", "", why));
    }
    Ok(user)
}

fn attributes(kind: &str, spec: &Value) -> Result<Attributes, Failure> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    match (resource.is_object(), path.is_object()) {
        (true, false) => Ok(Attributes {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            version: text(resource, "version"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: String::new(),
        }),
        (false, true) => Ok(Attributes {
            verb: text(path, "verb"),
            path: Some(text(path, "path")).filter(|p| !p.is_empty()).unwrap_or_else(|| "/".into()),
            ..Attributes::default()
        }),
        _ => {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(invalid(kind, "spec.resourceAttributes", "", why))
        }
    }
}

fn access(cluster: &Cluster, kind: &str, user: &User, spec: &Value) -> Result<Value, Failure> {
    let asked = attributes(kind, spec)?;
    let (allowed, reason) = match cluster.decide(user, &asked)? {
        Decision::Allowed(reason) => (true, reason),
        Decision::NoOpinion(reason) => (false, reason),
    };
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
}

fn rules(cluster: &Cluster, user: &User, spec: &Value) -> Result<Value, Failure> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let (mut of_resources, mut of_paths) = (Vec::new(), Vec::new());
    for rule in cluster.policy()?.rules_of(user, namespace) {
        match rule.paths.is_empty() {
            true => of_resources.push(rule.to_json()),
            false => of_paths.push(rule.to_json()),
        }
    }
    let mut status = json!({
        "resourceRules": of_resources,
        "nonResourceRules": of_paths,
        "incomplete": false,
    });
    if user.as_node().is_some() {
        status["incomplete"] = true.into();
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    Ok(status)
}

fn token(cluster: &Cluster, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let wanted: Vec<String> = crate::cluster::items(&spec["audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    match cluster.user_of_token(token, &wanted) {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user.to_json(), "audiences": audiences})
        }
        Err(why) => json!({"user": {}, "error": why}),
    }
}
