//! Deletion, of whatever is left.

use std::os::fd::AsFd as _;
use std::path::Path;

use oci::runtime::{ContainerState, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::record::{Access, Directory};
use super::{Container, Error, Status};
use crate::cgroup::Cgroup;
use crate::error::{Doing, Error as RuntimeError};
use crate::hook;

/// How long the first process may take to end after SIGKILL.
const END_WAIT_MAX: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Deletes a container that is stopped or was never started; with `force`, one in any state, and
/// one that is not there. Returns what failed of its `poststop` hooks, which prevents nothing.
///
/// # Errors
/// [`Error::NotExist`]; [`Error::Refused`] while it runs; [`Error::Cgroup`] when its processes do
/// not end.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<Vec<RuntimeError>, Error> {
    match try_delete(root, id, force) {
        Err(Error::NotExist) if force => Ok(Vec::new()),
        other => other,
    }
}

fn try_delete(root: &Path, id: &str, force: bool) -> Result<Vec<RuntimeError>, Error> {
    let directory = Directory::open(root, id)?;
    if force && let Some(record) = directory.read()? {
        // Before the lock: who holds it may wait for this very process.
        let container = Container { directory, record };
        let _ = container.signal(libc::SIGKILL);
        container.directory.lock(Access::Change)?;
        return delete_locked(container.directory, force);
    }
    directory.lock(Access::Change)?;
    delete_locked(directory, force)
}

fn delete_locked(directory: Directory, force: bool) -> Result<Vec<RuntimeError>, Error> {
    let Some(record) = directory.read()? else {
        // Whoever created it was killed before it had anything.
        directory.remove()?;
        return Err(Error::NotExist);
    };
    let container = Container { directory, record };
    let status = container.status()?;
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        let id = &container.record.id;
        return Err(Error::Refused(format!(
            "cannot delete container {id} that is not stopped: {}",
            status.word()
        )));
    }
    let spec = container.spec().ok();
    let cgroup = container.cgroup()?;
    destroy(&container, spec, cgroup)
}

/// Removes everything of a locked container, with the `cgroup` that it has, and calls its `poststop`
/// hooks.
pub(super) fn destroy(
    container: &Container,
    spec: Option<&Spec>,
    cgroup: Option<Cgroup>,
) -> Result<Vec<RuntimeError>, Error> {
    end(container)?;
    remove_cgroup(container, cgroup)?;
    if let Some(kept) = container.record.root_mounts {
        crate::release_root(&container.record.rootfs, kept)?;
    }
    if let Some(spec) = spec {
        crate::delete_resctrl(spec, &container.record.id)?;
    }
    container.directory.remove()?;
    let hooks = spec.and_then(|spec| spec.hooks().as_ref());
    let Some(hooks) = hooks.and_then(|hooks| hooks.poststop().as_deref()) else {
        return Ok(Vec::new());
    };
    let state = hook::with(&container.record.state(), 0, ContainerState::Stopped);
    Ok(hook::Ready::new("poststop", hooks, &state)?.run_each())
}

/// Ends what is left in the container's cgroup, and removes it.
fn remove_cgroup(container: &Container, cgroup: Option<Cgroup>) -> Result<(), Error> {
    if container.record.pid == 0 {
        // Whoever created it was killed before it had a process: what is in there is another's.
        let _ = cgroup.map(Cgroup::delete);
        return Ok(());
    }
    if let Some(cgroup) = cgroup {
        // Without a process namespace of its own, the others did not end with the first.
        cgroup.kill()?;
        if container.record.unit.is_none() {
            cgroup.delete()?;
        }
    }
    if let Some(unit) = &container.record.unit {
        unit.stop()?;
        // What systemd does not know of it, in hierarchies of version 1.
        container.cgroup()?.map_or(Ok(()), Cgroup::delete)?;
    }
    Ok(())
}

/// Ends the first process and waits until it has.
fn end(container: &Container) -> Result<(), Error> {
    let Ok(init) = container.init() else { return Ok(()) };
    match container.signal(libc::SIGKILL) {
        Ok(()) | Err(Error::NotRunning) => {}
        Err(error) => return Err(error),
    }
    loop {
        match poll(&mut [PollFd::new(&init.as_fd(), PollFlags::IN)], Some(&END_WAIT_MAX)) {
            Ok(0) => return Err(Error::Refused("container init still running".into())),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(errno).doing(|| "wait for the container's end").map_err(Error::from);
            }
        }
    }
}
