//! What a node may do: what every node may, and what pods that are bound to it need (upstream's
//! `plugin/pkg/auth/authorizer/node`, of which this is a subset: no device claims).

use serde_json::Value;

use super::{Attributes, Decision, bootstrap};
use crate::cluster::{Cluster, items};
use crate::failure::Failure;

pub(super) fn decide(
    cluster: &Cluster,
    node: &str,
    asked: &Attributes,
) -> Result<Decision, Failure> {
    let resource = (asked.group.as_str(), asked.resource.as_str());
    match (resource, asked.subresource.as_str()) {
        (("", "secrets" | "configmaps"), _) => {
            by_relation(cluster, node, asked, &["get", "list", "watch"])
        }
        (("", "persistentvolumeclaims"), "" | "status") => {
            let verbs: &[&str] =
                if asked.subresource.is_empty() { &["get"] } else { &["get", "update", "patch"] };
            by_relation(cluster, node, asked, verbs)
        }
        (("", "persistentvolumes"), "") => match asked.verb.as_str() {
            // It removes the directories of those that are its own and are to go.
            "list" | "watch" => Ok(Decision::Allowed(String::new())),
            "patch" => Ok(own_volume(cluster, node, asked)),
            _ => by_relation(cluster, node, asked, &["get"]),
        },
        (("", "serviceaccounts"), "token") => by_relation(cluster, node, asked, &["create"]),
        (("coordination.k8s.io", "leases"), _) => Ok(own_lease(node, asked)),
        (("storage.k8s.io", "csinodes"), _) => Ok(own_object(node, asked)),
        _ => Ok(by_rules(asked)),
    }
}

fn by_rules(asked: &Attributes) -> Decision {
    match bootstrap::node_rules().iter().any(|rule| rule.allows(asked)) {
        true => Decision::Allowed(String::new()),
        false => Decision::NoOpinion(String::new()),
    }
}

fn no(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

fn own_lease(node: &str, asked: &Attributes) -> Decision {
    if asked.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    own_object(node, asked)
}

/// An object that has the node's name: the node's, and nobody else's.
fn own_object(node: &str, asked: &Attributes) -> Decision {
    match asked.verb.as_str() {
        "get" | "update" | "patch" | "delete" if asked.name == node => by_rules(asked),
        "create" if asked.name.is_empty() || asked.name == node => by_rules(asked),
        _ => no(format!(
            "can only access {} with the same name as the requesting node",
            asked.resource
        )),
    }
}

/// A volume that is a directory of the node, and is to go: the node lets go of it.
fn own_volume(cluster: &Cluster, node: &str, asked: &Attributes) -> Decision {
    let volume = cluster.object("", "persistentvolumes", "", &asked.name).unwrap_or_default();
    let hostname = cluster.object("", "nodes", "", node).unwrap_or_default();
    let hostname = &hostname["metadata"]["labels"]["kubernetes.io/hostname"];
    let terms = items(&volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]);
    let is_here = terms.iter().any(|term| {
        let mut all = items(&term["matchExpressions"]).iter();
        all.any(|one| items(&one["values"]).contains(hostname))
    });
    match is_here && volume["metadata"]["deletionTimestamp"].is_string() {
        true => Decision::Allowed(String::new()),
        false => no("can only let go of volumes that are on the node and are to go"),
    }
}

/// What a pod on the node refers to.
fn by_relation(
    cluster: &Cluster,
    node: &str,
    asked: &Attributes,
    verbs: &[&str],
) -> Result<Decision, Failure> {
    if !verbs.contains(&asked.verb.as_str()) {
        return Ok(no(format!("can only {} individual resources of this type", verbs.join(", "))));
    }
    if asked.name.is_empty() {
        return Ok(no("No Object name found"));
    }
    let namespace = match asked.resource.as_str() {
        "persistentvolumes" => "",
        _ => &asked.namespace,
    };
    for pod in cluster.objects("", "pods", namespace, node)? {
        if pod["spec"]["nodeName"] == *node && refers(cluster, &pod, asked)? {
            return Ok(Decision::Allowed(String::new()));
        }
    }
    Ok(no(format!("no relationship found between node '{node}' and this object")))
}

fn refers(cluster: &Cluster, pod: &Value, asked: &Attributes) -> Result<bool, Failure> {
    let (spec, name) = (&pod["spec"], asked.name.as_str());
    Ok(match asked.resource.as_str() {
        "serviceaccounts" => spec["serviceAccountName"] == *name,
        "secrets" => {
            let pulls = items(&spec["imagePullSecrets"]).iter().any(|own| own["name"] == *name);
            pulls || uses(spec, "secret", "secretName", "secretRef", "secretKeyRef", name)
        }
        "configmaps" => uses(spec, "configMap", "name", "configMapRef", "configMapKeyRef", name),
        "persistentvolumeclaims" => claims(pod).iter().any(|claim| claim == name),
        _ => {
            let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
            let mut found = false;
            for claim in claims(pod) {
                let claim = cluster.object("", "persistentvolumeclaims", namespace, &claim);
                found |= claim.is_some_and(|claim| claim["spec"]["volumeName"] == *name);
            }
            found
        }
    })
}

/// The names of the claims of a pod's volumes.
pub(crate) fn claims(pod: &Value) -> Vec<String> {
    let own = pod["metadata"]["name"].as_str().unwrap_or_default();
    let volumes = items(&pod["spec"]["volumes"]).iter();
    let name = |volume: &Value| match volume["ephemeral"].is_object() {
        true => Some(format!("{own}-{}", volume["name"].as_str().unwrap_or_default())),
        false => volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned),
    };
    volumes.filter_map(name).collect()
}

/// Whether a pod's volumes or environment are made of an object.
fn uses(spec: &Value, volume: &str, field: &str, from: &str, key: &str, name: &str) -> bool {
    let in_volumes = items(&spec["volumes"]).iter().any(|own| {
        let projected = items(&own["projected"]["sources"]).iter();
        own[volume][field] == *name || projected.into_iter().any(|p| p[volume]["name"] == *name)
    });
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    let mut containers = containers.iter().flat_map(|kind| items(&spec[*kind]));
    in_volumes
        || containers.any(|container| {
            let whole = items(&container["envFrom"]).iter().any(|own| own[from]["name"] == *name);
            let one = |own: &Value| own["valueFrom"][key]["name"] == *name;
            whole || items(&container["env"]).iter().any(one)
        })
}
