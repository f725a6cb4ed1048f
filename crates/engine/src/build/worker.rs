//! Who does the steps of a build: each in a process of its own, which is forked from this one, since a
//! process with several threads cannot make containers.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use build::{
    CopySource, From, GitSource, Inputs, Key, Op, Reuse, RunMountKind, Step as Planned, StepId,
    Worker,
};
use oci::Digest;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::BuildEvent;
use super::exchange::CacheSource;
use super::git::GitAccess;
use super::guard::{self, Guard};
use super::hash::{Known, digest};
use super::lock::Lock;
use super::received::ContextArchive;
use super::secret::Values;
use super::step::{Left, Step, Surroundings, pick, repository_name};
use super::why::Account;
use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::monitor::log::Stream;

const READ_BYTES: usize = 16 << 10;
/// Bytes of one line of output; a longer one is shown in parts.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How often a terminal is drawn anew while nothing happens.
const TICK: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The least that the machine is good for.
const CAPACITY_MIN: usize = 2;

/// Does steps for one build.
pub(crate) struct StepWorker<'a> {
    engine: &'a Engine,
    around: &'a Surroundings,
    known: Option<Known>,
    account: Account,
    /// The files of the step whose key was asked for last.
    files: BTreeMap<String, String>,
    events: &'a mut dyn FnMut(BuildEvent<'_>),
    running: HashMap<StepId, Running>,
    /// Images are known before anything is asked.
    images: HashMap<Digest, Vec<Digest>>,
    /// What no output shows.
    secrets: Values,
    /// What was got from the network, by its address.
    downloads: HashMap<String, Digest>,
    /// Repositories and their commits, by what was asked for.
    repositories: HashMap<String, (ContextArchive, String)>,
    /// The commits of repositories, by their places.
    commits: BTreeMap<String, String>,
    count: usize,
    /// Watches over the steps, once there are any.
    guard: Option<Guard>,
    /// The digests of the keys of all steps but images, by number.
    pub(super) keys: BTreeMap<StepId, Digest>,
    /// Where outcomes that are not known here may be had from.
    pub(super) caches: Vec<CacheSource<'a>>,
    /// Set if steps are done again to see what they leave.
    pub(super) verifying: Option<Verifying>,
}

/// What steps leave when they are done again.
pub(super) struct Verifying {
    /// What they left before, by number; others start from that.
    pub(super) first: Vec<Vec<Digest>>,
    /// What they left this time.
    pub(super) again: BTreeMap<StepId, Vec<Digest>>,
}

/// A step that is being done.
struct Running {
    /// What its directories are called.
    id: String,
    child: runtime::Child,
    outcome: Option<OwnedFd>,
    said: Vec<u8>,
    outputs: [Output; 2],
    started: Instant,
}

/// What a command writes, line by line.
struct Output {
    fd: Option<OwnedFd>,
    stream: Stream,
    line: Vec<u8>,
}

/// How a step's process says why it failed.
#[derive(Serialize, Deserialize)]
struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    is_unsupported: bool,
}

impl<'a> StepWorker<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        around: &'a Surroundings,
        known: Option<Known>,
        account: Account,
        events: &'a mut dyn FnMut(BuildEvent<'_>),
    ) -> Self {
        let (running, images, downloads) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self {
            engine,
            around,
            known,
            account,
            files: BTreeMap::new(),
            events,
            running,
            images,
            secrets: Values::new(&around.secrets),
            downloads,
            repositories: HashMap::new(),
            commits: BTreeMap::new(),
            count: 0,
            guard: None,
            verifying: None,
            keys: BTreeMap::new(),
            caches: Vec::new(),
        }
    }

    /// Adds what came from the network for steps.
    pub(super) fn got(&self, inputs: &mut Lock) {
        let shown = |url: &String| oci::redacted(url).into_owned();
        inputs.files.extend(self.downloads.iter().map(|(url, digest)| (shown(url), *digest)));
        inputs.commits.extend(self.commits.clone());
    }

    /// Keeps what was found out about files.
    pub(crate) fn save(&self) -> Result<()> {
        self.engine.close_account(&self.account)?;
        self.known.as_ref().map_or(Ok(()), Known::save)
    }

    /// The digest of what a source of a copy is.
    fn content(
        &mut self,
        source: &CopySource,
        exclude: &[String],
        inputs: &Inputs<'_, Vec<Digest>>,
    ) -> Result<String> {
        let from = match source {
            CopySource::Inline { .. } => return Ok("none".into()),
            CopySource::Path { from, .. } => from,
            CopySource::Git(source) => return self.commit(source),
            CopySource::Url { url, checksum, .. } => {
                let digest = match self.downloads.get(url) {
                    Some(digest) => *digest,
                    None => {
                        let checksum = checksum.as_deref();
                        let lock = self.around.lock.as_ref();
                        let locked = lock.map(|lock| lock.file(url, checksum)).transpose()?;
                        let locked = locked.map(|digest| digest.to_string());
                        self.engine.download(url, locked.as_deref().or(checksum))?
                    }
                };
                self.downloads.insert(url.clone(), digest);
                return Ok(digest.to_string());
            }
        };
        match from {
            From::Scratch => Ok("scratch".into()),
            From::Context(_) => {
                let files = self.engine.source(from, &HashMap::new(), self.around)?;
                let picked = pick(&files, source, exclude)?;
                // It is found out again while they are copied. Only the main context is one that comes again.
                let known = self.known.as_mut().filter(|_| *from == From::Context(None));
                Ok(digest(&files, &picked, known, &mut self.files)?.to_string())
            }
            From::Step(step) => {
                let layers = inputs.get(*step);
                let what = serde_json::to_string(&(source, exclude, layers));
                let what = what.expect("a source has only names as keys");
                self.tree_content(&Digest::of(what.as_bytes()), || {
                    let inputs = HashMap::from([(*step, layers.clone())]);
                    let files = self.engine.source(from, &inputs, self.around)?;
                    let picked = pick(&files, source, exclude)?;
                    digest(&files, &picked, None, &mut BTreeMap::new())
                })
            }
        }
    }

    /// Gets a repository, once in a build; the commit.
    fn commit(&mut self, source: &GitSource) -> Result<String> {
        let name = repository_name(source);
        if let Some((_, commit)) = self.repositories.get(&name) {
            return Ok(commit.clone());
        }
        let access = GitAccess::new(source, &self.around.secrets, &self.around.ssh);
        let mut wanted = source.clone();
        let place = Lock::place(source);
        if let Some(lock) = &self.around.lock {
            wanted.reference = Some(lock.commit(&place)?.to_owned());
        }
        let (context, commit) = self.engine.fetch_context(&wanted, &access)?;
        self.commits.insert(place, commit.clone());
        self.repositories.insert(name, (context, commit.clone()));
        Ok(commit)
    }

    /// What layers have in them never changes: it is found out once.
    fn tree_content(&self, what: &Digest, find: impl FnOnce() -> Result<Digest>) -> Result<String> {
        let path = self.engine.build_dir("trees")?.join(what.hex());
        if let Ok(known) = std::fs::read_to_string(&path)
            && known.parse::<Digest>().is_ok()
        {
            return Ok(known);
        }
        let found = find()?.to_string();
        std::fs::write(&path, &found).doing(|| format!("write {}", path.display()))?;
        Ok(found)
    }

    fn step<'b>(
        &mut self,
        number: StepId,
        planned: &'b Planned,
        inputs: &Inputs<'_, Vec<Digest>>,
        key: &'b Key,
    ) -> Step<'b> {
        self.count += 1;
        let prefix = &self.around.prefix;
        let width = crate::id::LENGTH - prefix.len();
        let needs = planned.needs().into_iter();
        Step {
            id: format!("{prefix}{:0width$x}", self.count),
            name: planned.name.clone(),
            op: &planned.op,
            key,
            base: inputs.base().cloned().unwrap_or_default(),
            inputs: needs.map(|step| (step, inputs.get(step).clone())).collect(),
            ignore_cache: planned.ignore_cache,
            downloads: self.downloads.clone(),
            repositories: self
                .repositories
                .iter()
                .map(|(name, (context, _))| (name.clone(), context.path().to_owned()))
                .collect(),
            left: self.left(number),
        }
    }

    /// Bytes that a step left before which is done again.
    fn left(&self, number: StepId) -> Option<u64> {
        let layers = &self.verifying.as_ref()?.first[number];
        let top = layers.last().and_then(|layer| self.engine.store.layer(layer).ok());
        Some(top.map_or(0, |layer| layer.size))
    }

    /// What others start from after a step has ended.
    fn tree(&mut self, id: StepId, layers: Vec<Digest>) -> Vec<Digest> {
        match &mut self.verifying {
            None => layers,
            Some(verifying) => {
                verifying.again.insert(id, layers);
                verifying.first[id].clone()
            }
        }
    }

    /// The forked process: does the step, and ends.
    fn be_step(&self, step: &Step<'_>, outcome: File, outputs: [OwnedFd; 2]) -> ! {
        let [stdout, stderr] = outputs;
        let _ = rustix::stdio::dup2_stdout(&stdout);
        let _ = rustix::stdio::dup2_stderr(&stderr);
        drop((stdout, stderr));
        if let Some(conditions) = &self.around.conditions {
            conditions.enter();
        }
        let done = self.engine.perform(step, self.around);
        let said = match &done {
            Ok(left) => serde_json::to_vec(&Ok::<_, Failure>(left)),
            Err(error) => serde_json::to_vec(&Err::<Left, _>(explain(error))),
        };
        let mut outcome = outcome;
        if outcome.write_all(&said.unwrap_or_default()).is_err() {
            // Whoever wanted to know is gone, and what has failed is nobody's.
            let site = self.engine.root().join("build/run").join(&step.id);
            let _ = self.engine.store.discard(&site);
        }
        drop(outcome);
        runtime::exit_now(i32::from(done.is_err()))
    }

    /// Reads what is there of one step; whether it has ended.
    fn hear(&mut self, id: StepId, ready: [bool; 3]) -> Result<bool> {
        let running = self.running.get_mut(&id).expect("only steps that run are heard");
        let mut buffer = vec![0; READ_BYTES];
        for (output, ready) in running.outputs.iter_mut().zip(&ready[1..]) {
            if *ready {
                let stream = output.stream;
                output.read(&mut buffer, &mut |line| {
                    let line = &self.secrets.masked(line);
                    (self.events)(BuildEvent::Output { step: id, stream, line });
                })?;
            }
        }
        if let (true, Some(outcome)) = (ready[0], &running.outcome) {
            let read = rustix::io::retry_on_intr(|| rustix::io::read(outcome, &mut buffer[..]));
            match read.doing(|| "hear from a step".into())? {
                0 => running.outcome = None,
                n => running.said.extend_from_slice(&buffer[..n]),
            }
        }
        Ok(running.outcome.is_none() && running.outputs.iter().all(|output| output.fd.is_none()))
    }

    /// The descriptors of all steps, ready or not.
    fn poll(&self) -> Result<Vec<(StepId, [bool; 3])>> {
        let mut set = Vec::new();
        let mut places = Vec::new();
        for (id, running) in &self.running {
            let [stdout, stderr] = &running.outputs;
            for (index, fd) in [&running.outcome, &stdout.fd, &stderr.fd].into_iter().enumerate() {
                if let Some(fd) = fd {
                    set.push(PollFd::new(fd, PollFlags::IN));
                    places.push((*id, index));
                }
            }
        }
        let patience = self.around.ticks.then_some(&TICK);
        rustix::io::retry_on_intr(|| poll(&mut set, patience))
            .doing(|| "wait for a step".into())?;
        let mut ready: HashMap<StepId, [bool; 3]> = HashMap::new();
        for (fd, (id, index)) in set.iter().zip(places) {
            ready.entry(id).or_default()[index] = !fd.revents().is_empty();
        }
        Ok(ready.into_iter().collect())
    }

    fn end(&mut self, id: StepId) -> Result<Vec<Digest>> {
        let running = self.running.remove(&id).expect("only steps that run end");
        let _ = running.child.wait();
        let took = running.started.elapsed();
        let outcome: std::result::Result<Left, Failure> = serde_json::from_slice(&running.said)
            .map_err(|_| {
                Error::new(Kind::Internal, "the process of the step ended unexpectedly")
            })?;
        match outcome {
            Ok((key, layers)) => {
                // That of what it really had, which is what others may know it by.
                self.keys.insert(id, key);
                (self.events)(BuildEvent::Done { step: id, took });
                Ok(layers)
            }
            Err(failure) => {
                let failed = understand(failure);
                // Without it, the failure is told all the same.
                match self.engine.keep_failed(&self.around.name, &running.id) {
                    Err(error) if error.kind() == Kind::Conflict => Err(failed.hint(
                        "its files are not kept: somebody is in those of what failed before, with \
                         `cais debug build`",
                    )),
                    _ => Err(failed),
                }
            }
        }
    }
}

impl Worker for StepWorker<'_> {
    type Tree = Vec<Digest>;
    type Error = Error;

    fn key(&mut self, step: &Planned, inputs: &Inputs<'_, Vec<Digest>>) -> Result<Key> {
        self.files.clear();
        let mut key = Key::new(step.definition());
        if let Op::Image(image) = &step.op {
            self.images.insert(key.digest(), image.layers.clone());
            return Ok(key);
        }
        let is_linked = matches!(&step.op, Op::Copy(copy) if copy.link);
        key.set("epoch", self.around.epoch_s.to_string());
        let base = inputs.base().map(Vec::as_slice).unwrap_or_default();
        // A layer that stands alone is the same on whatever it lies; which layers there are is not.
        key.set("base", store::base_name(base));
        key.set("linked", is_linked.to_string());
        match &step.op {
            Op::Image(_) | Op::Workdir(_) => {}
            Op::Copy(copy) => {
                for (index, source) in copy.sources.iter().enumerate() {
                    let content = self.content(source, &copy.exclude, inputs)?;
                    key.set(format!("content.{index}"), content);
                }
            }
            Op::Run(run) => {
                let off = &self.around.normalize_off;
                if !off.is_empty() {
                    let names: Vec<&str> = off.iter().map(String::as_str).collect();
                    key.set("not normalised", names.join(","));
                }
                for (index, mount) in run.mounts.iter().enumerate() {
                    let (RunMountKind::Bind { from, source }
                    | RunMountKind::Cache { from, source, .. }) = &mount.kind
                    else {
                        continue;
                    };
                    // What a cache has in it must not matter.
                    if matches!(mount.kind, RunMountKind::Cache { .. }) {
                        continue;
                    }
                    let (from, path) = (from.clone(), source.clone());
                    let source = CopySource::Path { from, path, parents: None, unpack: false };
                    let content = self.content(&source, &[], inputs)?;
                    key.set(format!("mount.{index}"), content);
                }
            }
        }
        Ok(key)
    }

    fn recall(&mut self, key: &Key) -> Result<Option<Vec<Digest>>> {
        let digest = key.digest();
        match self.images.get(&digest) {
            Some(layers) => Ok(Some(layers.clone())),
            None => match self.engine.recall_step(&digest)? {
                Some(layers) => Ok(Some(layers)),
                None => self.engine.recall_from(&self.caches, key, self.events),
            },
        }
    }

    fn start(
        &mut self,
        id: StepId,
        planned: &Planned,
        inputs: &Inputs<'_, Vec<Digest>>,
        key: &Key,
    ) -> Result<()> {
        (self.events)(BuildEvent::Started { step: id, name: &planned.name });
        self.engine.bring_mounts(&self.caches, planned, self.events);
        let files = std::mem::take(&mut self.files);
        self.account.add(&planned.name, key, files, (false, planned.ignore_cache));
        let step = self.step(id, planned, inputs, key);
        if self.guard.is_none() {
            self.guard = Some(Guard::new(self.engine, self.around)?);
        }
        let make = || pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into());
        let ((heard, said), (out, stdout), (err, stderr)) = (make()?, make()?, make()?);
        match runtime::fork().doing(|| "fork a step".into())? {
            runtime::Fork::Child => {
                drop((heard, out, err));
                self.running.clear();
                guard::let_go();
                self.be_step(&step, said.into(), [stdout, stderr])
            }
            runtime::Fork::Parent(child) => {
                let output = |fd, stream| Output { fd: Some(fd), stream, line: Vec::new() };
                let running = Running {
                    id: step.id.clone(),
                    child,
                    outcome: Some(heard),
                    said: Vec::new(),
                    outputs: [output(out, Stream::Stdout), output(err, Stream::Stderr)],
                    started: Instant::now(),
                };
                self.running.insert(id, running);
                Ok(())
            }
        }
    }

    fn wait(&mut self) -> Result<(StepId, Result<Vec<Digest>>)> {
        loop {
            if self.around.ticks {
                (self.events)(BuildEvent::Tick);
            }
            for (id, ready) in self.poll()? {
                if self.hear(id, ready)? {
                    let ended = self.end(id).map(|layers| self.tree(id, layers));
                    return Ok((id, ended));
                }
            }
        }
    }

    fn cancel(&mut self) {
        guard::end_steps(self.engine, self.around);
        for (_, running) in self.running.drain() {
            let _ = running.child.wait();
        }
        // Commands that were ended have not failed.
        let _ = self.engine.sweep_steps();
    }

    fn capacity(&self) -> usize {
        std::thread::available_parallelism().map_or(CAPACITY_MIN, |n| n.get().max(CAPACITY_MIN))
    }

    fn reused(&mut self, id: StepId, step: &Planned, key: &Key, how: Reuse) {
        let files = std::mem::take(&mut self.files);
        // One that is the same as another has left what that one has.
        if how == Reuse::Cached && !matches!(step.op, Op::Image(_)) {
            self.keys.insert(id, key.digest());
        }
        self.account.add(&step.name, key, files, (true, false));
        let event = match how {
            Reuse::Cached => BuildEvent::Cached { step: id, name: &step.name },
            Reuse::SameAs(other) => BuildEvent::SameAs { step: id, name: &step.name, other },
        };
        (self.events)(event);
    }
}

impl Output {
    /// Reads once; whole lines are passed on, and the rest with the end.
    fn read(&mut self, buffer: &mut [u8], line: &mut dyn FnMut(&[u8])) -> Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        let read = rustix::io::retry_on_intr(|| rustix::io::read(fd.as_fd(), &mut *buffer));
        let n = read.doing(|| "read what a step says".into())?;
        self.line.extend_from_slice(&buffer[..n]);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let rest = self.line.split_off(end + 1);
            line(self.line.strip_suffix(b"\n").unwrap_or(&self.line));
            self.line = rest;
        }
        if self.line.len() > LINE_BYTES_MAX || n == 0 && !self.line.is_empty() {
            line(&std::mem::take(&mut self.line));
        }
        if n == 0 {
            self.fd = None;
        }
        Ok(())
    }
}

fn explain(error: &Error) -> Failure {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    Failure {
        message: error.to_string(),
        causes,
        hint: error.hint_text().map(str::to_owned),
        is_unsupported: error.kind() == Kind::Unsupported,
    }
}

fn understand(failure: Failure) -> Error {
    let kind = if failure.is_unsupported { Kind::Unsupported } else { Kind::Invalid };
    let error = match failure.causes.join(": ") {
        causes if causes.is_empty() => Error::new(kind, failure.message),
        causes => Error::caused(kind, failure.message, causes),
    };
    match failure.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// How long a step took, in seconds, as BuildKit shows it.
#[must_use]
pub fn seconds(took: Duration) -> String {
    format!("{:.1}s", took.as_secs_f64())
}
