//! Starting a container, and holding it until it ends: the life of a monitor.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::FlockOperation;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use runtime::cgroup::Cgroup;
use runtime::{Launch, Process, SignalFd, Stdio};

use crate::attached::{Attachment, Outcome};
use crate::container::{Container, State, StateLock, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock};
use crate::image::{from_cgroup, from_runtime};
use crate::monitor::attach;
use crate::monitor::log::{self, Stream};
use crate::monitor::relay::{Client, Output, Own, Relay, Streams};
use crate::{Engine, clock, network, spec, terminal};

/// How the monitor reports to whoever forked it: nothing for success, else the failure.
#[derive(Serialize, Deserialize)]
struct Failure {
    command_not_found: bool,
    command_not_executable: bool,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// Everything a monitor holds while its container lives.
struct Held {
    container: Container,
    cgroup: Cgroup,
    process: Process,
    monitor: Monitor,
}

/// What a monitor needs before its container exists.
struct Monitor {
    /// Locked as long as the monitor lives.
    lock: File,
    log: log::Writer,
    listener: OwnedFd,
}

impl Engine {
    /// Starts a container, and returns when its command runs; a monitor of its own holds it.
    ///
    /// # Errors
    /// [`Kind::CommandNotFound`], [`Kind::CommandNotExecutable`], and whatever the kernel refuses;
    /// the container stays created, and nothing of it is left running.
    pub fn start(&self, container: &Container) -> Result<()> {
        self.fork_monitor(container, None)
    }

    /// Starts a container and stays attached to it: this process is its monitor, unless it has a
    /// terminal, from which the user may detach.
    ///
    /// # Errors
    /// As of [`Engine::start`].
    pub fn start_attached(&self, container: &Container, own: Own, keys: &[u8]) -> Result<Outcome> {
        if !container.record.settings.tty {
            return self.hold(container.clone(), Some(own), None, &mut || {}).map(Outcome::Exited);
        }
        let (client, served) = attach::pair().doing(|| "attach to the monitor".into())?;
        let attachment = Attachment::new(client, own.stdin, keys);
        attachment.announce_size();
        self.fork_monitor(container, Some(served))?;
        attachment.run()
    }

    /// Forks the process that will hold the container, and waits until it is started.
    fn fork_monitor(&self, container: &Container, client: Option<OwnedFd>) -> Result<()> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
        match runtime::fork().doing(|| "fork the monitor".into())? {
            runtime::Fork::Parent(child) => {
                drop((writer, client));
                let mut report = Vec::new();
                let read = File::from(reader).read_to_end(&mut report);
                read.doing(|| "hear from the monitor".into())?;
                let outcome = understand(&report);
                if outcome.is_err() {
                    // A monitor that failed ends at once; it leaves no zombie behind.
                    let _ = child.wait();
                }
                outcome
            }
            runtime::Fork::Child => {
                drop(reader);
                self.be_monitor(container.clone(), client, File::from(writer))
            }
        }
    }

    /// The forked process: becomes a session of its own, holds the container, and ends with it.
    fn be_monitor(&self, container: Container, client: Option<OwnedFd>, report: File) -> ! {
        let mut report = Some(report);
        let held = match runtime::detach_from_session() {
            Ok(()) => self.hold(container, None, client.map(Client::new), &mut || {
                if let Some(mut report) = report.take() {
                    // Whoever started us may be gone; the container lives all the same.
                    let _ = report.write_all(b"ok");
                }
                runtime::trim_memory();
            }),
            Err(error) => Err(Error::caused(Kind::Internal, "leave the session", error)),
        };
        if let (Err(error), Some(mut report)) = (&held, report.take()) {
            let _ = report.write_all(&explain(error));
        }
        runtime::exit_now(i32::from(held.is_err()))
    }

    /// Starts the container and holds it until it ends; returns its exit code.
    fn hold(
        &self,
        mut container: Container,
        own: Option<Own>,
        client: Option<Client>,
        started: &mut dyn FnMut(),
    ) -> Result<i32> {
        let lock = container.lock()?;
        startable(&container)?;
        let signals = own.map(|_| SignalFd::forwarded()).transpose();
        let signals = signals.doing(|| "take over signals".into())?;
        let (held, streams) = self.launch(container, lock)?;
        started();
        let mut relay = Relay::new(&held.process, streams);
        let Monitor { lock, log, listener } = held.monitor;
        (relay.log, relay.listener) = (Some(log), Some(listener));
        (relay.own, relay.signals) = (own, signals);
        relay.clients.extend(client);
        let status = relay.run().map(|status| {
            status.expect("who watches a container's monitor detaches from a client of it")
        });
        let code = status.as_ref().map_or(255, |status| status.code());
        let ended = self.finish(held.container, &held.cgroup, &lock, code);
        relay.farewell(code);
        ended?;
        status.doing(|| "watch the container".into())?;
        Ok(code)
    }

    /// Makes everything a container needs and executes its command; undoes all of it on failure.
    fn launch(&self, mut container: Container, lock: StateLock) -> Result<(Held, Streams)> {
        let monitor = Monitor::new(&container)?;
        match self.execute(&mut container) {
            Ok((cgroup, process, streams)) => {
                container.save().inspect_err(|_| {
                    // What nobody would know of must not run.
                    let _ = process.signal(Signal::KILL.as_raw());
                    let _ = process.wait();
                    self.bury(&mut container.clone());
                })?;
                drop(lock);
                Ok((Held { container, cgroup, process, monitor }, streams))
            }
            Err(error) => {
                self.bury(&mut container);
                container.state = State {
                    exit_code: exit_code(error.kind()),
                    error: error.to_string(),
                    ..State::default()
                };
                container.save()?;
                Err(error)
            }
        }
    }

    fn execute(&self, container: &mut Container) -> Result<(Cgroup, Process, Streams)> {
        let joined = self.joined_network(container)?;
        let endpoint = self.endpoint(container)?;
        container.state.address.clone_from(&endpoint);
        network::write_files(container, endpoint.as_ref())?;
        let joined = joined.as_ref().map(|(_, path)| path);
        let plan = spec::plan(container, &self.volumes(), joined)?;
        let resources = plan.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let cgroup = Cgroup::create(&container.cgroup_path(), resources).map_err(from_cgroup)?;
        let record = &container.record;
        let settings = &record.settings;
        // Until its mounts hold the layers, nobody may convert them.
        let lease = self.store.lease()?;
        let rootfs = self.store.rootfs(&record.layers, &container.dir, settings.auto_remove)?;
        let (stdio, mut streams) = stdio(settings.tty, settings.open_stdin)?;
        let state = spec::state(container, None);
        let launch = Launch {
            map_rootfs: true,
            cgroup: Some(&cgroup),
            // An empty user is root, with the groups that the image gives root.
            user: Some(&record.config.user),
            group_add: &settings.group_add,
            init: settings.init,
            copy_up: &plan.copy_up,
            state: Some(&state),
            ..Launch::new(&plan.spec, &rootfs, stdio)
        };
        let network = &settings.network;
        let mut created = runtime::create(&launch, &mut |namespaces| {
            self.attach_network(network, namespaces, endpoint.as_ref()).map_err(Into::into)
        })
        .map_err(from_runtime)?;
        drop(lease);
        let pid = created.pid();
        if let Some(master) = created.take_master() {
            streams = terminal_streams(master)?;
        }
        let process = created.start().map_err(from_runtime)?;
        container.state = State {
            status: Status::Running,
            pid,
            pid_start: runtime::start_time(pid).unwrap_or(0),
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            started_at: clock::now(),
            address: endpoint,
            ..State::default()
        };
        Ok((cgroup, process, streams))
    }

    /// Records the exit, and removes what lived in the kernel; then lets go of the monitor's lock.
    fn finish(
        &self,
        mut container: Container,
        cgroup: &Cgroup,
        mut monitor: &File,
        code: i32,
    ) -> Result<()> {
        let lock = container.lock();
        let oom_killed = cgroup.oom_kills() > 0;
        self.bury(&mut container);
        container.state = State {
            status: Status::Exited,
            exit_code: code,
            oom_killed,
            finished_at: clock::now(),
            started_at: container.state.started_at.clone(),
            ..State::default()
        };
        let save = || lock.as_ref().map_or(Ok(()), |_| container.save());
        let saved = match container.record.settings.auto_remove {
            // What is removed needs no last state; only a container that stays does.
            true => self.erase(&container, true).inspect_err(|_| drop(save())),
            false => save(),
        };
        let write = monitor.rewind().and_then(|()| monitor.write_all(code.to_string().as_bytes()));
        write.doing(|| "leave the exit code".into())?;
        saved
    }
}

/// Executes this program again, with its arguments, from a view of its file that a container
/// cannot write or change the mode through (CVE-2019-5736). To be called before [`Engine::start`],
/// [`Engine::start_attached`] and [`Engine::exec`]; nothing that cannot be done twice may have
/// happened yet.
///
/// Every container can reach that file: a program that is `/proc/self/exe`, or a script that names
/// it as its interpreter, executes what its process executed before.
///
/// # Errors
/// If the kernel refuses.
pub fn seal() -> Result<()> {
    match runtime::seal_executable() {
        // Without privilege the program's file is not ours to protect from ourselves.
        Err(_) if !rustix::process::geteuid().is_root() => Ok(()),
        outcome => outcome.map_err(from_runtime),
    }
}

fn startable(container: &Container) -> Result<()> {
    match container.state.status {
        Status::Created | Status::Exited => Ok(()),
        // It has ended, and a full disk did not let anybody write that down.
        Status::Running | Status::Paused if !container.has_monitor() => Ok(()),
        Status::Running | Status::Paused => Err(Error::new(
            Kind::Conflict,
            format!("container {} is already running", container.record.name),
        )),
        Status::Removing => Err(Error::new(
            Kind::Conflict,
            format!("container {} is being removed", container.record.name),
        )),
    }
}

impl Monitor {
    fn new(container: &Container) -> Result<Self> {
        // What a monitor that was killed left behind.
        let _ = std::fs::remove_dir_all(&container.run_dir);
        create_dir(&container.run_dir)?;
        let path = container.monitor_path();
        let lock = File::create(&path).doing(|| format!("create {}", path.display()))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let path = container.log_path();
        let log = log::Writer::open(&path).doing(|| format!("open the log {}", path.display()))?;
        let path = container.attach_path();
        let listener = attach::listener(&path).doing(|| format!("listen on {}", path.display()))?;
        Ok(Self { lock, log, listener })
    }
}

/// The container's ends of its streams, and ours.
pub(crate) fn stdio(tty: bool, open_stdin: bool) -> Result<(Stdio, Streams)> {
    if tty {
        let (rows, columns) = terminal::size().unwrap_or((24, 80));
        return Ok((
            Stdio::Terminal { rows, cols: columns, plain_newlines: false },
            Streams::default(),
        ));
    }
    let make = || pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into());
    let (out_reader, stdout) = make()?;
    let (error_reader, stderr) = make()?;
    let mut streams = Streams {
        outputs: vec![
            Output { fd: Some(out_reader), stream: Stream::Stdout },
            Output { fd: Some(error_reader), stream: Stream::Stderr },
        ],
        ..Streams::default()
    };
    let mut stdin = None;
    if open_stdin {
        let (reader, writer) = make()?;
        nonblocking(&writer)?;
        (stdin, streams.input) = (Some(reader), Some(writer));
    }
    Ok((Stdio::Fds { stdin, stdout: Some(stdout), stderr: Some(stderr) }, streams))
}

pub(crate) fn terminal_streams(master: OwnedFd) -> Result<Streams> {
    let copy = || rustix::io::fcntl_dupfd_cloexec(&master, 3).doing(|| "copy the terminal".into());
    let (input, terminal) = (copy()?, copy()?);
    nonblocking(&input)?;
    let outputs = vec![Output { fd: Some(master), stream: Stream::Stdout }];
    Ok(Streams { input: Some(input), outputs, terminal: Some(terminal) })
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).doing(|| "read a stream's flags".into())?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)
        .doing(|| "set a stream's flags".into())
}

/// The exit code of a command that could not be started.
#[must_use]
pub(crate) fn exit_code(kind: Kind) -> i32 {
    match kind {
        Kind::CommandNotFound => 127,
        Kind::CommandNotExecutable => 126,
        _ => 128,
    }
}

fn explain(error: &Error) -> Vec<u8> {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let failure = Failure {
        command_not_found: error.kind() == Kind::CommandNotFound,
        command_not_executable: error.kind() == Kind::CommandNotExecutable,
        message: error.to_string(),
        causes,
        hint: error.hint_text().map(str::to_owned),
    };
    serde_json::to_vec(&failure).unwrap_or_default()
}

fn understand(report: &[u8]) -> Result<()> {
    if report == b"ok" {
        return Ok(());
    }
    let failure: Failure = serde_json::from_slice(report)
        .map_err(|_| Error::new(Kind::Internal, "the container's monitor ended unexpectedly"))?;
    let kind = match (failure.command_not_found, failure.command_not_executable) {
        (true, _) => Kind::CommandNotFound,
        (_, true) => Kind::CommandNotExecutable,
        _ => Kind::Internal,
    };
    let error = match failure.causes.join(": ") {
        causes if causes.is_empty() => Error::new(kind, failure.message),
        causes => Error::caused(kind, failure.message, causes),
    };
    Err(match failure.hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}
