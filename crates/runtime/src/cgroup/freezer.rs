//! Stopping processes and letting them go on.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::hierarchy::Version;
use super::{Cgroup, Error, Node, file};

/// How long freezing waits for processes to stop; one in uninterruptible sleep does not.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(5);

/// The file that shows and sets the state.
pub(super) fn file_of(version: Version) -> &'static str {
    match version {
        Version::V1 => "freezer.state",
        Version::V2 => "cgroup.freeze",
    }
}

/// Whether what that file shows means frozen, or about to be.
pub(super) fn is_frozen(state: &str) -> bool {
    !matches!(state.trim(), "0" | "THAWED")
}

impl Cgroup {
    /// Version 2's freezer is part of its core and there even when controllers are bound
    /// elsewhere, since Linux 5.2; before, version 1's.
    pub(super) fn freezer(&self) -> Result<(Version, &Node), Error> {
        if let Some(node) = self.v2().filter(|n| file::open_read(&n.dir, "cgroup.freeze").is_ok()) {
            return Ok((Version::V2, node));
        }
        self.node_of("freezer").map(|node| (Version::V1, node)).ok_or_else(|| {
            Error::Unsupported(
                "neither version 2 of control groups nor the freezer controller is mounted: \
                 mount one to pause"
                    .into(),
            )
        })
    }

    /// The directory with the freezer's files, for who is to use it by its path; `None` where there
    /// is none, or only version 2's and that is not understood.
    pub(crate) fn freezer_directory(&self, version_2: bool) -> Option<PathBuf> {
        let v1 = || self.node_of("freezer").map(|node| (Version::V1, node));
        let found = self.freezer().ok().filter(|(version, _)| version_2 || *version == Version::V1);
        let (_, node) = found.or_else(v1)?;
        Some(self.at(node).mount.join(&self.path))
    }

    pub(super) fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (version, node) = self.freezer()?;
        let deadline = Instant::now() + FREEZE_WAIT_MAX;
        let reached = match version {
            Version::V1 => freeze_v1(&node.dir, frozen, deadline),
            Version::V2 => freeze_v2(&node.dir, frozen, deadline),
        };
        let reached = reached.map_err(self.failed(node, "write", file_of(version)))?;
        if reached {
            return Ok(());
        }
        if frozen {
            self.set_frozen(false)?;
        }
        Err(Error::Busy(format!(
            "control group {:?} has a process that cannot be {}",
            self.path,
            if frozen { "frozen now" } else { "thawed" }
        )))
    }
}

/// Whether the state was reached before the deadline.
fn freeze_v2(dir: &OwnedFd, frozen: bool, deadline: Instant) -> io::Result<bool> {
    let number = if frozen { "1" } else { "0" };
    file::write(dir, "cgroup.freeze", number)?;
    wait_event(dir, "frozen", u64::from(frozen), deadline)
}

fn freeze_v1(dir: &OwnedFd, frozen: bool, deadline: Instant) -> io::Result<bool> {
    let state = if frozen { "FROZEN" } else { "THAWED" };
    let mut pause = Pause::default();
    loop {
        // Written again each time: the kernel tries those that could not stop before once more.
        file::write(dir, "freezer.state", state)?;
        if file::read(dir, "freezer.state")?.trim() == state {
            return Ok(true);
        }
        if !pause.until(deadline) {
            return Ok(false);
        }
    }
}

/// Waits until `key` in `cgroup.events` is `value`; the kernel announces every change.
pub(super) fn wait_event(
    dir: &OwnedFd,
    key: &str,
    value: u64,
    deadline: Instant,
) -> io::Result<bool> {
    let events = file::open_read(dir, "cgroup.events")?;
    loop {
        if file::keyed(&file::read_fd(&events)?, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Growing pauses between attempts at what the kernel does not announce.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_micros(100))
    }
}

impl Pause {
    /// Pauses; `false` if the deadline has passed.
    pub(super) fn until(&mut self, deadline: Instant) -> bool {
        const PAUSE_MAX: Duration = Duration::from_millis(20);
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(self.0);
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        true
    }
}
