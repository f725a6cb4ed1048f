//! A handle on a process that runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Doing, Error};
use crate::mount::Images;
use crate::{signal, sys};

/// How long somebody else may take to wait for a process that has ended.
const REAPED_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A child process, by its descriptor: its number is never reused while this lives.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    /// The terminal's other end, until it is taken.
    master: Option<OwnedFd>,
    /// What its files are on, held for other containers.
    _images: Images,
    /// Whether another process has created it, and waits for it.
    adopted: bool,
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
    /// From what wait(2) reports.
    fn of_wait(status: i32) -> ExitStatus {
        match status & 0x7f {
            0 => ExitStatus::Exited((status >> 8) & 0xff),
            signal => ExitStatus::Signaled(signal),
        }
    }

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
        Process { pid, pidfd, master: None, _images: Images::default(), adopted: false }
    }

    /// A process that somebody else has created, by its number and the time it was started
    /// ([`start_time`](crate::start_time)). It can be watched and signalled as a child can. How it
    /// has ended is known on Linux 6.15 and later; before, only if nobody has waited for it when it
    /// is looked at, else [`Process::wait`] fails.
    ///
    /// # Errors
    /// `ESRCH` if it has ended, or another process has its number now.
    pub fn adopt(pid: i32, start: u64) -> io::Result<Process> {
        let gone = || io::Error::from(rustix::io::Errno::SRCH);
        let pidfd = pidfd_open(Pid::from_raw(pid).ok_or_else(gone)?, PidfdFlags::empty())?;
        // The descriptor is open: the number is not given to another from here on.
        match signal::start_time(pid) {
            Ok(found) if found == start => {
                Ok(Process { adopted: true, ..Process::new(pid, pidfd) })
            }
            _ => Err(gone()),
        }
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

    /// Waits until the process ends. Only the process that created it can wait, and once; and who
    /// has adopted it.
    ///
    /// # Errors
    /// Those of waitid(2); `ECHILD` for an adopted process of whose end nobody knows more.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        if self.adopted {
            return self.wait_for_other();
        }
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

    /// Waits for a process of somebody else's. It is seen to end (`POLLIN`) before somebody waits
    /// for it (`POLLHUP`, pidfd_open(2)); until then, its state tells how, and from then on, its
    /// descriptor.
    fn wait_for_other(&self) -> io::Result<ExitStatus> {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ended, None))?;
        let known = || sys::pidfd_exit_status(self.pidfd()).ok().flatten();
        let status = known().or_else(|| signal::zombie_status(self.pid)).or_else(|| {
            let mut gone = [PollFd::new(&self.pidfd, PollFlags::empty())];
            // Nobody says so before Linux 6.9; there it is over at the end of the time.
            let _ = rustix::io::retry_on_intr(|| poll(&mut gone, Some(&REAPED_MAX)));
            known()
        });
        status.map(ExitStatus::of_wait).ok_or_else(|| rustix::io::Errno::CHILD.into())
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
