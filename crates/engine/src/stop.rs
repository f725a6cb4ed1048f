//! Ending and removing containers.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Engine;
use crate::container::{Container, Record, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::monitor::attach;
use crate::restart::RestartPolicy;
use crate::settings::MountSource;

/// Seconds between the stop signal and SIGKILL unless said otherwise; Docker's default.
const STOP_TIMEOUT_S: i64 = 10;

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
        self.request_stop(&mut container)?;
        if let Ok(process) = running(&container) {
            let signal = signal.unwrap_or_else(|| stop_signal(&container));
            let timeout = timeout(&container, timeout_s);
            let doing = || format!("stop container {}", container.record.name);
            if timeout != Some(Duration::ZERO) {
                pidfd_send_signal(&process, signal).or_else(gone).doing(doing)?;
                self.thaw(&mut container.clone())?;
            }
            if !ends_within(&process, timeout).doing(doing)? {
                pidfd_send_signal(&process, Signal::KILL).or_else(gone).doing(doing)?;
                self.thaw(&mut container.clone())?;
                ends_within(&process, None).doing(doing)?;
            }
        }
        self.wait_for_end(&container)
    }

    /// Waits until its monitor is gone, and the container with it if it was to be removed when it
    /// exits.
    fn wait_for_end(&self, container: &Container) -> Result<()> {
        match self.wait(container) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            outcome => outcome.map(drop),
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
        let container = self.find(&container.record.id)?;
        self.renew(&container)?;
        self.start(&container)
    }

    /// Makes the writable layer of a container that was to be removed fit for another mount: the
    /// kernel marks one whose changes need not reach the disk (overlayfs.rst, "Volatile mount").
    fn renew(&self, container: &Container) -> Result<()> {
        let Record { layers, settings, .. } = &container.record;
        let rootfs = self.store.rootfs(layers, &container.dir, settings.auto_remove)?;
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
            self.request_stop(&mut container)?;
            if let Ok(process) = running(&container) {
                pidfd_send_signal(&process, Signal::KILL)
                    .or_else(gone)
                    .doing(|| format!("kill container {}", container.record.name))?;
                self.thaw(&mut container)?;
            }
            self.wait_for_end(&container)?;
            if container.record.settings.auto_remove {
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
            for dir in crate::volume::made_for(&self.volumes(), &names, &record.id) {
                self.store.discard(&dir)?;
            }
        }
        Ok(self.store.discard(&container.dir)?)
    }
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
    let pid = Pid::from_raw(container.state.pid).ok_or_else(not_running)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_running())?;
    // Read after the descriptor is open: the number cannot be used again behind our back.
    match runtime::start_time(container.state.pid) {
        Ok(start) if start == container.state.pid_start => Ok(process),
        _ => Err(not_running()),
    }
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
    u64::try_from(timeout_s.unwrap_or(own)).ok().map(Duration::from_secs)
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
