//! StatefulSets: pods with names and disks of their own, one after the other.

mod identity;

use client::{Cache, Change, Key, Object, kind};
use serde_json::{Value, json};

use crate::claim::{claim, concerned};
use crate::control::Controller;
use crate::object::{is_ending, label, name, namespace, number, owner_reference, uid};
use crate::plan::{Plan, World};
use crate::pod;
use crate::revision::{self, Missing, Revisions};

pub(crate) const CONTROLLER: Controller =
    Controller { name: "statefulset-controller", concerns, plan };

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "StatefulSet" => vec![change.key.clone()],
        "Pod" | "ControllerRevision" => concerned(cache, "StatefulSet", change),
        _ => Vec::new(),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(set) = world.cache.get(key) else { return plan };
    let pods = claim(world.cache, &set, "Pod", &mut plan);
    let revisions = Revisions::of(world.cache, &set, &mut plan);
    let update = match revisions.update(world.cache, &set, &mut plan) {
        Ok(update) => update,
        Err(Missing::Made) => return plan,
        Err(Missing::Collision(count)) => {
            let mut status = set["status"].clone();
            status["collisionCount"] = count.into();
            plan.status(kind("StatefulSet"), &set, status);
            return plan;
        }
    };
    let current = set["status"]["currentRevision"].as_str().and_then(|own| revisions.find(own));
    let current = current.unwrap_or(&update).clone();
    let mut step = Step { world, set: &set, current: &current, update: &update, plan: &mut plan };
    let counts = step.counts(&pods);
    if !is_ending(&set) {
        step.go(&pods);
    }
    step.report(&counts);
    let live = [name(&current), name(&update)];
    revisions.clean_up(&set, &pods, &live, &mut plan);
    plan
}

/// What is done at once for a set.
struct Step<'a> {
    world: &'a World<'a>,
    set: &'a Object,
    current: &'a Object,
    update: &'a Object,
    plan: &'a mut Plan,
}

/// How many pods there are of each sort.
#[derive(Debug, Default)]
struct Counts {
    all: i64,
    ready: i64,
    available: i64,
    current: i64,
    updated: i64,
}

impl Step<'_> {
    fn first(&self) -> i64 {
        number(self.set, "/spec/ordinals/start", 0)
    }

    fn last(&self) -> i64 {
        self.first() + number(self.set, "/spec/replicas", 1)
    }

    fn is_one_by_one(&self) -> bool {
        self.set["spec"]["podManagementPolicy"] != "Parallel"
    }

    fn is_of(pod: &Value, revision: &Value) -> bool {
        label(pod, revision::HASH) == Some(name(revision))
    }

    fn is_healthy(&self, own: &Value) -> bool {
        let min_ready = number(self.set, "/spec/minReadySeconds", 0);
        !is_ending(own)
            && pod::phase(own) == "Running"
            && pod::availability(own, min_ready, self.world.now).is_available()
    }

    fn counts(&mut self, pods: &[Object]) -> Counts {
        let min_ready = number(self.set, "/spec/minReadySeconds", 0);
        let mut counts = Counts::default();
        for own in pods {
            counts.all += 1;
            let is_running = pod::phase(own) == "Running";
            counts.ready += i64::from(is_running && pod::is_ready(own));
            match pod::availability(own, min_ready, self.world.now) {
                pod::Availability::Available if is_running => counts.available += 1,
                pod::Availability::In(rest) => self.plan.look_again(rest),
                _ => {}
            }
            if !is_ending(own) {
                counts.current += i64::from(Self::is_of(own, self.current));
                counts.updated += i64::from(Self::is_of(own, self.update));
            }
        }
        counts
    }

    /// Does what may be done now.
    fn go(&mut self, pods: &[Object]) {
        let ordinal = |own: &Object| identity::ordinal(self.set, own);
        let mut own: Vec<(i64, &Object)> =
            pods.iter().filter_map(|own| Some((ordinal(own)?, own))).collect();
        own.sort_by_key(|(ordinal, _)| *ordinal);
        let (wanted, surplus): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(at, _)| (self.first()..self.last()).contains(at));
        if self.fill(&wanted) && self.cut(&surplus) {
            self.renew(&wanted);
        }
    }

    /// Makes the pods that are missing; whether it is the next step's turn.
    fn fill(&mut self, wanted: &[(i64, &Object)]) -> bool {
        for ordinal in self.first()..self.last() {
            let found = wanted.iter().find(|(at, _)| *at == ordinal).map(|(_, own)| *own);
            let is_done = match found {
                None => {
                    self.make(ordinal);
                    false
                }
                Some(own) if is_ending(own) => false,
                Some(own) if pod::is_terminal(own) => {
                    let what = format!("StatefulSet {}/{}", namespace(own), name(self.set));
                    let message = format!("{what} is recreating failed Pod {}", name(own));
                    self.plan.warn(self.set, "RecreatingFailedPod", message);
                    self.plan.delete(kind("Pod"), own, Some(self.set), None);
                    false
                }
                Some(own) => {
                    self.claims(ordinal, false);
                    self.is_healthy(own)
                }
            };
            if !is_done && self.is_one_by_one() {
                return false;
            }
        }
        true
    }

    fn make(&mut self, ordinal: i64) {
        if !self.claims(ordinal, true) {
            return;
        }
        let revision = if self.is_old(ordinal) { self.current } else { self.update };
        let made = identity::pod(self.set, revision, ordinal);
        self.plan.create(kind("Pod"), made, self.set);
    }

    /// Whether a pod that is made now is still one of the template before.
    fn is_old(&self, ordinal: i64) -> bool {
        let strategy = &self.set["spec"]["updateStrategy"];
        if strategy["type"] == "OnDelete" {
            return false;
        }
        match strategy["rollingUpdate"]["partition"].as_i64() {
            Some(partition) => ordinal < partition,
            None => ordinal < self.first() + number(self.set, "/status/currentReplicas", 0),
        }
    }

    /// Makes the claims of a pod that are missing. False if one of them is just going.
    fn claims(&mut self, ordinal: i64, is_new: bool) -> bool {
        for claim in identity::claims(self.set, ordinal) {
            let key = Key::of("PersistentVolumeClaim", &claim);
            match self.world.cache.get(&key) {
                Some(known) if is_ending(&known) => return !is_new,
                Some(_) => {}
                None => self.plan.create(kind("PersistentVolumeClaim"), claim, self.set),
            }
        }
        true
    }

    /// Removes the pods beyond those wanted, the last one first; whether it is the next step's turn.
    fn cut(&mut self, surplus: &[(i64, &Object)]) -> bool {
        let sick = surplus.iter().find(|(_, own)| !self.is_healthy(own)).map(|(at, _)| *at);
        for (ordinal, own) in surplus.iter().rev() {
            if is_ending(own) {
                if self.is_one_by_one() {
                    return false;
                }
                continue;
            }
            let is_waited_for = !self.is_healthy(own) && sick != Some(*ordinal);
            if self.is_one_by_one() && is_waited_for {
                return false;
            }
            self.give_claims_away(*ordinal, own);
            self.plan.delete(kind("Pod"), own, Some(self.set), None);
            if self.is_one_by_one() {
                return false;
            }
        }
        true
    }

    /// Claims go with their pod if the set says so.
    fn give_claims_away(&mut self, ordinal: i64, pod: &Object) {
        let policy = &self.set["spec"]["persistentVolumeClaimRetentionPolicy"];
        if policy["whenScaled"] != "Delete" {
            return;
        }
        for claim in identity::claims(self.set, ordinal) {
            let key = Key::of("PersistentVolumeClaim", &claim);
            if let Some(known) = self.world.cache.get(&key) {
                let patch = json!({"metadata": {"uid": uid(&known),
                    "ownerReferences": [owner_reference(pod)]}});
                self.plan.merge(kind("PersistentVolumeClaim"), &known, patch);
            }
        }
    }

    /// Removes pods of the template before, the last one first, so that they are made anew.
    fn renew(&mut self, wanted: &[(i64, &Object)]) {
        let strategy = &self.set["spec"]["updateStrategy"];
        if strategy["type"] == "OnDelete" {
            return;
        }
        let rolling = &strategy["rollingUpdate"];
        let count = self.last() - self.first();
        let most = crate::object::scaled(&rolling["maxUnavailable"], count, true, 1).max(1);
        let partition = rolling["partition"].as_i64().unwrap_or(0).max(self.first());
        let mut missing = wanted.iter().filter(|(_, own)| !self.is_healthy(own)).count();
        for (_, own) in wanted.iter().rev().filter(|(at, _)| *at >= partition) {
            let is_sick = !self.is_healthy(own);
            if Self::is_of(own, self.update) {
                // The ones before it wait until it is well.
                if is_sick && most == 1 {
                    return;
                }
                continue;
            }
            if is_ending(own) {
                return;
            }
            if !is_sick && i64::try_from(missing).unwrap_or(i64::MAX) >= most {
                return;
            }
            missing += usize::from(!is_sick);
            self.plan.delete(kind("Pod"), own, Some(self.set), None);
            if most == 1 {
                return;
            }
        }
    }

    fn report(&mut self, counts: &Counts) {
        let known = &self.set["status"];
        let (mut current, mut of_current) = (name(self.current), counts.current);
        let strategy = &self.set["spec"]["updateStrategy"];
        let is_whole = counts.updated == counts.all && counts.ready == counts.all;
        // The new template is the current one as soon as every pod is of it.
        if strategy["type"] != "OnDelete" && is_whole && current != name(self.update) {
            (current, of_current) = (name(self.update), counts.updated);
        }
        let some = |count: i64| if count == 0 { Value::Null } else { count.into() };
        let status = crate::object::without_nulls(json!({
            "observedGeneration": self.set["metadata"]["generation"],
            "replicas": counts.all,
            "readyReplicas": some(counts.ready),
            "currentReplicas": some(of_current),
            "updatedReplicas": some(counts.updated),
            "currentRevision": current,
            "updateRevision": name(self.update),
            "collisionCount": number(self.set, "/status/collisionCount", 0),
            "availableReplicas": counts.available,
            "conditions": known["conditions"],
        }));
        self.plan.status(kind("StatefulSet"), self.set, status);
    }
}
