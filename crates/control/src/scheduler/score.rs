//! Which of the nodes that can have a pod is the best, by the scores and weights of upstream's default
//! profile.

use std::collections::BTreeMap;

use super::cycle::Cycle;
use super::index::{Effect, Part};
use super::node::Room;
use super::pod::{Counted, Pod, Spread};
use super::random::Random;
use super::state::State;
use super::topology::{HOSTNAME, ZONE};

const SCORE_MAX: i64 = 100;
/// How much each score counts.
const TAINT: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const POD_AFFINITY: i64 = 2;
const ROOM: i64 = 1;
const BALANCE: i64 = 1;
const IMAGE: i64 = 1;

/// Images smaller than this in all are not worth a choice, in bytes.
const IMAGE_BYTES_MIN: i64 = 23 << 20;
/// For each container more is no better, in bytes.
const IMAGE_BYTES_MAX: i64 = 1000 << 20;

/// A node that can have the pod, and what speaks for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Candidate {
    pub(super) slot: u32,
    disliked: i64,
    preference: i64,
    near: i64,
    /// `None` if the node lacks what pods are spread over.
    spread: Option<i64>,
    /// Scores that need no other node.
    rest: i64,
}

impl Candidate {
    pub(super) fn new(slot: u32) -> Self {
        Self { slot, ..Self::default() }
    }
}

/// The best candidate; chance decides among equals.
pub(super) fn best(
    state: &mut State,
    cycle: &Cycle,
    candidates: &mut [Candidate],
    random: &mut Random,
) -> Option<u32> {
    let totals = rate(state, cycle, candidates);
    let (mut best, mut highest, mut equals) = (None, i64::MIN, 0);
    for (candidate, total) in candidates.iter().map(|own| (own, totals.of(own))) {
        if total > highest {
            (best, highest, equals) = (Some(candidate.slot), total, 1);
        } else if total == highest {
            equals += 1;
            if random.below(equals) == 0 {
                best = Some(candidate.slot);
            }
        }
    }
    best
}

/// The score of each candidate.
#[cfg(test)]
pub(super) fn totals(state: &mut State, cycle: &Cycle, candidates: &mut [Candidate]) -> Vec<i64> {
    let totals = rate(state, cycle, candidates);
    candidates.iter().map(|own| totals.of(own)).collect()
}

/// What is known when all candidates are: the extremes that scores are relative to.
#[derive(Debug)]
struct Totals {
    disliked_max: i64,
    preference_max: i64,
    near: (i64, i64),
    spread: Option<(i64, i64)>,
}

impl Totals {
    fn of(&self, own: &Candidate) -> i64 {
        let taints = match self.disliked_max {
            0 => SCORE_MAX,
            most => SCORE_MAX - SCORE_MAX * own.disliked / most,
        };
        let preference = match self.preference_max {
            0 => 0,
            most => SCORE_MAX * own.preference / most,
        };
        let near = match self.near.1 - self.near.0 {
            0 => 0,
            range => SCORE_MAX * (own.near - self.near.0) / range,
        };
        let spread = match (self.spread, own.spread) {
            (None, _) | (_, None) => 0,
            (Some((_, 0)), _) => SCORE_MAX,
            (Some((least, most)), Some(own)) => SCORE_MAX * (most + least - own) / most,
        };
        TAINT * taints
            + NODE_AFFINITY * preference
            + POD_AFFINITY * near
            + SPREAD * spread
            + own.rest
    }
}

fn rate(state: &mut State, cycle: &Cycle, candidates: &mut [Candidate]) -> Totals {
    let near = Near::new(state, cycle);
    let spreads = Spreads::new(state, cycle, candidates);
    let state = &*state;
    let pod = cycle.pod();
    let images = Images::new(state, pod);
    let mut totals = Totals {
        disliked_max: 0,
        preference_max: 0,
        near: (i64::MAX, i64::MIN),
        spread: spreads.as_ref().map(|_| (i64::MAX, 0)),
    };
    for own in candidates {
        let room = state.room(own.slot);
        let fixed = state.fixed(cycle.shape, pod, own.slot);
        own.disliked = fixed.disliked.into();
        own.preference = fixed.preference.into();
        own.near = near.of(state, own.slot);
        own.rest =
            ROOM * spare(pod, room) + BALANCE * balance(pod, room) + IMAGE * images.of(own.slot);
        own.spread = spreads.as_ref().and_then(|spreads| spreads.of(state, own.slot));
        totals.disliked_max = totals.disliked_max.max(own.disliked);
        totals.preference_max = totals.preference_max.max(own.preference);
        totals.near = (totals.near.0.min(own.near), totals.near.1.max(own.near));
        if let (Some((least, most)), Some(spread)) = (&mut totals.spread, own.spread) {
            (*least, *most) = ((*least).min(spread), (*most).max(spread));
        }
    }
    totals
}

/// The least allocated node is the best: the part of processors and memory that stays free.
fn spare(pod: &Pod, room: &Room) -> i64 {
    let score = |all: i64, used: i64| match all {
        0 => None,
        all if used > all => Some(0),
        all => Some((all - used).saturating_mul(SCORE_MAX) / all),
    };
    let cpu = score(room.cpu_milli, room.assumed_cpu_milli + pod.assumed.0);
    let memory = score(room.memory, room.assumed_memory + pod.assumed.1);
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => (cpu + memory) / 2,
        (cpu, memory) => cpu.or(memory).unwrap_or_default(),
    }
}

/// A node is the better the more equally processors and memory are used.
fn balance(pod: &Pod, room: &Room) -> i64 {
    let own = &pod.requests;
    if own.cpu_milli == 0 && own.memory_bytes == 0 {
        return 0;
    }
    let part = |all: i64, free: i64, own: i64| ((all - free + own) as f64 / all as f64).min(1.0);
    let is_half = room.cpu_milli == 0 || room.memory == 0;
    let deviation = if is_half {
        0.0
    } else {
        let cpu = part(room.cpu_milli, room.free_cpu_milli, own.cpu_milli);
        let memory = part(room.memory, room.free_memory, own.memory_bytes);
        ((cpu - memory) / 2.0).abs()
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

/// Nodes that have the pod's images already.
#[derive(Debug)]
struct Images<'a> {
    /// Sizes by node, and how many nodes have it.
    sizes: Vec<(&'a BTreeMap<u32, i64>, i64)>,
    nodes: i64,
    most: i64,
}

impl<'a> Images<'a> {
    fn new(state: &'a State, pod: &Pod) -> Self {
        let sizes = pod.images.iter().filter_map(|image| state.image(image));
        Self {
            sizes: sizes.map(|sizes| (sizes, sizes.len() as i64)).collect(),
            nodes: state.nodes() as i64,
            most: IMAGE_BYTES_MAX * pod.containers.max(1) as i64,
        }
    }

    fn of(&self, slot: u32) -> i64 {
        if self.sizes.is_empty() {
            return 0;
        }
        // What few nodes have counts for less, so that not everybody gathers there.
        let scaled = |(sizes, having): &(&BTreeMap<u32, i64>, i64)| {
            let size = sizes.get(&slot).copied().unwrap_or_default();
            (size as f64 * (*having as f64 / self.nodes as f64)) as i64
        };
        let bytes: i64 = self.sizes.iter().map(scaled).sum();
        let bytes = bytes.clamp(IMAGE_BYTES_MIN, self.most);
        SCORE_MAX * (bytes - IMAGE_BYTES_MIN) / (self.most - IMAGE_BYTES_MIN)
    }
}

/// What pods on nodes like and dislike about the pod, and it about them.
#[derive(Debug)]
struct Near {
    by_value: Vec<(u32, Vec<i64>)>,
}

impl Near {
    fn new(state: &mut State, cycle: &Cycle) -> Self {
        let mut near = Self { by_value: Vec::new() };
        for (weight, term) in &cycle.pod().preferences {
            let matcher = state.index.matcher(&[&term.part]);
            state.index.count(matcher);
            let topology = state.topologies.id(&term.topology, &state.slots);
            let sums = state.topologies.sums(topology, &state.index.tally(matcher).all);
            let own = near.room(state, topology);
            own.iter_mut().zip(sums).for_each(|(own, sum)| *own += weight * sum);
        }
        let state = &*state;
        for own in state.index.effects_on(cycle.placed.set) {
            let Effect::Weighs(weight) = own.effect else { continue };
            let room = near.room(state, own.topology);
            for (slot, count) in &own.nodes {
                let value = state.topologies.of(own.topology, *slot);
                room[value as usize] += weight * i64::from(*count);
            }
            room[0] = 0;
        }
        near
    }

    fn room(&mut self, state: &State, topology: u32) -> &mut Vec<i64> {
        let known = self.by_value.iter().position(|(own, _)| *own == topology);
        let at = known.unwrap_or_else(|| {
            self.by_value.push((topology, state.topologies.room(topology, 0)));
            self.by_value.len() - 1
        });
        &mut self.by_value[at].1
    }

    fn of(&self, state: &State, slot: u32) -> i64 {
        let one = |(topology, sums): &(u32, Vec<i64>)| {
            sums[state.topologies.of(*topology, slot) as usize]
        };
        self.by_value.iter().map(one).sum()
    }
}

/// A constraint on how pods are spread that may be broken.
#[derive(Debug)]
struct Soft {
    topology: u32,
    matcher: u32,
    is_hostname: bool,
    skew_max: i64,
    counted: Counted,
    /// Pods by value, unless each node has its own.
    counts: Vec<i64>,
    /// So that a topology of few values counts as much as one of many.
    weight: f64,
}

impl Soft {
    fn new(state: &mut State, parts: &[&Part], own: (&str, i64, Counted)) -> Self {
        let (topology, skew_max, counted) = own;
        let matcher = state.index.matcher(parts);
        state.index.count(matcher);
        Self {
            topology: state.topologies.id(topology, &state.slots),
            matcher,
            is_hostname: topology == HOSTNAME,
            skew_max,
            counted,
            counts: Vec::new(),
            weight: 0.0,
        }
    }
}

#[derive(Debug)]
struct Spreads {
    all: Vec<Soft>,
    /// A node that lacks one of the topologies is not compared.
    needs_all: bool,
}

impl Spreads {
    fn new(state: &mut State, cycle: &Cycle, candidates: &[Candidate]) -> Option<Self> {
        let pod = cycle.pod();
        let needs_all = !pod.spreads.is_empty();
        let mut spreads = Self { all: constraints(state, pod), needs_all };
        let compared = candidates.iter().filter(|own| spreads.compares(state, own.slot)).count();
        for at in 0..spreads.all.len() {
            let own = &spreads.all[at];
            let (values, counts) = match own.is_hostname {
                true => (compared, Vec::new()),
                false => (
                    spreads.values(state, own.topology, candidates),
                    spreads.counts(state, pod, own),
                ),
            };
            spreads.all[at].weight = (values as f64 + 2.0).ln();
            spreads.all[at].counts = counts;
        }
        (!spreads.all.is_empty()).then_some(spreads)
    }

    fn compares(&self, state: &State, slot: u32) -> bool {
        !self.needs_all || self.all.iter().all(|own| state.topologies.of(own.topology, slot) != 0)
    }

    /// How many values of a topology the candidates have.
    fn values(&self, state: &State, topology: u32, candidates: &[Candidate]) -> usize {
        let mut seen = state.topologies.room(topology, 0);
        for own in candidates.iter().filter(|own| self.compares(state, own.slot)) {
            seen[state.topologies.of(topology, own.slot) as usize] = 1;
        }
        seen.iter().filter(|seen| **seen > 0).count()
    }

    fn counts(&self, state: &State, pod: &Pod, own: &Soft) -> Vec<i64> {
        let mut counts = state.topologies.room(own.topology, 0);
        let are_all = own.counted.are_all(pod);
        for (slot, living) in state.index.tally(own.matcher).each_living() {
            let is_counted = are_all || own.counted.has(pod, &state.slot(slot).node);
            if is_counted && self.compares(state, slot) {
                counts[state.topologies.of(own.topology, slot) as usize] += i64::from(living);
            }
        }
        counts
    }

    /// The fewer pods are where a node is, the smaller; `None` if it is not compared.
    fn of(&self, state: &State, slot: u32) -> Option<i64> {
        if !self.compares(state, slot) {
            return None;
        }
        let mut score = 0.0;
        for own in &self.all {
            let value = state.topologies.of(own.topology, slot);
            if value == 0 {
                continue;
            }
            let count = match own.is_hostname {
                true => state.index.tally(own.matcher).living(slot).into(),
                false => own.counts[value as usize],
            };
            score += count as f64 * own.weight + (own.skew_max - 1) as f64;
        }
        Some(score.round() as i64)
    }
}

/// The constraints that a pod asks for, or else those for pods that ask for none: over nodes, and over
/// zones.
fn constraints(state: &mut State, pod: &Pod) -> Vec<Soft> {
    if !pod.spreads.is_empty() {
        let asked = pod.spreads.iter().filter(|own| !own.is_hard);
        let soft = |own: &Spread| {
            Soft::new(state, &[&own.part], (&own.topology, own.skew_max, own.counted))
        };
        return asked.map(soft).collect();
    }
    let peers = state.peers(pod);
    if peers.is_empty() {
        return Vec::new();
    }
    let parts: Vec<&Part> = peers.iter().map(|part| &**part).collect();
    let counted = Counted { are_selected: true, are_tolerated: false };
    [(HOSTNAME, 3), (ZONE, 5)]
        .map(|(topology, skew_max)| Soft::new(state, &parts, (topology, skew_max, counted)))
        .into()
}
