//! Holding a container from its start until it has ended for good: what a monitor does.

use std::fs::File;
use std::io;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use oci::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use runtime::cgroup::Cgroup;
use runtime::{Launch, Process, SignalFd, Stdio};

use crate::container::{Container, State, StateLock, Status, boot};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::file::{create_dir, flock};
use crate::image::{from_cgroup, from_runtime};
use crate::memory::MemoryEnd;
use crate::monitor::attach;
use crate::monitor::forward::Forwarder;
use crate::monitor::health::{self, Checker, Health, HealthStatus};
use crate::monitor::honest::Honest;
use crate::monitor::log::plan::Plan;
use crate::monitor::log::{self, Stream};
use crate::monitor::relay::{Client, Ending, Output, Relay, Streams};
use crate::restart::{Backoff, End, RestartPolicy};
use crate::settings::{Attached, Exec};
use crate::{Engine, clock, exec, network, spec, start, stop, terminal};

/// What outlives the runs of a container, if it is started again and again.
pub(crate) struct Monitor {
    /// Locked as long as a run lasts; then it holds its exit code.
    lock: File,
    log: Option<log::Writer>,
    pub(crate) listener: Option<OwnedFd>,
    /// Whether it goes on when nobody reads what the container writes, so that another monitor may
    /// take its place.
    pub(crate) lasts: bool,
    /// What was found of the health of a container that was taken over.
    pub(crate) health: Option<Health>,
    /// Our own streams and signals: of the first run only.
    own: Option<Attached>,
    signals: Option<SignalFd>,
    /// Who is attached, until the run ends.
    clients: Vec<Client>,
    pub(crate) backoff: Backoff,
}

/// One run of a container.
pub(crate) struct Run {
    pub(crate) cgroup: Cgroup,
    pub(crate) process: Process,
    pub(crate) streams: Streams,
    /// What keeps the host's ports from everybody else.
    #[expect(dead_code, reason = "the ports are held as long as the descriptors are open")]
    pub(crate) ports: Vec<OwnedFd>,
    /// Where the container asks for names.
    pub(crate) names: Option<net::dns::Listeners>,
    /// Passes on what comes to its ports by `::1`.
    pub(crate) forward: Option<Forwarder>,
    /// Tells it its limits.
    pub(crate) honest: Option<Honest>,
    pub(crate) started: Instant,
    /// Whether another process has started it.
    pub(crate) adopted: bool,
}

/// How a run has ended.
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) health: Option<Health>,
    /// Whether the kernel killed one of its processes for want of memory.
    pub(crate) memory: MemoryEnd,
    /// What is not known about it.
    pub(crate) note: &'static str,
    /// Why it could not be watched to its end.
    pub(crate) failure: Option<Error>,
}

/// The exit code of a container of which nobody knows how it has ended; Docker's.
pub(crate) const UNKNOWN_CODE: i32 = 255;
/// Why.
pub(crate) const UNKNOWN_END: &str = "its monitor was killed, so how it has ended is not known";

impl Engine {
    /// Starts the container and holds it until it has ended and is not started again; returns the
    /// exit code of the last run. `started` is called once it runs.
    pub(crate) fn hold(
        &self,
        mut container: Container,
        own: Option<Attached>,
        client: Option<Client>,
        started: &mut dyn FnMut(),
    ) -> Result<i32> {
        if container.record.settings.pod.is_some() {
            return self.hold_pod(container, started);
        }
        let lock = container.lock()?;
        startable(&container)?;
        let signals = own.map(|_| SignalFd::forwarded()).transpose();
        let signals = signals.doing(|| "take over signals".into())?;
        let mut monitor = Monitor::new(&container)?;
        (monitor.own, monitor.signals) = (own, signals);
        monitor.clients.extend(client);
        monitor.clients.extend(self.containers.call_waiting(&container.record.id));
        monitor.lasts = own.is_none();
        let run = self.launch(&mut container, &lock, &monitor)?;
        drop(lock);
        started();
        self.go_on(container, monitor, run)
    }

    /// Holds a container that runs until it has ended and is not started again.
    pub(crate) fn go_on(
        &self,
        mut container: Container,
        mut monitor: Monitor,
        mut run: Run,
    ) -> Result<i32> {
        loop {
            let ended = self.watch(&container, &mut monitor, &mut run);
            let code = ended.end.code;
            let again = self.end_run(&mut container, &mut monitor, &ended, Some(run));
            // Only now: whoever hears of the end finds it written down.
            monitor.clients.drain(..).for_each(|client| client.farewell(code));
            let again = again?;
            if let Some(failure) = ended.failure {
                return Err(failure);
            }
            let Some(delay) = again else { return Ok(code) };
            match self.start_again(&mut container, &mut monitor, delay, code)? {
                Some(next) => run = next,
                None => return Ok(code),
            }
        }
    }

    /// Waits as long as the policy says, and starts a container again that has ended with `code`;
    /// `None` if somebody wants it to stay as it is.
    pub(crate) fn start_again(
        &self,
        container: &mut Container,
        monitor: &mut Monitor,
        delay: Duration,
        code: i32,
    ) -> Result<Option<Run>> {
        wait_to_restart(container, monitor, delay)?;
        let lock = container.lock()?;
        if container.state.status != Status::Restarting || container.state.stop_requested {
            return self.end_for_good(container, &lock, monitor, code).map(|_| None);
        }
        if monitor.log.is_none() {
            monitor.log = open_log(container)?;
        }
        monitor.clients.extend(self.containers.call_waiting(&container.record.id));
        match self.launch(container, &lock, monitor) {
            Ok(run) => Ok(Some(run)),
            Err(error) => {
                monitor.leave(start::exit_code(error.kind()))?;
                Err(error)
            }
        }
    }

    /// Makes everything a container needs and executes its command; undoes all of it on failure.
    fn launch(
        &self,
        container: &mut Container,
        _lock: &StateLock,
        monitor: &Monitor,
    ) -> Result<Run> {
        let restarts = monitor.backoff.restarts;
        match self.execute(container, monitor) {
            Ok(run) => {
                self.emit_start(container);
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

    fn execute(&self, container: &mut Container, monitor: &Monitor) -> Result<Run> {
        let mut taken = self.join(container)?;
        let honest = Honest::of(container, &mut taken.mounts)?;
        self.take_places(container)?;
        let places = container.state.places.clone();
        let mut reserved = self.reserve_ports(container, network::published_at(&places))?;
        let forward = reserved.forwarder()?;
        let links = self.linked(container)?;
        if container.record.settings.in_pod.is_empty() {
            network::write_files(container, &places, &links)?;
        }
        let plan = spec::plan(container, &self.volumes(), &taken.joined)?;
        let resources = plan.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let cgroup = own_cgroup(container, resources)?;
        let record = &container.record;
        let settings = &record.settings;
        // Until its mounts hold the layers, nobody may convert them.
        let lease = self.store.lease()?;
        let rootfs = self.store.rootfs(record.chain(), &container.dir, settings.auto_remove)?;
        let (stdio, mut streams) = stdio(settings.tty, settings.open_stdin, monitor.lasts)?;
        let state = spec::state(container, None);
        let parts = self.parts(&plan, &container.dir)?;
        let launch = Launch {
            map_rootfs: true,
            made: &taken.mounts,
            images: Some(&self.containers.images()),
            cgroup: Some(&cgroup),
            // An empty user is root, with the groups that the image gives root.
            user: Some(&record.config.user),
            group_add: &settings.group_add,
            init: settings.init,
            copy_up: &plan.copy_up,
            parts: &parts,
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
        let monitor_pid = rustix::process::getpid().as_raw_nonzero().get();
        container.state = State {
            status: Status::Running,
            pid,
            pid_start: runtime::start_time(pid).unwrap_or(0),
            monitor_pid,
            monitor_start: runtime::start_time(monitor_pid).unwrap_or(0),
            boot: boot(),
            pipes: streams.pipes(),
            started_at: clock::now(),
            places,
            ports: reserved.ports,
            restarts: monitor.backoff.restarts,
            ..container.state.anew()
        };
        // Before its program starts: what nobody would know of must not run. Without us, it does
        // not get that far.
        container.save()?;
        let process = created.start().map_err(from_runtime)?;
        let ports = reserved.sockets;
        let started = Instant::now();
        let adopted = false;
        Ok(Run { cgroup, process, streams, ports, names, forward, honest, started, adopted })
    }

    /// Passes on what a container writes and reads, and checks its health, until it has ended.
    fn watch(&self, container: &Container, monitor: &mut Monitor, run: &mut Run) -> Ended {
        let mut relay = Relay::new(&run.process, std::mem::take(&mut run.streams));
        (relay.log, relay.listener) = (monitor.log.take(), monitor.listener.take());
        (relay.own, relay.signals) = (monitor.own.take(), monitor.signals.take());
        relay.clients.append(&mut monitor.clients);
        let health = monitor.health.take().unwrap_or_default();
        relay.health = self.checker(container, &run.process, health);
        relay.honest = run.honest.take();
        relay.names = run.names.take().map(|names| self.resolver(container, names));
        relay.forward = run.forward.take();
        let settings = &container.record.settings;
        relay.input_once = settings.attached.stdin;
        if matches!(settings.restart, RestartPolicy::OnUnhealthy { .. }) {
            let signal = stop::stop_signal(container).as_raw();
            relay.replace = Some(Ending::new(signal, stop::timeout(container, None)));
        }
        let status = relay.run().map(|status| {
            status.expect("who watches a container's monitor detaches from a client of it")
        });
        // Of an adopted process, others may know more than we.
        let unknown = run.adopted && status.as_ref().is_err_and(is_no_child);
        let (id, removed) = (&container.record.id, settings.auto_remove);
        let memory = MemoryEnd::of(&run.cgroup, id, run.started.elapsed(), !removed);
        let code = match &status {
            Ok(status) => status.code(),
            Err(_) if unknown && memory.oom_kills > 0 => 128 + Signal::KILL.as_raw(),
            Err(_) => UNKNOWN_CODE,
        };
        let unhealthy = relay.replace.is_some_and(|ending| ending.asked);
        let health = relay.health.take().map(|checker| checker.health().clone());
        let log = relay.log.take().filter(|log| !log.has_ended());
        (monitor.log, monitor.listener) = (log, relay.listener.take());
        monitor.clients.append(&mut relay.clients);
        let note = if unknown { UNKNOWN_END } else { "" };
        let failure = status.doing(|| "watch the container".into()).err().filter(|_| !unknown);
        let end = End { code, unhealthy, ran: run.started.elapsed() };
        Ended { end, health, memory, note, failure }
    }

    /// What checks a container's health, if anything does.
    fn checker<'a>(
        &'a self,
        container: &'a Container,
        init: &'a Process,
        health: Health,
    ) -> Option<Checker<'a>> {
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
            exec::enter(container, init.pidfd(), &exec, stdio)
                .map(|process| Some((process, output)))
        };
        let changed = |status: HealthStatus| {
            self.emit(Event::container(format!("health_status: {}", status.word()), container));
        };
        Some(Checker::new(check, (&container.run_dir, health), Box::new(probe), Box::new(changed)))
    }

    /// Records how a run has ended, removes what lived in the kernel, and lets go of the monitor's
    /// lock; how long to wait before the next run, if there is one.
    pub(crate) fn end_run(
        &self,
        container: &mut Container,
        monitor: &mut Monitor,
        ended: &Ended,
        run: Option<Run>,
    ) -> Result<Option<Duration>> {
        let end = ended.end;
        let lock = container.lock();
        let wanted = lock.is_ok() && !container.state.stop_requested && ended.failure.is_none();
        let policy = if wanted { container.record.settings.restart } else { RestartPolicy::No };
        let again = monitor.backoff.next(policy, end);
        match again {
            Some(_) => self.bury_run(container),
            None => self.bury(container),
        }
        // Its ports and its image are free before anybody hears of the end.
        drop(run);
        let removed = container.record.settings.auto_remove && !container.state.keep;
        let places = std::mem::take(&mut container.state.places);
        container.state = State {
            status: if again.is_some() { Status::Restarting } else { Status::Exited },
            exit_code: end.code,
            error: ended.note.to_owned(),
            oom_killed: ended.memory.oom_kills > 0,
            memory: ended.memory.clone(),
            boot: container.state.boot.clone(),
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
            true => {
                self.emit_end(container, &places);
                self.erase(container, true).inspect_err(|_| drop(save()))
            }
            false => {
                let saved = save();
                self.emit_end(container, &places);
                saved
            }
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

/// The container's own group. What is in it is of a monitor that was killed before it had written
/// down what it had begun: nobody will hear of it, and it is on its way out.
pub(crate) fn own_cgroup(
    container: &Container,
    resources: Option<&LinuxResources>,
) -> Result<Cgroup> {
    let path = &container.cgroup_path();
    let create = || container.make_cgroup(resources);
    let created = create().or_else(|error| {
        let left = Cgroup::open(path)?;
        if left.pids()?.is_empty() {
            return Err(error);
        }
        left.kill()?;
        left.delete()?;
        create()
    });
    created.map_err(from_cgroup)
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

pub(crate) fn startable(container: &Container) -> Result<()> {
    match container.state.status {
        Status::Created | Status::Exited => Ok(()),
        // It has ended, and a full disk did not let anybody write that down.
        Status::Running | Status::Paused | Status::Restarting
            if !container.has_monitor() && !container.process_lives() =>
        {
            Ok(())
        }
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
    pub(crate) fn new(container: &Container) -> Result<Self> {
        // What a monitor that was killed left behind.
        let _ = std::fs::remove_dir_all(&container.run_dir);
        create_dir(&container.run_dir)?;
        let lock = locked(container)?;
        let log = open_log(container)?;
        let path = container.attach_path();
        let listener = attach::listener(&path).doing(|| format!("listen on {}", path.display()))?;
        Ok(Self {
            lock,
            log,
            listener: Some(listener),
            lasts: true,
            health: None,
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
        let next = locked(container)?;
        self.leave(code)?;
        self.lock = next;
        Ok(())
    }
}

/// Where the container's lines go, if anywhere.
fn open_log(container: &Container) -> Result<Option<log::Writer>> {
    let record = &container.record;
    let plan = Plan::of(record)?;
    if plan.files.is_none() && plan.remote.is_none() {
        return Ok(None);
    }
    let doing = || match &plan.remote {
        None => format!("open the log {}", container.log_path().display()),
        Some(_) => format!("failed to initialize logging driver {}", record.settings.log.driver()),
    };
    log::Writer::open(&plan, &container.log_path(), record).doing(doing).map(Some)
}

/// A new file that says who is the monitor, locked by us before anybody sees it.
fn locked(container: &Container) -> Result<File> {
    let (path, fresh) = (container.monitor_path(), container.run_dir.join(".monitor"));
    let lock = File::create(&fresh).doing(|| format!("create {}", fresh.display()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    std::fs::rename(&fresh, &path).doing(|| format!("replace {}", path.display()))?;
    Ok(lock)
}

/// The container's ends of its streams, and ours.
///
/// The container's ends of pipes can be read there, too, if they are to last: then somebody reads
/// them as long as the container has them, and a program that writes when its monitor was killed
/// waits for the next one, instead of being killed by a signal (pipe(7)).
pub(crate) fn stdio(tty: bool, open_stdin: bool, lasts: bool) -> Result<(Stdio, Streams)> {
    if tty {
        let (rows, columns) = terminal::size().unwrap_or((24, 80));
        return Ok((
            Stdio::Terminal { rows, cols: columns, plain_newlines: false },
            Streams::default(),
        ));
    }
    let make = || pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into());
    let output = || -> Result<(OwnedFd, OwnedFd)> {
        let (reader, writer) = make()?;
        Ok((reader, if lasts { both_ways(&writer)? } else { writer }))
    };
    let (out_reader, stdout) = output()?;
    let (error_reader, stderr) = output()?;
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

/// A pipe's end that can be written to and read from (fifo(7)).
fn both_ways(end: &OwnedFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open a pipe".into())
}

fn is_no_child(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::CHILD.raw_os_error())
}

pub(crate) fn terminal_streams(master: OwnedFd) -> Result<Streams> {
    let copy = || rustix::io::fcntl_dupfd_cloexec(&master, 3).doing(|| "copy the terminal".into());
    let (input, terminal) = (copy()?, copy()?);
    nonblocking(&input)?;
    let outputs = vec![Output { fd: Some(master), stream: Stream::Stdout }];
    Ok(Streams { input: Some(input), outputs, terminal: Some(terminal) })
}

pub(crate) fn nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).doing(|| "read a stream's flags".into())?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)
        .doing(|| "set a stream's flags".into())
}
