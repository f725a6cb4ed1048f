//! Ending the steps of a build that is killed: a process that does nothing but wait for that.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use runtime::cgroup::Cgroup;
use rustix::pipe::{PipeFlags, pipe_with};

use super::step::Surroundings;
use crate::Engine;
use crate::container::cgroup_path;
use crate::error::{Doing, Result};

/// What the guard waits for the end of. Forked processes of the build must not keep it open.
static HELD: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Ends what is left of a build's steps when this goes, however that comes about.
pub(crate) struct Guard {
    child: runtime::Child,
}

impl Guard {
    /// Watches over the steps of a build.
    ///
    /// # Errors
    /// If the kernel refuses a process.
    pub(crate) fn new(engine: &Engine, around: &Surroundings) -> Result<Self> {
        let doing = || "watch over the build".to_owned();
        let (watched, held) = pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
        match runtime::fork().doing(doing)? {
            runtime::Fork::Parent(child) => {
                drop(watched);
                hold(Some(held));
                Ok(Self { child })
            }
            runtime::Fork::Child => {
                drop(held);
                // A signal from the terminal is for the build.
                let _ = runtime::detach_from_session();
                let _ = rustix::io::retry_on_intr(|| rustix::io::read(&watched, &mut [0; 1]));
                end_steps(engine, around);
                runtime::exit_now(0)
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let_go();
        let _ = self.child.wait();
    }
}

/// Lets go of what the guard watches, in a forked process that is not the build.
pub(crate) fn let_go() {
    hold(None);
}

fn hold(fd: Option<OwnedFd>) {
    // Nobody panics while it is locked.
    if let Ok(mut held) = HELD.lock() {
        *held = fd;
    }
}

/// Kills the commands of all steps of a build, and removes what they leave.
pub(crate) fn end_steps(engine: &Engine, around: &Surroundings) {
    let run = engine.root().join("build/run");
    for entry in fs::read_dir(&run).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(&around.prefix) {
            continue;
        }
        if let Ok(cgroup) = Cgroup::open(&cgroup_path(&around.cgroup_parent, &name)) {
            let _ = cgroup.kill();
            let _ = cgroup.delete();
        }
        let _ = fs::remove_dir_all(engine.containers.run_dir(&name));
    }
    // Each step removes its own directory, unless it was killed.
    let _ = engine.sweep_steps();
}
