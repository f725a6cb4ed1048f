//! The scheduler: which node each pod goes to.
//!
//! It is pure. Changes of objects and the time come in ([`Scheduler::observe`]), decisions come out
//! ([`Scheduler::next`]), and the same seed with the same changes makes the same decisions. Filters,
//! scores, weights, the order of the queue and the words of failures are those of upstream's default
//! profile (kube-scheduler 1.35). An [`Applier`] makes calls of the API of what is decided.
//!
//! A decision costs no look at other pods: `index` counts by node which pods the selectors in use
//! mean, as they come and go; `node::Fixed` remembers for all pods of one shape what taints and labels
//! of a node say; and of many nodes a part is looked at, from where the last search ended.

mod apply;
mod cycle;
mod decision;
mod explain;
mod find;
mod hint;
mod index;
mod node;
mod pod;
mod preempt;
mod queue;
mod random;
mod reason;
mod resources;
mod score;
mod state;
#[cfg(test)]
mod tests;
mod topology;
mod volume;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use client::Change;
use serde_json::Value;

pub use apply::Applier;
pub use decision::{Decision, Unschedulable};
pub use node::Taint;
pub use pod::PodId;
pub use reason::{Change as Remedial, Filter, NodeReport, Reason, Remedy, Report};
pub use resources::Resources;
pub use volume::{ClaimStep, VolumeProblem};

use find::{Nowhere, Search};
use hint::{Event, helps};
use node::Node;
use pod::{Placed, Pod};
use preempt::NoRoom;
use queue::Queue;
use state::{Name, State};
use volume::{Claim, Class, Volume};

/// The kinds whose objects the scheduler has to be told of.
pub const KINDS: &[&str] = &[
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget",
    "ReplicaSet",
    "ReplicationController",
    "Service",
    "StatefulSet",
    "StorageClass",
];

/// So long claims may take to get their volumes, as upstream's `bindTimeoutSeconds`.
const PROVIDED: Duration = Duration::from_secs(600);

/// Decides about pods. Time is a duration since any moment, which the caller tells.
#[derive(Debug)]
pub struct Scheduler {
    /// Pods that name another scheduler are not its own.
    name: String,
    state: State,
    queue: Queue,
    search: Search,
    /// Pods whose claims get volumes, and until when.
    providing: BTreeMap<Name, (PodId, String, Vec<ClaimStep>, Duration)>,
    /// Decisions that need no thought.
    decided: VecDeque<Decision>,
}

impl Scheduler {
    /// A scheduler for pods that name it; chance follows from the seed.
    #[must_use]
    pub fn new(name: &str, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            state: State::default(),
            queue: Queue::default(),
            search: Search::new(seed),
            providing: BTreeMap::new(),
            decided: VecDeque::new(),
        }
    }

    /// Takes note of what became of an object of one of [`KINDS`]; others are of no interest.
    pub fn observe(&mut self, change: &Change, now: Duration) {
        let object = change.now.as_deref();
        let name = (change.key.namespace.clone(), change.key.name.clone());
        match change.key.kind {
            "Pod" => self.observe_pod(&name, object, now),
            "Node" => self.observe_node(&name.1, object, now),
            "PersistentVolumeClaim" => {
                self.state.volumes.set_claim(name.clone(), object.map(Claim::parse));
                self.wake(&Event::Claim(&name), now);
            }
            "PersistentVolume" => {
                self.state.volumes.set_volume(name.1, object.map(Volume::parse));
                self.wake(&Event::Storage, now);
            }
            "StorageClass" => {
                self.state.volumes.set_class(name.1, object.map(Class::parse));
                self.wake(&Event::Storage, now);
            }
            "Namespace" => {
                let labels = object.map(|object| node::labels(&object["metadata"]["labels"]));
                self.state.index.set_namespace(&name.1, labels.as_ref());
                self.wake(&Event::Namespace, now);
            }
            "Service" => self.state.set_service(name, object),
            "PodDisruptionBudget" => self.state.set_budget(name, object),
            kind @ ("ReplicaSet" | "ReplicationController" | "StatefulSet") => {
                self.state.set_owner(kind, name, object);
            }
            _ => {}
        }
    }

    fn observe_node(&mut self, name: &str, object: Option<&Value>, now: Duration) {
        let Some(object) = object else {
            self.state.remove_node(name);
            return self.wake(&Event::NodeGone, now);
        };
        let node = Node::parse(object);
        match self.state.set_node(node.clone()) {
            None => self.wake(&Event::NodeAdded(&node), now),
            Some(before) if before == node => {}
            Some(before) => self.wake(&Event::NodeChanged(&before, &node), now),
        }
    }

    fn observe_pod(&mut self, name: &Name, object: Option<&Value>, now: Duration) {
        let has_ended = |object: &&Value| {
            matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        };
        let Some(object) = object.filter(|object| !has_ended(object)) else {
            return self.pod_is_gone(name, now);
        };
        let pod = Pod::parse(object);
        // Another one of its name may be told before the end of the first.
        if self.state.pods.get(name).is_some_and(|own| own.placed.pod.id != pod.id) {
            self.pod_is_gone(name, now);
        }
        let was_placed = self.state.pods.get(name).is_some_and(|own| own.slot.is_some());
        let before = self.state.set_pod(pod);
        let Some(entry) = self.state.pods.get(name) else { return };
        let pod = entry.placed.pod.clone();
        if pod.node.is_some() {
            self.queue.remove(name);
            self.providing.remove(name);
            return match before.filter(|_| was_placed) {
                None => self.wake(&Event::Placed(&pod), now),
                Some(before) if before == pod => {}
                Some(before) => self.wake(&Event::Changed(&before, &pod), now),
            };
        }
        if pod.is_ending || pod.scheduler != self.name {
            return self.queue.remove(name);
        }
        if entry.is_assumed {
            return;
        }
        let is_gated = !pod.gates.is_empty();
        let is_news = before.is_none_or(|before| !before.asks_the_same(&pod));
        if is_gated && is_news && pod.told.0 != "SchedulingGated" {
            self.decided.push_back(Decision::Gated { pod: pod.id.clone() });
        }
        self.queue.set(name, (&pod.id.uid, pod.priority), is_gated, is_news, now);
    }

    fn pod_is_gone(&mut self, name: &Name, now: Duration) {
        let was_placed = self.state.pods.get(name).is_some_and(|own| own.slot.is_some());
        let gone = self.state.remove_pod(&name.0, &name.1);
        self.queue.remove(name);
        if let Some((pod, _, steps, _)) = self.providing.remove(name) {
            self.state.volumes.reserve(&pod.namespace, &steps, false);
        }
        // One that waited for room no longer does, which is as good as if it had left.
        if let Some(gone) = gone.filter(|gone| was_placed || gone.nominated.is_some()) {
            self.wake(&Event::Left(&gone), now);
        }
    }

    fn wake(&mut self, event: &Event<'_>, now: Duration) {
        let state = &self.state;
        self.queue.wake(now, |name, filters| {
            state.pods.get(name).is_some_and(|own| helps(state, &own.placed.pod, filters, event))
        });
    }

    /// The next decision, if there is one to be made now.
    pub fn next(&mut self, now: Duration) -> Option<Decision> {
        if let Some(decision) = self.decided.pop_front() {
            return Some(decision);
        }
        if let Some(decision) = self.provided(now) {
            return Some(decision);
        }
        loop {
            let name = self.queue.next(now)?;
            let entry = self.state.pods.get(&name);
            match entry.filter(|own| own.slot.is_none()).map(|own| own.placed.clone()) {
                Some(placed) => return Some(self.decide(&name, &placed, now)),
                None => self.queue.remove(&name),
            }
        }
    }

    /// When [`Self::next`] may have something to decide, if nothing happens before.
    #[must_use]
    pub fn next_time(&self, now: Duration) -> Option<Duration> {
        if !self.decided.is_empty() || self.providing.values().any(|own| self.is_provided(own)) {
            return Some(now);
        }
        let late = self.providing.values().map(|(.., until)| *until).min();
        late.into_iter().chain(self.queue.next_time(now)).min()
    }

    /// The API refused a decision about a pod: it is as if it had not been made, and the pod is tried
    /// again after a while.
    pub fn refused(&mut self, id: &PodId, now: Duration) {
        let name = (id.namespace.clone(), id.name.clone());
        if let Some((.., steps, _)) = self.providing.remove(&name) {
            self.state.volumes.reserve(&id.namespace, &steps, false);
        }
        let Some(entry) = self.state.pods.get(&name) else { return };
        let pod = entry.placed.pod.clone();
        if pod.id.uid == id.uid && pod.node.is_none() {
            let has_left = self.state.forget(id);
            self.queue.failed(&name, now);
            if has_left {
                self.wake(&Event::Left(&pod), now);
            }
        }
    }

    /// Why a pod is not placed, as data; `None` if there is no such pod, or it is placed.
    pub fn explain(&mut self, namespace: &str, name: &str) -> Option<Report> {
        let entry = self.state.pod(namespace, name).filter(|own| own.slot.is_none())?;
        let placed = entry.placed.clone();
        Some(find::report(&mut self.state, &placed))
    }

    fn decide(&mut self, name: &Name, placed: &Placed, now: Duration) -> Decision {
        match self.search.node(&mut self.state, placed) {
            Ok(slot) => self.place(name, placed, slot, now),
            Err(nowhere) => {
                self.queue.unschedulable(name, nowhere.filters, now);
                Decision::Unschedulable(self.unschedulable(placed, &nowhere))
            }
        }
    }

    fn place(&mut self, name: &Name, placed: &Placed, slot: u32, now: Duration) -> Decision {
        let pod = placed.pod.id.clone();
        let own = &self.state.slot(slot).node;
        let node = own.name.clone();
        let needs = self.state.volumes.needs(&placed.pod).unwrap_or_default();
        let steps = self.state.volumes.plan(&placed.pod, &needs, own).unwrap_or_default();
        self.state.assume(&pod, slot);
        if steps.is_empty() {
            return Decision::Bind { pod, node };
        }
        self.state.volumes.reserve(&pod.namespace, &steps, true);
        let waiting = (pod.clone(), node.clone(), steps.clone(), now + PROVIDED);
        self.providing.insert(name.clone(), waiting);
        Decision::Provide { pod, node, steps }
    }

    fn is_provided(&self, (pod, ..): &(PodId, String, Vec<ClaimStep>, Duration)) -> bool {
        let entry = self.state.pod(&pod.namespace, &pod.name);
        entry.is_some_and(|own| self.state.volumes.are_bound(&own.placed.pod))
    }

    /// A pod whose claims have their volumes is bound; one that has waited too long is tried again.
    fn provided(&mut self, now: Duration) -> Option<Decision> {
        let late: Vec<PodId> =
            self.providing.values().filter(|own| own.3 <= now).map(|own| own.0.clone()).collect();
        late.iter().for_each(|pod| self.refused(pod, now));
        let ready = self.providing.iter().find(|(_, own)| self.is_provided(own));
        let name = ready.map(|(name, _)| name.clone())?;
        let (pod, node, ..) = self.providing.remove(&name)?;
        Some(Decision::Bind { pod, node })
    }

    fn unschedulable(&mut self, placed: &Placed, nowhere: &Nowhere) -> Unschedulable {
        let pod = &placed.pod;
        let mut own = Unschedulable {
            pod: pod.id.clone(),
            message: "no nodes available to schedule pods".to_owned(),
            is_first: pod.told.0.is_empty(),
            is_told: false,
            nominated: None,
            victims: Vec::new(),
            outranked: Vec::new(),
        };
        if self.state.nodes() > 0 {
            own.message = nowhere.message(&mut self.state, pod);
            let random = &mut self.search.random;
            match preempt::room(&mut self.state, placed, nowhere, random) {
                Ok(room) => {
                    let node = self.state.slot(room.slot).node.name.clone();
                    let leaving = room.victims.iter().filter(|own| !own.pod.is_ending);
                    own.victims = leaving.map(|own| own.pod.id.clone()).collect();
                    own.outranked = self.state.outranked(&node, pod);
                    own.nominated = Some(node);
                }
                Err(NoRoom::Ineligible(why)) => {
                    own.message = format!("{} preemption: {why}", own.message);
                    own.nominated.clone_from(&pod.nominated);
                }
                Err(NoRoom::Useless(why)) => {
                    own.message = format!("{} preemption: {why}", own.message);
                }
            }
        }
        own.is_told = pod.told == ("Unschedulable".to_owned(), own.message.clone())
            && pod.nominated == own.nominated;
        own.outranked.iter().for_each(|other| self.state.set_nominated(other, None));
        self.state.set_nominated(&pod.id, own.nominated.as_deref());
        own
    }
}
