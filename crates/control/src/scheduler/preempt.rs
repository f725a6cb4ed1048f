//! Less important pods make room for a more important one (upstream's DefaultPreemption).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::cycle::Cycle;
use super::find::{self, Nowhere, check};
use super::pod::{Placed, Pod};
use super::random::Random;
use super::reason::summary;
use super::state::State;

/// At least so many nodes are tried, and this part of them if there are many.
const TRIED_MIN: usize = 100;
const TRIED_PERCENT: usize = 10;

/// A node, and who has to leave it.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) slot: u32,
    /// The most important first.
    pub(super) victims: Vec<Placed>,
    /// How many of them a budget does not allow to evict.
    violations: usize,
}

/// Why a node was of no use.
#[derive(Debug)]
enum Useless {
    NoVictims,
    /// It still refuses the pod, in these words.
    Refused(Vec<String>),
}

/// Why no room is made, in upstream's words.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// Nobody may be evicted for the pod now; it waits where it waits.
    Ineligible(&'static str),
    /// It would not help.
    Useless(String),
}

/// Finds the node where the least harm makes room for a pod.
///
/// # Errors
/// There is none.
pub(super) fn room(
    state: &mut State,
    placed: &Placed,
    nowhere: &Nowhere,
    random: &mut Random,
) -> Result<Room, NoRoom> {
    let pod = &*placed.pod;
    if !pod.preempts {
        return Err(NoRoom::Ineligible("not eligible due to preemptionPolicy=Never."));
    }
    let possible = nowhere.possible(state, pod);
    if is_waiting(state, pod, nowhere, &possible) {
        let why = "not eligible due to a terminating pod on the nominated node.";
        return Err(NoRoom::Ineligible(why));
    }
    let enough = (possible.len() * TRIED_PERCENT / 100).max(TRIED_MIN);
    let offset = random.below(possible.len());
    let mut rooms = Vec::new();
    let mut useless = Vec::new();
    for at in 0..possible.len() {
        let slot = possible[(offset + at) % possible.len()];
        match victims(state, placed, slot) {
            Ok(room) => rooms.push(room),
            Err(why) => useless.push(why),
        }
        if rooms.len() >= enough {
            break;
        }
    }
    let least = rooms.into_iter().min_by_key(harm);
    least.ok_or_else(|| NoRoom::Useless(words(state.nodes(), &useless)))
}

/// Whether pods that were evicted for this one are still ending where it waits for room.
fn is_waiting(state: &State, pod: &Pod, nowhere: &Nowhere, possible: &[u32]) -> bool {
    let Some(slot) = pod.nominated.as_ref().and_then(|name| state.known(name)) else {
        return false;
    };
    let is_hopeless =
        nowhere.nodes.iter().any(|(own, _)| *own == slot) && !possible.contains(&slot);
    let makes_room = |own: &Placed| own.pod.priority < pod.priority && own.pod.is_preempted;
    !is_hopeless && state.slot(slot).pods.iter().any(makes_room)
}

/// Upstream's words where nothing helps.
fn words(nodes: usize, useless: &[Useless]) -> String {
    let mut counts = BTreeMap::new();
    for why in useless {
        let words = match why {
            Useless::NoVictims => &["No preemption victims found for incoming pod".to_owned()][..],
            Useless::Refused(words) => words,
        };
        words.iter().for_each(|words| *counts.entry(words.clone()).or_default() += 1);
    }
    let absent = nodes - useless.len().min(nodes);
    if absent > 0 {
        counts.insert("Preemption is not helpful for scheduling".to_owned(), absent);
    }
    summary(nodes, &counts)
}

/// Who has to leave a node: as few and as unimportant pods as will do. The state is as before when it
/// is known.
fn victims(state: &mut State, placed: &Placed, slot: u32) -> Result<Room, Useless> {
    let pod = &*placed.pod;
    let is_less = |own: &&Placed| own.pod.priority < pod.priority;
    let mut lesser: Vec<Placed> = state.slot(slot).pods.iter().filter(is_less).cloned().collect();
    if lesser.is_empty() {
        return Err(Useless::NoVictims);
    }
    lesser.iter().for_each(|own| state.unplace(slot, own));
    if let Some(why) = refusal(state, placed, slot) {
        lesser.iter().for_each(|own| state.place(slot, own));
        return Err(Useless::Refused(why));
    }
    lesser.sort_by_key(|own| importance(&own.pod));
    let (protected, free) = by_budget(state, &lesser);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (own, is_protected) in
        protected.iter().map(|own| (own, true)).chain(free.iter().map(|own| (own, false)))
    {
        state.place(slot, own);
        if refusal(state, placed, slot).is_some() {
            state.unplace(slot, own);
            violations += usize::from(is_protected);
            victims.push(own.clone());
        }
    }
    victims.iter().for_each(|own| state.place(slot, own));
    victims.sort_by_key(|own| importance(&own.pod));
    Ok(Room { slot, victims, violations })
}

/// Why a node refuses a pod as things are now, in upstream's words.
fn refusal(state: &mut State, placed: &Placed, slot: u32) -> Option<Vec<String>> {
    match Cycle::new(state, placed) {
        Ok(cycle) => {
            let why = check(state, &cycle, slot)?;
            Some(find::words(state, &placed.pod, slot, why))
        }
        Err(refusal) => Some(vec![refusal.message]),
    }
}

/// The more important, the smaller: by priority, then by how long it has run.
fn importance(pod: &Pod) -> impl Ord + use<> {
    let started = (pod.started.is_empty(), pod.started.clone());
    (Reverse(pod.priority), started, pod.id.clone())
}

/// Parts pods into those that no budget allows to evict, and the others.
fn by_budget(state: &State, pods: &[Placed]) -> (Vec<Placed>, Vec<Placed>) {
    let mut allowed: Vec<i64> = state.budgets.values().map(|budget| budget.allowed).collect();
    let mut violates = |pod: &Pod| {
        let mut is_violated = false;
        for (own, ((namespace, _), budget)) in allowed.iter_mut().zip(&state.budgets) {
            let selects = budget.selector.as_ref().is_some_and(|selector| {
                selector.matches(|key| pod.labels.get(key).map(String::as_str))
            });
            let is_meant = *namespace == pod.id.namespace && !pod.labels.is_empty() && selects;
            if is_meant && !budget.disrupted.contains(&pod.id.name) {
                *own -= 1;
                is_violated |= *own < 0;
            }
        }
        is_violated
    };
    pods.iter().cloned().partition(|own| violates(&own.pod))
}

/// How bad it is to make room on a node, in upstream's order: budgets, the most important victim, all
/// of their importance, their number, and how long the most important ones have run.
fn harm(room: &Room) -> impl Ord + use<> {
    let highest = room.victims.first().map_or(i32::MIN, |own| own.pod.priority);
    let sum: i64 =
        room.victims.iter().map(|own| i64::from(own.pod.priority) + i64::from(i32::MAX) + 1).sum();
    let most_important = room.victims.iter().filter(|own| own.pod.priority == highest);
    let started = |own: &Placed| (own.pod.started.is_empty(), own.pod.started.clone());
    let earliest = most_important.map(started).min();
    (room.violations, highest, sum, room.victims.len(), Reverse(earliest))
}
