//! The local provisioner: volumes that are directories of a node.
//!
//! This controller makes the volume's object, for the node that the scheduler has selected; the node
//! makes the directory when the first pod mounts it, and removes it when the object is to go, which a
//! finalizer waits for.

use client::{Cache, Key, Object, kind};
use objects::Quantity;
use serde_json::{Value, json};

use crate::object::{annotation, is_ending, items, name, namespace, uid};
use crate::plan::Plan;

/// Who makes these volumes, as classes name it.
pub(super) const PROVISIONER: &str = "cais/local-path";
/// What keeps a volume's object until its directory is gone.
const FINALIZER: &str = "cais/local-path";
/// Where a node says that its volumes lie.
const PLACE: &str = "cais/local-path";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// What a directory of one node can be.
const MODES: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

/// Makes a volume for a claim on the node that was selected for it.
pub(super) fn provision(
    cache: &Cache,
    claim: &Object,
    class: &Object,
    node: Option<&str>,
    plan: &mut Plan,
) {
    match volume(cache, claim, class, node) {
        Ok(volume) => {
            let message = format!("Successfully provisioned volume {}", name(&volume));
            plan.actions.push(crate::plan::Action::Create {
                of: kind("PersistentVolume"),
                object: volume,
                owner: None,
            });
            plan.tell(claim, "ProvisioningSucceeded", message);
        }
        Err(why) => {
            let message =
                format!("failed to provision volume with StorageClass {:?}: {why}", name(class));
            plan.warn(claim, "ProvisioningFailed", message);
        }
    }
}

fn volume(
    cache: &Cache,
    claim: &Value,
    class: &Value,
    node: Option<&str>,
) -> Result<Value, String> {
    let (spec, modes) = (&claim["spec"], items(&claim["spec"]["accessModes"]));
    if let Some(mode) = modes.iter().find(|mode| !MODES.iter().any(|known| *mode == known)) {
        let mode = mode.as_str().unwrap_or_default();
        return Err(format!("access mode {mode} is not supported: {} are", MODES.join(" and ")));
    }
    if spec["volumeMode"] == "Block" {
        return Err("volumeMode Block is not supported: a volume is a directory".to_owned());
    }
    for field in ["selector", "dataSource", "dataSourceRef"] {
        if !spec[field].is_null() {
            return Err(format!("claim.spec.{field} is not supported"));
        }
    }
    let selected =
        node.ok_or("no node was specified: volumeBindingMode must be WaitForFirstConsumer")?;
    let node = cache.get(&Key::new("Node", "", selected));
    let node = node.ok_or_else(|| format!("node {selected:?} not found"))?;
    let place = annotation(&node, PLACE)
        .ok_or_else(|| format!("node {selected:?} has no place for local volumes"))?;
    let asked = &spec["resources"]["requests"]["storage"];
    check_room(asked, &node)?;
    let own = format!("pvc-{}", uid(claim));
    let path = format!("{place}/{own}_{}_{}", namespace(claim), name(claim));
    let hostname = &node["metadata"]["labels"][HOSTNAME];
    let term =
        json!({"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [hostname]}]});
    let reclaim = class["reclaimPolicy"].as_str().unwrap_or("Delete");
    Ok(json!({
        "metadata": {
            "name": own,
            "annotations": {PROVISIONED_BY: PROVISIONER},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": asked},
            "claimRef": {
                "kind": "PersistentVolumeClaim", "apiVersion": "v1",
                "namespace": namespace(claim), "name": name(claim), "uid": uid(claim),
            },
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "persistentVolumeReclaimPolicy": reclaim,
            "storageClassName": name(class),
            "volumeMode": "Filesystem",
        },
    }))
}

/// Nothing keeps a directory small; one that is larger than the whole disk is a promise that cannot be
/// kept.
fn check_room(asked: &Value, node: &Value) -> Result<(), String> {
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok());
    let disk = &node["status"]["capacity"]["ephemeral-storage"];
    match (amount(asked), amount(disk)) {
        (Some(wanted), Some(there)) if wanted > there => {
            Err(format!("{asked} is asked for, and the disk of node {:?} has {disk}", name(node)))
        }
        _ => Ok(()),
    }
}

/// Has a volume go that nobody claims any more.
pub(super) fn reclaim(volume: &Object, plan: &mut Plan) {
    let is_ours = annotation(volume, PROVISIONED_BY) == Some(PROVISIONER);
    let is_deleted = volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete";
    if is_ours && is_deleted && !is_ending(volume) && super::phase(volume) == "Released" {
        plan.delete(kind("PersistentVolume"), volume, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        let cache = Cache::default();
        cache.put(
            kind("Node"),
            json!({"metadata": {"name": "n", "uid": "1", "resourceVersion": "1",
                "labels": {HOSTNAME: "n"}, "annotations": {PLACE: "/data/local"}},
                "status": {"capacity": {"ephemeral-storage": "10Gi"}}}),
        );
        cache
    }

    fn claim(modes: &[&str], size: &str) -> Value {
        json!({"metadata": {"name": "c", "namespace": "default", "uid": "u"},
            "spec": {"accessModes": modes, "resources": {"requests": {"storage": size}}}})
    }

    #[test]
    fn a_volume_is_a_directory_of_the_selected_node() {
        let class = json!({"metadata": {"name": "local-path"}});
        let made = volume(&cache(), &claim(&["ReadWriteOnce"], "1Gi"), &class, Some("n")).unwrap();
        assert_eq!(made["spec"]["local"]["path"], "/data/local/pvc-u_default_c");
        assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Delete");
        let terms = &made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchExpressions"][0]["values"], json!(["n"]));
    }

    #[test]
    fn what_a_directory_cannot_be_is_refused() {
        let class = json!({"metadata": {"name": "local-path"}});
        let check = |claim: &Value, node: Option<&str>, why: &str| {
            let refused = volume(&cache(), claim, &class, node).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        };
        check(&claim(&["ReadWriteMany"], "1Gi"), Some("n"), "ReadWriteMany is not supported");
        check(&claim(&["ReadWriteOnce"], "11Gi"), Some("n"), "the disk of node");
        check(&claim(&["ReadWriteOnce"], "1Gi"), None, "no node was specified");
        check(&claim(&["ReadWriteOnce"], "1Gi"), Some("m"), "not found");
    }
}
