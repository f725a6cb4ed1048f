//! Nodes by the values of those of their labels that somebody asks for.

use std::collections::HashMap;

use super::node::{Node, Slot};

/// The label whose value each node has for itself.
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label of zones.
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";

/// The values of the labels in use. Values are numbers from 1; 0 is none.
#[derive(Debug, Default)]
pub(super) struct Topologies {
    all: Vec<Topology>,
    ids: HashMap<String, u32>,
}

#[derive(Debug, Default)]
struct Topology {
    key: String,
    of_slot: Vec<u32>,
    /// Their numbers, and how many nodes have them.
    values: HashMap<String, (u32, u32)>,
    free: Vec<u32>,
    /// The highest number so far.
    highest: u32,
}

impl Topology {
    fn set(&mut self, slot: u32, before: Option<&str>, value: Option<&str>) {
        let at = slot as usize;
        if self.of_slot.len() <= at {
            self.of_slot.resize(at + 1, 0);
        }
        if self.of_slot[at] != 0 {
            let before = before.unwrap_or_default();
            if let Some((id, users)) = self.values.get_mut(before) {
                *users -= 1;
                if *users == 0 {
                    self.free.push(*id);
                    self.values.remove(before);
                }
            }
        }
        self.of_slot[at] = match value {
            None => 0,
            Some(value) => self.acquire(value),
        };
    }

    fn acquire(&mut self, value: &str) -> u32 {
        if let Some((id, users)) = self.values.get_mut(value) {
            *users += 1;
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.highest += 1;
            self.highest
        });
        self.values.insert(value.to_owned(), (id, 1));
        id
    }
}

impl Topologies {
    /// The number of a label, which is followed from now on.
    pub(super) fn id(&mut self, key: &str, slots: &[Slot]) -> u32 {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let mut topology = Topology { key: key.to_owned(), ..Topology::default() };
        for (slot, own) in (0_u32..).zip(slots).filter(|(_, own)| own.is_known) {
            topology.set(slot, None, own.node.label(key));
        }
        self.all.push(topology);
        let id = u32::try_from(self.all.len() - 1).expect("memory ends before numbers do");
        self.ids.insert(key.to_owned(), id);
        id
    }

    /// A node's labels change; none if it goes.
    pub(super) fn set(&mut self, slot: u32, before: Option<&Node>, now: Option<&Node>) {
        for topology in &mut self.all {
            let key = topology.key.clone();
            let of =
                |node: Option<&Node>| node.and_then(|node| node.label(&key)).map(str::to_owned);
            topology.set(slot, of(before).as_deref(), of(now).as_deref());
        }
    }

    /// The value that a node has.
    pub(super) fn of(&self, topology: u32, slot: u32) -> u32 {
        self.all[topology as usize].of_slot.get(slot as usize).copied().unwrap_or_default()
    }

    /// The nodes that have a value, and it.
    pub(super) fn each(&self, topology: u32) -> impl Iterator<Item = (u32, u32)> {
        let all = (0_u32..).zip(&self.all[topology as usize].of_slot);
        all.filter(|(_, value)| **value != 0).map(|(slot, value)| (slot, *value))
    }

    /// Room for a number for each value.
    pub(super) fn room(&self, topology: u32, initial: i64) -> Vec<i64> {
        vec![initial; self.all[topology as usize].highest as usize + 1]
    }

    /// Sums numbers of nodes by the values that they have.
    pub(super) fn sums(&self, topology: u32, counts: &[u32]) -> Vec<i64> {
        let mut sums = self.room(topology, 0);
        for (value, count) in self.all[topology as usize].of_slot.iter().zip(counts) {
            sums[*value as usize] += i64::from(*count);
        }
        sums[0] = 0;
        sums
    }
}
