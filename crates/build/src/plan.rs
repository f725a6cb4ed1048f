//! A Dockerfile and what was asked become a [`Graph`]: only what the target needs.

mod base;
mod copy;
mod expose;
mod history;
mod run;
mod scope;
mod stage;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use oci::{Digest, ImageConfig, Platform};

use crate::check::{self, Findings};
use crate::error::{Error, Result, did_you_mean};
use crate::graph::{Graph, Outcome, Step, StepId};
use crate::ignore::Ignore;
use crate::language::instruction::Dockerfile;
use crate::source::Span;

use scope::Scope;
use state::State;

/// The comment of every entry of the history, which is BuildKit's.
pub const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// What is asked of a build.
#[derive(Debug, Clone)]
pub struct Request {
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--target`; the last stage where there is none.
    pub target: Option<String>,
    /// What the image is for.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What of the context is out of sight.
    pub ignore: Ignore,
    /// Whether everything is done anew.
    pub no_cache: bool,
    /// The stages in which everything is done anew.
    pub no_cache_stages: BTreeSet<String>,
    /// The network of commands that ask for none.
    pub network: String,
    /// `--add-host`: names and addresses.
    pub hosts: Vec<(String, String)>,
}

/// A context with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image.
    Image(String),
    /// Files that whoever does the steps knows by the same name.
    Files,
}

/// An image that a stage starts from, or whose files are used.
#[derive(Debug, Clone)]
pub struct Base {
    /// Its configuration.
    pub config: ImageConfig,
    /// Its name, in full.
    pub name: String,
    /// Its layers, lowest first.
    pub layers: Vec<Digest>,
}

/// Who knows images.
pub trait Bases {
    /// Why it does not know one.
    type Error: From<Error>;

    /// The image of this name, made for this platform where there is a choice.
    ///
    /// # Errors
    /// If there is none.
    fn base(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> std::result::Result<Base, Self::Error>;
}

/// Makes the graph of a build.
///
/// # Errors
/// For what is wrong in the file, and of `bases`.
pub fn plan<B: Bases>(
    file: &Dockerfile,
    request: &Request,
    bases: &mut B,
) -> std::result::Result<Graph, B::Error> {
    let mut planner = Planner::new(file, request, bases)?;
    let target = planner.target()?;
    let state = planner.stage(target)?;
    Ok(planner.finish(state))
}

/// Looks at all stages, or at what a target needs, and returns only what the checks find.
///
/// # Errors
/// As of [`plan`].
pub fn check<B: Bases>(
    file: &Dockerfile,
    request: &Request,
    bases: &mut B,
) -> std::result::Result<Vec<check::Finding>, B::Error> {
    let mut planner = Planner::new(file, request, bases)?;
    match &request.target {
        Some(_) => {
            let target = planner.target()?;
            planner.stage(target)?;
        }
        None => {
            for stage in 0..file.stages.len() {
                planner.stage(stage)?;
            }
        }
    }
    Ok(planner.findings.finish())
}

/// What is known while a graph is made.
struct Planner<'a, B> {
    file: &'a Dockerfile,
    request: &'a Request,
    bases: &'a mut B,
    scope: Scope,
    findings: Findings,
    steps: Vec<Step>,
    /// The stages that were looked at.
    states: Vec<Option<State>>,
    /// Those that are being looked at.
    entered: Vec<usize>,
    /// Images whose files are used, by name and platform.
    images: BTreeMap<(String, String), Option<StepId>>,
}

impl<'a, B: Bases> Planner<'a, B> {
    fn new(file: &'a Dockerfile, request: &'a Request, bases: &'a mut B) -> Result<Self> {
        let mut findings = Findings::new(&file.directives.check);
        check::check_file(file, &mut findings);
        scope::check_defaults(file, request, &mut findings);
        let scope = Scope::new(file, request)?;
        let states = vec![None; file.stages.len()];
        let (steps, entered, images) = (Vec::new(), Vec::new(), BTreeMap::new());
        Ok(Self { file, request, bases, scope, findings, steps, states, entered, images })
    }

    /// The stage that is asked for: by name, or by number.
    fn target(&self) -> Result<usize> {
        let stages = &self.file.stages;
        let Some(target) = &self.request.target else { return Ok(stages.len() - 1) };
        let named = self.named(target);
        let numbered = || target.parse().ok().filter(|index| *index < stages.len());
        named.or_else(numbered).ok_or_else(|| {
            let names = stages.iter().map(|stage| stage.name.as_str()).filter(|n| !n.is_empty());
            let nearest = did_you_mean(target, names, true);
            Error::new(format!("target stage {target:?} could not be found{nearest}"))
        })
    }

    /// The last stage of a name.
    fn named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.file.stages.iter().rposition(|stage| !stage.name.is_empty() && stage.name == name)
    }

    /// Adds a step, or finds the one that is the same.
    fn add(&mut self, step: Step) -> StepId {
        let same = |known: &Step| {
            known.op == step.op
                && known.base == step.base
                && known.ignore_cache == step.ignore_cache
        };
        match self.steps.iter().position(same) {
            Some(known) => known,
            None => {
                self.steps.push(step);
                self.steps.len() - 1
            }
        }
    }

    fn finish(self, state: State) -> Graph {
        let mut config = state.image;
        config.config.labels.extend(self.request.labels.clone());
        let base_history = std::mem::take(&mut config.history);
        config.created = None;
        config.rootfs = oci::RootfsSection::default();
        let outcome = Outcome { step: state.tree, config, base_history, history: state.history };
        let graph = Graph { steps: self.steps, findings: self.findings.finish(), outcome };
        graph.pruned()
    }
}

impl Graph {
    /// Without the steps that the outcome does not need.
    fn pruned(self) -> Self {
        let mut needed = vec![false; self.steps.len()];
        let mut pending: Vec<StepId> = self.outcome.step.into_iter().collect();
        while let Some(step) = pending.pop() {
            if !std::mem::replace(&mut needed[step], true) {
                pending.extend(self.steps[step].needs());
            }
        }
        let mut places = vec![0; needed.len()];
        let mut count = 0;
        for (step, needed) in needed.iter().enumerate() {
            places[step] = count;
            count += usize::from(*needed);
        }
        let steps = self.steps.into_iter().zip(&needed).filter(|(_, needed)| **needed);
        let steps = steps.map(|(step, _)| step.moved(&places)).collect();
        let mut outcome = self.outcome;
        outcome.step = outcome.step.map(|step| places[step]);
        for entry in &mut outcome.history {
            entry.step = entry.step.map(|step| places[step]);
        }
        Self { steps, outcome, findings: self.findings }
    }
}
