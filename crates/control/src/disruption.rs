//! PodDisruptionBudgets: how many pods may be missing on purpose.

use client::{Cache, Change, Key, Object, kind};
use serde_json::{Value, json};

use crate::control::Controller;
use crate::object::{
    controller, items, namespace, number, scaled, selects, set_condition, time, uid,
};
use crate::plan::{Plan, World};
use crate::pod;

pub(crate) const CONTROLLER: Controller = Controller { name: "controllermanager", concerns, plan };

/// How long an eviction that was allowed is waited for.
const EVICTION: std::time::Duration = std::time::Duration::from_secs(120);

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    let budgets = |namespace: &str| cache.list("PodDisruptionBudget", namespace);
    match change.key.kind {
        "PodDisruptionBudget" => vec![change.key.clone()],
        "Pod" => {
            let pods: Vec<&Object> = [&change.before, &change.now].into_iter().flatten().collect();
            let all = budgets(&change.key.namespace);
            let is_of =
                |own: &&Object| pods.iter().any(|pod| selects(&own["spec"]["selector"], pod));
            all.iter().filter(is_of).map(|own| Key::of("PodDisruptionBudget", own)).collect()
        }
        "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController" => {
            let size = |object: &Option<Object>| {
                object.as_ref().map(|own| own["spec"]["replicas"].clone())
            };
            if size(&change.before) == size(&change.now) {
                return Vec::new();
            }
            let all = budgets(&change.key.namespace);
            all.iter().map(|own| Key::of("PodDisruptionBudget", own)).collect()
        }
        _ => Vec::new(),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(budget) = world.cache.get(key) else { return plan };
    let mut pods = world.cache.list("Pod", &key.namespace);
    pods.retain(|own| selects(&budget["spec"]["selector"], own) && !pod::is_terminal(own));
    let expected = match expected(world.cache, &budget, &pods) {
        Ok(expected) => expected,
        Err(why) => {
            plan.warn(&budget, "CalculateExpectedPodCountFailed", why);
            return plan;
        }
    };
    let spec = &budget["spec"];
    let desired = match spec["maxUnavailable"].is_null() {
        false => (expected - scaled(&spec["maxUnavailable"], expected, true, 0)).max(0),
        true => scaled(&spec["minAvailable"], expected, true, 1),
    };
    let known = &budget["status"];
    let mut disrupted = known["disruptedPods"].clone();
    forget_evictions(world, &pods, &mut disrupted, &mut plan);
    let is_going = |own: &Object| !disrupted[crate::object::name(own)].is_null();
    let healthy =
        pods.iter().filter(|own| pod::is_active(own) && pod::is_ready(own) && !is_going(own));
    let healthy = i64::try_from(healthy.count()).unwrap_or(i64::MAX);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut conditions = items(&known["conditions"]).to_vec();
    let (is, reason) = match allowed > 0 {
        true => ("True", "SufficientPods"),
        false => ("False", "InsufficientPods"),
    };
    set_condition(&mut conditions, "DisruptionAllowed", is, (reason, ""), world.now);
    for own in &mut conditions {
        own["observedGeneration"] = budget["metadata"]["generation"].clone();
    }
    let status = crate::object::without_nulls(json!({
        "observedGeneration": budget["metadata"]["generation"],
        "disruptedPods": disrupted,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": conditions,
    }));
    plan.status(kind("PodDisruptionBudget"), &budget, status);
    plan
}

/// Evictions that were allowed stand in the status until the pod is gone, or too much time has passed.
fn forget_evictions(world: &World<'_>, pods: &[Object], disrupted: &mut Value, plan: &mut Plan) {
    let Some(map) = disrupted.as_object_mut() else { return };
    map.retain(|name, since| {
        let is_there =
            pods.iter().any(|own| crate::object::name(own) == name && pod::is_active(own));
        let waited = time(since).map(|since| world.now.duration_since(since));
        let waited = waited.and_then(|waited| std::time::Duration::try_from(waited).ok());
        let rest = EVICTION.checked_sub(waited.unwrap_or_default());
        if let Some(rest) = rest {
            plan.look_again(rest);
        }
        is_there && rest.is_some()
    });
    if map.is_empty() {
        *disrupted = Value::Null;
    }
}

/// How many pods there ought to be: what the owners of those there are say.
fn expected(cache: &Cache, budget: &Value, pods: &[Object]) -> Result<i64, String> {
    let spec = &budget["spec"];
    let is_share = |value: &Value| value.is_string();
    if !is_share(&spec["minAvailable"]) && spec["maxUnavailable"].is_null() {
        return Ok(i64::try_from(pods.len()).unwrap_or(i64::MAX));
    }
    let mut owners: Vec<(String, i64)> = Vec::new();
    for own in pods {
        let Some(owner) = controller(own) else {
            let message = format!("found no controllers for pod {:?}", crate::object::name(own));
            return Err(message);
        };
        let found = root(cache, namespace(own), owner);
        let Some((id, size)) = found else {
            let kind = owner["kind"].as_str().unwrap_or_default();
            return Err(format!("{kind} does not implement the scale subresource"));
        };
        if owners.iter().all(|(known, _)| *known != id) {
            owners.push((id, size));
        }
    }
    Ok(owners.iter().map(|(_, size)| size).sum())
}

/// The one that says how many there are: a deployment says it for its sets.
fn root(cache: &Cache, namespace: &str, owner: &Value) -> Option<(String, i64)> {
    let find = |owner: &Value| {
        let kinds = ["ReplicaSet", "ReplicationController", "StatefulSet", "Deployment"];
        let kind = kinds.into_iter().find(|kind| owner["kind"] == *kind)?;
        cache.get(&Key::new(kind, namespace, owner["name"].as_str()?))
    };
    let own = find(owner)?;
    let own = controller(&own).and_then(find).unwrap_or(own);
    Some((uid(&own).to_owned(), number(&own, "/spec/replicas", 1)))
}
