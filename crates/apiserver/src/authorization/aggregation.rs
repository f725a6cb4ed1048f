//! Roles that are made of others: their rules follow those that their selectors find.

use objects::Selector;
use serde_json::Value;

use crate::cluster::{Cluster, items};
use crate::log::LogError;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Roles that are made of roles that are made of others settle after as many rounds as they are deep.
const ROUNDS_MAX: usize = 16;

/// Gives all roles that are made of others the rules of those.
///
/// # Errors
/// What keeps the log failed.
pub(crate) fn settle(cluster: &Cluster) -> Result<(), LogError> {
    for _ in 0..ROUNDS_MAX {
        if !settle_once(cluster)? {
            break;
        }
    }
    Ok(())
}

/// Whether anything has changed.
fn settle_once(cluster: &Cluster) -> Result<bool, LogError> {
    let mut roles = cluster.objects(GROUP, "clusterroles", "", "")?;
    roles.sort_by(|a, b| a["metadata"]["name"].as_str().cmp(&b["metadata"]["name"].as_str()));
    let mut has_changed = false;
    for role in roles.iter().filter(|role| role["aggregationRule"].is_object()) {
        let rules = gathered(role, &roles);
        if items(&role["rules"]) == rules.as_slice() {
            continue;
        }
        let mut changed = role.clone();
        changed["rules"] = rules.into();
        match cluster.overwrite(GROUP, "clusterroles", &changed) {
            // Whoever changed it meanwhile settles it, too.
            Ok(()) | Err(LogError::Conflict(_)) => has_changed = true,
            Err(error) => return Err(error),
        }
    }
    Ok(has_changed)
}

fn gathered(role: &Value, roles: &[Value]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for selector in items(&role["aggregationRule"]["clusterRoleSelectors"]) {
        let Ok(selector) = Selector::from_json(selector) else { continue };
        let is_other = |other: &&Value| other["metadata"]["name"] != role["metadata"]["name"];
        for other in roles.iter().filter(is_other).filter(|other| selector.matches_object(other)) {
            for rule in items(&other["rules"]) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}
