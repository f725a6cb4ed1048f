//! What happens to an object on its way in: it is completed, and refused where it may not be so.
//!
//! Each module is one of upstream's admission plugins, in upstream's order: first all that complete,
//! then all that refuse. The quota is the last, when nothing else can fail any more but the write.

mod account;
mod certificate;
mod limit;
mod namespace;
mod node;
mod pod;
mod priority;
mod quota;
mod security;
mod storage;
#[cfg(test)]
mod tests;
mod toleration;
mod unsupported;

use serde_json::Value;

pub(crate) use namespace::furnish;
pub(crate) use quota::Charge;
pub(crate) use storage::release;

use crate::authorization;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::request::{Answer, Request};
use crate::target::Target;
use crate::webhook;

/// A change that is looked at.
struct Review<'a> {
    cluster: &'a Cluster,
    request: &'a Request,
    target: &'a Target,
    /// What is there; `None` if the object is new.
    old: Option<&'a Value>,
    object: &'a mut Value,
}

type Step = fn(&mut Review<'_>) -> Result<(), Failure>;

/// Those that complete, in upstream's order (`options.AllOrderedPlugins`).
const COMPLETING: &[Step] = &[
    namespace::check,
    limit::complete,
    account::complete,
    node::check,
    priority::complete,
    toleration::complete,
    storage::complete,
    certificate::complete,
];
/// Those that refuse, in the same order.
const REFUSING: &[Step] = &[
    limit::check,
    account::check,
    security::check,
    security::check_namespace,
    priority::check,
    certificate::check,
    escalation,
    unsupported::check,
];

/// Completes a new object, or refuses it.
pub(crate) fn create(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    object: &mut Value,
) -> Result<(), Failure> {
    run(Review { cluster, request, target, old: None, object })
}

/// Completes what an object is to become, or refuses it.
pub(crate) fn update(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    old: &Value,
    object: &mut Value,
) -> Result<(), Failure> {
    run(Review { cluster, request, target, old: Some(old), object })
}

fn run(mut review: Review<'_>) -> Result<(), Failure> {
    COMPLETING.iter().try_for_each(|step| step(&mut review))?;
    if ask_others(&mut review)? {
        COMPLETING.iter().try_for_each(|step| step(&mut review))?;
    }
    REFUSING.iter().try_for_each(|step| step(&mut review))
}

/// Has webhooks change the object, which is then brought into its form again.
fn ask_others(review: &mut Review<'_>) -> Result<bool, Failure> {
    let Review { cluster, request, target, old, object } = review;
    let given = object.clone();
    let settle = |changed: &mut Value| crate::cluster::resettle(target, *old, &given, changed);
    webhook::mutate(cluster, request, target, old.unwrap_or(&Value::Null), object, &settle)
}

/// Refuses that an object goes.
pub(crate) fn delete(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    old: &Value,
) -> Result<(), Failure> {
    namespace::check_delete(target)?;
    node::check_delete(request, target, old)?;
    let nothing = |_: &mut Value| Ok(());
    webhook::mutate(cluster, request, target, old, &mut Value::Null, &nothing).map(drop)
}

/// What follows from a change that was made: the server does at once what upstream's controllers do.
pub(crate) fn settle(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    answer: &Answer,
) -> Result<(), Failure> {
    let of = &target.resource;
    if request.is_dry_run()? {
        return Ok(());
    }
    match (of.group, of.kind) {
        ("rbac.authorization.k8s.io", "ClusterRole") => authorization::settle(cluster)?,
        ("", "Namespace") => {
            if let Some(name) = name_in(answer) {
                furnish(cluster, name)?;
            }
        }
        ("", "ServiceAccount" | "ConfigMap") if request.method == "DELETE" => {
            furnish(cluster, &target.namespace)?;
        }
        ("", "Pod") if request.method == "DELETE" => {
            storage::release_claims(cluster, &target.namespace)?;
        }
        ("" | "events.k8s.io", "Event") => cluster.expire_events()?,
        ("", "ResourceQuota") => quota::count_all(cluster, &target.namespace)?,
        _ => {}
    }
    Ok(())
}

/// The name of the object that an answer shows, in whatever form.
fn name_in(answer: &Answer) -> Option<&str> {
    let Answer::Document { body, .. } = answer else { return None };
    let own = body["metadata"]["name"].as_str();
    own.or_else(|| body["rows"][0]["object"]["metadata"]["name"].as_str())
}

/// Nobody grants what is not held.
fn escalation(review: &mut Review<'_>) -> Result<(), Failure> {
    let Review { cluster, request, target, old, object } = review;
    authorization::check_escalation(cluster, &request.user, target, *old, object)
}

impl Review<'_> {
    fn is(&self, group: &str, kind: &str) -> bool {
        self.target.resource.group == group && self.target.resource.kind == kind
    }

    /// Whether it is a pod that is made.
    fn is_new_pod(&self) -> bool {
        self.is("", "Pod") && self.old.is_none()
    }

    fn namespace(&self) -> &str {
        &self.target.namespace
    }

    fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn forbidden(&self, why: &str) -> Failure {
        Failure::forbidden(&self.target.resource, self.name(), why)
    }
}
