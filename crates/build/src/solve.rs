//! Doing the steps of a graph: those that are ready side by side, the same one once.

use std::collections::HashMap;

use oci::Digest;

use crate::graph::{Graph, Step, StepId};
use crate::key::Key;

/// Who does steps.
///
/// A step comes to a *tree*, the files that it leaves. For each step whose inputs are there the
/// solver asks for its key and whether that is known; if not, it starts the step, and waits for any
/// that has ended once nothing more can be started. Nothing here is called by two threads.
pub trait Worker {
    /// The files that a step leaves.
    type Tree: Clone;
    /// Why a step failed.
    type Error;

    /// What a step's outcome depends on.
    ///
    /// # Errors
    /// If an input cannot be read.
    fn key(&mut self, step: &Step, inputs: &Inputs<'_, Self::Tree>) -> Result<Key, Self::Error>;

    /// What a step with this key left, if that is known.
    ///
    /// # Errors
    /// If what is known cannot be read.
    fn recall(&mut self, key: &Key) -> Result<Option<Self::Tree>, Self::Error>;

    /// Begins a step.
    ///
    /// # Errors
    /// If it cannot be begun.
    fn start(
        &mut self,
        id: StepId,
        step: &Step,
        inputs: &Inputs<'_, Self::Tree>,
        key: &Key,
    ) -> Result<(), Self::Error>;

    /// Waits for any step that was begun; what it came to, or why it failed.
    ///
    /// # Errors
    /// If that cannot be found out.
    #[expect(clippy::type_complexity, reason = "a step and how it ended")]
    fn wait(&mut self) -> Result<(StepId, Result<Self::Tree, Self::Error>), Self::Error>;

    /// Ends all steps that were begun.
    fn cancel(&mut self);

    /// How many steps are done at the same time at most; at least one.
    fn capacity(&self) -> usize;

    /// Hears that a step was found to be known, or the same as another one.
    fn reused(&mut self, id: StepId, step: &Step, key: &Key, how: Reuse);
}

/// Why a step need not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Its outcome is known from before.
    Cached,
    /// Another step of this graph is the same.
    SameAs(StepId),
}

/// What the steps before one came to.
#[derive(Debug)]
pub struct Inputs<'a, T> {
    base: Option<StepId>,
    trees: &'a [Option<T>],
}

impl<T> Inputs<'_, T> {
    /// The files that the step starts from.
    #[must_use]
    pub fn base(&self) -> Option<&T> {
        self.base.map(|base| self.get(base))
    }

    /// The files that another step left, which this one needs.
    #[must_use]
    pub fn get(&self, step: StepId) -> &T {
        self.trees[step].as_ref().expect("a step is ready once those that it needs are done")
    }
}

/// Does all steps of a graph; what each came to.
///
/// # Errors
/// Of the first step that fails, with its number; what else was begun is ended.
pub fn solve<W: Worker>(graph: &Graph, worker: &mut W) -> Result<Vec<W::Tree>, Failed<W::Error>> {
    let mut solver = Solver {
        graph,
        trees: vec![None; graph.steps.len()],
        begun: vec![false; graph.steps.len()],
        running: HashMap::new(),
    };
    let done = solver.run(worker);
    if done.is_err() {
        worker.cancel();
    }
    done?;
    let trees = solver.trees.into_iter();
    Ok(trees.map(|tree| tree.expect("all steps are done")).collect())
}

/// A step that failed.
#[derive(Debug)]
pub struct Failed<E> {
    /// Which; `None` if it was not one of them.
    pub step: Option<StepId>,
    /// Why.
    pub error: E,
}

struct Solver<'a, T> {
    graph: &'a Graph,
    trees: Vec<Option<T>>,
    begun: Vec<bool>,
    /// The steps that are being done, by their keys' digests, and those that wait for the same.
    running: HashMap<Digest, (StepId, Vec<StepId>)>,
}

impl<T: Clone> Solver<'_, T> {
    fn run<W: Worker<Tree = T>>(&mut self, worker: &mut W) -> Result<(), Failed<W::Error>> {
        loop {
            while let Some(step) = self.ready(worker.capacity()) {
                self.begin(step, worker).map_err(|error| Failed { step: Some(step), error })?;
            }
            if self.running.is_empty() {
                return Ok(());
            }
            let (id, outcome) = worker.wait().map_err(|error| Failed { step: None, error })?;
            let tree = outcome.map_err(|error| Failed { step: Some(id), error })?;
            self.finish(id, &tree);
        }
    }

    /// A step that can be begun: the first in the graph's order, unless enough are being done.
    fn ready(&self, capacity: usize) -> Option<StepId> {
        if self.running.len() >= capacity.max(1) {
            return None;
        }
        let is_done = |step: &StepId| self.trees[*step].is_some();
        let is_ready = |step: &StepId| {
            !self.begun[*step] && self.graph.steps[*step].needs().iter().all(is_done)
        };
        (0..self.graph.steps.len()).find(is_ready)
    }

    fn begin<W: Worker<Tree = T>>(&mut self, id: StepId, worker: &mut W) -> Result<(), W::Error> {
        let step = &self.graph.steps[id];
        self.begun[id] = true;
        let inputs = Inputs { base: step.base, trees: &self.trees };
        let key = worker.key(step, &inputs)?;
        let digest = key.digest();
        if let Some((first, followers)) = self.running.get_mut(&digest) {
            worker.reused(id, step, &key, Reuse::SameAs(*first));
            followers.push(id);
            return Ok(());
        }
        if !step.ignore_cache
            && let Some(tree) = worker.recall(&key)?
        {
            worker.reused(id, step, &key, Reuse::Cached);
            self.trees[id] = Some(tree);
            return Ok(());
        }
        worker.start(id, step, &inputs, &key)?;
        self.running.insert(digest, (id, Vec::new()));
        Ok(())
    }

    fn finish(&mut self, id: StepId, tree: &T) {
        let digest = self.running.iter().find(|(_, (first, _))| *first == id).map(|(d, _)| *d);
        let digest = digest.expect("only what was begun ends");
        let (_, followers) = self.running.remove(&digest).expect("it was just found");
        for follower in followers {
            self.trees[follower] = Some(tree.clone());
        }
        self.trees[id] = Some(tree.clone());
    }
}
