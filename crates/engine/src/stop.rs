//! Ending and removing containers.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Engine;
use crate::container::{Container, State, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::monitor::attach;
use crate::restart::RestartPolicy;
use crate::settings::MountSource;

/// Seconds between the stop signal and SIGKILL unless said otherwise; Docker's default.
const STOP_TIMEOUT_S: i64 = 10;
/// As good as for ever, and a time that clocks can have: a century.
const STOP_TIMEOUT_MAX_S: u64 = 100 * 365 * 24 * 60 * 60;

/// How a container is removed.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first, if it runs.
    pub force: bool,
    /// Remove the anonymous volumes that were made for it.
    pub volumes: bool,
}

impl Engine {
    /// Sends a signal to the first process of a running container. One that ends it also keeps it
    /// from being started again.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run.
    pub fn kill(&self, container: &Container, signal: Signal) -> Result<()> {
        let mut container = container.clone();
        let ends = signal == Signal::KILL || signal == stop_signal(&container);
        if ends {
            self.request_stop(&mut container)?;
        }
        if ends && container.state.status == Status::Restarting {
            return Ok(());
        }
        let process = running(&container)?;
        self.emit(killed(&container, signal));
        pidfd_send_signal(process, signal)
            .doing(|| format!("send a signal to container {}", container.record.name))?;
        if ends { self.thaw(&mut container) } else { Ok(()) }
    }

    /// Asks a container to end, and kills it after `timeout_s` seconds (its own timeout where
    /// `None`; a negative one waits for ever). A container that does not run is stopped already.
    ///
    /// # Errors
    /// If signals cannot be sent.
    pub fn stop(
        &self,
        container: &Container,
        timeout_s: Option<i64>,
        signal: Option<Signal>,
    ) -> Result<()> {
        let mut container = container.clone();
        if !container.is_running() {
            return Ok(());
        }
        let monitor = monitor(&container);
        self.request_stop(&mut container)?;
        if let Ok(process) = running(&container) {
            let signal = signal.unwrap_or_else(|| stop_signal(&container));
            let timeout = timeout(&container, timeout_s);
            let doing = || format!("stop container {}", container.record.name);
            if timeout != Some(Duration::ZERO) {
                self.emit(killed(&container, signal));
                pidfd_send_signal(&process, signal).or_else(gone).doing(doing)?;
                self.thaw(&mut container.clone())?;
            }
            if !ends_within(&process, timeout).doing(doing)? {
                self.emit(killed(&container, Signal::KILL));
                pidfd_send_signal(&process, Signal::KILL).or_else(gone).doing(doing)?;
                self.thaw(&mut container.clone())?;
                ends_within(&process, None).doing(doing)?;
            }
        }
        self.wait_for_end_of(&container, monitor)?;
        self.emit(Event::container("stop", &container));
        Ok(())
    }

    /// Why [`Engine::stop`] with these arguments will have to kill a container, if that is plain
    /// before: its first process does not hear the signal that asks it to end.
    #[must_use]
    pub fn deafness(
        &self,
        container: &Container,
        timeout_s: Option<i64>,
        signal: Option<Signal>,
    ) -> Option<Error> {
        let signal = signal.unwrap_or_else(|| stop_signal(container));
        let patience = timeout(container, timeout_s);
        running(container).ok()?;
        if patience == Some(Duration::ZERO)
            || !runtime::is_deaf(container.state.pid, signal).ok()?
        {
            return None;
        }
        let (name, signal) = (&container.record.name, runtime::signal_name(signal));
        let then = match patience {
            Some(patience) if patience.as_secs() == 1 => "it is killed after 1 second".to_owned(),
            Some(patience) => format!("it is killed after {} seconds", patience.as_secs()),
            None => "nothing will end it".to_owned(),
        };
        let message = format!(
            "process 1 of container {name} has no handler for {signal}, which does nothing then: {then}"
        );
        let hint = match container.record.settings.init {
            true => "`cais kill` ends it at once",
            false => {
                "run it with --init, whose process 1 passes signals on; or have it handle them"
            }
        };
        Some(Error::new(Kind::Conflict, message).hint(hint))
    }

    /// Waits until the run that `container` was read in has ended, and its monitor is gone with all
    /// that it held.
    ///
    /// # Errors
    /// If that cannot be watched.
    pub fn wait_for_end(&self, container: &Container) -> Result<()> {
        self.wait_for_end_of(container, monitor(container))
    }

    /// As [`Engine::wait_for_end`]: whoever stops a container may unmount next what it stood on.
    /// `monitor` was opened before anybody asked it to end, so that no later run is waited for.
    fn wait_for_end_of(&self, container: &Container, mut monitor: Option<OwnedFd>) -> Result<()> {
        let run = |container: &Container| (container.state.pid, container.state.pid_start);
        loop {
            if let Some(monitor) = &monitor {
                ends_within(monitor, None).doing(|| {
                    format!("wait for the monitor of container {}", container.record.name)
                })?;
            }
            let found = match self.find(&container.record.id) {
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                found => found?,
            };
            if !found.is_running() || run(&found) != run(container) {
                return Ok(());
            }
            // It was killed, and another has taken its place.
            monitor = self::monitor(&found);
            if monitor.is_none() {
                return Ok(());
            }
        }
    }

    /// Stops a container that runs, and starts it; one that is removed when it exits is kept.
    ///
    /// # Errors
    /// As of [`Engine::stop`] and [`Engine::start`].
    pub fn restart(
        &self,
        container: &Container,
        timeout_s: Option<i64>,
        signal: Option<Signal>,
    ) -> Result<()> {
        let mut container = container.clone();
        if container.record.settings.auto_remove {
            let lock = container.lock()?;
            container.state.keep = container.is_running();
            container.save()?;
            drop(lock);
        }
        self.stop(&container, timeout_s, signal)?;
        let mut container = self.find(&container.record.id)?;
        self.renew(&mut container)?;
        match self.start(&container) {
            // Somebody else has started it since.
            Err(error) if error.kind() == Kind::Conflict => {
                self.find(&container.record.id)?.is_running().then_some(()).ok_or(error)?;
            }
            started => started?,
        }
        self.emit(Event::container("restart", &container));
        Ok(())
    }

    /// Makes the writable layer of a container that was to be removed fit for another mount: the
    /// kernel marks one whose changes need not reach the disk (overlayfs.rst, "Volatile mount").
    fn renew(&self, container: &mut Container) -> Result<()> {
        let _lock = container.lock()?;
        if container.is_running() {
            return Ok(());
        }
        let record = &container.record;
        let volatile = record.settings.auto_remove;
        let rootfs = self.store.rootfs(record.chain(), &container.dir, volatile)?;
        let oci::Rootfs::Overlay { work, volatile: true, .. } = rootfs else { return Ok(()) };
        match std::fs::remove_dir_all(work.join("work")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("empty {}", work.display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes down that a container is to end, so that its monitor does not start it again, and
    /// wakes the monitor if it waits to do that.
    fn request_stop(&self, container: &mut Container) -> Result<()> {
        if container.record.settings.restart == RestartPolicy::No {
            return Ok(());
        }
        let lock = container.lock()?;
        if !container.is_running() {
            return Ok(());
        }
        container.state.stop_requested = true;
        container.save()?;
        drop(lock);
        if container.state.status == Status::Restarting {
            // A monitor that has gone on meanwhile reads what was written down.
            let _ = attach::connect(&container.attach_path());
        }
        Ok(())
    }

    /// Removes a container, its writable layer and its log.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it runs and `force` is not set.
    pub fn remove(&self, container: &Container, options: RemoveOptions) -> Result<()> {
        let mut container = container.clone();
        if container.is_running() {
            if !options.force {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
                        container.record.name
                    ),
                )
                .hint(format!("`cais rm -f {}` kills and removes it", container.record.name)));
            }
            let monitor = monitor(&container);
            self.request_stop(&mut container)?;
            if let Ok(process) = running(&container) {
                self.emit(killed(&container, Signal::KILL));
                pidfd_send_signal(&process, Signal::KILL)
                    .or_else(gone)
                    .doing(|| format!("kill container {}", container.record.name))?;
                self.thaw(&mut container)?;
            }
            self.wait_for_end_of(&container, monitor)?;
            if container.record.settings.auto_remove
                && !self.containers.exists(&container.record.id)
            {
                return Ok(());
            }
        }
        let lock = container.lock()?;
        if container.is_running() && container.has_monitor() {
            return Err(Error::new(
                Kind::Conflict,
                format!("container {} was started meanwhile", container.record.name),
            ));
        }
        container.state.status = Status::Removing;
        // On a full disk, too, a container must go: nobody else can free the space.
        let _ = container.save();
        self.bury(&mut container);
        let erased = self.erase(&container, options.volumes);
        drop(lock);
        erased
    }

    /// Removes everything of a container from the disk: its name first, its record once nothing
    /// large is left.
    pub(crate) fn erase(&self, container: &Container, volumes: bool) -> Result<()> {
        let record = &container.record;
        self.containers.release(&record.name, &record.id);
        if volumes {
            let names = record.settings.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Volume { name, anonymous: true, .. } => Some(name.as_str()),
                _ => None,
            });
            let names: Vec<&str> = names.collect();
            for dir in crate::volume::made_for(&self.volumes(), &names, &record.id, |id| {
                self.containers.exists(id)
            }) {
                self.store.discard(&dir)?;
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                self.emit(Event::volume("destroy", &name));
            }
        }
        if record.settings.storage_bytes.is_some() {
            crate::quota::forget(&container.dir.join("upper"));
        }
        self.sweep_execs(Some(&record.id));
        self.store.discard(&container.dir)?;
        self.emit(Event::container("destroy", container));
        Ok(())
    }
}

fn killed(container: &Container, signal: Signal) -> Event {
    Event::container("kill", container).with("signal", &signal.as_raw().to_string())
}

/// A descriptor of the container's first process, which is known to be that process still.
pub(crate) fn running(container: &Container) -> Result<OwnedFd> {
    let not_running = || not_running(container);
    if container.state.status == Status::Restarting {
        return Err(restarting(container));
    }
    if !container.is_running() {
        return Err(not_running());
    }
    process(container.state.pid, container.state.pid_start).ok_or_else(not_running)
}

/// A descriptor of the monitor that held the container when its state was read, if it lives and is
/// another process than this one.
fn monitor(container: &Container) -> Option<OwnedFd> {
    let State { monitor_pid, monitor_start, .. } = container.state;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    (container.is_of_this_boot() && monitor_pid != own)
        .then(|| process(monitor_pid, monitor_start))
        .flatten()
}

/// A descriptor of the process with this number, if it is the one that was started then.
fn process(pid: i32, start: u64) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Read after the descriptor is open: the number cannot be used again behind our back.
    (runtime::start_time(pid).ok()? == start).then_some(process)
}

pub(crate) fn not_running(container: &Container) -> Error {
    Error::new(Kind::Conflict, format!("container {} is not running", container.record.name))
        .hint(format!("`cais start {}` starts it", container.record.name))
}

pub(crate) fn restarting(container: &Container) -> Error {
    let name = &container.record.name;
    let message = format!("Container {name} is restarting, wait until the container is running");
    Error::new(Kind::Conflict, message)
}

/// A process that has ended meanwhile needs no signal.
fn gone(error: rustix::io::Errno) -> std::result::Result<(), rustix::io::Errno> {
    if error == rustix::io::Errno::SRCH { Ok(()) } else { Err(error) }
}

pub(crate) fn ends_within(
    process: &OwnedFd,
    timeout: Option<Duration>,
) -> rustix::io::Result<bool> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
        match poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return outcome.map(|ready| ready > 0),
        }
    }
}

/// How long a container has between its stop signal and SIGKILL; `None` is for ever.
pub(crate) fn timeout(container: &Container, timeout_s: Option<i64>) -> Option<Duration> {
    let own = container.record.settings.stop_timeout_s.unwrap_or(STOP_TIMEOUT_S);
    let seconds = u64::try_from(timeout_s.unwrap_or(own)).ok()?;
    Some(Duration::from_secs(seconds.min(STOP_TIMEOUT_MAX_S)))
}

/// The signal that asks a container to end; an image that names none there is does not make it
/// impossible to stop.
pub(crate) fn stop_signal(container: &Container) -> Signal {
    runtime::signal(&container.record.config.stop_signal).unwrap_or(Signal::TERM)
}

/// A signal by its name, with or without `SIG`, or its number.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn signal(text: &str) -> Result<Signal> {
    runtime::signal(text).ok_or_else(|| {
        Error::invalid(format!("Invalid signal: {text}"))
            .hint("a signal is a name as in SIGTERM or TERM, or a number")
    })
}
