//! Service accounts of pods, and secrets with their tokens (`ServiceAccount`).

use serde_json::{Value, json};

use super::{Review, node};
use crate::authentication::fill_secret;
use crate::cluster::{items, random};
use crate::failure::Failure;

/// Where containers find the token of their account.
const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token in a pod lives, in seconds: what tells it from one that somebody asked for.
const SECONDS: i64 = 3607;

/// Gives a pod its account, with a token, and the secrets that its images are pulled with.
pub(super) fn complete(review: &mut Review<'_>) -> Result<(), Failure> {
    if review.is("", "Secret") {
        fill_secret(review.cluster, review.object);
        return Ok(());
    }
    if !review.is_new_pod() || node::is_mirror(review.object) {
        return Ok(());
    }
    let spec = &mut review.object["spec"];
    if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        spec["serviceAccountName"] = "default".into();
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    let account = account(review)?;
    let spec = &mut review.object["spec"];
    let mounts =
        match (&spec["automountServiceAccountToken"], &account["automountServiceAccountToken"]) {
            (Value::Bool(own), _) | (_, Value::Bool(own)) => *own,
            _ => true,
        };
    if mounts {
        mount_token(spec);
    }
    if items(&spec["imagePullSecrets"]).is_empty()
        && !items(&account["imagePullSecrets"]).is_empty()
    {
        spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    Ok(())
}

/// A pod that stands for one that a node runs by itself has no account.
pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    if !review.is_new_pod() || !node::is_mirror(review.object) {
        return Ok(());
    }
    let spec = &review.object["spec"];
    if !spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        return Err(review.forbidden("a mirror pod may not reference service accounts"));
    }
    let uses = |what: &str| {
        items(&spec["volumes"]).iter().any(|volume| {
            let sources = items(&volume["projected"]["sources"]).iter();
            !volume[what].is_null() || sources.into_iter().any(|source| !source[what].is_null())
        })
    };
    match (uses("secret"), uses("serviceAccountToken")) {
        (true, _) => Err(review.forbidden("a mirror pod may not reference secrets")),
        (_, true) => {
            let why = "a mirror pod may not use ServiceAccountToken volume projections";
            Err(review.forbidden(why))
        }
        _ => Ok(()),
    }
}

fn account(review: &Review<'_>) -> Result<Value, Failure> {
    let name = review.object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    let namespace = review.namespace();
    let account = review.cluster.object("", "serviceaccounts", namespace, name);
    account.ok_or_else(|| {
        review.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })
}

/// Mounts a volume with a token into all containers that have nothing there.
fn mount_token(spec: &mut Value) {
    let suffix: String = crate::cluster::suffix(&random::<5>());
    let volumes = items(&spec["volumes"]).iter();
    let is_token = |volume: &&Value| {
        volume["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-"))
    };
    let known = volumes.into_iter().find(is_token).and_then(|volume| volume["name"].as_str());
    let (name, is_known) = match known {
        Some(name) => (name.to_owned(), true),
        None => (format!("kube-api-access-{suffix}"), false),
    };
    let mut needed = false;
    for kind in ["initContainers", "containers"] {
        for container in spec[kind].as_array_mut().into_iter().flatten() {
            let mounts = items(&container["volumeMounts"]);
            if mounts.iter().any(|mount| mount["mountPath"] == PLACE) {
                continue;
            }
            let own = json!({"name": name, "readOnly": true, "mountPath": PLACE});
            container["volumeMounts"] = [mounts, &[own]].concat().into();
            needed = true;
        }
    }
    if needed && !is_known {
        spec["volumes"] = [items(&spec["volumes"]), &[volume(&name)]].concat().into();
    }
}

fn volume(name: &str) -> Value {
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    json!({
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
            ],
            "defaultMode": 420,
        },
    })
}
