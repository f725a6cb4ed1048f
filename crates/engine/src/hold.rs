//! Holding a container from its start until it has ended for good: what a monitor does.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use runtime::cgroup::Cgroup;
use runtime::{Launch, Process, SignalFd, Stdio};

use crate::container::{Container, State, StateLock, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock};
use crate::image::{from_cgroup, from_runtime};
use crate::monitor::attach;
use crate::monitor::health::{self, Checker, Health};
use crate::monitor::log::{self, Stream};
use crate::monitor::relay::{Client, Ending, Output, Own, Relay, Streams};
use crate::restart::{Backoff, End, RestartPolicy};
use crate::settings::Exec;
use crate::{Engine, clock, exec, network, spec, start, stop, terminal};

/// What outlives the runs of a container, if it is started again and again.
struct Monitor {
    /// Locked as long as a run lasts; then it holds its exit code.
    lock: File,
    log: Option<log::Writer>,
    listener: Option<OwnedFd>,
    /// Our own streams and signals: of the first run only.
    own: Option<Own>,
    signals: Option<SignalFd>,
    /// Who is attached, until the run ends.
    clients: Vec<Client>,
    backoff: Backoff,
}

/// One run of a container.
struct Run {
    cgroup: Cgroup,
    process: Process,
    streams: Streams,
    /// What keeps the host's ports from everybody else.
    #[expect(dead_code, reason = "the ports are held as long as the descriptors are open")]
    ports: Vec<OwnedFd>,
    /// Where the container asks for names.
    names: Option<net::dns::Listeners>,
    started: Instant,
}

/// How a run has ended.
struct Ended {
    end: End,
    health: Option<Health>,
    /// Why it could not be watched to its end.
    failure: Option<Error>,
}

impl Engine {
    /// Starts the container and holds it until it has ended and is not started again; returns the
    /// exit code of the last run. `started` is called once it runs.
    pub(crate) fn hold(
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
        let mut monitor = Monitor::new(&container)?;
        (monitor.own, monitor.signals) = (own, signals);
        monitor.clients.extend(client);
        let mut run = self.launch(&mut container, &lock, 0)?;
        drop(lock);
        started();
        loop {
            let ended = self.watch(&container, &mut monitor, &mut run);
            let code = ended.end.code;
            let again = self.end_run(&mut container, &run, &mut monitor, &ended);
            // Only now: whoever hears of the end finds it written down.
            monitor.clients.drain(..).for_each(|client| client.farewell(code));
            let again = again?;
            if let Some(failure) = ended.failure {
                return Err(failure);
            }
            let Some(delay) = again else { return Ok(code) };
            drop(run);
            wait_to_restart(&container, &monitor, delay)?;
            let lock = container.lock()?;
            if container.state.status != Status::Restarting || container.state.stop_requested {
                return self.end_for_good(&mut container, &lock, &monitor, code);
            }
            run = match self.launch(&mut container, &lock, monitor.backoff.restarts) {
                Ok(run) => run,
                Err(error) => {
                    monitor.leave(start::exit_code(error.kind()))?;
                    return Err(error);
                }
            };
        }
    }

    /// Makes everything a container needs and executes its command; undoes all of it on failure.
    fn launch(&self, container: &mut Container, _lock: &StateLock, restarts: u32) -> Result<Run> {
        match self.execute(container) {
            Ok(run) => {
                container.state.restarts = restarts;
                container.save().inspect_err(|_| {
                    // What nobody would know of must not run.
                    let _ = run.process.signal(Signal::KILL.as_raw());
                    let _ = run.process.wait();
                    self.bury(&mut container.clone());
                })?;
                Ok(run)
            }
            Err(error) => {
                self.bury(container);
                container.state = State {
                    // As Docker: what was never started stays created.
                    status: if restarts > 0 { Status::Exited } else { Status::Created },
                    exit_code: start::exit_code(error.kind()),
                    error: error.to_string(),
                    restarts,
                    ..container.state.anew()
                };
                container.save()?;
                Err(error)
            }
        }
    }

    fn execute(&self, container: &mut Container) -> Result<Run> {
        let joined = self.joined_network(container)?;
        self.take_places(container)?;
        let places = container.state.places.clone();
        let reserved = self.reserve_ports(container, network::way_out(&places))?;
        let links = self.linked(container)?;
        network::write_files(container, &places, &links)?;
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
            images: Some(&self.containers.images()),
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
        let mut names = None;
        let mut created = runtime::create(&launch, &mut |namespaces| {
            names = self.attach_network(network, namespaces, &places, &reserved.ports)?;
            Ok(())
        })
        .map_err(from_runtime)?;
        drop(lease);
        let pid = created.pid();
        if let Some(master) = created.take_master() {
            streams = terminal_streams(master)?;
        }
        let process = created.start().map_err(from_runtime)?;
        let monitor_pid = rustix::process::getpid().as_raw_nonzero().get();
        container.state = State {
            status: Status::Running,
            pid,
            pid_start: runtime::start_time(pid).unwrap_or(0),
            monitor_pid,
            monitor_start: runtime::start_time(monitor_pid).unwrap_or(0),
            started_at: clock::now(),
            places,
            ports: reserved.ports,
            ..container.state.anew()
        };
        let ports = reserved.sockets;
        Ok(Run { cgroup, process, streams, ports, names, started: Instant::now() })
    }

    /// Passes on what a container writes and reads, and checks its health, until it has ended.
    fn watch(&self, container: &Container, monitor: &mut Monitor, run: &mut Run) -> Ended {
        let mut relay = Relay::new(&run.process, std::mem::take(&mut run.streams));
        (relay.log, relay.listener) = (monitor.log.take(), monitor.listener.take());
        (relay.own, relay.signals) = (monitor.own.take(), monitor.signals.take());
        relay.clients.append(&mut monitor.clients);
        relay.health = checker(container, &run.process);
        relay.names = run.names.take().map(|names| self.resolver(container, names));
        let settings = &container.record.settings;
        if matches!(settings.restart, RestartPolicy::OnUnhealthy { .. }) {
            let signal = stop::stop_signal(container).as_raw();
            relay.replace = Some(Ending::new(signal, stop::timeout(container, None)));
        }
        let status = relay.run().map(|status| {
            status.expect("who watches a container's monitor detaches from a client of it")
        });
        let code = status.as_ref().map_or(255, |status| status.code());
        let unhealthy = relay.replace.is_some_and(|ending| ending.asked);
        let health = relay.health.take().map(|checker| checker.health().clone());
        (monitor.log, monitor.listener) = (relay.log.take(), relay.listener.take());
        monitor.clients.append(&mut relay.clients);
        let failure = status.doing(|| "watch the container".into()).err();
        Ended { end: End { code, unhealthy, ran: run.started.elapsed() }, health, failure }
    }

    /// Records how a run has ended, removes what lived in the kernel, and lets go of the monitor's
    /// lock; how long to wait before the next run, if there is one.
    fn end_run(
        &self,
        container: &mut Container,
        run: &Run,
        monitor: &mut Monitor,
        ended: &Ended,
    ) -> Result<Option<Duration>> {
        let end = ended.end;
        let lock = container.lock();
        let oom_killed = run.cgroup.oom_kills() > 0;
        let wanted = lock.is_ok() && !container.state.stop_requested && ended.failure.is_none();
        let policy = if wanted { container.record.settings.restart } else { RestartPolicy::No };
        let again = monitor.backoff.next(policy, end);
        match again {
            Some(_) => self.bury_run(container),
            None => self.bury(container),
        }
        let removed = container.record.settings.auto_remove && !container.state.keep;
        container.state = State {
            status: if again.is_some() { Status::Restarting } else { Status::Exited },
            exit_code: end.code,
            oom_killed,
            finished_at: clock::now(),
            started_at: container.state.started_at.clone(),
            stop_requested: container.state.stop_requested,
            restarts: container.state.restarts,
            health: ended.health.clone(),
            monitor_pid: again.map_or(0, |_| container.state.monitor_pid),
            monitor_start: container.state.monitor_start,
            ..container.state.anew()
        };
        let save = || lock.as_ref().map_or(Ok(()), |_| container.save());
        let saved = match removed {
            // What is removed needs no last state; only a container that stays does.
            true => self.erase(container, true).inspect_err(|_| drop(save())),
            false => save(),
        };
        match again {
            Some(_) => monitor.hand_over(container, end.code)?,
            None => monitor.leave(end.code)?,
        }
        saved.map(|()| again)
    }

    /// Ends a container that was waiting to be started again.
    fn end_for_good(
        &self,
        container: &mut Container,
        _lock: &StateLock,
        monitor: &Monitor,
        code: i32,
    ) -> Result<i32> {
        if container.state.status == Status::Restarting {
            container.state.status = Status::Exited;
            container.state.monitor_pid = 0;
            container.save()?;
        }
        self.bury(container);
        monitor.leave(code).map(|()| code)
    }
}

/// What checks a container's health, if anything does.
fn checker<'a>(container: &'a Container, init: &'a Process) -> Option<Checker<'a>> {
    let check = container.record.config.healthcheck.as_ref()?;
    let shell = &container.record.config.shell;
    let exec = Exec { command: health::command(check, shell)?, ..Exec::default() };
    let probe = move || {
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        if cgroup.is_frozen().map_err(from_cgroup)? {
            return Ok(None);
        }
        let (output, stdout) = pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
        let stderr = stdout.try_clone().doing(|| "copy a pipe".into())?;
        let stdio = Stdio::Fds { stdin: None, stdout: Some(stdout), stderr: Some(stderr) };
        exec::enter(container, init.pidfd(), &exec, stdio).map(|process| Some((process, output)))
    };
    Some(Checker::new(check, &container.run_dir, Box::new(probe)))
}

/// Waits until the container is to be started again, or somebody wants it to stop, who connects to
/// the monitor's socket after having written that down.
fn wait_to_restart(container: &Container, monitor: &Monitor, delay: Duration) -> Result<()> {
    let Some(listener) = &monitor.listener else { return Ok(()) };
    let deadline = Instant::now() + delay;
    let doing = || format!("wait to start container {} again", container.record.name);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        let mut set = [PollFd::new(listener, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut set, Some(&left))).doing(doing)?;
        if ready == 0 {
            return Ok(());
        }
        // Whoever it is learns that there is nothing to attach to.
        drop(attach::accept(listener));
        if container.stop_is_requested() {
            return Ok(());
        }
    }
}

fn startable(container: &Container) -> Result<()> {
    match container.state.status {
        Status::Created | Status::Exited => Ok(()),
        // It has ended, and a full disk did not let anybody write that down.
        Status::Running | Status::Paused | Status::Restarting if !container.has_monitor() => Ok(()),
        Status::Running | Status::Paused | Status::Restarting => Err(Error::new(
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
        let lock = locked(container, "monitor")?;
        let path = container.log_path();
        let log = log::Writer::open(&path).doing(|| format!("open the log {}", path.display()))?;
        let path = container.attach_path();
        let listener = attach::listener(&path).doing(|| format!("listen on {}", path.display()))?;
        Ok(Self {
            lock,
            log: Some(log),
            listener: Some(listener),
            own: None,
            signals: None,
            clients: Vec::new(),
            backoff: Backoff::default(),
        })
    }

    /// Leaves the exit code to whoever waits for it, when the monitor lets go of its lock.
    fn leave(&self, code: i32) -> Result<()> {
        let mut lock = &self.lock;
        let write = lock.rewind().and_then(|()| lock.write_all(code.to_string().as_bytes()));
        write.doing(|| "leave the exit code".into())
    }

    /// Leaves the exit code of one run, and goes on under another lock: those who wait for this
    /// run hear of its end now.
    fn hand_over(&mut self, container: &Container, code: i32) -> Result<()> {
        let next = locked(container, ".monitor")?;
        let path = container.run_dir.join(".monitor");
        std::fs::rename(&path, container.monitor_path())
            .doing(|| format!("replace {}", container.monitor_path().display()))?;
        self.leave(code)?;
        self.lock = next;
        Ok(())
    }
}

/// A file in the run directory, locked by us.
fn locked(container: &Container, name: &str) -> Result<File> {
    let path = container.run_dir.join(name);
    let lock = File::create(&path).doing(|| format!("create {}", path.display()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
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
