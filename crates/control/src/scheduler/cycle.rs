//! One pod's question: which nodes can have it? What all nodes share is found first.

use super::index::{Effect, Tally};
use super::node::Verdict;
use super::pod::{Placed, Pod, Spread};
use super::reason::{Filter, Rejection};
use super::state::State;
use super::volume::Needs;

/// Why no node at all will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) filter: Filter,
    pub(super) message: String,
}

/// Numbers by the values of a topology.
type ByValue = (u32, Vec<i64>);

/// How evenly pods lie, for one constraint.
#[derive(Debug)]
pub(super) struct Skew {
    pub(super) topology: u32,
    pub(super) skew_max: i64,
    /// 1 if the pod itself counts.
    own: i64,
    /// -1 where no node counts.
    counts: Vec<i64>,
    /// The smallest number of any value.
    least: i64,
}

impl Skew {
    /// The skew if the pod comes to a value of the topology.
    pub(super) fn with(&self, value: u32) -> i64 {
        let here = self.counts.get(value as usize).copied().unwrap_or(-1).max(0);
        here + self.own - self.least
    }
}

/// A pod's question, with all that does not depend on the node.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) placed: Placed,
    /// None if so few nodes are asked that nothing is worth remembering.
    pub(super) shape: Option<u32>,
    /// The only nodes that its node affinity names, if it names any.
    pub(super) pinned: Option<Vec<u32>>,
    pub(super) needs: Needs,
    is_claim_in_use: bool,
    pub(super) skews: Vec<Skew>,
    /// Pods it must be near to.
    near: Vec<ByValue>,
    /// It is the first of those that want to be near each other.
    is_first: bool,
    /// Pods it must not be near to.
    far: Vec<ByValue>,
    /// Pods that must not be near to it.
    kept: Vec<ByValue>,
}

impl Cycle {
    /// Prepares the question.
    ///
    /// # Errors
    /// No node will do, whichever it is.
    pub(super) fn new(state: &mut State, placed: &Placed) -> Result<Self, Refusal> {
        let pod = &*placed.pod;
        state.index.begin_question();
        let refuse = |message| Refusal { filter: Filter::VolumeBinding, message };
        let needs = state.volumes.needs(pod).map_err(refuse)?;
        let hard = pod.spreads.iter().filter(|own| own.is_hard).collect::<Vec<_>>();
        let (near, is_first) = near(state, placed);
        let pinned = pinned(state, pod);
        Ok(Self {
            shape: pinned.is_none().then(|| state.shape(pod)),
            pinned,
            is_claim_in_use: state.volumes.is_in_use(pod),
            skews: skews(state, placed, &hard),
            near,
            is_first,
            far: far(state, pod),
            kept: kept(state, placed.set),
            needs,
            placed: placed.clone(),
        })
    }

    pub(super) fn pod(&self) -> &Pod {
        &self.placed.pod
    }

    /// Why a node cannot have the pod, by the first filter that says so, in upstream's order.
    pub(super) fn check(&self, state: &State, slot: u32) -> Option<Rejection> {
        let pod = self.pod();
        match state.fixed(self.shape, pod, slot).verdict {
            Verdict::Fits | Verdict::Unknown => {}
            Verdict::Cordoned => return Some(Rejection::Cordoned),
            Verdict::Name => return Some(Rejection::Name),
            Verdict::Taint => return Some(Rejection::Taint),
            Verdict::Affinity => return Some(Rejection::NodeAffinity),
        }
        if !pod.ports.is_empty() && !self.has_ports(state, slot) {
            return Some(Rejection::Ports);
        }
        if !fits(state, pod, slot) {
            return Some(Rejection::Resources);
        }
        self.check_others(state, slot)
    }

    fn check_others(&self, state: &State, slot: u32) -> Option<Rejection> {
        if self.is_claim_in_use {
            return Some(Rejection::Exclusive);
        }
        if !self.needs.is_nothing() {
            let node = &state.slot(slot).node;
            if let Some(problem) = state.volumes.problem(self.pod(), &self.needs, node) {
                return Some(Rejection::Volume(problem));
            }
        }
        self.check_spread(state, slot).or_else(|| self.check_pods(state, slot))
    }

    pub(super) fn check_spread(&self, state: &State, slot: u32) -> Option<Rejection> {
        for skew in &self.skews {
            let value = state.topologies.of(skew.topology, slot);
            if value == 0 {
                return Some(Rejection::NoTopology);
            }
            if skew.with(value) > skew.skew_max {
                return Some(Rejection::Skew);
            }
        }
        None
    }

    pub(super) fn check_pods(&self, state: &State, slot: u32) -> Option<Rejection> {
        let at = |(topology, counts): &ByValue| {
            let value = state.topologies.of(*topology, slot);
            (value != 0).then(|| counts.get(value as usize).copied().unwrap_or_default())
        };
        let is_any = |all: &[ByValue]| all.iter().any(|own| at(own).is_some_and(|count| count > 0));
        if is_any(&self.kept) {
            return Some(Rejection::ExistingAntiAffinity);
        }
        if !self.near.is_empty() {
            let has_values = self.near.iter().all(|own| at(own).is_some());
            let is_near = self.near.iter().all(|own| at(own).is_some_and(|count| count > 0));
            if !has_values || !(is_near || self.is_first) {
                return Some(Rejection::Affinity);
            }
        }
        is_any(&self.far).then_some(Rejection::AntiAffinity)
    }

    /// Whether ports of the host are free.
    pub(super) fn has_ports(&self, state: &State, slot: u32) -> bool {
        let taken = &state.slot(slot).ports;
        !self.pod().ports.iter().any(|port| taken.iter().any(|other| port.collides(other)))
    }

    pub(super) fn is_claim_in_use(&self) -> bool {
        self.is_claim_in_use
    }
}

/// Whether there is room, without saying what is short.
fn fits(state: &State, pod: &Pod, slot: u32) -> bool {
    let (room, own) = (state.room(slot), &pod.requests);
    let has = |own: i64, free: i64| own <= 0 || own <= free;
    room.free_pods > 0
        && has(own.cpu_milli, room.free_cpu_milli)
        && has(own.memory_bytes, room.free_memory)
        && has(own.ephemeral_bytes, room.free_ephemeral)
        && own.scalars.iter().all(|(name, own)| {
            let slot = state.slot(slot);
            has(*own, slot.node.allocatable.get(name) - slot.requested.get(name))
        })
}

/// The nodes that every term of the pod's node affinity names.
fn pinned(state: &State, pod: &Pod) -> Option<Vec<u32>> {
    let mut names: Vec<&String> = Vec::new();
    for term in pod.node_terms.as_ref()? {
        let of = |own: &super::node::Requirement| own.key == "metadata.name";
        let super::node::Test::In(own) = &term.fields.iter().find(|own| of(own))?.test else {
            return None;
        };
        names.extend(own);
    }
    names.sort();
    names.dedup();
    Some(names.into_iter().filter_map(|name| state.known(name)).collect())
}

fn skews(state: &mut State, placed: &Placed, hard: &[&Spread]) -> Vec<Skew> {
    if hard.is_empty() {
        return Vec::new();
    }
    let topologies: Vec<u32> =
        hard.iter().map(|own| state.topologies.id(&own.topology, &state.slots)).collect();
    let mut skews = Vec::new();
    for (spread, topology) in hard.iter().zip(&topologies) {
        let matcher = state.index.matcher(&[&spread.part]);
        state.index.count(matcher);
        let tally = state.index.tally(matcher);
        let counts = spread_counts(state, &placed.pod, (spread, *topology), &topologies, tally);
        let present = || counts.iter().filter(|count| **count >= 0);
        let domains = present().count() as i64;
        let least = present().min().copied().filter(|_| domains >= spread.domains_min);
        skews.push(Skew {
            topology: *topology,
            skew_max: spread.skew_max,
            own: i64::from(state.index.means(&spread.part, placed.set)),
            least: least.unwrap_or_default(),
            counts,
        });
    }
    skews
}

/// How many pods a constraint counts by the values of its topology, on nodes that have all
/// `topologies`; -1 where there is no such node.
fn spread_counts(
    state: &State,
    pod: &Pod,
    (spread, topology): (&Spread, u32),
    topologies: &[u32],
    tally: &Tally,
) -> Vec<i64> {
    let mut counts = state.topologies.room(topology, -1);
    let are_all = spread.counted.are_all(pod);
    // A node that is not known has no values.
    for (slot, value) in state.topologies.each(topology) {
        let has_all = topologies.iter().all(|own| state.topologies.of(*own, slot) != 0);
        if has_all && (are_all || spread.counted.has(pod, &state.slot(slot).node)) {
            let count = &mut counts[value as usize];
            *count = (*count).max(0) + i64::from(tally.living(slot));
        }
    }
    counts
}

/// Pods that all terms of the pod's affinity mean, and whether it may be the first of its kind.
fn near(state: &mut State, placed: &Placed) -> (Vec<ByValue>, bool) {
    let terms = &placed.pod.affinity;
    if terms.is_empty() {
        return (Vec::new(), false);
    }
    let parts: Vec<_> = terms.iter().map(|term| &term.part).collect();
    let matcher = state.index.matcher(&parts);
    state.index.count(matcher);
    let mut all = Vec::new();
    for term in terms {
        let topology = state.topologies.id(&term.topology, &state.slots);
        let tally = state.index.tally(matcher);
        all.push((topology, state.topologies.sums(topology, &tally.all)));
    }
    let is_alone = all.iter().all(|(_, counts)| counts.iter().all(|count| *count == 0));
    let is_first = is_alone && parts.iter().all(|part| state.index.means(part, placed.set));
    (all, is_first)
}

fn far(state: &mut State, pod: &Pod) -> Vec<ByValue> {
    let mut all = Vec::new();
    for term in &pod.anti_affinity {
        let matcher = state.index.matcher(&[&term.part]);
        state.index.count(matcher);
        let topology = state.topologies.id(&term.topology, &state.slots);
        let tally = state.index.tally(matcher);
        if tally.total > 0 {
            all.push((topology, state.topologies.sums(topology, &tally.all)));
        }
    }
    all
}

/// Where pods are that keep those of a set away.
fn kept(state: &State, set: u32) -> Vec<ByValue> {
    let mut all: Vec<ByValue> = Vec::new();
    for own in state.index.effects_on(set).filter(|own| own.effect == Effect::Keeps) {
        let known = all.iter().position(|(topology, _)| *topology == own.topology);
        let at = known.unwrap_or_else(|| {
            all.push((own.topology, state.topologies.room(own.topology, 0)));
            all.len() - 1
        });
        for (slot, count) in &own.nodes {
            let value = state.topologies.of(own.topology, *slot);
            if value != 0 {
                all[at].1[value as usize] += i64::from(*count);
            }
        }
    }
    all
}
