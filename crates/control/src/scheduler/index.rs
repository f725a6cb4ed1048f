//! Which pods a selector means, counted by node as pods come and go.
//!
//! Pods with the same labels in the same namespace are one *set*, and whoever asks for the same pods
//! is one *matcher*. Which sets a matcher means is found once; afterwards a pod that is placed changes
//! a number of each of its matchers, and nobody has to look at pods again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use objects::Selector;

use super::node::Labels;

/// So many matchers are kept that nothing but questions need.
const MATCHERS_MAX: usize = 2048;

/// Which namespaces: by name, or by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scope {
    pub(super) names: BTreeSet<String>,
    pub(super) selector: Option<Selector>,
}

impl Scope {
    pub(super) fn of(namespace: &str) -> Self {
        Self { names: [namespace.to_owned()].into(), selector: None }
    }
}

/// Which pods of which namespaces. Without a selector it means none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    scope: Scope,
    selector: Option<Selector>,
    /// The same for parts that mean the same.
    key: Arc<str>,
}

impl Part {
    pub(super) fn new(scope: Scope, selector: Option<Selector>) -> Self {
        let key = format!("{scope:?} {selector:?}").into();
        Self { scope, selector, key }
    }

    pub(super) fn matches(
        &self,
        namespace: &str,
        labels: &Labels,
        namespaces: &HashMap<String, Labels>,
    ) -> bool {
        let of = |labels: &Labels, selector: &Selector| {
            selector.matches(|key| labels.get(key).map(String::as_str))
        };
        let by_labels = |selector| namespaces.get(namespace).is_some_and(|own| of(own, selector));
        let is_in_scope = self.scope.names.contains(namespace)
            || self.scope.selector.as_ref().is_some_and(by_labels);
        is_in_scope && self.selector.as_ref().is_some_and(|selector| of(labels, selector))
    }

    /// The namespace that all its pods are in, if that is certain.
    fn home(&self) -> Option<&str> {
        let only = self.scope.names.first().filter(|_| self.scope.names.len() == 1)?;
        self.scope.selector.is_none().then_some(only)
    }
}

/// What a pod on a node means for those that may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// Those it means must not come near.
    Keeps,
    /// They are liked near by so much, which may be negative.
    Weighs(i64),
}

#[derive(Debug, Default)]
struct Set {
    namespace: String,
    labels: Labels,
    users: u32,
    matchers: Vec<u32>,
    /// How many of its pods are on which nodes, and how many of them are ending.
    nodes: HashMap<u32, (u32, u32)>,
}

#[derive(Debug, Default)]
struct Matcher {
    key: String,
    /// All of which must mean a pod.
    parts: Vec<Part>,
    /// How many kinds of effects need it.
    users: u32,
    last_used: u64,
    tally: Option<Tally>,
    effects: Vec<u32>,
}

/// How many pods a matcher means, by number of the node.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) all: Vec<u32>,
    /// Those among them that are ending.
    ending: Vec<u32>,
    pub(super) total: u64,
}

impl Tally {
    fn add(&mut self, slot: u32, all: i32, ending: i32) {
        let at = slot as usize;
        for (counts, delta) in [(&mut self.all, all), (&mut self.ending, ending)] {
            if delta != 0 {
                if counts.len() <= at {
                    counts.resize(at + 1, 0);
                }
                counts[at] = counts[at].saturating_add_signed(delta);
            }
        }
        self.total = self.total.saturating_add_signed(all.into());
    }

    /// Nodes with pods that are not ending, and how many.
    pub(super) fn each_living(&self) -> impl Iterator<Item = (u32, u32)> {
        let nodes = (0_u32..).zip(&self.all).filter(|(_, count)| **count > 0);
        nodes.map(|(slot, _)| (slot, self.living(slot)))
    }

    /// Pods on a node that are not ending.
    pub(super) fn living(&self, slot: u32) -> u32 {
        let at = |counts: &[u32]| counts.get(slot as usize).copied().unwrap_or_default();
        at(&self.all) - at(&self.ending)
    }
}

/// A kind of effect: of pods that a matcher means, on nodes that share a topology's value.
#[derive(Debug)]
pub(super) struct Carried {
    #[cfg(test)]
    matcher: u32,
    pub(super) topology: u32,
    pub(super) effect: Effect,
    /// How many pods on which nodes have it.
    pub(super) nodes: BTreeMap<u32, u32>,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Index {
    sets: Vec<Set>,
    free_sets: Vec<u32>,
    set_ids: HashMap<(String, Labels), u32>,
    matchers: Vec<Matcher>,
    free_matchers: Vec<u32>,
    matcher_ids: HashMap<String, u32>,
    /// Matchers of pods in one namespace.
    at_home: HashMap<String, Vec<u32>>,
    /// The others.
    anywhere: Vec<u32>,
    carried: Vec<Option<Carried>>,
    free_carried: Vec<u32>,
    carried_ids: HashMap<(u32, u32, Effect), u32>,
    namespaces: HashMap<String, Labels>,
    questions: u64,
}

impl Index {
    /// The set of pods with these labels; to be given back.
    pub(super) fn acquire(&mut self, namespace: &str, labels: &Labels) -> u32 {
        let key = (namespace.to_owned(), labels.clone());
        if let Some(id) = self.set_ids.get(&key) {
            self.sets[*id as usize].users += 1;
            return *id;
        }
        let candidates = self.at_home.get(namespace).into_iter().flatten().chain(&self.anywhere);
        let meant = candidates.copied().filter(|id| {
            let parts = &self.matchers[*id as usize].parts;
            parts.iter().all(|part| part.matches(namespace, labels, &self.namespaces))
        });
        let matchers = meant.collect();
        let (namespace, labels) = key.clone();
        let set = Set { namespace, labels, users: 1, matchers, nodes: HashMap::new() };
        let id = insert(&mut self.sets, &mut self.free_sets, set);
        self.set_ids.insert(key, id);
        id
    }

    /// Gives a set back.
    pub(super) fn release(&mut self, id: u32) {
        let set = &mut self.sets[id as usize];
        set.users -= 1;
        if set.users == 0 {
            let set = std::mem::take(set);
            self.set_ids.remove(&(set.namespace, set.labels));
            self.free_sets.push(id);
        }
    }

    /// The labels of a namespace, by which terms may select it.
    pub(super) fn set_namespace(&mut self, name: &str, labels: Option<&Labels>) {
        if self.namespaces.get(name) == labels {
            return;
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        for set in self.sets.iter_mut().filter(|set| set.users > 0 && set.namespace == name) {
            set.matchers.retain(|id| !self.anywhere.contains(id));
            set.matchers.extend(self.anywhere.iter().filter(|id| {
                let parts = &self.matchers[**id as usize].parts;
                parts.iter().all(|part| part.matches(name, &set.labels, &self.namespaces))
            }));
        }
        for id in &self.anywhere {
            self.matchers[*id as usize].tally = None;
        }
    }

    /// Whether a part means pods of a set.
    pub(super) fn means(&self, part: &Part, set: u32) -> bool {
        let set = &self.sets[set as usize];
        part.matches(&set.namespace, &set.labels, &self.namespaces)
    }

    /// Whether a part means pods with these labels.
    pub(super) fn means_labels(&self, part: &Part, namespace: &str, labels: &Labels) -> bool {
        part.matches(namespace, labels, &self.namespaces)
    }

    /// The matcher of pods that all parts mean.
    pub(super) fn matcher(&mut self, parts: &[&Part]) -> u32 {
        if let [only] = parts {
            return self.matcher_of(&only.key, parts);
        }
        let keys: Vec<&str> = parts.iter().map(|part| &*part.key).collect();
        self.matcher_of(&keys.join(" "), parts)
    }

    fn matcher_of(&mut self, key: &str, parts: &[&Part]) -> u32 {
        if let Some(id) = self.matcher_ids.get(key) {
            self.matchers[*id as usize].last_used = self.questions;
            return *id;
        }
        if self.matcher_ids.len() >= MATCHERS_MAX {
            self.forget_matchers();
        }
        let parts: Vec<Part> = parts.iter().map(|part| (*part).clone()).collect();
        let home = parts.iter().find_map(|part| part.home()).map(str::to_owned);
        let last_used = self.questions;
        let key = key.to_owned();
        let matcher = Matcher { key: key.clone(), parts, last_used, ..Matcher::default() };
        let id = insert(&mut self.matchers, &mut self.free_matchers, matcher);
        self.matcher_ids.insert(key, id);
        let parts = &self.matchers[id as usize].parts;
        let is_near =
            |set: &&mut Set| set.users > 0 && home.as_ref().is_none_or(|own| *own == set.namespace);
        for set in self.sets.iter_mut().filter(is_near) {
            let means = |part: &Part| part.matches(&set.namespace, &set.labels, &self.namespaces);
            if parts.iter().all(means) {
                set.matchers.push(id);
            }
        }
        match home {
            Some(home) => self.at_home.entry(home).or_default().push(id),
            None => self.anywhere.push(id),
        }
        id
    }

    /// A new question begins: matchers of those before may be forgotten.
    pub(super) fn begin_question(&mut self) {
        self.questions += 1;
    }

    fn forget_matchers(&mut self) {
        let is_needed = |matcher: &Matcher| {
            matcher.users > 0 || matcher.last_used == self.questions || matcher.key.is_empty()
        };
        let gone: BTreeSet<u32> = (0_u32..)
            .zip(&self.matchers)
            .filter(|(_, own)| !is_needed(own))
            .map(|(id, _)| id)
            .collect();
        for id in &gone {
            let matcher = std::mem::take(&mut self.matchers[*id as usize]);
            self.matcher_ids.remove(&matcher.key);
            self.free_matchers.push(*id);
        }
        for set in &mut self.sets {
            set.matchers.retain(|id| !gone.contains(id));
        }
        self.at_home.retain(|_, ids| {
            ids.retain(|id| !gone.contains(id));
            !ids.is_empty()
        });
        self.anywhere.retain(|id| !gone.contains(id));
    }

    /// Counts what a matcher means, unless that is known.
    pub(super) fn count(&mut self, matcher: u32) {
        if self.matchers[matcher as usize].tally.is_some() {
            return;
        }
        let mut tally = Tally::default();
        for set in self.sets.iter().filter(|set| set.matchers.contains(&matcher)) {
            for (slot, (all, ending)) in &set.nodes {
                tally.add(*slot, (*all).cast_signed(), (*ending).cast_signed());
            }
        }
        self.matchers[matcher as usize].tally = Some(tally);
    }

    /// What [`Self::count`] found.
    pub(super) fn tally(&self, matcher: u32) -> &Tally {
        static NONE: Tally = Tally { all: Vec::new(), ending: Vec::new(), total: 0 };
        self.matchers[matcher as usize].tally.as_ref().unwrap_or(&NONE)
    }

    /// A pod of a set comes to a node, or leaves it.
    pub(super) fn moved(&mut self, set: u32, slot: u32, is_ending: bool, delta: i32) {
        let ending = if is_ending { delta } else { 0 };
        let set = &mut self.sets[set as usize];
        let counts = set.nodes.entry(slot).or_default();
        counts.0 = counts.0.saturating_add_signed(delta);
        counts.1 = counts.1.saturating_add_signed(ending);
        if counts.0 == 0 {
            set.nodes.remove(&slot);
        }
        for matcher in &set.matchers {
            if let Some(tally) = &mut self.matchers[*matcher as usize].tally {
                tally.add(slot, delta, ending);
            }
        }
    }

    /// A pod with an effect comes to a node.
    pub(super) fn carry(&mut self, part: &Part, topology: u32, effect: Effect, slot: u32) {
        let matcher = self.matcher(&[part]);
        let key = (matcher, topology, effect);
        let id = match self.carried_ids.get(&key) {
            Some(id) => *id,
            None => {
                let carried = Carried {
                    #[cfg(test)]
                    matcher,
                    topology,
                    effect,
                    nodes: BTreeMap::new(),
                };
                let id = insert(&mut self.carried, &mut self.free_carried, Some(carried));
                self.carried_ids.insert(key, id);
                self.matchers[matcher as usize].users += 1;
                self.matchers[matcher as usize].effects.push(id);
                id
            }
        };
        let carried = self.carried[id as usize].as_mut();
        *carried.expect("a number in the map is in use").nodes.entry(slot).or_default() += 1;
    }

    /// It leaves the node.
    pub(super) fn drop(&mut self, part: &Part, topology: u32, effect: Effect, slot: u32) {
        let matcher = self.matcher(&[part]);
        let key = (matcher, topology, effect);
        let Some(id) = self.carried_ids.get(&key).copied() else { return };
        let Some(carried) = self.carried[id as usize].as_mut() else { return };
        if let Some(count) = carried.nodes.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                carried.nodes.remove(&slot);
            }
        }
        if carried.nodes.is_empty() {
            self.carried[id as usize] = None;
            self.free_carried.push(id);
            self.carried_ids.remove(&key);
            let matcher = &mut self.matchers[matcher as usize];
            matcher.users -= 1;
            matcher.effects.retain(|own| *own != id);
        }
    }

    /// The effects that pods on nodes have on pods of a set.
    pub(super) fn effects_on(&self, set: u32) -> impl Iterator<Item = &Carried> {
        let matchers = self.sets[set as usize].matchers.iter();
        let ids = matchers.flat_map(|id| &self.matchers[*id as usize].effects);
        ids.filter_map(|id| self.carried[*id as usize].as_ref())
    }

    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let by_matcher = |own: &Carried| {
            let matcher = &self.matchers[own.matcher as usize];
            matcher.users as usize == matcher.effects.len() && !own.nodes.is_empty()
        };
        self.carried.iter().flatten().all(by_matcher)
            && self.set_ids.len() + self.free_sets.len() == self.sets.len()
    }
}

/// Puts something in a free place, or a new one.
fn insert<T>(all: &mut Vec<T>, free: &mut Vec<u32>, new: T) -> u32 {
    match free.pop() {
        Some(id) => {
            all[id as usize] = new;
            id
        }
        None => {
            all.push(new);
            u32::try_from(all.len() - 1).expect("memory ends before numbers do")
        }
    }
}
