//! Finding containers, and telling the truth about those whose monitor is gone.

use std::path::Path;

use rustix::fs::FlockOperation;

use crate::container::{Container, State, Status, no_such};
use crate::error::{Kind, Result};
use crate::hold::{UNKNOWN_CODE, UNKNOWN_END};
use crate::{Engine, clock, file};

impl Engine {
    /// Finds a container by its id, name, or the first digits of its id.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or [`Kind::Invalid`] where several ids start like this.
    pub fn find(&self, key: &str) -> Result<Container> {
        self.settle(self.containers.find(key)?)
    }

    /// The names of all containers, sorted, without a look at any of them.
    #[must_use]
    pub fn container_names(&self) -> Vec<String> {
        let mut names = self.containers.names();
        names.sort();
        names
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
                Err(error) if error.kind() == Kind::NotFound => self.sweep(&id),
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| b.record.created.cmp(&a.record.created));
        Ok(all)
    }

    /// Tells the truth about a container whose monitor was killed, or whose machine was restarted.
    /// One whose process lives, or that is to be started again, gets another monitor; any other
    /// has exited.
    fn settle(&self, mut container: Container) -> Result<Container> {
        if !container.is_running() || container.has_monitor() {
            return Ok(container);
        }
        let lock = container.lock()?;
        if !container.is_running() || container.has_monitor() {
            return Ok(container);
        }
        if container.needs_adoption() {
            drop(lock);
            return self.find_monitor(container);
        }
        self.bury(&mut container);
        container.state = State {
            status: Status::Exited,
            pid: 0,
            pid_start: 0,
            monitor_pid: 0,
            exit_code: UNKNOWN_CODE,
            error: match container.is_of_this_boot() {
                true => UNKNOWN_END.to_owned(),
                false => "the machine was restarted while it ran".to_owned(),
            },
            finished_at: clock::now(),
            places: Vec::new(),
            ports: Vec::new(),
            ..container.state.clone()
        };
        // On a full disk it is found out anew next time.
        let _ = container.save();
        self.emit_end(&container, &[]);
        Ok(container)
    }

    /// Removes what is left of a container whose creator was killed before it was whole.
    fn sweep(&self, id: &str) {
        // Whoever creates a container holds a lease, so now nobody does.
        let Ok(_exclusive) = self.store.exclusive() else { return };
        let dir = self.root.join("containers").join(id);
        if !dir.join("config.json").exists() {
            // What stays now is tried again the next time somebody looks.
            let _ = self.discard_half_made(id, &dir);
        }
    }

    /// As [`Engine::sweep`], for the container that holds a name.
    pub(crate) fn sweep_name(&self, name: &str) {
        if let Some(id) = self.containers.owner(name)
            && self.containers.is_half_made(&id)
        {
            self.sweep(&id);
        }
    }

    /// Removes a container that has no record, and the volumes made for it.
    pub(crate) fn discard_half_made(&self, id: &str, dir: &Path) -> Result<()> {
        let volumes = self.volumes();
        let entries = std::fs::read_dir(&volumes).into_iter().flatten().flatten();
        let names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for volume in crate::volume::made_for(&volumes, &names, id, |id| self.containers.exists(id))
        {
            self.store.discard(&volume)?;
        }
        self.store.discard(&crate::volume::unfinished(&volumes, id))?;
        Ok(self.store.discard(dir)?)
    }

    /// Ends and removes what a container leaves in the kernel and in the run directory; what is
    /// not there any more is as good as removed.
    pub(crate) fn bury(&self, container: &mut Container) {
        self.bury_run(container);
        let _ = std::fs::remove_dir_all(&container.run_dir);
    }

    /// As [`Engine::bury`], for a container that its monitor goes on to hold.
    pub(crate) fn bury_run(&self, container: &Container) {
        if let Ok(cgroup) = runtime::cgroup::Cgroup::open(&container.cgroup_path()) {
            let _ = cgroup.kill();
            let _ = cgroup.delete();
        }
        // Before the address is another's.
        self.release_ports(container);
        for place in &container.state.places {
            self.leave_place(place, &container.record.id);
        }
    }

    /// Waits until a container's monitor is gone, and returns the exit code it left.
    ///
    /// # Errors
    /// If the container vanished without leaving one.
    pub fn wait(&self, container: &Container) -> Result<i32> {
        loop {
            let Ok(file) = std::fs::File::open(container.monitor_path()) else {
                // Whoever removes it writes down how it has ended, and then lets go of the lock.
                let mut container = container.clone();
                return match container.lock() {
                    Err(error) if error.kind() == Kind::NotFound => {
                        Err(no_such(&container.record.name))
                    }
                    locked => locked.map(|_| container.state.exit_code),
                };
            };
            file::flock(&file, FlockOperation::LockShared)?;
            let text = std::io::read_to_string(&file).unwrap_or_default();
            if let Ok(code) = text.trim().parse() {
                return Ok(code);
            }
            // It was killed; another one may have taken its place.
            let found = self.find(&container.record.id)?;
            if !found.is_running() || (!found.has_monitor() && !found.process_lives()) {
                return Ok(found.state.exit_code);
            }
        }
    }
}
