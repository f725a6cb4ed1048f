//! Feeds controllers with changes and carries their plans out.

use std::collections::HashMap;
use std::time::Duration;

use client::{Cache, Change, Client, Failure, Key, Object, Queue, kind};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::plan::{Action, Metrics, Plan, World, reference};
use crate::settings::Settings;
use crate::{
    autoscaler, cron_job, daemon_set, deployment, disruption, endpoints, job, load_balancer, node,
    object, replica_set, stateful_set, volume,
};

/// The kinds whose objects controllers look at.
pub const KINDS: &[&str] = &[
    "Namespace",
    "Node",
    "Lease",
    "Service",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ControllerRevision",
    "Job",
    "CronJob",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "EndpointSlice",
    "Endpoints",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "StorageClass",
];

/// One subject: for each of its objects, what is to be done.
#[derive(Debug)]
pub(crate) struct Controller {
    /// As events name it.
    pub(crate) name: &'static str,
    /// For which of its objects a change is news.
    pub(crate) concerns: fn(&Cache, &Change) -> Vec<Key>,
    /// What is to be done for an object.
    pub(crate) plan: fn(&World<'_>, &Key) -> Plan,
}

/// All of them.
const CONTROLLERS: &[Controller] = &[
    replica_set::CONTROLLER,
    replica_set::REPLICATION_CONTROLLER,
    deployment::CONTROLLER,
    stateful_set::CONTROLLER,
    daemon_set::CONTROLLER,
    job::CONTROLLER,
    cron_job::CONTROLLER,
    endpoints::CONTROLLER,
    disruption::CONTROLLER,
    volume::CONTROLLER,
    node::CONTROLLER,
    load_balancer::CONTROLLER,
    autoscaler::CONTROLLER,
];

type Work = (usize, Key);

/// All controllers over one cache.
#[derive(Debug)]
pub struct Control<M> {
    cache: Cache,
    client: Client,
    metrics: M,
    settings: Settings,
    queue: Queue<Work>,
    failures: HashMap<(&'static str, Key), String>,
    memories: HashMap<(&'static str, Key), Value>,
    /// What it has changed itself, for whoever else looks at the cache.
    own_changes: Vec<Change>,
    /// What was told lately: the event's name and how often, to count instead of repeating it.
    told: HashMap<String, (String, u64)>,
}

/// How many different events are remembered.
const TOLD_MAX: usize = 1024;

impl<M: Metrics> Control<M> {
    /// Controllers that act through a client.
    #[must_use]
    pub fn new(cache: Cache, client: Client, metrics: M) -> Self {
        Self {
            cache,
            client,
            metrics,
            settings: Settings::default(),
            queue: Queue::default(),
            failures: HashMap::new(),
            memories: HashMap::new(),
            own_changes: Vec::new(),
            told: HashMap::new(),
        }
    }

    /// The same, which decide in this way.
    #[must_use]
    pub fn with(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Tells what has changed in the cache.
    pub fn observe(&mut self, change: &Change) {
        for (index, controller) in CONTROLLERS.iter().enumerate() {
            for key in (controller.concerns)(&self.cache, change) {
                self.queue.add((index, key));
            }
        }
    }

    /// Does the next thing that is due, if there is one.
    pub fn step(&mut self, now: Timestamp) -> bool {
        let since = since_epoch(now);
        let Some((index, key)) = self.queue.next(since) else { return false };
        let controller = &CONTROLLERS[index];
        let world = World {
            cache: &self.cache,
            now,
            failures: &self.failures,
            memories: &self.memories,
            metrics: &self.metrics,
            settings: &self.settings,
        };
        let plan = (controller.plan)(&world, &key);
        let place = (controller.name, key.clone());
        match plan.memory {
            Some(memory) => drop(self.memories.insert(place, memory)),
            None => drop(self.memories.remove(&place)),
        }
        if let Some(after) = plan.again {
            self.queue.add_at((index, key.clone()), since + after);
        }
        match self.apply(controller.name, plan.actions, now) {
            Ok(()) => {
                self.queue.succeeded(&(index, key.clone()));
                self.failures.remove(&(controller.name, key));
            }
            Err(failure) => {
                // Somebody else's change is on its way to the cache, and no failure of ours.
                if !failure.is_conflict() {
                    self.failures.insert((controller.name, key.clone()), failure.message);
                }
                self.queue.retry((index, key), since);
            }
        }
        true
    }

    /// What has changed in the cache by what it has done itself, since the last call. No watch tells it
    /// again.
    pub fn own_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.own_changes)
    }

    /// How long there is nothing to do, unless something changes.
    #[must_use]
    pub fn idle(&self, now: Timestamp) -> Option<Duration> {
        let since = since_epoch(now);
        self.queue.next_time(since).map(|time| time.saturating_sub(since))
    }

    /// Does everything that can be done. Once something could not be made, nothing else is: what
    /// stands in the way of one mostly does of all.
    fn apply(
        &mut self,
        name: &'static str,
        actions: Vec<Action>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mut failed = None;
        for action in actions {
            if failed.is_some() && matches!(action, Action::Create { .. }) {
                continue;
            }
            if let Err(failure) = self.act(name, action, now) {
                failed.get_or_insert(failure);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn act(&mut self, name: &'static str, action: Action, now: Timestamp) -> Result<(), Failure> {
        match action {
            Action::Create { of, object, owner } => {
                let made = self.client.create(of, object::namespace(&object), &object);
                if let Some(owner) = owner {
                    self.tell_made(name, &owner, of.kind, &object, &made, now);
                }
                self.take(of.kind, made?);
                Ok(())
            }
            Action::Patch { of, key, subresource, how, patch } => {
                let place = (&*key.namespace, &*key.name);
                match self.client.patch(of, place, subresource, how, &patch) {
                    Ok(changed) => self.take(of.kind, changed),
                    Err(failure) if failure.is_not_found() => {}
                    Err(failure) => return Err(failure),
                }
                Ok(())
            }
            Action::Replace { of, subresource, object } => {
                match self.client.replace(of, subresource, &object) {
                    Ok(changed) => self.take(of.kind, changed),
                    Err(failure) if failure.is_not_found() => {}
                    Err(failure) => return Err(failure),
                }
                Ok(())
            }
            Action::Delete { of, object, how, owner } => {
                self.delete(name, of, &object, &how, owner.as_ref(), now)
            }
            Action::Event { about, is_warning, reason, message } => {
                self.tell(name, &about, is_warning, reason, &message, now);
                Ok(())
            }
        }
    }

    fn delete(
        &mut self,
        name: &'static str,
        of: &'static objects::resource::Resource,
        object: &Object,
        how: &client::Deletion,
        owner: Option<&Object>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let key = Key::of(of.kind, object);
        match self.client.delete(of, (&key.namespace, &key.name), how) {
            // It goes on ending.
            Ok(answer) if answer["kind"] == of.kind && object::is_ending(&answer) => {
                self.take(of.kind, answer);
            }
            Ok(_) => self.forget(&key, object::uid(object)),
            Err(failure) if failure.is_not_found() => self.forget(&key, object::uid(object)),
            Err(failure) => return Err(failure),
        }
        if let Some(owner) = owner {
            let message = match owner["kind"] == "StatefulSet" {
                true => in_set("delete", of.kind, &key.name, owner),
                false => format!("{} {}: {}", deleted(of.kind), lower(of.kind), key.name),
            };
            self.tell(name, owner, false, "SuccessfulDelete", &message, now);
        }
        Ok(())
    }

    /// What this process has written is known from now on, and is news to controllers.
    fn take(&mut self, of: &'static str, object: Value) {
        if !KINDS.contains(&of) || object["kind"] != of {
            return;
        }
        if let Some(change) = self.cache.put(kind(of), object) {
            self.observe(&change);
            self.own_changes.push(change);
        }
    }

    fn forget(&mut self, key: &Key, uid: &str) {
        if let Some(change) = self.cache.forget(key, uid) {
            self.observe(&change);
            self.own_changes.push(change);
        }
    }

    fn tell_made(
        &mut self,
        name: &'static str,
        owner: &Object,
        kind: &str,
        object: &Value,
        made: &Result<Value, Failure>,
        now: Timestamp,
    ) {
        // Deployments tell of sizes, and what services and sets keep for themselves is no news.
        if matches!(kind, "ReplicaSet" | "EndpointSlice" | "Endpoints" | "ControllerRevision") {
            return;
        }
        match made {
            Ok(made) => {
                let message = match owner["kind"] == "StatefulSet" {
                    true => in_set("create", kind, object::name(made), owner),
                    false => format!("Created {}: {}", lower(kind), object::name(made)),
                };
                self.tell(name, owner, false, "SuccessfulCreate", &message, now);
            }
            Err(failure) if failure.is_conflict() => {}
            Err(failure) => {
                let what = object::name(object);
                let message = match what {
                    "" => format!("Error creating: {failure}"),
                    what => format!("Error creating {} {what}: {failure}", lower(kind)),
                };
                self.tell(name, owner, true, "FailedCreate", &message, now);
            }
        }
    }

    /// Tells people, by an event; the same again is counted. Nobody waits for it: that it could not be
    /// told changes nothing.
    fn tell(
        &mut self,
        component: &'static str,
        about: &Object,
        is_warning: bool,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) {
        let of = kind("Event");
        let namespace = match object::namespace(about) {
            "" => "default",
            namespace => namespace,
        };
        let same = format!("{component}/{}/{reason}/{message}", object::uid(about));
        if let Some((event, count)) = self.told.get_mut(&same) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": object::stamp(now)});
            let place = (namespace, &**event);
            if self.client.patch(of, place, "", client::Patch::Merge, &patch).is_ok() {
                return;
            }
        }
        let event = json!({
            "metadata": {"generateName": format!("{}.", object::name(about)), "namespace": namespace},
            "involvedObject": reference(about),
            "reason": reason,
            "message": message,
            "type": if is_warning { "Warning" } else { "Normal" },
            "source": {"component": component},
            "reportingComponent": component,
            "firstTimestamp": object::stamp(now),
            "lastTimestamp": object::stamp(now),
            "count": 1,
        });
        if let Ok(made) = self.client.create(of, namespace, &event) {
            if self.told.len() >= TOLD_MAX {
                self.told.clear();
            }
            self.told.insert(same, (object::name(&made).to_owned(), 1));
        }
    }
}

/// What StatefulSets say of their pods and claims.
fn in_set(doing: &str, kind: &str, name: &str, set: &Value) -> String {
    let kind = if kind == "PersistentVolumeClaim" { "Claim" } else { kind };
    format!("{doing} {kind} {name} in StatefulSet {} successful", object::name(set))
}

fn deleted(kind: &str) -> &'static str {
    if kind == "Pod" { "Deleted" } else { "Delete" }
}

/// A kind as sentences have it.
fn lower(kind: &str) -> String {
    match kind {
        "PersistentVolumeClaim" => "claim".to_owned(),
        kind => kind.to_ascii_lowercase(),
    }
}

/// A time as the queue has it.
pub(crate) fn since_epoch(now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}
