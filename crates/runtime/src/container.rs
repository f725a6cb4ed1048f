//! OCI containers on disk: what the OCI command line creates in one process and finds in another.
//!
//! ```text
//! <state root>/<id>/     locked (flock(2)) by who changes the container
//!   state.json           the record, replaced by rename(2)
//!   config.json          the specification it was created from
//!   start                the gate: a socket at which a created container waits
//!   criu-root            while it is restored, where CRIU finds its root file system
//!   start.new            while it is being created
//! ```
//!
//! The state root lies on a tmpfs and nothing is synced: no container outlives the machine. A
//! process is known by its number and the time it started, so that nothing is ever done to one that
//! only has the same number. Any process may be killed at any moment: a record without a living
//! process is a stopped container, which can be deleted.

mod bundle;
mod cgroup_path;
mod checkpoint;
mod create;
mod criu;
mod delete;
mod device;
mod error;
mod execute;
mod features;
mod foreground;
mod gate;
mod images;
mod notify;
mod pages;
mod record;
mod restore;
mod stdio;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::runtime::{ContainerState, LinuxResources, Spec, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup::Cgroup;
use crate::error::Doing;
use crate::hook;
use crate::seccomp::agent::Agent;
use crate::sync::Sync as Socket;
use crate::{parent, procfs, sys};

pub use bundle::{Bundle, VERSION_MAX, VERSION_MIN};
pub use checkpoint::{Checkpoint, default_images};
pub use create::{Create, Started};
pub use delete::delete;
pub use error::Error;
pub use execute::{Execute, Subgroup};
pub use features::features;
pub use foreground::Foreground;
pub use images::{CgroupMode, Images, Switch};
pub use record::Record;
pub use restore::Restore;
pub use stdio::{Console, check_inherited, send_descriptor};

use record::{Access, Directory};

/// What a container is doing; every moment of its life is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being created.
    Creating,
    /// Everything is in place, and the program waits to be started.
    Created,
    /// The program runs.
    Running,
    /// The program, or what waits to become it, is held by the freezer.
    Paused,
    /// The first process has ended, or was never there.
    Stopped,
}

impl Status {
    /// The word of the runtime specification, and runc's `paused`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    directory: Directory,
    record: Record,
}

impl Container {
    /// Finds a container by its id.
    ///
    /// # Errors
    /// [`Error::NotExist`]; [`Error::InvalidId`].
    pub fn open(root: &Path, id: &str) -> Result<Container, Error> {
        let directory = Directory::open(root, id)?;
        let record = directory.read()?.ok_or(Error::NotExist)?;
        Ok(Container { directory, record })
    }

    /// As [`Container::open`], with nobody else changing it until this value is dropped.
    pub(crate) fn open_locked(root: &Path, id: &str, access: Access) -> Result<Container, Error> {
        let directory = Directory::open(root, id)?;
        directory.lock(access)?;
        let record = directory.read()?.ok_or(Error::NotExist)?;
        Ok(Container { directory, record })
    }

    /// What is known about it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The specification that it was created from.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn spec(&self) -> Result<&Spec, Error> {
        self.directory.spec()
    }

    /// What it is doing now.
    ///
    /// # Errors
    /// When its cgroup cannot be looked at.
    pub fn status(&self) -> Result<Status, Error> {
        if !self.is_alive() {
            let creating = self.record.pid == 0 && self.directory.is_locked();
            return Ok(if creating { Status::Creating } else { Status::Stopped });
        }
        if self.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(match gate::look(self.directory.as_fd()) {
            gate::Gate::Unready => Status::Creating,
            gate::Gate::Waiting => Status::Created,
            gate::Gate::Gone => Status::Running,
        })
    }

    fn is_frozen(&self) -> Result<bool, Error> {
        match self.cgroup()? {
            Some(cgroup) => match cgroup.is_frozen() {
                // Nothing can be paused here.
                Err(crate::cgroup::Error::Unsupported(_)) => Ok(false),
                other => Ok(other?),
            },
            None => Ok(false),
        }
    }

    /// Whether its first process is there, and not only one with the same number.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_process(self.record.pid, self.record.start_time)
    }

    /// The first process, by a descriptor that cannot come to mean another.
    pub(crate) fn init(&self) -> Result<OwnedFd, Error> {
        let pid = Pid::from_raw(self.record.pid).ok_or(Error::NotRunning)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| Error::NotRunning)?;
        // Looked at after it was opened, it was the one.
        if self.is_alive() { Ok(pidfd) } else { Err(Error::NotRunning) }
    }

    /// Its cgroup; `None` where it has none, or none any more.
    pub(crate) fn cgroup(&self) -> Result<Option<Cgroup>, Error> {
        let Some(path) = &self.record.cgroup else { return Ok(None) };
        match Cgroup::open(path) {
            Ok(cgroup) => Ok(Some(match &self.record.unit {
                Some(unit) => cgroup.of_unit(unit),
                None => cgroup,
            })),
            Err(crate::cgroup::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn own_cgroup(&self) -> Result<Cgroup, Error> {
        self.cgroup()?.ok_or_else(|| Error::Refused("the container has no cgroup".into()))
    }

    /// Its state as the runtime specification describes it, for hooks.
    pub(crate) fn state(&self, status: ContainerState) -> State {
        hook::with(&self.record.state(), self.record.pid, status)
    }

    /// Sends a signal to its first process; with `SIGKILL` to every process, where ending the first
    /// would not end them.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has ended.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        if signal == libc::SIGKILL
            && !self.record.own_pid_namespace
            && self.record.pid != 0
            && let Some(cgroup) = self.cgroup()?
        {
            return Ok(cgroup.kill()?);
        }
        let init = self.init()?;
        let doing = || format!("send signal {signal} to the container");
        match sys::pidfd_send_signal(init.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(Error::NotRunning),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Err(Error::Refused(format!("unknown signal \"{signal}\"")))
            }
            other => other.doing(doing).map_err(Error::from),
        }?;
        // Version 1 of cgroups delivers nothing to the frozen.
        if signal == libc::SIGKILL
            && let Some(cgroup) = self.cgroup()?
        {
            let _ = cgroup.thaw();
        }
        Ok(())
    }

    /// Its processes, in the caller's process namespace, ascending.
    ///
    /// # Errors
    /// Without a cgroup; when that cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        match self.cgroup()? {
            Some(cgroup) => Ok(cgroup.pids()?),
            None if self.is_alive() => Ok(vec![self.record.pid]),
            None => Ok(Vec::new()),
        }
    }

    /// Waits until its first process ends, or as long as `timeout`; whether it has ended.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let Ok(init) = self.init() else { return Ok(true) };
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => Ok(false),
            ready => Ok(ready? > 0),
        }
    }

    /// How many of its processes were killed because memory ran out; 0 if unknown.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.cgroup().ok().flatten().map_or(0, |cgroup| cgroup.oom_kills())
    }

    /// What it uses.
    ///
    /// # Errors
    /// Without a cgroup; when that cannot be read.
    pub fn stats(&self) -> Result<crate::cgroup::Stats, Error> {
        Ok(self.own_cgroup()?.stats()?)
    }
}

/// Starts the program of a created container and calls its `poststart` hooks. With a `supervisor`,
/// the address of its socket (`NOTIFY_SOCKET` of sd_notify(3)), waits until the program is ready.
///
/// # Errors
/// [`Error::Refused`] in any other state; what kept the program from being executed, and then the
/// container is stopped; what a hook failed with, and then it is killed.
pub fn start(root: &Path, id: &str, supervisor: Option<&Path>) -> Result<(), Error> {
    let container = Container::open_locked(root, id, Access::Change)?;
    match container.status()? {
        Status::Created => container.start(container.spec()?, supervisor, container.record.pid),
        Status::Stopped => Err(Error::Refused("cannot start a container that has stopped".into())),
        Status::Running => Err(Error::Refused("cannot start an already running container".into())),
        other => {
            Err(Error::Refused(format!("cannot start a container in the {} state", other.word())))
        }
    }
}

impl Container {
    /// What [`start`] does, of a container that is created; `main` is the process that its
    /// supervisor is to watch.
    pub(crate) fn start(
        &self,
        spec: &Spec,
        supervisor: Option<&Path>,
        main: i32,
    ) -> Result<(), Error> {
        self.start_by(spec, supervisor, main, || {
            let visitor =
                gate::visit(self.directory.as_fd()).doing(|| "reach the waiting container")?;
            let linux = spec.linux().as_ref();
            let profile = linux.and_then(|linux| linux.seccomp().as_ref());
            let agent = Agent::of(profile, Some(&self.record.state()))?;
            let (agent, init) = (agent.map(|agent| agent.of_first(self.record.pid)), self.init()?);
            let process = (self.record.pid, init.as_fd());
            parent::start(&Socket::from(visitor), agent.as_ref(), process)
                .map_err(Error::of_start)?;
            gate::close(self.directory.as_fd());
            Ok(())
        })
    }

    /// As [`Container::start`], where the program is executed by `execute`.
    fn start_by(
        &self,
        spec: &Spec,
        supervisor: Option<&Path>,
        main: i32,
        execute: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let listen = |path| notify::Relay::listen(self.directory.as_fd(), path);
        let relay = supervisor.map(listen).transpose().doing(|| "listen for readiness")?.flatten();
        execute()?;
        self.call_poststart(spec)?;
        let Some(relay) = relay else { return Ok(()) };
        let Ok(init) = self.init() else { return Ok(()) };
        self.directory.unlock();
        Ok(relay.run(init.as_fd(), main).doing(|| "pass on readiness")?)
    }

    fn call_poststart(&self, spec: &Spec) -> Result<(), Error> {
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref());
        let Some(hooks) = hooks else { return Ok(()) };
        // They may ask for this container in their turn.
        self.directory.unlock();
        let state = self.state(ContainerState::Running);
        let called = hook::Ready::new("poststart", hooks, &state).and_then(hook::Ready::run);
        called.map_err(|error| {
            let _ = self.signal(libc::SIGKILL);
            error.into()
        })
    }
}

/// Stops every process of the container.
///
/// # Errors
/// [`Error::NotRunning`]; [`Error::Cgroup`] without a freezer.
pub fn pause(root: &Path, id: &str) -> Result<(), Error> {
    let container = Container::open_locked(root, id, Access::Change)?;
    match container.status()? {
        Status::Running | Status::Created => Ok(container.own_cgroup()?.freeze()?),
        _ => Err(Error::NotRunning),
    }
}

/// Lets every process of a paused container go on.
///
/// # Errors
/// [`Error::NotPaused`].
pub fn resume(root: &Path, id: &str) -> Result<(), Error> {
    // Without the lock: who has it may be frozen with the container.
    let container = Container::open(root, id)?;
    match container.status()? {
        Status::Paused => Ok(container.own_cgroup()?.thaw()?),
        _ => Err(Error::NotPaused),
    }
}

/// Applies limits; those that are not given stay.
///
/// # Errors
/// [`Error::NotRunning`] for a stopped container; [`Error::Cgroup`] for a limit.
pub fn update(root: &Path, id: &str, resources: &LinuxResources) -> Result<(), Error> {
    let container = Container::open_locked(root, id, Access::Change)?;
    match container.status()? {
        Status::Stopped => Err(Error::NotRunning),
        _ => {
            let cgroup = container.own_cgroup()?;
            // First, since it may write to the same files, in its own way.
            container.record.unit.as_ref().map_or(Ok(()), |unit| unit.update(resources))?;
            Ok(cgroup.update(resources)?)
        }
    }
}

/// The ids below a state root, sorted: of containers, or of what is left of one.
///
/// # Errors
/// Those of reading a directory; `NotFound` when there is none.
pub fn ids(root: &Path) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        if let (Ok(name), true) = (name, entry.file_type()?.is_dir()) {
            ids.push(name);
        }
    }
    ids.sort();
    Ok(ids)
}

/// Where containers are kept unless something else is said: on a tmpfs that only their owner uses.
/// The directory of the user's session is told apart: it must exist, and is marked not to be
/// cleaned up.
#[must_use]
pub fn default_root() -> PathBuf {
    let session = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    match session {
        Some(path) if is_rootless() => PathBuf::from(path).join("cais-runc"),
        _ => PathBuf::from("/run/cais-runc"),
    }
}

/// Whether this process is without the machine's privilege, as runc decides it: root of a user
/// namespace is, unless it says that its user is `root`.
#[must_use]
pub fn is_rootless() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = procfs::read("/proc/self/uid_map").unwrap_or_default();
    let whole: Vec<&str> = map.split_ascii_whitespace().collect();
    let initial = whole == ["0", "0", "4294967295"];
    !initial && std::env::var_os("USER").is_none_or(|user| user != "root")
}

/// Whether a process with this number started at this time, and has not ended.
pub(crate) fn is_process(pid: i32, start_time: u64) -> bool {
    if pid <= 0 {
        return false;
    }
    let Ok(stat) = procfs::read(&format!("/proc/{pid}/stat")) else { return false };
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after.split_ascii_whitespace();
    let living = fields.next().is_some_and(|state| !matches!(state, "Z" | "X" | "x"));
    // Field 22; the state is field 3.
    living && fields.nth(18).and_then(|field| field.parse().ok()) == Some(start_time)
}
