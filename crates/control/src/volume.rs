//! Claims and volumes find each other; a class without a provisioner of its own waits for a volume
//! that somebody makes.

mod local;

use client::{Cache, Change, Key, Object, kind};
use objects::Quantity;
use serde_json::{Value, json};

use crate::control::Controller;
use crate::node_selector::meets;
use crate::object::{annotation, is_ending, items, name, namespace, selects, uid};
use crate::plan::{Plan, World};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "persistentvolume-controller", concerns, plan };

/// Says that a volume was bound by this controller, which may unbind it.
const BOUND_BY_US: &str = "pv.kubernetes.io/bound-by-controller";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The node for which a claim that waited is to be given a volume.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    let claims = |is: &dyn Fn(&Value) -> bool| {
        let all = cache.list("PersistentVolumeClaim", "");
        all.iter().filter(|own| is(own)).map(|own| Key::of("PersistentVolumeClaim", own)).collect()
    };
    match change.key.kind {
        "PersistentVolumeClaim" => {
            let mut keys = vec![change.key.clone()];
            let claim = change.now.as_ref().or(change.before.as_ref());
            let bound = claim.and_then(|claim| claim["spec"]["volumeName"].as_str());
            keys.extend(bound.map(|volume| Key::new("PersistentVolume", "", volume)));
            keys
        }
        "PersistentVolume" => {
            let mut keys: Vec<Key> = claims(&|claim| {
                let bound = claim["spec"]["volumeName"].as_str().unwrap_or_default();
                bound.is_empty() || bound == change.key.name
            });
            keys.push(change.key.clone());
            keys
        }
        "StorageClass" => {
            claims(&|claim| claim["spec"]["storageClassName"] == change.key.name.as_str())
        }
        // The first pod of a claim may be what it waits for.
        "Pod" => {
            let pod = change.now.as_ref().or(change.before.as_ref());
            let volumes =
                pod.map(|pod| items(&pod["spec"]["volumes"]).to_vec()).unwrap_or_default();
            let named =
                volumes.iter().filter_map(|own| own["persistentVolumeClaim"]["claimName"].as_str());
            named
                .map(|name| Key::new("PersistentVolumeClaim", &change.key.namespace, name))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(object) = world.cache.get(key) else { return plan };
    match key.kind {
        "PersistentVolume" => volume(world.cache, &object, &mut plan),
        _ => claim(world.cache, &object, &mut plan),
    }
    plan
}

fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

fn class(object: &Value) -> &str {
    object["spec"]["storageClassName"].as_str().unwrap_or_default()
}

fn claim(cache: &Cache, claim: &Object, plan: &mut Plan) {
    match claim["spec"]["volumeName"].as_str().filter(|own| !own.is_empty()) {
        Some(bound) => {
            let volume = cache.get(&Key::new("PersistentVolume", "", bound));
            match volume {
                None if phase(claim) == "Bound" => lose(claim, plan),
                // It waits for the volume that it names.
                None => set_phase(claim, "Pending", plan),
                Some(volume) if volume["spec"]["claimRef"].is_null() => bind(claim, &volume, plan),
                Some(volume) if is_for(&volume, claim) => complete(claim, &volume, plan),
                Some(_) => set_phase(claim, "Pending", plan),
            }
        }
        None if is_ending(claim) => {}
        None => match best(cache, claim) {
            Some(volume) => bind(claim, &volume, plan),
            None => {
                set_phase(claim, "Pending", plan);
                wait(cache, claim, plan);
            }
        },
    }
}

fn lose(claim: &Object, plan: &mut Plan) {
    let mut status = claim["status"].clone();
    status["phase"] = "Lost".into();
    plan.status(kind("PersistentVolumeClaim"), claim, status);
    let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
    plan.warn(claim, "ClaimLost", message.to_owned());
}

fn set_phase(claim: &Object, phase: &str, plan: &mut Plan) {
    let mut status = claim["status"].clone();
    status["phase"] = phase.into();
    plan.status(kind("PersistentVolumeClaim"), claim, status);
}

/// Tells who is waited for, and asks a provisioner.
fn wait(cache: &Cache, claim: &Object, plan: &mut Plan) {
    let found = cache.get(&Key::new("StorageClass", "", class(claim)));
    let Some(found) = found else {
        let message = match class(claim) {
            "" => "no persistent volumes available for this claim and no storage class is set"
                .to_owned(),
            class => format!("storageclass.storage.k8s.io {class:?} not found"),
        };
        let reason = if class(claim).is_empty() { "FailedBinding" } else { "ProvisioningFailed" };
        plan.tell(claim, reason, message);
        return;
    };
    let provisioner = found["provisioner"].as_str().unwrap_or_default();
    let waits = found["volumeBindingMode"] == "WaitForFirstConsumer";
    if waits && annotation(claim, SELECTED_NODE).is_none() {
        let message = "waiting for first consumer to be created before binding";
        plan.tell(claim, "WaitForFirstConsumer", message.to_owned());
        return;
    }
    if provisioner == "kubernetes.io/no-provisioner" {
        let message =
            "no persistent volumes available for this claim and its storage class makes none";
        plan.tell(claim, "FailedBinding", message.to_owned());
        return;
    }
    if annotation(claim, PROVISIONER) != Some(provisioner) {
        let patch = json!({"metadata": {"annotations": {PROVISIONER: provisioner}}});
        plan.merge(kind("PersistentVolumeClaim"), claim, patch);
    }
    if provisioner == local::PROVISIONER {
        local::provision(cache, claim, &found, annotation(claim, SELECTED_NODE), plan);
        return;
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually \
         by the system administrator. If volume creation is delayed, please verify that the provisioner is \
         running and correctly registered."
    );
    plan.tell(claim, "ExternalProvisioning", message);
}

/// Whether a volume was given, or promised, to a claim.
fn is_for(volume: &Value, claim: &Value) -> bool {
    let of = &volume["spec"]["claimRef"];
    let is_uid = of["uid"].is_null() || of["uid"] == "" || of["uid"] == uid(claim);
    of["name"] == name(claim) && of["namespace"] == namespace(claim) && is_uid
}

fn size(of: &Value) -> Option<Quantity> {
    of.as_str()?.parse().ok()
}

/// The smallest volume that does for a claim; one that is promised to it before any other.
fn best(cache: &Cache, claim: &Value) -> Option<Object> {
    let volumes = cache.list("PersistentVolume", "");
    let promised =
        volumes.iter().find(|own| !own["spec"]["claimRef"].is_null() && is_for(own, claim));
    if let Some(promised) = promised {
        return Some(promised.clone());
    }
    let waits = cache.get(&Key::new("StorageClass", "", class(claim)));
    let waits = waits.is_some_and(|own| own["volumeBindingMode"] == "WaitForFirstConsumer");
    let node =
        annotation(claim, SELECTED_NODE).and_then(|node| cache.get(&Key::new("Node", "", node)));
    if waits && node.is_none() {
        return None;
    }
    let wanted = size(&claim["spec"]["resources"]["requests"]["storage"])?;
    let fits = |volume: &&Object| {
        let reach = &volume["spec"]["nodeAffinity"]["required"];
        volume["spec"]["claimRef"].is_null()
            && !is_ending(volume)
            && does_for(volume, claim)
            && (reach.is_null() || node.as_ref().is_none_or(|node| meets(reach, node)))
            && size(&volume["spec"]["capacity"]["storage"]).is_some_and(|own| own >= wanted)
    };
    let smallest = |volume: &&Object| size(&volume["spec"]["capacity"]["storage"]);
    volumes.iter().filter(fits).min_by_key(smallest).cloned()
}

fn does_for(volume: &Value, claim: &Value) -> bool {
    let mode = |of: &Value| of["spec"]["volumeMode"].as_str().unwrap_or("Filesystem").to_owned();
    let modes = items(&volume["spec"]["accessModes"]);
    let has_modes =
        items(&claim["spec"]["accessModes"]).iter().all(|wanted| modes.contains(wanted));
    let selector = &claim["spec"]["selector"];
    class(volume) == class(claim)
        && mode(volume) == mode(claim)
        && has_modes
        && (selector.is_null() || selects(selector, volume))
}

/// Gives a volume to a claim, then tells the claim.
fn bind(claim: &Object, volume: &Object, plan: &mut Plan) {
    let reference = json!({
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": namespace(claim),
        "name": name(claim),
        "uid": uid(claim),
        "resourceVersion": claim["metadata"]["resourceVersion"],
    });
    if volume["spec"]["claimRef"]["uid"] != uid(claim) {
        let mut changed = (**volume).clone();
        changed["spec"]["claimRef"] = reference;
        changed["metadata"]["annotations"][BOUND_BY_US] = "yes".into();
        plan.replace(kind("PersistentVolume"), changed);
        // The claim is told when the volume is its own.
        return;
    }
    complete(claim, volume, plan);
}

fn complete(claim: &Object, volume: &Object, plan: &mut Plan) {
    if volume["spec"]["claimRef"]["uid"] != uid(claim) {
        bind(claim, volume, plan);
        return;
    }
    if claim["spec"]["volumeName"] != name(volume) || annotation(claim, BIND_COMPLETED).is_none() {
        let patch = json!({
            "metadata": {"annotations": {BIND_COMPLETED: "yes", BOUND_BY_US: "yes"}},
            "spec": {"volumeName": name(volume)},
        });
        plan.merge(kind("PersistentVolumeClaim"), claim, patch);
        return;
    }
    let mut status = claim["status"].clone();
    status["phase"] = "Bound".into();
    status["accessModes"] = volume["spec"]["accessModes"].clone();
    status["capacity"] = volume["spec"]["capacity"].clone();
    plan.status(kind("PersistentVolumeClaim"), claim, status);
}

/// What a volume is, by what has become of its claim.
fn volume(cache: &Cache, volume: &Object, plan: &mut Plan) {
    let of = &volume["spec"]["claimRef"];
    let named = |field: &str| of[field].as_str().unwrap_or_default();
    let claim = cache.get(&Key::new("PersistentVolumeClaim", named("namespace"), named("name")));
    let is_claimed = claim.is_some_and(|claim| of["uid"] == uid(&claim));
    let wanted = match (of.is_null() || named("uid").is_empty(), is_claimed) {
        (true, _) => "Available",
        (false, true) => "Bound",
        (false, false) => "Released",
    };
    if phase(volume) != wanted {
        let mut status = volume["status"].clone();
        status["phase"] = wanted.into();
        plan.status(kind("PersistentVolume"), volume, status);
    }
    local::reclaim(volume, plan);
}
