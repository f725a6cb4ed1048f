//! A handle on a process that runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::error::{Doing, Error};
use crate::mount::Images;
use crate::sys;

/// A child process, by its descriptor: its number is never reused while this lives.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    /// The terminal's other end, until it is taken.
    master: Option<OwnedFd>,
    /// What its files are on, held for other containers.
    _images: Images,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code (0 to 255).
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// The code in the shell's convention: its own, or 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signaled(signal) => 128 + signal,
        }
    }
}

impl Process {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Process {
        Process { pid, pidfd, master: None, _images: Images::default() }
    }

    pub(crate) fn with_master(self, master: Option<OwnedFd>) -> Process {
        Process { master, ..self }
    }

    pub(crate) fn with_images(self, images: Images) -> Process {
        Process { _images: images, ..self }
    }

    /// The process id, in the caller's process namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The descriptor: readable once the process has ended (pidfd_open(2)).
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The master of the terminal; the first time only.
    pub fn take_master(&mut self) -> Option<OwnedFd> {
        self.master.take()
    }

    /// Sends a signal by its number, 0 to 64; 0 only asks whether the process is there.
    ///
    /// # Errors
    /// Those of pidfd_send_signal(2); `ESRCH` when it has ended and was waited for.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        sys::pidfd_send_signal(self.pidfd(), signal)
            .doing(|| format!("send signal {signal} to process {}", self.pid))
    }

    /// Waits until the process ends. Only the process that created it can wait, and once.
    ///
    /// # Errors
    /// Those of waitid(2).
    pub fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            match self.wait_with(WaitIdOptions::EXITED) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
            }
        }
    }

    /// As [`Process::wait`], or `None` at once while it runs.
    ///
    /// # Errors
    /// Those of waitid(2).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    fn wait_with(&self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        let status = waitid(WaitId::PidFd(self.pidfd()), options)?;
        Ok(status.as_ref().and_then(exit_status))
    }
}

fn exit_status(status: &WaitIdStatus) -> Option<ExitStatus> {
    let signal = || status.terminating_signal().map(ExitStatus::Signaled);
    status.exit_status().map(ExitStatus::Exited).or_else(signal)
}

/// A child that is killed and waited for unless it is released: a failed creation leaves nothing.
#[derive(Debug)]
pub(crate) struct Unstarted(Option<Process>);

impl Unstarted {
    pub(crate) fn new(process: Process) -> Unstarted {
        Unstarted(Some(process))
    }

    pub(crate) fn process(&self) -> &Process {
        self.0.as_ref().expect("the process is there until it is released")
    }

    /// Lets it live.
    pub(crate) fn release(mut self) -> Process {
        self.0.take().expect("the process is there until it is released")
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            let _ = process.signal(libc::SIGKILL);
            let _ = process.wait();
        }
    }
}
