//! Namespaces: nothing is made in one that is not there or is going, and every one has what pods
//! need (`NamespaceLifecycle`, and the controllers that furnish namespaces).

use serde_json::json;

use super::Review;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::log::LogError;
use crate::target::Target;

/// Those that cannot be removed.
const LASTING: &[&str] = &["default", "kube-system", "kube-public"];
/// Where pods find the certificate of the cluster's authority.
const ROOT: &str = "kube-root-ca.crt";

pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    if review.old.is_some() || !review.target.resource.is_namespaced {
        return Ok(());
    }
    let name = review.namespace();
    let Some(namespace) = review.cluster.object("", "namespaces", "", name) else {
        return Err(Failure::not_found(Cluster::resource("", "namespaces"), name));
    };
    if namespace["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let mut failure = review.forbidden(&format!(
        "unable to create new content in namespace {name} because it is being terminated"
    ));
    failure.details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {name} is being terminated"),
        "field": "metadata.namespace",
    }]);
    Err(failure)
}

pub(super) fn check_delete(target: &Target) -> Result<(), Failure> {
    let of = &target.resource;
    let is_lasting =
        of.group.is_empty() && of.kind == "Namespace" && LASTING.contains(&target.name.as_str());
    match is_lasting {
        true => Err(Failure::forbidden(of, &target.name, "this namespace may not be deleted")),
        false => Ok(()),
    }
}

/// Makes what every namespace has where it is not.
pub(crate) fn furnish(cluster: &Cluster, name: &str) -> Result<(), LogError> {
    let Some(namespace) = cluster.object("", "namespaces", "", name) else { return Ok(()) };
    if !namespace["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let account = json!({"metadata": {"name": "default", "namespace": name}});
    cluster.ensure("", "serviceaccounts", account)?;
    let root = json!({
        "metadata": {
            "name": ROOT,
            "namespace": name,
            "annotations": {
                "kubernetes.io/description": "Contains a CA bundle that can be used to verify the \
                    kube-apiserver when using internal endpoints such as the internal service IP or \
                    kubernetes.default.svc. No other usage is guaranteed across distributions of \
                    Kubernetes clusters.",
            },
        },
        "data": {"ca.crt": *cluster.trust.authority},
    });
    if cluster.ensure("", "configmaps", root.clone())? {
        return Ok(());
    }
    let Some(mut own) = cluster.object("", "configmaps", name, ROOT) else { return Ok(()) };
    if own["data"] == root["data"] || cluster.trust.authority.is_empty() {
        return Ok(());
    }
    own["data"] = root["data"].clone();
    match cluster.overwrite("", "configmaps", &own) {
        Err(LogError::Conflict(_)) => Ok(()),
        done => done,
    }
}
