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
    let conditions = items(&status["conditions"]).to_vec();
    let mut look = Look { world, own: &own, status, conditions, plan: &mut plan };
    match target(world.cache, &own) {
        None => look.has_no_target(),
        Some(target) => look.at(&target, key),
    }
    let Look { mut status, conditions, .. } = look;
    status["conditions"] = conditions.into();
    plan.status(kind("HorizontalPodAutoscaler"), &own, without_nulls(status));
    plan
}

/// One look at an autoscaler and what it scales.
struct Look<'a> {
    world: &'a World<'a>,
    own: &'a Object,
    status: Value,
    conditions: Vec<Value>,
    plan: &'a mut Plan,
}

impl Look<'_> {
    fn set(&mut self, kind: &str, is: &str, reason: &str, message: &str) {
        set_condition(&mut self.conditions, kind, is, (reason, message), self.world.now);
    }

    fn has_no_target(&mut self) {
        let wanted = &self.own["spec"]["scaleTargetRef"];
        let word = |field: &str| wanted[field].as_str().unwrap_or_default();
        let message = format!(
            "the HPA controller was unable to get the target's current scale: {} {:?} not found",
            word("kind"),
            word("name")
        );
        self.set("AbleToScale", "False", "FailedGetScale", &message);
        self.plan.warn(self.own, "FailedGetScale", message);
    }

    fn at(&mut self, target: &Target, key: &Key) {
        let words = "the HPA controller was able to get the target's current scale";
        self.set("AbleToScale", "True", "SucceededGetScale", words);
        let now = target.replicas();
        let wanted = match self.desired(target, now) {
            None => now,
            Some((desired, why)) => self.scale(target, key, (now, desired), &why),
        };
        self.status["observedGeneration"] = self.own["metadata"]["generation"].clone();
        self.status["currentReplicas"] = now.into();
        self.status["desiredReplicas"] = wanted.into();
    }

    /// How many pods what is measured asks for, and which metric does.
    fn desired(&mut self, target: &Target, now: i64) -> Option<(i64, String)> {
        if now == 0 {
            let words = "scaling is disabled since the replica count of the target is zero";
            self.set("ScalingActive", "False", "ScalingDisabled", words);
            return None;
        }
        let measured = metric::replicas(self.world, self.own, &target.object, now);
        self.status["currentMetrics"] = measured.current;
        match measured.desired {
            Ok((desired, why)) => {
                let words = format!(
                    "the HPA was able to successfully calculate a replica count from {why}"
                );
                self.set("ScalingActive", "True", "ValidMetricFound", &words);
                Some((desired, why))
            }
            Err((reason, why)) => {
                let words = format!("the HPA was unable to compute the replica count: {why}");
                self.set("ScalingActive", "False", reason, &words);
                self.plan.warn(self.own, reason, why);
                None
            }
        }
    }

    /// Scales as far as is allowed now: to how many.
    fn scale(&mut self, target: &Target, key: &Key, (now, desired): (i64, i64), why: &str) -> i64 {
        let mut memory = Memory::read(self.world.memory(CONTROLLER.name, key));
        let limited = behaviour::limit(self.world.now, self.own, now, desired, &mut memory);
        memory.note(self.world.now, self.own, now, limited.replicas);
        self.plan.memory = Some(memory.write());
        self.set("ScalingLimited", limited.is, limited.reason, limited.message);
        self.set("AbleToScale", "True", limited.able.0, limited.able.1);
        if limited.replicas != now {
            rescale(self.own, target, now, limited.replicas, why, self.plan);
            self.status["lastScaleTime"] = stamp(self.world.now).into();
        }
        limited.replicas
    }
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
