//! What the scheduler knows of a cluster, changed by one object at a time.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use objects::Selector;
use serde_json::Value;

use super::index::{Effect, Index, Part, Scope};
use super::node::{Fixed, Node, Room, Slot, Verdict, labels};
use super::pod::{Placed, Pod, PodId};
use super::topology::Topologies;
use super::volume::Volumes;

/// So many shapes of pods are remembered; a cluster has rarely more workloads that differ.
const SHAPES_MAX: usize = 256;

/// Namespace and name.
pub(super) type Name = (String, String);

/// A pod, and where it is.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) placed: Placed,
    pub(super) slot: Option<u32>,
    /// It is on the node because the scheduler decided so, and the API has not told yet.
    pub(super) is_assumed: bool,
}

/// How many pods of a kind may be evicted.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget {
    pub(super) selector: Option<Selector>,
    pub(super) allowed: i64,
    /// Pods whose eviction is counted already.
    pub(super) disrupted: Vec<String>,
}

/// Nodes, pods and all that placements depend on.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    /// By the same numbers.
    rooms: Vec<Room>,
    slot_ids: HashMap<String, u32>,
    free_slots: Vec<u32>,
    /// Known nodes in the order of their arrival.
    arrivals: Vec<u32>,
    /// The same, zones taking turns.
    order: Vec<u32>,
    pub(super) pods: HashMap<Name, Entry>,
    pub(super) index: Index,
    pub(super) topologies: Topologies,
    pub(super) volumes: Volumes,
    /// Sizes of images by node.
    images: HashMap<String, BTreeMap<u32, i64>>,
    shapes: HashMap<String, u32>,
    fixed: Vec<Vec<Cell<Fixed>>>,
    pub(super) budgets: BTreeMap<Name, Budget>,
    /// The pods of services.
    services: BTreeMap<Name, Arc<Part>>,
    /// The pods of controllers, by kind, namespace and name.
    owners: BTreeMap<(String, String, String), Arc<Part>>,
    /// Pods that wait for room on a node.
    nominations: BTreeMap<String, Vec<Name>>,
}

impl State {
    /// Known nodes in the order in which they are looked at.
    pub(super) fn order(&mut self) -> &[u32] {
        if self.order.is_empty() {
            self.order = self.turns();
        }
        &self.order
    }

    pub(super) fn nodes(&self) -> usize {
        self.arrivals.len()
    }

    /// Zones take turns, so that the nodes looked at first are not all in one.
    fn turns(&self) -> Vec<u32> {
        let mut zones: Vec<Vec<u32>> = Vec::new();
        let mut ids: HashMap<(&str, &str), usize> = HashMap::new();
        for slot in &self.arrivals {
            let zone = self.slots[*slot as usize].node.zone();
            let id = *ids.entry(zone).or_insert(zones.len());
            if id == zones.len() {
                zones.push(Vec::new());
            }
            zones[id].push(*slot);
        }
        let longest = zones.iter().map(Vec::len).max().unwrap_or_default();
        let turn = |turn: usize| zones.iter().filter_map(move |zone| zone.get(turn).copied());
        (0..longest).flat_map(turn).collect()
    }

    pub(super) fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    pub(super) fn room(&self, slot: u32) -> &Room {
        &self.rooms[slot as usize]
    }

    /// The number of a node that is known.
    pub(super) fn known(&self, name: &str) -> Option<u32> {
        self.slot_ids.get(name).copied().filter(|slot| self.slot(*slot).is_known)
    }

    /// The number of a node, known or not.
    fn slot_id(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.slot_ids.get(name) {
            return *slot;
        }
        let mut new = Slot::default();
        new.node.name = name.to_owned();
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                self.rooms[slot as usize] = Room::default();
                slot
            }
            None => {
                self.slots.push(new);
                self.rooms.push(Room::default());
                u32::try_from(self.slots.len() - 1).expect("memory ends before numbers do")
            }
        };
        self.slot_ids.insert(name.to_owned(), slot);
        slot
    }

    /// A node is there, or has changed. Gives it as it was.
    pub(super) fn set_node(&mut self, node: Node) -> Option<Node> {
        let slot = self.slot_id(&node.name);
        let own = &self.slots[slot as usize];
        let is_new = !own.is_known;
        let before = (!is_new).then(|| own.node.clone());
        let same = |of: fn(&Node, &Node) -> bool| before.as_ref().is_some_and(|old| of(old, &node));
        if !same(|a, b| a.labels == b.labels) {
            self.topologies.set(slot, before.as_ref(), Some(&node));
            self.order.clear();
        }
        if !same(|a, b| a.images == b.images) {
            self.set_images(slot, before.as_ref(), Some(&node));
        }
        let is_seen_the_same = |a: &Node, b: &Node| {
            (&a.labels, &a.taints, a.is_cordoned) == (&b.labels, &b.taints, b.is_cordoned)
        };
        if !same(is_seen_the_same) {
            self.forget_fixed(slot);
        }
        if is_new {
            self.arrivals.push(slot);
            self.order.clear();
        }
        let own = &mut self.slots[slot as usize];
        own.is_known = true;
        own.node = node;
        self.rooms[slot as usize].set(own);
        before
    }

    /// A node is gone; pods that are said to be on it stay so.
    pub(super) fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.known(name) else { return };
        let node = std::mem::take(&mut self.slots[slot as usize].node);
        self.topologies.set(slot, Some(&node), None);
        self.set_images(slot, Some(&node), None);
        self.forget_fixed(slot);
        self.arrivals.retain(|own| *own != slot);
        self.order.clear();
        let own = &mut self.slots[slot as usize];
        own.is_known = false;
        own.node.name = node.name;
        self.free_slot(slot);
    }

    fn free_slot(&mut self, slot: u32) {
        let own = &self.slots[slot as usize];
        if !own.is_known && own.pods.is_empty() {
            self.slot_ids.remove(&own.node.name);
            self.slots[slot as usize] = Slot::default();
            self.free_slots.push(slot);
        }
    }

    fn set_images(&mut self, slot: u32, before: Option<&Node>, now: Option<&Node>) {
        for (name, _) in before.into_iter().flat_map(|node| &node.images) {
            if let Some(sizes) = self.images.get_mut(name) {
                sizes.remove(&slot);
                if sizes.is_empty() {
                    self.images.remove(name);
                }
            }
        }
        for (name, size) in now.into_iter().flat_map(|node| &node.images) {
            self.images.entry(name.clone()).or_default().insert(slot, *size);
        }
    }

    /// The sizes of an image on the nodes that have it.
    pub(super) fn image(&self, name: &str) -> Option<&BTreeMap<u32, i64>> {
        self.images.get(name)
    }

    fn forget_fixed(&mut self, slot: u32) {
        for own in &mut self.fixed {
            if let Some(fixed) = own.get_mut(slot as usize) {
                fixed.take();
            }
        }
    }

    /// The number of the shape of a pod; valid until the next one is asked for.
    pub(super) fn shape(&mut self, pod: &Pod) -> u32 {
        if self.shapes.len() >= SHAPES_MAX && !self.shapes.contains_key(&pod.shape) {
            self.shapes.clear();
            self.fixed.clear();
        }
        let id = match self.shapes.get(&pod.shape) {
            Some(id) => *id,
            None => {
                let id = u32::try_from(self.fixed.len()).expect("shapes are few");
                self.shapes.insert(pod.shape.clone(), id);
                self.fixed.push(Vec::new());
                id
            }
        };
        self.fixed[id as usize].resize_with(self.slots.len(), Cell::default);
        id
    }

    /// What of a pod, which may have a shape, depends on nothing but the node.
    pub(super) fn fixed(&self, shape: Option<u32>, pod: &Pod, slot: u32) -> Fixed {
        let Some(shape) = shape else { return Fixed::of(pod, &self.slot(slot).node) };
        let place = &self.fixed[shape as usize][slot as usize];
        let mut fixed = place.get();
        if fixed.verdict == Verdict::Unknown {
            fixed = Fixed::of(pod, &self.slot(slot).node);
            place.set(fixed);
        }
        fixed
    }

    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.pods.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// A pod is there, or has changed. Gives it as it was.
    pub(super) fn set_pod(&mut self, pod: Pod) -> Option<Arc<Pod>> {
        let name = (pod.id.namespace.clone(), pod.id.name.clone());
        let is_same = |own: &&Entry| own.is_assumed && own.placed.pod.id.uid == pod.id.uid;
        let assumed = self.pods.get(&name).filter(is_same).and_then(|own| own.slot);
        let assumed = assumed.map(|slot| self.slot(slot).node.name.clone());
        let before = self.remove_pod(&name.0, &name.1);
        let slot = pod.node.clone().or(assumed).map(|node| self.slot_id(&node));
        let set = self.index.acquire(&pod.id.namespace, &pod.labels);
        let is_assumed = pod.node.is_none() && slot.is_some();
        let placed = Placed { pod: Arc::new(pod), set };
        match slot {
            Some(slot) => self.place(slot, &placed),
            None => self.nominate(&placed.pod.clone()),
        }
        self.pods.insert(name, Entry { placed, slot, is_assumed });
        before
    }

    /// A pod is gone, or has ended. Gives it as it was.
    pub(super) fn remove_pod(&mut self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let entry = self.pods.remove(&(namespace.to_owned(), name.to_owned()))?;
        match entry.slot {
            Some(slot) => {
                self.unplace(slot, &entry.placed);
                self.free_slot(slot);
            }
            None => self.withdraw(&entry.placed.pod.clone()),
        }
        self.index.release(entry.placed.set);
        Some(entry.placed.pod)
    }

    /// Takes a pod as bound to a node, before the API tells.
    pub(super) fn assume(&mut self, id: &PodId, slot: u32) {
        let name = (id.namespace.clone(), id.name.clone());
        let Some(entry) = self.pods.get_mut(&name) else { return };
        entry.slot = Some(slot);
        entry.is_assumed = true;
        let placed = entry.placed.clone();
        self.withdraw(&placed.pod);
        self.place(slot, &placed);
    }

    /// Takes that back. Whether there was anything to take back.
    pub(super) fn forget(&mut self, id: &PodId) -> bool {
        let name = (id.namespace.clone(), id.name.clone());
        let Some(entry) = self.pods.get_mut(&name) else { return false };
        let Some(slot) = entry.slot.filter(|_| entry.is_assumed) else { return false };
        entry.slot = None;
        entry.is_assumed = false;
        let placed = entry.placed.clone();
        self.unplace(slot, &placed);
        self.nominate(&placed.pod);
        true
    }

    /// Counts a pod as being on a node.
    pub(super) fn place(&mut self, slot: u32, placed: &Placed) {
        let own = &mut self.slots[slot as usize];
        own.pods.push(placed.clone());
        own.ports.extend(placed.pod.ports.iter().cloned());
        self.count(slot, placed, 1);
    }

    /// Counts it no more.
    pub(super) fn unplace(&mut self, slot: u32, placed: &Placed) {
        let own = &mut self.slots[slot as usize];
        let Some(at) = own.pods.iter().position(|pod| pod.pod.id == placed.pod.id) else { return };
        own.pods.swap_remove(at);
        for port in &placed.pod.ports {
            if let Some(at) = own.ports.iter().position(|other| other == port) {
                own.ports.swap_remove(at);
            }
        }
        self.count(slot, placed, -1);
    }

    fn count(&mut self, slot: u32, placed: &Placed, delta: i32) {
        let pod = &placed.pod;
        let own = &mut self.slots[slot as usize];
        own.requested.add(&pod.requests, delta.into());
        let room = &mut self.rooms[slot as usize];
        room.set(own);
        room.assumed_cpu_milli += i64::from(delta) * pod.assumed.0;
        room.assumed_memory += i64::from(delta) * pod.assumed.1;
        self.index.moved(placed.set, slot, pod.is_ending, delta);
        if !pod.claims.is_empty() {
            self.volumes.moved(pod, delta);
        }
        let kept = pod.anti_affinity.iter().map(|term| (Effect::Keeps, term));
        // Upstream's weight of what is required, for those that may come.
        let required = pod.affinity.iter().map(|term| (Effect::Weighs(1), term));
        let liked = pod.preferences.iter().map(|(weight, term)| (Effect::Weighs(*weight), term));
        for (effect, term) in kept.chain(required).chain(liked) {
            let topology = self.topologies.id(&term.topology, &self.slots);
            match delta > 0 {
                true => self.index.carry(&term.part, topology, effect, slot),
                false => self.index.drop(&term.part, topology, effect, slot),
            }
        }
    }

    /// Pods that wait for room on a node and are at least as important as one; not the one itself.
    pub(super) fn nominated(&self, node: &str, pod: &Pod) -> Vec<Placed> {
        let names = self.nominations.get(node).into_iter().flatten();
        let placed = names.filter_map(|name| self.pods.get(name)).map(|entry| &entry.placed);
        let counts =
            |own: &&Placed| own.pod.priority >= pod.priority && own.pod.id.uid != pod.id.uid;
        placed.filter(counts).cloned().collect()
    }

    /// Whether any pod waits for room on the node.
    pub(super) fn has_nominated(&self, node: &str) -> bool {
        !self.nominations.is_empty() && self.nominations.contains_key(node)
    }

    fn nominate(&mut self, pod: &Pod) {
        if let Some(node) = &pod.nominated {
            let name = (pod.id.namespace.clone(), pod.id.name.clone());
            self.nominations.entry(node.clone()).or_default().push(name);
        }
    }

    fn withdraw(&mut self, pod: &Pod) {
        let Some(node) = &pod.nominated else { return };
        let Some(names) = self.nominations.get_mut(node) else { return };
        names.retain(|(namespace, name)| (namespace, name) != (&pod.id.namespace, &pod.id.name));
        if names.is_empty() {
            self.nominations.remove(node);
        }
    }

    /// Has a pod wait for room on a node, or on none, before the API tells.
    pub(super) fn set_nominated(&mut self, id: &PodId, node: Option<&str>) {
        let Some(entry) = self.pod(&id.namespace, &id.name) else { return };
        if entry.slot.is_some() || entry.placed.pod.nominated.as_deref() == node {
            return;
        }
        let mut pod = (*entry.placed.pod).clone();
        pod.nominated = node.map(str::to_owned);
        self.set_pod(pod);
    }

    /// Less important pods that wait for room on a node.
    pub(super) fn outranked(&self, node: &str, pod: &Pod) -> Vec<PodId> {
        let names = self.nominations.get(node).into_iter().flatten();
        let pods = names.filter_map(|name| self.pods.get(name)).map(|entry| &entry.placed.pod);
        pods.filter(|own| own.priority < pod.priority).map(|own| own.id.clone()).collect()
    }

    pub(super) fn set_service(&mut self, name: Name, object: Option<&Value>) {
        let selector = object.map(|object| labels(&object["spec"]["selector"]));
        match selector.filter(|selector| !selector.is_empty()) {
            Some(selector) => {
                let part = Part::new(Scope::of(&name.0), Some(Selector::from_labels(&selector)));
                self.services.insert(name, Arc::new(part))
            }
            None => self.services.remove(&name),
        };
    }

    pub(super) fn set_owner(&mut self, kind: &str, name: Name, object: Option<&Value>) {
        let read = |object: &Value| match kind {
            "ReplicationController" => {
                Some(Selector::from_labels(&labels(&object["spec"]["selector"])))
            }
            _ => Selector::from_json(&object["spec"]["selector"]).ok(),
        };
        let selector = object.and_then(read);
        let scope = Scope::of(&name.0);
        let key = (kind.to_owned(), name.0, name.1);
        match selector {
            Some(selector) => self.owners.insert(key, Arc::new(Part::new(scope, Some(selector)))),
            None => self.owners.remove(&key),
        };
    }

    /// The pods among which one is spread without its asking: those of its services and of its
    /// controller. Nothing if it has neither.
    pub(super) fn peers(&self, pod: &Pod) -> Vec<Arc<Part>> {
        let namespace = &pod.id.namespace;
        let from = (namespace.clone(), String::new());
        let here = self.services.range(from..).take_while(|((own, _), _)| own == namespace);
        let means = |part: &&Arc<Part>| self.index.means_labels(part, namespace, &pod.labels);
        let services = here.map(|(_, part)| part).filter(means);
        let owner = pod.owner.as_ref().and_then(|(kind, name)| {
            self.owners.get(&(kind.clone(), namespace.clone(), name.clone()))
        });
        services.chain(owner).cloned().collect()
    }

    pub(super) fn set_budget(&mut self, name: Name, object: Option<&Value>) {
        let read = |object: &Value| Budget {
            selector: Selector::from_json(&object["spec"]["selector"])
                .ok()
                .filter(|selector| !selector.is_empty()),
            allowed: object["status"]["disruptionsAllowed"].as_i64().unwrap_or_default(),
            disrupted: object["status"]["disruptedPods"]
                .as_object()
                .map(|all| all.keys().cloned().collect())
                .unwrap_or_default(),
        };
        match object {
            Some(object) => self.budgets.insert(name, read(object)),
            None => self.budgets.remove(&name),
        };
    }
}
