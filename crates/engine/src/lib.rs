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
mod change;
pub mod clock;
mod commit;
mod compare;
pub mod container;
mod create;
mod detach;
mod distribution;
mod error;
mod exec;
mod file;
mod fsck;
mod hold;
mod holding;
mod id;
mod image;
mod logs;
mod lookup;
mod manifest;
mod monitor;
mod name;
mod network;
mod pause;
mod port;
mod prune;
mod restart;
mod settings;
mod space;
mod spec;
mod start;
mod stop;
mod terminal;
mod usage;
mod volume;

use std::path::{Path, PathBuf};

pub use attached::{Attachment, Outcome};
pub use change::Update;
pub use commit::CommitOptions;
pub use compare::Operand;
pub use container::{Container, Placement, Record, State, Status};
pub use distribution::{CopyEnd, CopyOptions, Place, Pushed, logged_in, login, logout, search};
pub use error::{Error, Kind, Result};
pub use fsck::Finding;
pub use holding::Holding;
pub use image::Pulled;
pub use logs::{LogLine, LogQuery};
pub use manifest::{ListEntry, ManifestList, PlatformEdit};
pub use monitor::health::{Health, HealthResult, HealthStatus};
pub use monitor::log::Stream;
pub use monitor::relay::Own;
pub use net::port::{Port, Protocol};
pub use net::{MacAddress, Network as Bridge, Subnet};
pub use network::{Network, NetworkOptions, validate_alias};
pub use port::{Publication, parse_port, parse_protocol};
pub use prune::{PruneFilter, Pruned, Relief, Watermarks};
pub use restart::RestartPolicy;
pub use settings::{
    Device, Exec, Limits, Membership, Mount, MountSource, NetworkMode, Seccomp, Security, Settings,
    Ulimit,
};
pub use space::{DiskUsage, ImageUsage, VolumeUsage};
pub use start::seal;
pub use stop::{RemoveOptions, signal};
pub use store::Fresh;
pub use terminal::{RawMode, read_secret};
pub use usage::Usage;
pub use volume::Volume;

use container::Containers;

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
    /// `driver` is how the store keeps layers, if that is not left to it.
    ///
    /// Costs next to nothing: directories are made when they are first needed.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the store has another driver. If the roots cannot be used, or others
    /// could: whoever can write there could plant files and links in the place of ours.
    pub fn open(
        root: &Path,
        run_root: &Path,
        driver: Option<store::Driver>,
        registry: registry::Config,
    ) -> Result<Self> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| {
                Error::caused(Kind::Invalid, format!("use {} as a root", path.display()), error)
            })
        };
        let (root, run_root) = (absolute(root)?, absolute(run_root)?);
        let store = store::Store::open(&root)?.with_driver(driver)?;
        let roots = [&root, &run_root];
        roots.into_iter().try_for_each(|root| file::is_ours(root))?;
        let containers = Containers::new(&root, &run_root);
        Ok(Self { root, store, containers, registry })
    }

    /// The same engine, which leaves it to the kernel when images are written to disk, if `syncs` is
    /// false; else they are before they count as pulled, loaded or made.
    #[must_use]
    pub fn with_sync(self, syncs: bool) -> Self {
        Self { store: self.store.with_sync(syncs), ..self }
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
}
