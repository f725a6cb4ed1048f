//! Nobody grants what is not held (upstream's `registry/rbac`, `policybased`).

use serde_json::Value;

use super::Attributes;
use super::policy::RoleRef;
use super::rule::{Rule, quoted, uncovered};
use crate::authentication::User;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::target::Target;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a role or a binding that would give more than its author has.
///
/// # Errors
/// 403, or 404 where the role of a binding is not there.
pub(crate) fn check(
    cluster: &Cluster,
    user: &User,
    target: &Target,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Failure> {
    if target.resource.group != GROUP || user.is_master() {
        return Ok(());
    }
    let is_same = |fields: &[&str]| {
        old.is_some_and(|old| fields.iter().all(|field| old[*field] == new[*field]))
    };
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    match target.resource.plural {
        "roles" | "clusterroles" if !is_same(&["rules", "aggregationRule"]) => {
            check_role(cluster, user, target, name, new)
        }
        "rolebindings" | "clusterrolebindings" if !is_same(&["subjects", "roleRef"]) => {
            check_binding(cluster, user, target, name, new)
        }
        _ => Ok(()),
    }
}

fn check_role(
    cluster: &Cluster,
    user: &User,
    target: &Target,
    name: &str,
    role: &Value,
) -> Result<(), Failure> {
    let of = &target.resource;
    let asked = Attributes {
        verb: "escalate".to_owned(),
        group: GROUP.to_owned(),
        version: of.version.to_owned(),
        resource: of.plural.to_owned(),
        namespace: target.namespace.clone(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    if cluster.may(user, &asked)? {
        return Ok(());
    }
    if role["aggregationRule"].is_object() {
        let everything = [star(false), star(true)];
        hold(cluster, user, "", &everything).map_err(|why| {
            let why =
                format!("must have cluster-admin privileges to use an aggregationRule: {why}");
            Failure::forbidden(of, name, &why)
        })?;
    }
    hold(cluster, user, &target.namespace, &Rule::read_all(&role["rules"]))
        .map_err(|why| Failure::forbidden(of, name, &why))
}

fn star(is_of_paths: bool) -> Rule {
    let all = vec!["*".to_owned()];
    match is_of_paths {
        true => Rule { paths: all.clone(), verbs: all, ..Rule::default() },
        false => {
            Rule { groups: all.clone(), resources: all.clone(), verbs: all, ..Rule::default() }
        }
    }
}

fn check_binding(
    cluster: &Cluster,
    user: &User,
    target: &Target,
    name: &str,
    binding: &Value,
) -> Result<(), Failure> {
    let role = RoleRef::read(binding);
    let plural = if role.is_of_cluster() { "clusterroles" } else { "roles" };
    let asked = Attributes {
        verb: "bind".to_owned(),
        group: GROUP.to_owned(),
        version: target.resource.version.to_owned(),
        resource: plural.to_owned(),
        namespace: target.namespace.clone(),
        name: role.name.clone(),
        ..Attributes::default()
    };
    if cluster.may(user, &asked)? {
        return Ok(());
    }
    let policy = cluster.policy()?;
    let Some(rules) = policy.rules(&role, &target.namespace) else {
        let kind = role.kind.to_lowercase();
        let message = format!("{kind}.{GROUP} {:?} not found", role.name);
        return Err(Failure { code: 404, reason: "NotFound", ..Failure::bad_request(message) });
    };
    hold(cluster, user, &target.namespace, rules)
        .map_err(|why| Failure::forbidden(&target.resource, name, &why))
}

/// Whether somebody has all that some rules allow; if not, what is missing, in upstream's words.
fn hold(cluster: &Cluster, user: &User, namespace: &str, rules: &[Rule]) -> Result<(), String> {
    let policy = cluster.policy().map_err(|failure| failure.message)?;
    let missing = uncovered(rules, &policy.rules_of(user, namespace));
    if missing.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = missing.iter().map(Rule::compact).collect();
    Err(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        shown.join("\n")
    ))
}
