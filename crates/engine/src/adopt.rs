//! Taking over containers whose monitor was killed.
//!
//! Nobody watches monitors, so it is whoever looks at the container next that finds out. It has a
//! process made that takes the monitor's place: by a command of its own, since whoever looks may
//! have threads, and must not be seen by what the container runs (docs/decisions/0013).

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use runtime::Process;
use runtime::cgroup::Cgroup;
use rustix::fs::{FileType, Mode, OFlags, RawMode};

use crate::container::{Container, State, Status};
use crate::error::Result;
use crate::hold::{Ended, Monitor, Run, UNKNOWN_CODE, UNKNOWN_END, nonblocking};
use crate::image::from_cgroup;
use crate::join::namespace_of;
use crate::memory::MemoryEnd;
use crate::monitor::health::HEALTH;
use crate::monitor::log::Stream;
use crate::monitor::relay::{Output, Streams};
use crate::port::Reserved;
use crate::restart::{Backoff, End, RestartPolicy};
use crate::start::fork_monitor;
use crate::{Engine, network};

/// Descriptors that are looked at in search of a container's pipes.
const DESCRIPTORS_MAX: usize = 100_000;

impl Container {
    /// Whether something is left to do for it after its monitor was killed: its process lives, or is
    /// to be started again. After a restart of the machine, that is `restore`'s to decide.
    pub(crate) fn needs_adoption(&self) -> bool {
        let again = self.record.settings.restart != RestartPolicy::No && !self.state.stop_requested;
        self.process_lives() || again && self.is_of_this_boot()
    }
}

impl Engine {
    /// The same engine, which has this command give a container another monitor whose own was
    /// killed: with the container's id as its last argument, it is to call [`Engine::adopt`].
    #[must_use]
    pub fn with_adopter(self, command: Vec<OsString>) -> Self {
        Self { adopter: command, ..self }
    }

    /// Has somebody take the place of a container's monitor, and tells how the container is then.
    /// If nobody can, it goes on by itself, and that is the truth, too.
    pub(crate) fn find_monitor(&self, container: Container) -> Result<Container> {
        let Some((program, arguments)) = self.adopter.split_first() else { return Ok(container) };
        let mut command = Command::new(program);
        command.args(arguments).arg(&container.record.id).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = command.status();
        self.containers.read(&container.record.id)
    }

    /// Takes the place of a container's monitor if that was killed; returns when a process of its
    /// own does. Whoever calls this must be sealed ([`seal`](crate::seal)), as for a start.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) without the container; if it cannot be held.
    pub fn adopt(&self, key: &str) -> Result<()> {
        let container = self.containers.find(key)?;
        if !container.is_running() || container.has_monitor() {
            return Ok(());
        }
        fork_monitor(|started| self.hold_adopted(container, started))
    }

    fn hold_adopted(&self, mut container: Container, started: &mut dyn FnMut()) -> Result<i32> {
        let lock = container.lock()?;
        // Somebody else may have been faster.
        if !container.is_running() || container.has_monitor() || !container.needs_adoption() {
            started();
            return Ok(container.state.exit_code);
        }
        let health = container.health();
        let mut monitor = Monitor::new(&container)?;
        if let Some(health) = &health {
            // What was found stands until something else is.
            crate::file::write_json(&container.run_dir, HEALTH, health)?;
        }
        monitor.backoff = Backoff::after(container.state.restarts);
        monitor.health = health;
        let State { pid, pid_start, .. } = container.state;
        let process = container.process_lives().then(|| Process::adopt(pid, pid_start));
        container.state.monitor_pid = rustix::process::getpid().as_raw_nonzero().get();
        container.state.monitor_start =
            runtime::start_time(container.state.monitor_pid).unwrap_or(0);
        container.save()?;
        drop(lock);
        if let Some(Ok(process)) = process {
            let run = self.take_over(&container, process)?;
            started();
            return self.go_on(container, monitor, run);
        }
        let code = container.state.exit_code;
        let delay = match container.state.status {
            Status::Restarting => Some(monitor.backoff.delay()),
            _ => {
                let ended = unseen_end(&container);
                self.end_run(&mut container, &mut monitor, &ended, None)?
            }
        };
        started();
        let Some(delay) = delay else { return Ok(container.state.exit_code) };
        match self.start_again(&mut container, &mut monitor, delay, code)? {
            Some(run) => self.go_on(container, monitor, run),
            None => Ok(code),
        }
    }

    /// What a monitor holds of a container that runs, taken up again.
    fn take_over(&self, container: &Container, process: Process) -> Result<Run> {
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        let streams = streams(container, &cgroup)?;
        // A port that a process of the host's has taken meanwhile leads to the container all the
        // same: the rules stand.
        let (mut ports, mut sockets) = (Vec::new(), Vec::new());
        for port in &container.state.ports {
            if let Ok((socket, _)) = net::port::reserve(port.protocol, port.address, port.port) {
                ports.push(*port);
                sockets.push(socket);
            }
        }
        let mut reserved = Reserved { ports, sockets };
        let forward = reserved.forwarder()?;
        let ports = reserved.sockets;
        let started = Instant::now().checked_sub(age(container)).unwrap_or_else(Instant::now);
        let names = self.listen_again(container);
        let (honest, adopted) = (None, true);
        Ok(Run { cgroup, process, streams, ports, names, forward, honest, started, adopted })
    }

    /// The name server of a container on a network that a user made.
    fn listen_again(&self, container: &Container) -> Option<net::dns::Listeners> {
        container.state.places.iter().find(|place| !place.network_id.is_empty())?;
        let namespace = namespace_of(container, "net").ok()?;
        net::dns::listen(namespace.as_fd(), network::OWN_SERVER).ok()
    }
}

/// How long ago it was started.
fn age(container: &Container) -> Duration {
    let started = container.state.started_at.parse::<Timestamp>();
    let age = started.map(|started| Timestamp::now().duration_since(started));
    age.ok().and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
}

/// The end of a container that ended without a monitor.
fn unseen_end(container: &Container) -> Ended {
    let cgroup = Cgroup::open(&container.cgroup_path());
    let (id, ran) = (&container.record.id, age(container));
    let memory = cgroup.map(|cgroup| MemoryEnd::of(&cgroup, id, ran, true)).unwrap_or_default();
    let code = if memory.oom_kills > 0 {
        128 + rustix::process::Signal::KILL.as_raw()
    } else {
        UNKNOWN_CODE
    };
    let end = End { code, unhealthy: false, ran };
    Ended { end, health: container.health(), memory, note: UNKNOWN_END, failure: None }
}

/// Our ends of the container's pipes. What they hold was not lost; a terminal was, with its
/// master.
fn streams(container: &Container, cgroup: &Cgroup) -> Result<Streams> {
    let [input, output, error] = container.state.pipes;
    let found = Pipes::find(&container.state.pipes, cgroup);
    let mut streams = Streams::default();
    for (number, stream) in [(output, Stream::Stdout), (error, Stream::Stderr)] {
        if let Some(fd) = found.open(number, OFlags::RDONLY) {
            streams.outputs.push(Output { fd: Some(fd), stream });
        }
    }
    if let Some(fd) = found.open(input, OFlags::WRONLY) {
        nonblocking(&fd)?;
        streams.input = Some(fd);
    }
    Ok(streams)
}

/// Where pipes are open: number, and descriptor of a process.
struct Pipes(Vec<(u64, PathBuf)>);

impl Pipes {
    fn find(wanted: &[u64], cgroup: &Cgroup) -> Self {
        let mut found: Vec<(u64, PathBuf)> = Vec::new();
        let mut left = DESCRIPTORS_MAX;
        for pid in cgroup.pids().unwrap_or_default() {
            let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
            for entry in entries.into_iter().flatten().flatten() {
                left = left.saturating_sub(1);
                let number = pipe_number(&entry.path());
                let number = number.filter(|n| *n != 0 && wanted.contains(n));
                if let Some(number) = number
                    && !found.iter().any(|(known, _)| *known == number)
                {
                    found.push((number, entry.path()));
                }
            }
            let all = wanted.iter().filter(|number| **number != 0);
            if left == 0 || all.clone().all(|n| found.iter().any(|(known, _)| known == n)) {
                break;
            }
        }
        Self(found)
    }

    /// Opens the other end. A process may put something else there meanwhile, whose opening would
    /// be its use: so what is there is looked at first, and then that very file is opened.
    fn open(&self, number: u64, flags: OFlags) -> Option<OwnedFd> {
        let (_, path) = self.0.iter().find(|(known, _)| *known == number)?;
        let there = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&there).ok()?;
        let own = PathBuf::from(format!("/proc/self/fd/{}", there.as_raw_fd()));
        let is_it = FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::Fifo
            && pipe_number(&own) == Some(number);
        if !is_it {
            return None;
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::open(own, flags, Mode::empty()).ok()
    }
}

/// The number in a link like `pipe:[123]`, which no file can have as its path.
fn pipe_number(link: &Path) -> Option<u64> {
    let text: OsString = std::fs::read_link(link).ok()?.into();
    text.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()
}
