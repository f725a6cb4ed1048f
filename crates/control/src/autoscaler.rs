//! HorizontalPodAutoscalers: as many pods as keep what is measured at what is wanted.

mod behaviour;
mod metric;

use std::time::Duration;

use client::{Cache, Change, Key, Object, Patch, kind};
use objects::resource::Resource;
use serde_json::{Value, json};

use crate::control::Controller;
use crate::object::{is_ending, items, namespace, number, set_condition, stamp, without_nulls};
use crate::plan::{Action, Plan, World};
use behaviour::Memory;

pub(crate) const CONTROLLER: Controller =
    Controller { name: "horizontal-pod-autoscaler", concerns, plan };

/// How often it looks: upstream does every 15 s, of measurements up to a minute old.
const PERIOD: Duration = Duration::from_secs(1);

fn concerns(_cache: &Cache, change: &Change) -> Vec<Key> {
    let is_news = |change: &Change| {
        let spec = |own: &Object| own["spec"].clone();
        change.before.as_ref().map(spec) != change.now.as_ref().map(spec)
    };
    match change.key.kind {
        "HorizontalPodAutoscaler" if is_news(change) => vec![change.key.clone()],
        _ => Vec::new(),
    }
}

/// What is scaled.
struct Target {
    of: &'static Resource,
    object: Object,
}

impl Target {
    fn replicas(&self) -> i64 {
        number(&self.object, "/spec/replicas", 1)
    }
}

fn target(cache: &Cache, own: &Value) -> Option<Target> {
    let wanted = &own["spec"]["scaleTargetRef"];
    let kinds = ["Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"];
    let of = kind(kinds.into_iter().find(|kind| wanted["kind"] == *kind)?);
    let object = cache.get(&Key::new(of.kind, namespace(own), wanted["name"].as_str()?))?;
    Some(Target { of, object })
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(own) = world.cache.get(key).filter(|own| !is_ending(own)) else { return plan };
    plan.look_again(PERIOD);
    let mut status = own["status"].clone();
    if status.is_null() {
        status = json!({});
    }
    let mut conditions = items(&status["conditions"]).to_vec();
    let mut set = |kind: &str, is: &str, reason: &str, message: &str| {
        set_condition(&mut conditions, kind, is, (reason, message), world.now);
    };
    let Some(target) = target(world.cache, &own) else {
        let wanted = &own["spec"]["scaleTargetRef"];
        let word = |field: &str| wanted[field].as_str().unwrap_or_default();
        let message = format!(
            "the HPA controller was unable to get the target's current scale: {} {:?} not found",
            word("kind"),
            word("name")
        );
        set("AbleToScale", "False", "FailedGetScale", &message);
        plan.warn(&own, "FailedGetScale", message);
        status["conditions"] = conditions.into();
        plan.status(kind("HorizontalPodAutoscaler"), &own, status);
        return plan;
    };
    set(
        "AbleToScale",
        "True",
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    let now = target.replicas();
    let desired = if now == 0 {
        set(
            "ScalingActive",
            "False",
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero",
        );
        None
    } else {
        let measured = metric::replicas(world, &own, &target.object, now);
        status["currentMetrics"] = measured.current;
        match measured.desired {
            Ok((desired, why)) => {
                let message = format!(
                    "the HPA was able to successfully calculate a replica count from {why}"
                );
                set("ScalingActive", "True", "ValidMetricFound", &message);
                Some((desired, why))
            }
            Err((reason, why)) => {
                let message = format!("the HPA was unable to compute the replica count: {why}");
                set("ScalingActive", "False", reason, &message);
                plan.warn(&own, reason, why);
                None
            }
        }
    };
    let wanted = match desired {
        None => now,
        Some((desired, why)) => {
            let mut memory = Memory::read(world.memory(CONTROLLER.name, key));
            let limited = behaviour::limit(world.now, &own, now, desired, &mut memory);
            memory.note(world.now, &own, now, limited.replicas);
            plan.memory = Some(memory.write());
            set("ScalingLimited", limited.is, limited.reason, limited.message);
            set("AbleToScale", "True", limited.able.0, limited.able.1);
            if limited.replicas != now {
                rescale(&own, &target, now, limited.replicas, &why, &mut plan);
                status["lastScaleTime"] = stamp(world.now).into();
            }
            limited.replicas
        }
    };
    status["observedGeneration"] = own["metadata"]["generation"].clone();
    status["currentReplicas"] = now.into();
    status["desiredReplicas"] = wanted.into();
    status["conditions"] = conditions.into();
    plan.status(kind("HorizontalPodAutoscaler"), &own, without_nulls(status));
    plan
}

fn rescale(own: &Object, target: &Target, now: i64, wanted: i64, why: &str, plan: &mut Plan) {
    let key = Key::of(target.of.kind, &target.object);
    let patch = json!({"spec": {"replicas": wanted}});
    let subresource = "scale";
    plan.actions.push(Action::Patch { of: target.of, key, subresource, how: Patch::Merge, patch });
    let cause = if wanted > now {
        format!("{why} above target")
    } else {
        "All metrics below target".to_owned()
    };
    plan.tell(own, "SuccessfulRescale", format!("New size: {wanted}; reason: {cause}"));
}
