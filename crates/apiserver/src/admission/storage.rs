//! Volumes and claims: their class, and that they stay as long as somebody uses them
//! (`DefaultStorageClass`, `StorageObjectInUseProtection`).

use serde_json::Value;

use super::Review;
use crate::cluster::{Cluster, items};
use crate::failure::Failure;
use crate::log::LogError;
use crate::target::Target;

const GROUP: &str = "storage.k8s.io";
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const IS_DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

pub(super) fn complete(review: &mut Review<'_>) -> Result<(), Failure> {
    if review.old.is_some() {
        return Ok(());
    }
    if review.is("", "PersistentVolumeClaim") {
        give_class(review)?;
        protect(review.object, CLAIM_PROTECTION);
    }
    if review.is("", "PersistentVolume") {
        protect(review.object, VOLUME_PROTECTION);
    }
    Ok(())
}

/// The default class is the newest of those that say so, and of equally new ones the first by name.
fn give_class(review: &mut Review<'_>) -> Result<(), Failure> {
    let claim = &review.object;
    let says = !claim["spec"]["storageClassName"].is_null()
        || claim["metadata"]["annotations"][CLASS_BETA].is_string();
    if says {
        return Ok(());
    }
    let classes = review.cluster.objects(GROUP, "storageclasses", "", "is-default-class")?;
    let is_default = |class: &&Value| {
        let annotations = &class["metadata"]["annotations"];
        annotations[IS_DEFAULT] == "true" || annotations[IS_DEFAULT_BETA] == "true"
    };
    let text = |class: &Value, field: &str| {
        class["metadata"][field].as_str().unwrap_or_default().to_owned()
    };
    let newest = classes.iter().filter(is_default).max_by(|a, b| {
        let by_time = text(a, "creationTimestamp").cmp(&text(b, "creationTimestamp"));
        by_time.then_with(|| text(b, "name").cmp(&text(a, "name")))
    });
    if let Some(class) = newest {
        review.object["spec"]["storageClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}

fn protect(object: &mut Value, finalizer: &str) {
    let finalizers = items(&object["metadata"]["finalizers"]);
    if !finalizers.iter().any(|own| own == finalizer) {
        object["metadata"]["finalizers"] = [finalizers, &[finalizer.into()]].concat().into();
    }
}

/// Takes away what protects an object that is to go, if nobody uses it.
pub(crate) fn release(
    cluster: &Cluster,
    target: &Target,
    object: &mut Value,
) -> Result<(), LogError> {
    let (finalizer, is_used) = match (target.resource.group, target.resource.kind) {
        ("", "PersistentVolumeClaim") => {
            (CLAIM_PROTECTION, is_claimed(cluster, &target.namespace, &target.name)?)
        }
        ("", "PersistentVolume") => (VOLUME_PROTECTION, object["status"]["phase"] == "Bound"),
        _ => return Ok(()),
    };
    if !is_used {
        unprotect(object, finalizer);
    }
    Ok(())
}

fn unprotect(object: &mut Value, finalizer: &str) {
    let mut finalizers = items(&object["metadata"]["finalizers"]).to_vec();
    finalizers.retain(|own| own != finalizer);
    object["metadata"]["finalizers"] = finalizers.into();
}

/// Lets claims of a namespace go that were only waiting for pods that are gone.
pub(super) fn release_claims(cluster: &Cluster, namespace: &str) -> Result<(), LogError> {
    const CLAIMS: &str = "persistentvolumeclaims";
    for mut claim in cluster.objects("", CLAIMS, namespace, "deletionTimestamp")? {
        let name = claim["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let is_going = claim["metadata"]["deletionTimestamp"].is_string();
        if !is_going || is_claimed(cluster, namespace, &name)? {
            continue;
        }
        unprotect(&mut claim, CLAIM_PROTECTION);
        match cluster.let_go("", CLAIMS, &claim) {
            // Whoever changed it meanwhile, or the next pod that goes, lets it go.
            Ok(()) | Err(LogError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a pod that has not ended has a volume of the claim.
fn is_claimed(cluster: &Cluster, namespace: &str, name: &str) -> Result<bool, LogError> {
    let pods = cluster.objects("", "pods", namespace, "")?;
    Ok(pods.iter().any(|pod| {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        !matches!(phase, "Succeeded" | "Failed")
            && crate::authorization::claims(pod).iter().any(|claim| claim.as_str() == name)
    }))
}
