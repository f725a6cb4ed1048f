//! Finding containers, and telling the truth about those whose monitor is gone.

use rustix::fs::FlockOperation;

use crate::container::{self, Container, State, Status};
use crate::error::{Kind, Result};
use crate::{Engine, clock};

impl Engine {
    /// Finds a container by its id, name, or the first digits of its id.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or [`Kind::Invalid`] where several ids start like this.
    pub fn find(&self, key: &str) -> Result<Container> {
        self.settle(self.containers.find(key)?)
    }

    /// All containers, the newest first.
    ///
    /// # Errors
    /// If the directory cannot be read; containers that vanish meanwhile are left out.
    pub fn list(&self) -> Result<Vec<Container>> {
        let mut all = Vec::new();
        for id in self.containers.ids()? {
            match self.containers.read(&id).and_then(|container| self.settle(container)) {
                Ok(container) => all.push(container),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| b.record.created.cmp(&a.record.created));
        Ok(all)
    }

    /// Tells the truth about a container whose monitor was killed, or whose machine was restarted:
    /// what is left of it is killed, and it has exited.
    fn settle(&self, mut container: Container) -> Result<Container> {
        if !container.is_running() || container.has_monitor() {
            return Ok(container);
        }
        let _lock = container.lock()?;
        if !container.is_running() || container.has_monitor() {
            return Ok(container);
        }
        self.bury(&mut container);
        container.state = State {
            status: Status::Exited,
            pid: 0,
            pid_start: 0,
            monitor_pid: 0,
            exit_code: 137,
            error: "the container's monitor was killed, or the machine was restarted".into(),
            finished_at: clock::now(),
            address: None,
            ..container.state.clone()
        };
        container.save()?;
        Ok(container)
    }

    /// Ends and removes what a container leaves in the kernel and in the run directory; what is
    /// not there any more is as good as removed.
    pub(crate) fn bury(&self, container: &mut Container) {
        if let Ok(cgroup) = runtime::cgroup::Cgroup::open(&container.cgroup_path()) {
            let _ = cgroup.kill();
            let _ = cgroup.delete();
        }
        if let Some(endpoint) = &container.state.address {
            self.release_address(endpoint, &container.record.id);
        }
        let _ = std::fs::remove_dir_all(&container.run_dir);
    }

    /// Waits until a container's monitor is gone, and returns the exit code it left.
    ///
    /// # Errors
    /// If the container vanished without leaving one.
    pub fn wait(&self, container: &Container) -> Result<i32> {
        let Ok(file) = std::fs::File::open(container.monitor_path()) else {
            return Ok(self.containers.read(&container.record.id)?.state.exit_code);
        };
        container::flock(&file, FlockOperation::LockShared)?;
        let text = std::io::read_to_string(&file).unwrap_or_default();
        match text.trim().parse() {
            Ok(code) => Ok(code),
            Err(_) => Ok(self.find(&container.record.id)?.state.exit_code),
        }
    }
}
