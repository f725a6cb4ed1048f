//! Decisions become calls of the API.

use std::collections::HashMap;
use std::time::Duration;

use client::{Client, Deletion, Failure, Patch, kind};
use objects::time;
use serde_json::{Value, json};

use super::Scheduler;
use super::decision::{Decision, Unschedulable};
use super::pod::PodId;
use super::volume::{ClaimStep, SELECTED_NODE};

/// So many events are remembered to be counted instead of told again.
const EVENTS_MAX: usize = 4096;

/// Makes calls. Times are durations since 1970.
#[derive(Debug)]
pub struct Applier {
    client: Client,
    name: String,
    /// Events by pod, reason and message: their names, and how often they were told.
    events: HashMap<(String, String, String), (String, u64)>,
    told: u64,
}

/// An event about a pod.
struct Event<'a> {
    pod: &'a PodId,
    is_warning: bool,
    reason: &'a str,
    action: &'a str,
    message: String,
}

impl Applier {
    /// An applier for the scheduler of a name.
    #[must_use]
    pub fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.to_owned(), events: HashMap::new(), told: 0 }
    }

    /// Does everything that a scheduler decides now. `now` is its clock, `wall` the time of day.
    /// Gives what the API refused; those pods are tried again.
    pub fn drain(
        &mut self,
        scheduler: &mut Scheduler,
        now: Duration,
        wall: Duration,
    ) -> Vec<(PodId, Failure)> {
        let mut failures = Vec::new();
        while let Some(decision) = scheduler.next(now) {
            if let Err(failure) = self.apply(&decision, wall) {
                scheduler.refused(decision.pod(), now);
                // It was removed meanwhile, which is no failure of anybody.
                if !failure.is_not_found() {
                    failures.push((decision.pod().clone(), failure));
                }
            }
        }
        failures
    }

    /// Makes the calls of one decision, and tells its event.
    ///
    /// # Errors
    /// The first call that was refused. An event that cannot be told is no error.
    pub fn apply(&mut self, decision: &Decision, wall: Duration) -> Result<(), Failure> {
        match decision {
            Decision::Bind { pod, node } => self.bind(pod, node, wall),
            Decision::Provide { pod, node, steps } => {
                steps.iter().try_for_each(|step| self.provide(pod, node, step))
            }
            Decision::Gated { pod } => self.patch_status(pod, decision, wall),
            Decision::Unschedulable(own) => {
                self.tell(
                    &Event {
                        pod: &own.pod,
                        is_warning: true,
                        reason: "FailedScheduling",
                        action: "Scheduling",
                        message: own.message.clone(),
                    },
                    wall,
                );
                self.patch_status(&own.pod, decision, wall)?;
                self.make_room(own, wall)
            }
        }
    }

    fn bind(&mut self, pod: &PodId, node: &str, wall: Duration) -> Result<(), Failure> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        self.client.post(kind("Pod"), place(pod), "binding", &binding)?;
        let event = Event {
            pod,
            is_warning: false,
            reason: "Scheduled",
            action: "Binding",
            message: format!("Successfully assigned {pod} to {node}"),
        };
        self.tell(&event, wall);
        Ok(())
    }

    fn provide(&self, pod: &PodId, node: &str, step: &ClaimStep) -> Result<(), Failure> {
        match step {
            ClaimStep::Make { claim } => {
                let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
                let of = kind("PersistentVolumeClaim");
                self.client.patch(of, (&pod.namespace, claim), "", Patch::Merge, &patch)?;
            }
            ClaimStep::Take { claim, volume } => {
                let of = kind("PersistentVolumeClaim");
                let object = self.client.get(of, &pod.namespace, claim)?;
                let claim = json!({
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": pod.namespace, "name": claim, "uid": object["metadata"]["uid"],
                });
                let patch = json!({"spec": {"claimRef": claim}});
                let of = kind("PersistentVolume");
                self.client.patch(of, ("", volume), "", Patch::Merge, &patch)?;
            }
        }
        Ok(())
    }

    fn patch_status(
        &self,
        pod: &PodId,
        decision: &Decision,
        wall: Duration,
    ) -> Result<(), Failure> {
        match decision.status_patch(&seconds(wall)) {
            Some(patch) => self.patch_pod(pod, &patch),
            None => Ok(()),
        }
    }

    fn patch_pod(&self, pod: &PodId, patch: &Value) -> Result<(), Failure> {
        let mut patch = patch.clone();
        // Another pod may have its name meanwhile.
        patch["metadata"] = json!({"uid": pod.uid});
        self.client.patch(kind("Pod"), place(pod), "status", Patch::Strategic, &patch).map(drop)
    }

    fn make_room(&mut self, own: &Unschedulable, wall: Duration) -> Result<(), Failure> {
        for pod in &own.outranked {
            let patch = json!({"status": {"nominatedNodeName": null}});
            ignore_absent(self.patch_pod(pod, &patch))?;
        }
        let node = own.nominated.as_deref().unwrap_or_default();
        for victim in &own.victims {
            let message = format!("{}: preempting to accommodate a higher priority pod", self.name);
            let patch = json!({"status": {"conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": message, "lastTransitionTime": seconds(wall),
            }]}});
            ignore_absent(self.patch_pod(victim, &patch))?;
            let how = Deletion { uid: Some(victim.uid.clone()), ..Deletion::default() };
            ignore_absent(self.client.delete(kind("Pod"), place(victim), &how).map(drop))?;
            let event = Event {
                pod: victim,
                is_warning: false,
                reason: "Preempted",
                action: "Preempting",
                message: format!("Preempted by pod {} on node {node}", own.pod.uid),
            };
            self.tell(&event, wall);
        }
        Ok(())
    }

    /// Tells an event; the same one again is counted.
    fn tell(&mut self, event: &Event<'_>, wall: Duration) {
        let key = (event.pod.uid.clone(), event.reason.to_owned(), event.message.clone());
        let of = kind("Event");
        if let Some((name, count)) = self.events.get_mut(&key) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": seconds(wall)});
            let place = (event.pod.namespace.as_str(), name.as_str());
            if self.client.patch(of, place, "", Patch::Merge, &patch).is_ok() {
                return;
            }
        }
        self.told += 1;
        let name = format!("{}.{:x}", event.pod.name, wall.as_nanos() + u128::from(self.told));
        let object = self.event_object(event, &name, wall);
        if self.events.len() >= EVENTS_MAX {
            self.events.clear();
        }
        // Events are told as well as possible: without one nothing that was decided is undone.
        if self.client.create(of, &event.pod.namespace, &object).is_ok() {
            self.events.insert(key, (name, 1));
        }
    }

    fn event_object(&self, event: &Event<'_>, name: &str, wall: Duration) -> Value {
        let pod = event.pod;
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": pod.namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod",
                "namespace": pod.namespace, "name": pod.name, "uid": pod.uid,
            },
            "type": if event.is_warning { "Warning" } else { "Normal" },
            "reason": event.reason, "message": event.message, "action": event.action,
            "count": 1, "firstTimestamp": seconds(wall), "lastTimestamp": seconds(wall),
            "source": {"component": self.name},
            "reportingComponent": self.name, "reportingInstance": self.name,
        })
    }
}

fn place(pod: &PodId) -> (&str, &str) {
    (&pod.namespace, &pod.name)
}

fn seconds(wall: Duration) -> String {
    time::seconds(i64::try_from(wall.as_secs()).unwrap_or(i64::MAX))
}

/// Who is gone already needs nothing.
fn ignore_absent(outcome: Result<(), Failure>) -> Result<(), Failure> {
    match outcome {
        Err(failure) if failure.is_not_found() || failure.is_conflict() => Ok(()),
        other => other,
    }
}
