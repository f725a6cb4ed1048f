//! Nodes change what is theirs, and nothing else (`NodeRestriction`).

use serde_json::Value;

use super::Review;
use crate::cluster::items;
use crate::failure::Failure;
use crate::request::Request;
use crate::target::Target;

/// What a pod is marked with that stands for one that a node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What labels begin with that no node gives itself.
const RESTRICTED: &str = "node-restriction.kubernetes.io/";

/// Whether a pod stands for one that a node runs by itself.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"][MIRROR].is_string()
}

pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    let Some(node) = review.request.user.as_node() else { return Ok(()) };
    let of = &review.target.resource;
    match (of.group, of.kind) {
        ("", "Node") => check_node(review, node),
        ("", "Pod") => check_pod(review, node),
        ("coordination.k8s.io", "Lease") if review.name() != node => Err(review
            .forbidden("can only access node lease with the same name as the requesting node")),
        ("storage.k8s.io", "CSINode") if review.name() != node => {
            Err(review
                .forbidden("can only access CSINode with the same name as the requesting node"))
        }
        _ => Ok(()),
    }
}

fn check_node(review: &Review<'_>, node: &str) -> Result<(), Failure> {
    if review.name() != node {
        let why = format!("node {node:?} is not allowed to modify node {:?}", review.name());
        return Err(review.forbidden(&why));
    }
    let labels =
        |object: &Value| object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let old = review.old.map(labels).unwrap_or_default();
    let new = labels(review.object);
    let mut changed: Vec<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
    changed.retain(|key| is_restricted(key) && old.get(*key) != new.get(*key));
    changed.sort_unstable();
    changed.dedup();
    if !changed.is_empty() {
        let why = format!("is not allowed to modify labels: {}", changed.join(", "));
        return Err(review.forbidden(&why));
    }
    let is_same =
        review.old.is_none_or(|old| old["spec"]["taints"] == review.object["spec"]["taints"]);
    let is_status = review.target.subresource == "status";
    match is_same || is_status {
        true => Ok(()),
        false => Err(review.forbidden(&format!("node {node:?} is not allowed to modify taints"))),
    }
}

/// Whether a label's key has a prefix that only others give (`kubeletapis.IsForbiddenLabel`).
fn is_restricted(key: &str) -> bool {
    key.starts_with(RESTRICTED) || key.contains(&format!(".{RESTRICTED}"))
}

fn check_pod(review: &Review<'_>, node: &str) -> Result<(), Failure> {
    let pod = review.old.unwrap_or(review.object);
    let is_own = pod["spec"]["nodeName"] == *node;
    if review.old.is_some() {
        return match is_own {
            true => Ok(()),
            false => Err(review.forbidden(&format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ))),
        };
    }
    if !is_mirror(pod) {
        let why = format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        );
        return Err(review.forbidden(&why));
    }
    if !is_own {
        let why = format!("node {node:?} can only create pods with spec.nodeName set to itself");
        return Err(review.forbidden(&why));
    }
    let is_node = |owner: &Value| owner["kind"] == "Node" && owner["name"] == *node;
    match items(&pod["metadata"]["ownerReferences"]) {
        [owner] if is_node(owner) => Ok(()),
        _ => Err(review.forbidden(&format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ))),
    }
}

/// A node removes its own pods, whoever asks for it: by a removal, or by an eviction.
pub(super) fn check_delete(request: &Request, target: &Target, old: &Value) -> Result<(), Failure> {
    let of = &target.resource;
    let Some(node) = request.user.as_node() else { return Ok(()) };
    match (of.group, of.kind) {
        ("", "Pod") if old["spec"]["nodeName"] != *node => {
            let why =
                format!("node {node:?} can only delete pods with spec.nodeName set to itself");
            Err(Failure::forbidden(of, &target.name, &why))
        }
        ("", "Node") if target.name != node => {
            let why = format!("node {node:?} is not allowed to modify node {:?}", target.name);
            Err(Failure::forbidden(of, &target.name, &why))
        }
        _ => Ok(()),
    }
}
