//! Building images: a Dockerfile is planned, its steps are done on the store and in the runtime, and
//! what is left is an image.

mod attest;
mod bases;
mod cache;
mod cache_mount;
mod conditions;
mod copy;
mod download;
mod exchange;
mod exec;
mod failed;
mod git;
mod guard;
mod hash;
mod index;
mod job;
mod lock;
mod mode;
mod normalize;
mod output;
mod received;
mod sbom;
mod secret;
mod source;
mod ssh;
mod step;
mod usage;
mod user;
mod verify;
mod why;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use build::{Dockerfile, Finding, Graph, Request, Span};
use jiff::Timestamp;
use oci::{Digest, History, Reference, RootfsSection};
use registry::Event;
use store::Image;

use crate::Engine;
use crate::error::{Error, Kind, Result};
use crate::monitor::log::Stream;
use crate::settings::Limits;

use bases::{EngineBases, PlanError};
use hash::Known;
use secret::Values;
use step::{Context, Surroundings};
use worker::StepWorker;

pub use attest::{Attest, Provenance, Statement};
pub use exchange::{CacheTarget, cache_in_registry};
pub use failed::FailedStep;
pub use git::{GitAccess, commit_time};
pub use index::ImageIndex;
pub use job::{BuildJob, BuildNews, JobCache, JobFinding, Wants};
pub use lock::{Lock, LockedImage};
pub use normalize::{NORMALIZE_RULES, NormalizeRule, normalize_off};
pub use received::{ContextArchive, Received, open_below};
pub use secret::unsearched_secrets;
pub use ssh::KeyAgent;
pub use usage::BuildCacheUsage;
pub use verify::{Deviation, Verified};
pub use why::{Explained, Verdict};
pub use worker::seconds;

/// The time of what a build makes unless another is given: the earliest that zip archives know, which
/// tools in images refuse to go below. In seconds since 1970: 1980-01-01T00:00:00Z.
pub const DEFAULT_EPOCH_S: i64 = 315_532_800;
/// Digits of a step's id that tell it from others of its build.
const STEP_DIGITS: usize = 8;

/// What is built, and how.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// What tells this Dockerfile from others: its place.
    pub name: String,
    /// The Dockerfile's text.
    pub dockerfile: String,
    /// The directory whose files are copied, if there is one.
    pub context: Option<PathBuf>,
    /// Further directories, by name.
    pub named_contexts: BTreeMap<String, PathBuf>,
    /// What is asked of the plan.
    pub request: Request,
    /// Secrets, by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The sockets of SSH agents, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// How much of the machine a command may use.
    pub limits: Limits,
    /// The control group that those of commands lie in; the default where empty.
    pub cgroup_parent: String,
    /// Bytes of /dev/shm; the default where 0.
    pub shm_bytes: u64,
    /// Whether bases are asked for even if they are here.
    pub pull: bool,
    /// What commands may ask for: `security.insecure`, `network.host`.
    pub allow: BTreeSet<String>,
    /// The time of everything that is made, in seconds since 1970.
    pub epoch_s: i64,
    /// The image's names.
    pub tags: Vec<Reference>,
    /// Rules of normalisation that are not applied: see [`crate::NORMALIZE_RULES`].
    pub normalize_off: BTreeSet<String>,
    /// If there is one, nothing else comes from the network, but to commands.
    pub lock: Option<Lock>,
    /// Where the outcomes of steps may be had from: registries, layouts.
    pub cache_from: Vec<registry::Place>,
    /// Whether the image tells which steps its layers are of.
    pub is_cache: bool,
    /// Whether [`BuildEvent::Tick`] is wanted.
    pub ticks: bool,
}

/// What happens during a build.
#[derive(Debug)]
pub enum BuildEvent<'a> {
    /// A step is begun.
    Started {
        /// Its number.
        step: usize,
        /// Its name.
        name: &'a str,
    },
    /// A step's outcome was known.
    Cached {
        /// Its number.
        step: usize,
        /// Its name.
        name: &'a str,
    },
    /// A step is the same as another that is being done.
    SameAs {
        /// Its number.
        step: usize,
        /// Its name.
        name: &'a str,
        /// The other's number.
        other: usize,
    },
    /// A command has written a line.
    Output {
        /// The step's number.
        step: usize,
        /// Where it was written to.
        stream: Stream,
        /// Without its end.
        line: &'a [u8],
    },
    /// Something that is no step, and done.
    Internal {
        /// What it is called.
        name: &'a str,
        /// What came of it.
        what: &'a str,
    },
    /// A tenth of a second has passed while steps are being done.
    Tick,
    /// A step is done.
    Done {
        /// Its number.
        step: usize,
        /// How long that took.
        took: Duration,
    },
}

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// What came from the network, but to commands; or what was here instead.
    pub inputs: Lock,
    /// The key of each step, and the layers that it left.
    pub(crate) steps: Vec<exchange::Known>,
    /// The name of each step, and what it is.
    pub(crate) definitions: Vec<(String, BTreeMap<String, String>)>,
    /// The layers of all images that were used.
    pub(crate) base_layers: Vec<Digest>,
    /// The names of all cache mounts.
    pub(crate) mounts: std::collections::BTreeSet<String>,
}

/// Why there is no image, and where in the Dockerfile.
#[derive(Debug)]
pub struct BuildError {
    /// Why.
    pub error: Error,
    /// The instruction, if it was one.
    pub span: Option<Span>,
    /// The number of the step, if it was one.
    pub step: Option<usize>,
}

impl std::convert::From<Error> for BuildError {
    fn from(error: Error) -> Self {
        Self { error, span: None, step: None }
    }
}

impl std::convert::From<PlanError> for BuildError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::File(error) => error.into(),
            PlanError::Engine(error, span) => Self { error, span: Some(span), step: None },
        }
    }
}

impl std::convert::From<build::Error> for BuildError {
    fn from(error: build::Error) -> Self {
        let span = error.span();
        let failure = Error::invalid(error.to_string());
        let right =
            error.suggestion().map(|word| format!("the nearest word that is known is {word}"));
        let error = match error.hint_text().map(str::to_owned).or(right) {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        Self { error, span, step: None }
    }
}

impl Engine {
    /// Builds an image; `pulling` hears of bases on their way, and `events` of steps.
    ///
    /// # Errors
    /// For what is wrong in the Dockerfile, for a command that fails, and for whatever the disk, the
    /// kernel or a registry refuses. What was done until then is remembered.
    pub fn build(
        &self,
        options: &BuildOptions,
        pulling: &(dyn Fn(Event) + Sync),
        events: &mut dyn FnMut(BuildEvent<'_>),
    ) -> std::result::Result<Built, BuildError> {
        let _lease = self.store.lease().map_err(Error::from)?;
        let _using = self.use_cache()?;
        self.sweep_steps()?;
        let file = Dockerfile::parse(&options.dockerfile)?;
        let (graph, used, mut inputs) = self.plan_build(&file, options, pulling)?;
        check_secrets(&graph, options)?;
        let around = self.surroundings(options)?;
        let known =
            options.context.as_ref().map(|place| Known::load(self.root.join("build/files"), place));
        let account = self.open_account(&options.name)?;
        let client = match options.cache_from.is_empty() {
            true => None,
            false => Some(self.registry_client()?),
        };
        let caches = client.as_ref().map_or_else(Vec::new, |client| {
            let platform = &options.request.platform;
            self.open_caches(client, &options.cache_from, platform, events)
        });
        let mut worker = StepWorker::new(self, &around, known, account, events);
        worker.caches = caches;
        let solved = build::solve(&graph, &mut worker);
        worker.save()?;
        worker.got(&mut inputs);
        let keys = std::mem::take(&mut worker.keys);
        drop(worker);
        let trees = solved.map_err(|failed| {
            let span = failed.step.map(|step| graph.steps[step].span);
            BuildError { error: failed.error, span, step: failed.step }
        })?;
        self.forget_failed(&options.name)?;
        let steps: Vec<exchange::Known> =
            keys.into_iter().map(|(step, key)| (key, trees[step].clone())).collect();
        let image = self.image_of(&graph, &trees, &steps, options, &used)?;
        self.emit(self.image_event("create", &image, &image.id.to_string()));
        for tag in &options.tags {
            if !image.tags.iter().any(|known| known.to_string() == tag.to_string()) {
                self.store.tag(tag, &image.id).map_err(Error::from)?;
            }
            self.emit(self.image_event("tag", &image, &tag.familiar()));
        }
        let mounts = graph.steps.iter().flat_map(exchange::mounts).map(str::to_owned).collect();
        let base_layers = exchange::layers_of(&used);
        let definitions = graph.steps.iter().map(|step| (step.name.clone(), step.definition()));
        let definitions = definitions.collect();
        let findings = graph.findings;
        Ok(Built { image, findings, inputs, steps, definitions, base_layers, mounts })
    }

    /// Looks for what is legal and probably not meant in a Dockerfile, and builds nothing.
    ///
    /// # Errors
    /// For what is wrong in it.
    pub fn check_build(
        &self,
        options: &BuildOptions,
        pulling: &(dyn Fn(Event) + Sync),
    ) -> std::result::Result<Vec<Finding>, BuildError> {
        let file = Dockerfile::parse(&options.dockerfile)?;
        let mut bases = self.bases(options, pulling);
        Ok(build::check(&file, &options.request, &mut bases)?)
    }

    fn bases<'a>(
        &'a self,
        options: &'a BuildOptions,
        pulling: &'a (dyn Fn(Event) + Sync),
    ) -> EngineBases<'a> {
        EngineBases {
            engine: self,
            pull: options.pull,
            pulling,
            used: Vec::new(),
            lock: options.lock.as_ref(),
            pins: Lock::default(),
        }
    }

    fn plan_build(
        &self,
        file: &Dockerfile,
        options: &BuildOptions,
        pulling: &(dyn Fn(Event) + Sync),
    ) -> std::result::Result<(Graph, Vec<Image>, Lock), BuildError> {
        let mut bases = self.bases(options, pulling);
        let graph = build::plan(file, &options.request, &mut bases)?;
        let rules: Vec<_> =
            graph.findings.iter().filter(|f| !f.rule.is_own).map(|f| f.rule.name).collect();
        if file.directives.check.is_error && !rules.is_empty() {
            let names = rules.join(", ");
            let message = format!("lint violation found for rules: {names}");
            return Err(Error::invalid(message).hint("build --check shows where").into());
        }
        graph.steps.iter().try_for_each(|step| entitled(step, &options.allow))?;
        Ok((graph, bases.used, bases.pins))
    }

    fn surroundings(&self, options: &BuildOptions) -> Result<Surroundings> {
        let main = options.context.iter().map(|directory| {
            let ignore = options.request.ignore.clone();
            (None, Context { directory: directory.clone(), ignore })
        });
        let named = options.named_contexts.iter().map(|(name, directory)| {
            let ignore = build::Ignore::default();
            (Some(name.clone()), Context { directory: directory.clone(), ignore })
        });
        let id = crate::id::fresh()?;
        Ok(Surroundings {
            contexts: main.chain(named).collect(),
            secrets: options.secrets.clone(),
            ssh: options.ssh.clone(),
            limits: options.limits.clone(),
            cgroup_parent: options.cgroup_parent.clone(),
            shm_bytes: options.shm_bytes,
            epoch_s: options.epoch_s,
            ticks: options.ticks,
            name: options.name.clone(),
            prefix: id[..crate::id::LENGTH - STEP_DIGITS].to_owned(),
            conditions: None,
            normalize_off: options.normalize_off.clone(),
            lock: options.lock.clone(),
        })
    }

    /// The image of what a graph came to.
    fn image_of(
        &self,
        graph: &Graph,
        trees: &[Vec<Digest>],
        steps: &[exchange::Known],
        options: &BuildOptions,
        used: &[Image],
    ) -> Result<Image> {
        let outcome = &graph.outcome;
        let time = Timestamp::from_second(options.epoch_s)
            .map_err(|error| Error::caused(Kind::Invalid, "read SOURCE_DATE_EPOCH", error))?;
        let created = Some(time.to_string());
        let layers = outcome.step.map(|step| trees[step].clone()).unwrap_or_default();
        let count = |step: Option<usize>| step.map_or(0, |step| trees[step].len());
        let mut history = outcome.base_history.clone();
        for entry in &outcome.history {
            let base = entry.step.and_then(|step| graph.steps[step].base);
            history.push(History {
                created: created.clone(),
                created_by: entry.created_by.clone(),
                comment: build::HISTORY_COMMENT.to_owned(),
                empty_layer: entry.step.is_none_or(|step| trees[step].len() == count(base)),
                ..History::default()
            });
        }
        let config = oci::ImageConfig {
            created,
            rootfs: RootfsSection { diff_ids: layers, ..RootfsSection::default() },
            history,
            ..outcome.config.clone()
        };
        let image = self.store.compose(&config, used)?;
        if !options.is_cache {
            return Ok(image);
        }
        let note = exchange::note(steps, &config.rootfs.diff_ids);
        Ok(self.store.annotate(&image, &[note].into())?)
    }
}

/// Refuses an image whose configuration or history would have a secret in it.
fn check_secrets(graph: &Graph, options: &BuildOptions) -> Result<()> {
    let mut config = graph.outcome.config.clone();
    let entry = |entry: &build::Entry| History {
        created_by: entry.created_by.clone(),
        ..History::default()
    };
    config.history = graph.outcome.history.iter().map(entry).collect();
    Values::new(&options.secrets).check_config(&config)
}

/// Refuses a command that asks for more than whoever builds has allowed (CVE-2024-23653).
fn entitled(step: &build::Step, allow: &BTreeSet<String>) -> std::result::Result<(), BuildError> {
    let build::Op::Run(run) = &step.op else { return Ok(()) };
    let asked = [("security.insecure", run.privileged), ("network.host", run.network == "host")];
    let refused = asked.iter().find(|(right, is_asked)| *is_asked && !allow.contains(*right));
    let Some((right, _)) = refused else { return Ok(()) };
    let error = Error::new(Kind::Denied, format!("{right} is not allowed"))
        .hint(format!("--allow {right} grants it to every command of the build"));
    Err(BuildError { error, span: Some(step.span), step: None })
}
