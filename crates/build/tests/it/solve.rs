//! Steps are done side by side, once, and not at all where their outcome is known.

use std::collections::{BTreeMap, VecDeque};

use build::{Graph, Inputs, Key, Op, Reuse, Step, StepId, Worker, solve};

use crate::world::{graph, request};

/// Does steps in name only: a tree is the list of the names of the steps that led to it.
#[derive(Default)]
struct Fake {
    capacity: usize,
    running: VecDeque<(StepId, Key, Vec<String>)>,
    known: BTreeMap<String, Vec<String>>,
    log: Vec<String>,
    fails: Option<&'static str>,
    most: usize,
}

impl Worker for Fake {
    type Tree = Vec<String>;
    type Error = String;

    fn key(&mut self, step: &Step, inputs: &Inputs<'_, Vec<String>>) -> Result<Key, String> {
        let mut key = Key::new(step.definition());
        for (index, need) in step.needs().iter().enumerate() {
            key.set(format!("input {index}"), inputs.get(*need).join(","));
        }
        Ok(key)
    }

    fn recall(&mut self, key: &Key) -> Result<Option<Vec<String>>, String> {
        Ok(self.known.get(&key.digest().to_string()).cloned())
    }

    fn start(
        &mut self,
        id: StepId,
        step: &Step,
        inputs: &Inputs<'_, Vec<String>>,
        key: &Key,
    ) -> Result<(), String> {
        self.log.push(format!("start {}", what(step)));
        let mut tree = inputs.base().cloned().unwrap_or_default();
        tree.push(what(step));
        self.running.push_back((id, key.clone(), tree));
        self.most = self.most.max(self.running.len());
        Ok(())
    }

    fn wait(&mut self) -> Result<(StepId, Result<Vec<String>, String>), String> {
        // The last that was begun ends first.
        let (id, key, tree) = self.running.pop_back().expect("somebody waits for something");
        let name = tree.last().cloned().unwrap_or_default();
        if self.fails.is_some_and(|fails| name.contains(fails)) {
            return Ok((id, Err(format!("{name} failed"))));
        }
        self.known.insert(key.digest().to_string(), tree.clone());
        Ok((id, Ok(tree)))
    }

    fn cancel(&mut self) {
        self.log.push(format!("cancel {}", self.running.len()));
        self.running.clear();
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn reused(&mut self, _: StepId, step: &Step, _: &Key, how: Reuse) {
        self.log.push(format!("{how:?} {}", what(step)));
    }
}

fn what(step: &Step) -> String {
    match &step.op {
        Op::Image(image) => image.name.rsplit('/').next().unwrap_or_default().to_owned(),
        Op::Run(run) => run.args.last().cloned().unwrap_or_default(),
        Op::Copy(copy) => copy.destination.clone(),
        Op::Workdir(workdir) => workdir.path.clone(),
    }
}

fn plan(text: &str) -> Graph {
    graph(text, &request()).unwrap()
}

const DIAMOND: &str = "FROM busybox AS base\nFROM base AS a\nRUN a\nFROM base AS b\nRUN b\n\
                       FROM base\nCOPY --from=a x /a\nCOPY --from=b x /b\n";

#[test]
fn independent_stages_run_side_by_side() {
    let mut worker = Fake { capacity: 2, ..Fake::default() };
    let trees = solve(&plan(DIAMOND), &mut worker).unwrap();
    assert_eq!(worker.most, 2);
    assert_eq!(worker.log, ["start busybox", "start a", "start b", "start /a", "start /b"]);
    assert_eq!(trees.last().unwrap()[..], ["busybox", "/a", "/b"]);
}

#[test]
fn no_more_than_the_worker_takes() {
    let mut worker = Fake { capacity: 1, ..Fake::default() };
    solve(&plan(DIAMOND), &mut worker).unwrap();
    assert_eq!(worker.most, 1);
}

#[test]
fn what_is_known_is_not_done() {
    let mut worker = Fake { capacity: 2, ..Fake::default() };
    solve(&plan(DIAMOND), &mut worker).unwrap();
    worker.log.clear();
    let again = DIAMOND.replace("RUN b", "RUN b2");
    solve(&plan(&again), &mut worker).unwrap();
    assert_eq!(worker.log, ["Cached busybox", "Cached a", "Cached /a", "start b2", "start /b"]);
}

#[test]
fn no_cache_does_everything() {
    let mut worker = Fake { capacity: 2, ..Fake::default() };
    solve(&plan(DIAMOND), &mut worker).unwrap();
    worker.log.clear();
    let request = build::Request { no_cache: true, ..request() };
    solve(&graph(DIAMOND, &request).unwrap(), &mut worker).unwrap();
    let started = worker.log.iter().filter(|line| line.starts_with("start")).count();
    assert_eq!(started, 4, "all but the base: {:?}", worker.log);
}

#[test]
fn the_same_step_is_done_once() {
    // They are different steps that have one key, as stages with equal files do.
    let mut graph = plan(DIAMOND);
    for step in &mut graph.steps {
        if let Op::Run(run) = &mut step.op {
            run.args = vec!["same".into()];
        }
    }
    let mut worker = Fake { capacity: 2, ..Fake::default() };
    let trees = solve(&graph, &mut worker).unwrap();
    assert_eq!(worker.log[1..3], ["start same", "SameAs(1) same"]);
    assert_eq!(trees[1], trees[3]);
}

#[test]
fn a_failure_ends_the_rest() {
    let mut worker = Fake { capacity: 2, fails: Some("b"), ..Fake::default() };
    worker.known.clear();
    let failed = solve(&plan(DIAMOND.replace("busybox", "x").as_str()), &mut worker).unwrap_err();
    assert_eq!((failed.step, failed.error.as_str()), (Some(3), "b failed"));
    assert_eq!(worker.log.last().map(String::as_str), Some("cancel 1"));
}
