//! Freezing the processes of a container, and letting them go on.

use runtime::cgroup::Cgroup;

use crate::Engine;
use crate::container::{Container, Status};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::image::from_cgroup;
use crate::stop;

impl Engine {
    /// Freezes all processes of a running container.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run, or is paused already.
    pub fn pause(&self, container: &Container) -> Result<()> {
        let mut container = container.clone();
        let _lock = container.lock()?;
        let conflict = |what: &str| {
            Err(Error::new(Kind::Conflict, format!("Container {} {what}", container.record.name)))
        };
        match container.state.status {
            Status::Running => {}
            Status::Paused => return conflict("is already paused"),
            Status::Restarting => return Err(stop::restarting(&container)),
            Status::Created | Status::Exited | Status::Removing => {
                return Err(stop::not_running(&container));
            }
        }
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        cgroup.freeze().map_err(from_cgroup)?;
        container.state.status = Status::Paused;
        container.save().inspect_err(|_| {
            // What nobody would know of must not stay frozen.
            let _ = cgroup.thaw();
        })?;
        self.emit(Event::container("pause", &container));
        Ok(())
    }

    /// Lets the processes of a paused container go on.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it is not paused.
    pub fn unpause(&self, container: &Container) -> Result<()> {
        let mut container = container.clone();
        match self.thaw_locked(&mut container)? {
            true => Ok(()),
            false => {
                let message = format!("Container {} is not paused", container.record.name);
                Err(Error::new(Kind::Conflict, message))
            }
        }
    }

    /// Lets a container go on if it is paused, so that a signal reaches it.
    pub(crate) fn thaw(&self, container: &mut Container) -> Result<()> {
        match container.state.status {
            Status::Paused => self.thaw_locked(container).map(drop),
            _ => Ok(()),
        }
    }

    fn thaw_locked(&self, container: &mut Container) -> Result<bool> {
        let _lock = container.lock()?;
        if container.state.status != Status::Paused {
            return Ok(false);
        }
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        cgroup.thaw().map_err(from_cgroup)?;
        container.state.status = Status::Running;
        container.save()?;
        self.emit(Event::container("unpause", container));
        Ok(true)
    }
}
