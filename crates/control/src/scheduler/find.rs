//! The search for a node: some that can have the pod are found, and the best of them is taken.

use std::collections::BTreeMap;

use super::cycle::{Cycle, Refusal};
use super::explain::{self, may_pass};
use super::pod::{Placed, Pod};
use super::random::Random;
use super::reason::{Filter, Filters, Rejection, Report, summary};
use super::score::{self, Candidate};
use super::state::State;

/// With fewer nodes than this all are looked at, and never fewer are found if there are more.
const FOUND_MIN: usize = 100;
/// The least part of all nodes that is found.
const FOUND_PERCENT_MIN: usize = 5;

/// Where the next search begins, and what it works with.
#[derive(Debug)]
pub(super) struct Search {
    start: usize,
    pub(super) random: Random,
    candidates: Vec<Candidate>,
}

/// Why there is no node.
#[derive(Debug, Default)]
pub(super) struct Nowhere {
    /// Why each node was refused, by the first filter that did.
    pub(super) nodes: Vec<(u32, Rejection)>,
    /// Nodes that nobody looked at: what is said of them, and whether that has a reason in the pod.
    absent: Option<String>,
    /// What is said instead of what nodes lack.
    refusal: Option<String>,
    /// The filters that refused.
    pub(super) filters: Filters,
}

impl Nowhere {
    fn of(refusal: Refusal) -> Self {
        let mut nowhere = Self::default();
        nowhere.filters.add(refusal.filter);
        nowhere.refusal = Some(refusal.message);
        nowhere
    }

    /// Upstream's words.
    pub(super) fn message(&self, state: &mut State, pod: &Pod) -> String {
        let nodes = state.nodes();
        if let Some(refusal) = &self.refusal {
            return format!("0/{nodes} nodes are available: {refusal}.");
        }
        let mut counts = BTreeMap::new();
        for (slot, why) in &self.nodes {
            for words in words(state, pod, *slot, *why) {
                *counts.entry(words).or_default() += 1;
            }
        }
        let absent = nodes - self.nodes.len().min(nodes);
        if let Some(words) = self.absent.as_ref().filter(|_| absent > 0) {
            *counts.entry(words.clone()).or_default() += absent;
        }
        summary(nodes, &counts)
    }

    /// Nodes that might have the pod if others left them.
    pub(super) fn possible(&self, state: &State, pod: &Pod) -> Vec<u32> {
        let possible = self.nodes.iter().filter(|(slot, why)| may_pass(state, pod, *slot, *why));
        possible.map(|(slot, _)| *slot).collect()
    }
}

impl Search {
    pub(super) fn new(seed: u64) -> Self {
        Self { start: 0, random: Random::new(seed), candidates: Vec::new() }
    }

    /// The node for a pod.
    ///
    /// # Errors
    /// No node can have it.
    pub(super) fn node(&mut self, state: &mut State, placed: &Placed) -> Result<u32, Nowhere> {
        let cycle = Cycle::new(state, placed).map_err(Nowhere::of)?;
        if let Some(slot) = nominated(state, &cycle) {
            return Ok(slot);
        }
        self.candidates.clear();
        let mut nowhere = Nowhere::default();
        match &cycle.pinned {
            None => self.look(state, &cycle, &mut nowhere),
            Some(pinned) => {
                for slot in pinned {
                    self.look_at(state, &cycle, *slot, &mut nowhere);
                }
                nowhere.absent = Some("node(s) didn't satisfy plugin(s) [NodeAffinity]".to_owned());
                nowhere.filters.add(Filter::NodeAffinity);
            }
        }
        match self.candidates.as_slice() {
            [] => Err(nowhere),
            [only] => Ok(only.slot),
            _ => {
                let best = score::best(state, &cycle, &mut self.candidates, &mut self.random);
                best.ok_or(nowhere)
            }
        }
    }

    /// Looks at nodes from where the last search ended, until enough are found.
    fn look(&mut self, state: &mut State, cycle: &Cycle, nowhere: &mut Nowhere) {
        let nodes = state.order().len();
        let enough = enough(nodes);
        let mut looked = 0;
        while looked < nodes && self.candidates.len() < enough {
            let slot = state.order()[(self.start + looked) % nodes];
            self.look_at(state, cycle, slot, nowhere);
            looked += 1;
        }
        self.start = (self.start + looked) % nodes.max(1);
    }

    fn look_at(&mut self, state: &mut State, cycle: &Cycle, slot: u32, nowhere: &mut Nowhere) {
        match check(state, cycle, slot) {
            None => self.candidates.push(Candidate::new(slot)),
            Some(why) => {
                nowhere.nodes.push((slot, why));
                nowhere.filters.add(why.filter());
            }
        }
    }
}

/// How many nodes are found before the best of them is taken: half of a hundred, and a smaller part
/// of more.
fn enough(nodes: usize) -> usize {
    if nodes < FOUND_MIN {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(FOUND_PERCENT_MIN);
    (nodes * percent / 100).max(FOUND_MIN)
}

/// The node that the pod waits for, if it can have it now.
fn nominated(state: &mut State, cycle: &Cycle) -> Option<u32> {
    let name = cycle.pod().nominated.clone()?;
    let slot = state.known(&name)?;
    let is_allowed = cycle.pinned.as_ref().is_none_or(|pinned| pinned.contains(&slot));
    (is_allowed && check(state, cycle, slot).is_none()).then_some(slot)
}

/// Why a node cannot have the pod, where more important pods that wait for room on it count as there.
pub(super) fn check(state: &mut State, cycle: &Cycle, slot: u32) -> Option<Rejection> {
    let others = waiting(state, cycle.pod(), slot);
    if others.is_empty() {
        return cycle.check(state, slot);
    }
    let refused = with(state, slot, &others, |state| match Cycle::new(state, &cycle.placed) {
        Ok(cycle) => cycle.check(state, slot),
        Err(_) => Some(Rejection::Exclusive),
    });
    // The pod must fit without them, too: they may never come.
    refused.or_else(|| cycle.check(state, slot))
}

/// More important pods that wait for room on a node.
fn waiting(state: &State, pod: &Pod, slot: u32) -> Vec<Placed> {
    let name = &state.slot(slot).node.name;
    if state.has_nominated(name) { state.nominated(name, pod) } else { Vec::new() }
}

/// Upstream's words for what [`check`] found.
pub(super) fn words(state: &mut State, pod: &Pod, slot: u32, why: Rejection) -> Vec<String> {
    let others = waiting(state, pod, slot);
    with(state, slot, &others, |state| explain::words(state, pod, slot, why))
}

/// Why a pod has no node, by everything that speaks against each; nothing changes.
pub(super) fn report(state: &mut State, placed: &Placed) -> Report {
    let pod = placed.pod.id.clone();
    let cycle = match Cycle::new(state, placed) {
        Ok(cycle) => cycle,
        Err(refusal) => {
            let message = Nowhere::of(refusal).message(state, &placed.pod);
            return Report { pod, message, nodes: Vec::new(), remedy: None };
        }
    };
    let mut nowhere = Nowhere::default();
    for slot in state.order().to_vec() {
        nowhere.nodes.extend(check(state, &cycle, slot).map(|why| (slot, why)));
    }
    let mut nodes = Vec::new();
    for slot in state.order().to_vec() {
        let others = waiting(state, cycle.pod(), slot);
        nodes.push(with(state, slot, &others, |state| explain::node(state, &cycle, slot)));
    }
    let fitting = state.nodes() - nowhere.nodes.len();
    let message = match fitting {
        0 => nowhere.message(state, &placed.pod),
        fitting => format!("{fitting}/{} nodes are available", state.nodes()),
    };
    let remedy = if fitting == 0 { explain::remedy(&nodes) } else { None };
    Report { pod, message, nodes, remedy }
}

/// Does something while pods count as being on a node.
fn with<T>(
    state: &mut State,
    slot: u32,
    others: &[Placed],
    act: impl FnOnce(&mut State) -> T,
) -> T {
    others.iter().for_each(|other| state.place(slot, other));
    let outcome = act(state);
    others.iter().for_each(|other| state.unplace(slot, other));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_nodes_a_part_is_found() {
        let found = [1, 99, 100, 200, 1000, 5000, 10_000].map(enough);
        assert_eq!(found, [1, 99, 100, 100, 420, 500, 500]);
    }
}
