//! What only a process of one thread may do, done for one that has many.
//!
//! Containers are made by processes of one thread (`runtime`), and a server has a thread for each
//! client. So before its first thread, it forks one that stays as it is. For each piece of work that
//! one forks another, which does it, tells what came of it, and ends, or becomes the holder of what
//! it has started. If the server is killed, work goes on to its end.
//!
//! ```text
//! server ── a packet with descriptors ──► spawner ── fork ──► worker
//!    └──────────── the work, then its outcome, a line of JSON each ──────┘
//! ```

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::{Platform, Reference};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use store::PathStat;

use crate::archive::Extract;
use crate::build::{BuildJob, BuildNews};
use crate::commit::CommitOptions;
use crate::container::Container;
use crate::conversation::Conversation;
use crate::error::{Doing, Error, Kind, Result};
use crate::monitor::attach;
use crate::start::{Failure, explain};
use crate::{Engine, stop};

/// Descriptors that go with a piece of work: where it is told, and what it reads or writes.
const DESCRIPTORS_MAX: usize = 2;
/// Longest line with a piece of work, or an outcome.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// A piece of work.
#[derive(Debug, Serialize, Deserialize)]
enum Work {
    Start { container: String },
    Restart { container: String, timeout_s: Option<i64>, signal: Option<i32> },
    Exec { id: String },
    Stat { container: String, path: PathBuf },
    Pack { container: String, path: PathBuf },
    Unpack { container: String, path: PathBuf, keeps_kinds: bool, own_user: bool },
    Commit { container: String, options: Box<CommitOptions> },
    Build(Box<BuildJob>),
    Pull(Box<PullJob>),
}

/// An image that one process has another bring.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PullJob {
    /// The image.
    pub reference: Reference,
    /// What it is for; this machine where `None`.
    pub platform: Option<Platform>,
    /// Who asks: user and password; an empty user has a token for a password.
    pub login: Option<(String, String)>,
}

/// What is told of a pull.
#[derive(Debug, Serialize, Deserialize)]
enum PullNews {
    Event(registry::Event),
    Done { up_to_date: bool },
}

/// What a packet says: that the work is to be done whatever becomes of whoever wants it, or only as
/// long as they wait for it.
const LASTING: u8 = b'w';
const WHILE_WAITED_FOR: u8 = b'a';

/// How often it is asked whether anybody wants to know how a build goes on.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// What came of it.
type Outcome = std::result::Result<serde_json::Value, Failure>;

/// The process that forks in place of this one, as long as this lives.
#[derive(Debug)]
pub struct Spawner(OwnedFd);

/// A piece of work that is being done.
struct Pending(BufReader<UnixStream>);

impl Spawner {
    /// Forks it. This process must have one thread still, and should hold nothing yet that containers
    /// are not to inherit.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn fork(engine: &Engine) -> Result<Self> {
        let doing = || "make the process that starts containers".to_owned();
        let (own, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing(doing)?;
        match runtime::fork().doing(doing)? {
            runtime::Fork::Parent(_) => Ok(Self(own)),
            runtime::Fork::Child => {
                drop(own);
                let left = runtime::detach_from_session();
                runtime::trim_memory();
                if left.is_ok() {
                    take_orders(engine, other);
                }
                runtime::exit_now(i32::from(left.is_err()));
            }
        }
    }

    /// What becomes ready when that process has gone, after which nothing can be started here.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn end(&self) -> Result<OwnedFd> {
        self.0.try_clone().doing(|| "copy a descriptor".into())
    }

    /// As [`Engine::start`].
    ///
    /// # Errors
    /// As of that.
    pub fn start(&self, container: &Container) -> Result<()> {
        let container = container.record.id.clone();
        self.begin(&Work::Start { container }, None)?.outcome().map(drop)
    }

    /// As [`Engine::restart`].
    ///
    /// # Errors
    /// As of that.
    pub fn restart(
        &self,
        container: &Container,
        timeout_s: Option<i64>,
        signal: Option<rustix::process::Signal>,
    ) -> Result<()> {
        let signal = signal.map(rustix::process::Signal::as_raw);
        let work = Work::Restart { container: container.record.id.clone(), timeout_s, signal };
        self.begin(&work, None)?.outcome().map(drop)
    }

    /// Starts a command that was [created](Engine::create_exec), and returns once it runs: the
    /// conversation with it, if `attached`.
    ///
    /// # Errors
    /// As of [`Engine::exec`].
    pub fn exec(&self, id: &str, attached: bool) -> Result<Option<Conversation>> {
        let pair = attached.then(attach::pair).transpose();
        let (own, other) = pair.doing(|| "make a socket".into())?.unzip();
        let work = Work::Exec { id: id.to_owned() };
        self.begin(&work, other.as_ref().map(OwnedFd::as_fd))?.outcome()?;
        Ok(own.map(Conversation::new))
    }

    /// What is at a path of a container, as [`Files::stat`](crate::Files::stat).
    ///
    /// # Errors
    /// As of that, and of [`Engine::files`].
    pub fn stat(&self, container: &Container, path: &Path) -> Result<PathStat> {
        let work = Work::Stat { container: container.record.id.clone(), path: path.to_owned() };
        understood(self.begin(&work, None)?.outcome()?).map(StatLine::stat)
    }

    /// What is at a path of a container, as an archive, as [`Files::archive`](crate::Files::archive).
    ///
    /// # Errors
    /// As of that, and of [`Engine::files`].
    pub fn pack(&self, container: &Container, path: &Path) -> Result<(PathStat, Packed)> {
        let (archive, out) = io::pipe().doing(|| "make a pipe".into())?;
        let work = Work::Pack { container: container.record.id.clone(), path: path.to_owned() };
        let mut pending = self.begin(&work, Some(out.as_fd()))?;
        drop(out);
        let stat = understood(pending.outcome()?).map(StatLine::stat)?;
        Ok((stat, Packed { archive, pending: Some(pending) }))
    }

    /// Unpacks an archive in a container, as [`Files::extract`](crate::Files::extract).
    ///
    /// # Errors
    /// As of that, and of [`Engine::files`].
    pub fn unpack(
        &self,
        container: &Container,
        path: &Path,
        options: Extract,
        archive: &mut dyn Read,
    ) -> Result<()> {
        let (input, mut out) = io::pipe().doing(|| "make a pipe".into())?;
        let Extract { keeps_kinds, own_user } = options;
        let container = container.record.id.clone();
        let work = Work::Unpack { container, path: path.to_owned(), keeps_kinds, own_user };
        let mut pending = self.begin(&work, Some(input.as_fd()))?;
        drop(input);
        let copied = io::copy(archive, &mut out);
        drop(out);
        let outcome = pending.outcome();
        match copied {
            // Who unpacks has had enough, and says why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).doing(|| "read the archive".into())
            }
            _ => outcome.map(drop),
        }
    }

    /// As [`Engine::commit`]: the id of the image.
    ///
    /// # Errors
    /// As of that.
    pub fn commit(&self, container: &Container, options: CommitOptions) -> Result<String> {
        let options = Box::new(options);
        let work = Work::Commit { container: container.record.id.clone(), options };
        understood(self.begin(&work, None)?.outcome()?)
    }

    /// Builds an image, and says how it goes; as soon as `tell` says that nobody wants to know any
    /// more, the build is given up. `ask` is asked for user and password of registries. The id of the
    /// image; `None` if it was given up.
    ///
    /// # Errors
    /// As of [`Engine::build`].
    pub fn build(
        &self,
        job: BuildJob,
        ask: &dyn Fn(&str) -> Option<(String, String)>,
        tell: &mut dyn FnMut(BuildNews) -> bool,
    ) -> Result<Option<String>> {
        let mut pending = self.begin(&Work::Build(Box::new(job)), None)?;
        loop {
            if !pending.is_ready_within(&TICK)? {
                if !tell(BuildNews::Tick) {
                    return Ok(None);
                }
                continue;
            }
            match understood(pending.outcome()?)? {
                BuildNews::Built(id) => return Ok(Some(id)),
                BuildNews::Login(registry) => pending.answer(&ask(&registry))?,
                news => {
                    if !tell(news) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// As [`Engine::pull`]; as soon as `tell` says that nobody wants the image any more, which it is
    /// asked with `None` from time to time, the pull is given up, and may be taken up again. Whether
    /// the image was here; `None` if it was given up.
    ///
    /// # Errors
    /// As of that.
    pub fn pull(
        &self,
        job: PullJob,
        tell: &mut dyn FnMut(Option<registry::Event>) -> bool,
    ) -> Result<Option<bool>> {
        let mut pending = self.begin(&Work::Pull(Box::new(job)), None)?;
        loop {
            let event = match pending.is_ready_within(&TICK)? {
                false => None,
                true => match understood(pending.outcome()?)? {
                    PullNews::Done { up_to_date } => return Ok(Some(up_to_date)),
                    PullNews::Event(event) => Some(event),
                },
            };
            if !tell(event) {
                return Ok(None);
            }
        }
    }

    fn begin(&self, work: &Work, data: Option<BorrowedFd<'_>>) -> Result<Pending> {
        let gone = || "reach the process that starts containers".to_owned();
        let (mut own, other) = UnixStream::pair().doing(|| "make a socket".into())?;
        let descriptors: Vec<BorrowedFd<'_>> = [other.as_fd()].into_iter().chain(data).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let kind = match work {
            Work::Build(_) | Work::Pull(_) => WHILE_WAITED_FOR,
            _ => LASTING,
        };
        let packet = [IoSlice::new(std::slice::from_ref(&kind))];
        let send = || sendmsg(&self.0, &packet, &mut control, SendFlags::NOSIGNAL);
        rustix::io::retry_on_intr(send).doing(gone)?;
        drop(other);
        write_line(&mut own, work).doing(gone)?;
        Ok(Pending(BufReader::new(own)))
    }
}

impl Pending {
    /// Waits for a line, not longer than that: whether one has begun.
    fn is_ready_within(&self, longest: &Timespec) -> Result<bool> {
        if !self.0.buffer().is_empty() {
            return Ok(true);
        }
        let mut set = [PollFd::new(self.0.get_ref(), PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut set, Some(longest)));
        Ok(ready.doing(|| "hear what came of it".into())? > 0)
    }

    /// Answers what was asked.
    fn answer<T: Serialize>(&mut self, value: &T) -> Result<()> {
        write_line(self.0.get_mut(), value).doing(|| "answer the process that builds".into())
    }

    fn outcome(&mut self) -> Result<serde_json::Value> {
        let mut line = Vec::new();
        let read = (&mut self.0).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        read.doing(|| "hear what came of it".into())?;
        let outcome: Option<Outcome> = serde_json::from_slice(&line).ok();
        match outcome {
            Some(outcome) => outcome.map_err(Failure::error),
            None => Err(Error::new(Kind::Internal, "the process that did it ended unexpectedly")),
        }
    }
}

/// An archive that is being made.
#[derive(Debug)]
pub struct Packed {
    archive: io::PipeReader,
    pending: Option<Pending>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pending")
    }
}

/// At the end it fails if the archive is not whole.
impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read(buffer)?;
        if read == 0
            && !buffer.is_empty()
            && let Some(mut pending) = self.pending.take()
        {
            pending.outcome().map_err(io::Error::other)?;
        }
        Ok(read)
    }
}

fn understood<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|error| Error::caused(Kind::Internal, "understand what came of it", error))
}

/// What is at a path; names that are no text are shown as such.
#[derive(Serialize, Deserialize)]
struct StatLine {
    name: String,
    size: i64,
    mode: u32,
    mtime: (i64, u32),
    link_target: String,
}

impl StatLine {
    fn of(stat: &PathStat) -> Self {
        Self {
            name: stat.name.to_string_lossy().into_owned(),
            size: stat.size,
            mode: stat.mode,
            mtime: stat.mtime,
            link_target: stat.link_target.to_string_lossy().into_owned(),
        }
    }

    fn stat(self) -> PathStat {
        let Self { name, size, mode, mtime, link_target } = self;
        PathStat { name: name.into(), size, mode, mtime, link_target: link_target.into() }
    }
}

/// A process that works.
struct Worker {
    child: runtime::Child,
    process: OwnedFd,
    /// Where somebody waits for what comes of it, if it is not to go on without them.
    waited_for: Option<OwnedFd>,
}

/// The spawner's life: forks a worker for each packet, until nobody can send any.
fn take_orders(engine: &Engine, orders: OwnedFd) {
    let mut workers: Vec<Worker> = Vec::new();
    loop {
        let mut set = vec![PollFd::new(&orders, PollFlags::IN)];
        for worker in &workers {
            set.push(PollFd::new(&worker.process, PollFlags::IN));
            let waited_for = worker.waited_for.as_ref().unwrap_or(&worker.process);
            set.push(PollFd::new(waited_for, PollFlags::empty()));
        }
        if rustix::io::retry_on_intr(|| poll(&mut set, None)).is_err() {
            return;
        }
        let ready: Vec<PollFlags> = set.iter().map(PollFd::revents).collect();
        let mut states = ready[1..].chunks(2);
        workers.retain_mut(|worker| {
            let Some([ended, left]) = states.next() else { return true };
            if !ended.is_empty() {
                // What is not there any more needs no waiting.
                let _ = worker.child.wait();
                return false;
            }
            if left.contains(PollFlags::HUP) && worker.waited_for.take().is_some() {
                // What it has begun is ended by those who watch it.
                let _ = pidfd_send_signal(&worker.process, Signal::KILL);
            }
            true
        });
        if ready[0].is_empty() {
            continue;
        }
        let Some((kind, descriptors)) = receive(&orders) else { return };
        let waited_for = descriptors.first().filter(|_| kind == WHILE_WAITED_FOR);
        let waited_for = waited_for.and_then(|descriptor| descriptor.try_clone().ok());
        match runtime::fork() {
            Ok(runtime::Fork::Parent(child)) => {
                if let Ok(process) = pidfd_open(child.pid(), PidfdFlags::empty()) {
                    workers.push(Worker { child, process, waited_for });
                }
            }
            Ok(runtime::Fork::Child) => {
                // Else nobody would notice that the spawner has gone.
                drop((orders, workers, waited_for));
                work(engine, descriptors);
                runtime::exit_now(0);
            }
            // Whoever waits sees the sockets closed.
            Err(_) => {}
        }
    }
}

/// The next packet, with its descriptors; `None` once there is nobody who could send one.
fn receive(orders: &OwnedFd) -> Option<(u8, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut packet = [IoSliceMut::new(&mut byte)];
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(orders, &mut packet, &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    if received.ok()?.bytes == 0 {
        return None;
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    Some((byte[0], descriptors))
}

fn write_line<T: Serialize>(out: &mut UnixStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Where a worker tells what comes of its work; threads of it may ask, too.
type Told = Arc<Mutex<BufReader<UnixStream>>>;

fn lock(told: &Told) -> MutexGuard<'_, BufReader<UnixStream>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks whoever gave us the work for user and password of a registry.
fn ask(told: &Told, registry: &str) -> Option<(String, String)> {
    let mut told = lock(told);
    let question: Outcome = Ok(serde_json::json!(BuildNews::Login(registry.to_owned())));
    write_line(told.get_mut(), &question).ok()?;
    let mut line = Vec::new();
    (&mut *told).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()?
}

/// A worker's life.
fn work(engine: &Engine, descriptors: Vec<OwnedFd>) {
    let mut descriptors = descriptors.into_iter();
    let Some(told) = descriptors.next() else { return };
    let mut told = BufReader::new(UnixStream::from(told));
    let mut line = Vec::new();
    if (&mut told).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_err() {
        return;
    }
    let Ok(work) = serde_json::from_slice::<Work>(&line) else { return };
    let told = Arc::new(Mutex::new(told));
    let mut tell = |outcome: Outcome| write_line(lock(&told).get_mut(), &outcome).is_ok();
    let done = match work {
        Work::Build(job) => build(engine, *job, &told),
        Work::Pull(job) => pull(engine, &job, &told),
        work => perform(engine, work, descriptors.next(), &mut tell),
    };
    match done {
        // Whoever wanted to know may have gone.
        Ok(Some(value)) => drop(tell(Ok(value))),
        Ok(None) => {}
        Err(error) => drop(tell(Err(explain(&error)))),
    }
}

fn pull(engine: &Engine, job: &PullJob, told: &Told) -> Result<Option<serde_json::Value>> {
    let mut auth = registry::Auth::anonymous();
    if let Some((user, password)) = &job.login {
        let registry = job.reference.registry();
        auth = match user.as_str() {
            "" => auth.with_identity(registry, password),
            user => auth.with_password(registry, user, password),
        };
    }
    let engine = engine.clone().with_auth(auth);
    let pulled = engine.pull(&job.reference, job.platform.as_ref(), &|event| {
        let news: Outcome = Ok(serde_json::json!(PullNews::Event(event)));
        // If nobody wants it any more, whoever has forked us ends us.
        let _ = write_line(lock(told).get_mut(), &news);
    })?;
    Ok(Some(serde_json::json!(PullNews::Done { up_to_date: pulled.up_to_date })))
}

fn build(engine: &Engine, job: BuildJob, told: &Told) -> Result<Option<serde_json::Value>> {
    let asked = told.clone();
    let built = engine.do_build(job, move |registry| ask(&asked, registry), &mut |news| {
        let news: Outcome = Ok(serde_json::json!(news));
        if write_line(lock(told).get_mut(), &news).is_err() {
            // What the commands of the build are watched by ends them.
            runtime::exit_now(1);
        }
    })?;
    Ok(Some(serde_json::json!(BuildNews::Built(built))))
}

/// Does a piece of work; what is left to tell, if anything is.
fn perform(
    engine: &Engine,
    work: Work,
    data: Option<OwnedFd>,
    tell: &mut dyn FnMut(Outcome) -> bool,
) -> Result<Option<serde_json::Value>> {
    let nothing = || Some(serde_json::Value::Null);
    let no_data = || Error::new(Kind::Internal, "a descriptor is missing");
    match work {
        Work::Start { container } => engine.start(&engine.find(&container)?).map(|()| nothing()),
        Work::Restart { container, timeout_s, signal } => {
            let signal = signal.map(|number| stop::signal(&number.to_string())).transpose()?;
            engine.restart(&engine.find(&container)?, timeout_s, signal).map(|()| nothing())
        }
        Work::Exec { id } => {
            engine.hold_exec(&id, data, &mut || {
                tell(Ok(serde_json::Value::Null));
                runtime::trim_memory();
            })?;
            Ok(None)
        }
        Work::Stat { container, path } => {
            let stat = engine.files(&engine.find(&container)?)?.stat(&path)?;
            Ok(Some(serde_json::json!(StatLine::of(&stat))))
        }
        Work::Pack { container, path } => {
            let out = File::from(data.ok_or_else(no_data)?);
            let container = engine.find(&container)?;
            let files = engine.files(&container)?;
            tell(Ok(serde_json::json!(StatLine::of(&files.stat(&path)?))));
            files.archive(&path, None, io::BufWriter::new(out)).map(|_| nothing())
        }
        Work::Unpack { container, path, keeps_kinds, own_user } => {
            let mut archive = File::from(data.ok_or_else(no_data)?);
            let container = engine.find(&container)?;
            let files = engine.files(&container)?;
            let options = Extract { keeps_kinds, own_user };
            files.extract(&path, options, &mut archive).map(|()| nothing())
        }
        Work::Build(_) | Work::Pull(_) => Err(no_data()),
        Work::Commit { container, options } => {
            let image = engine.commit(&engine.find(&container)?, *options)?;
            Ok(Some(image.id.to_string().into()))
        }
    }
}
