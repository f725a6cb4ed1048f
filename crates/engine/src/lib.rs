//! Containers, images, volumes, networks, exec and logs of one machine.
//!
//! **What it is.** The boundary of a host: whoever wants something done with containers asks
//! [`Engine`]. State is files (see [`container`]), so that any number of processes may be engines
//! at once and none must keep running; each running container is held by its own monitor.
//!
//! **What it must not know.** Docker's or Kubernetes' JSON, command lines, terminals' colours.
//! It composes `runtime`, `store`, `registry` and `net`, which do not know each other.
//!
//! **Front doors.** [`Engine::open`], [`Engine::create`], [`Engine::start`], [`Engine::exec`],
//! [`Engine::find`].
//!
//! **How to test it.** `cargo test -p engine` for what is pure; `cargo test -p tests` runs real
//! containers through the binary.

mod attached;
pub mod clock;
pub mod container;
mod create;
mod error;
mod exec;
mod image;
mod logs;
mod monitor;
mod name;
mod network;
mod settings;
mod spec;
mod start;
mod stop;
mod terminal;
mod volume;

use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

pub use attached::Attachment;
pub use container::{Container, Record, State, Status};
pub use error::{Error, Kind, Result};
pub use exec::Exec;
pub use image::Pulled;
pub use logs::{LogLine, LogQuery};
pub use monitor::log::Stream;
pub use monitor::relay::Own;
pub use settings::{
    Device, Limits, Mount, MountSource, NetworkMode, Seccomp, Security, Settings, Ulimit,
};
pub use start::Outcome;
pub use stop::{RemoveOptions, signal};
pub use terminal::RawMode;

use container::{Containers, State as ContainerState};

/// Everything there is on one machine under one pair of roots.
#[derive(Debug)]
pub struct Engine {
    root: PathBuf,
    store: store::Store,
    containers: Containers,
    registry: registry::Config,
}

impl Engine {
    /// Opens what lies under `root` (kept across reboots) and `run_root` (lost with them).
    ///
    /// Costs next to nothing: directories are made when they are first needed.
    ///
    /// # Errors
    /// If the roots cannot be used.
    pub fn open(root: &Path, run_root: &Path, registry: registry::Config) -> Result<Self> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| {
                Error::caused(Kind::Invalid, format!("use {} as a root", path.display()), error)
            })
        };
        let (root, run_root) = (absolute(root)?, absolute(run_root)?);
        let store = store::Store::open(&root)?;
        let containers = Containers::new(&root, &run_root);
        Ok(Self { root, store, containers, registry })
    }

    /// The images and layers.
    #[must_use]
    pub fn store(&self) -> &store::Store {
        &self.store
    }

    /// Where everything lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

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
        container.state = ContainerState {
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
    fn bury(&self, container: &mut Container) {
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

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        image::from_store(error)
    }
}
