//! A process that does nothing.

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::Error;
use crate::process::{Process, Unstarted};
use crate::sys;

/// A child that waits until it is dropped, or until its parent ends.
#[derive(Debug)]
pub(super) struct Placeholder(Unstarted);

impl Placeholder {
    pub(super) fn start() -> Result<Self, Error> {
        let parent = getpid();
        let (pid, pidfd) = sys::clone3(0, None, || wait(parent))
            .map_err(Error::io("start a process to hold the control group"))?;
        Ok(Self(Unstarted::new(Process::new(pid, pidfd))))
    }

    pub(super) fn pid(&self) -> i32 {
        self.0.process().pid()
    }
}

fn wait(parent: Pid) -> i32 {
    let asked = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    // It may have ended before it was asked.
    if asked && getppid() == Some(parent) {
        loop {
            rustix::event::pause();
        }
    }
    1
}
