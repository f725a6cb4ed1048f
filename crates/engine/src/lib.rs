//! Containers, images, volumes, networks, exec and logs of one machine.
//!
//! **What it is.** The boundary of a host: whoever wants something done with containers asks
//! [`Engine`]. State is files (see [`container`]), so that any number of processes may be engines
//! at once and none must keep running; each running container is held by its own monitor.
//!
//! **What it must not know.** Docker's or Kubernetes' JSON, command lines, terminals' colours.
//! It composes `runtime`, `store`, `registry` and `net`, which do not know each other.
//!
//! **Front doors.** [`Engine::open`], [`Engine::create`], [`Engine::start`], [`Engine::find`].
//!
//! **How to test it.** `cargo test -p engine`; `cargo test -p tests` runs real containers.

mod adopt;
mod archive;
mod attached;
mod build;
mod change;
pub mod clock;
mod commit;
mod compare;
pub mod container;
mod conversation;
mod create;
mod detach;
mod distribution;
mod error;
mod event;
mod exec;
mod exec_instance;
mod file;
mod fsck;
mod hold;
mod holding;
mod id;
mod image;
mod join;
mod lazy;
mod logs;
mod lookup;
mod machine;
mod manifest;
mod memory;
mod monitor;
mod mounts;
mod name;
mod network;
mod open;
mod pause;
mod pod;
mod port;
mod prune;
mod quota;
mod record;
mod restart;
mod restore;
mod settings;
mod space;
mod spawner;
mod spec;
mod start;
mod stop;
mod terminal;
mod usage;
mod volume;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use archive::{Extract, Files};
pub use attached::{Attaching, Attachment, DetachKeys, Outcome};
pub use build::{
    Attest, BuildCacheUsage, BuildError, BuildEvent, BuildJob, BuildNews, BuildOptions, Built,
    CacheTarget, ContextArchive, DEFAULT_EPOCH_S, Deviation, Explained, FailedStep, GitAccess,
    ImageIndex, JobCache, JobFinding, KeyAgent, Lock, LockedImage, NORMALIZE_RULES, NormalizeRule,
    Provenance, Received, Statement, Verdict, Verified, Wants, cache_in_registry, commit_time,
    normalize_off, open_below, seconds, unsearched_secrets,
};
pub use change::Update;
pub use commit::CommitOptions;
pub use compare::Operand;
pub use container::{Container, Placement, Record, State, Status};
pub use conversation::{Conversation, Entry, Purpose, Removal, Said, Waiter, is_taken};
pub use distribution::{
    CopyEnd, CopyOptions, Place, Pushed, logged_in, login, logout, remote_tags, search,
};
pub use error::{Error, Kind, Result};
pub use event::{Event, EventQuery, Events, Subject};
pub use exec_instance::{ExecInstance, ExecState};
pub use fsck::Finding;
pub use holding::Holding;
pub use image::{Arriving, Lazily, Pulled};
pub use logs::{LogItem, LogLine, LogQuery};
pub use machine::Machine;
pub use manifest::{ListEntry, ManifestList, PlatformEdit};
pub use memory::{MemoryEnd, Victim};
pub use monitor::health::{Health, HealthResult, HealthStatus};
pub use monitor::log::{Stream, plan::DEFAULT_OPTIONS as DEFAULT_LOG_OPTIONS};
pub use net::{
    Address, Endpoint, Hook, MacAddress, Network as Bridge, NetworkV6, Prefix, Subnet, Subnet6,
    Wall,
    port::{Port, Protocol},
};
pub use network::{Exposure, Network, NetworkOptions, Way, service, validate_alias};
pub use port::{Publication, parse_port, parse_protocol};
pub use prune::{PruneFilter, Pruned, Relief, Watermarks};
pub use restart::RestartPolicy;
pub use restore::Restored;
pub use runtime::cgroup::{IoStats as GroupIo, Stats as GroupStats};
pub use settings::{
    Attached, Device, DeviceRule, Exec, Limits, LogConfig, Membership, Mount, MountSource,
    NetworkMode, Owner, Pod, Seccomp, Security, Settings, Sharing, Throttle, Throttled, Ulimit,
};
pub use space::{DiskUsage, ImageUsage, Unfinished, VolumeUsage};
pub use spawner::{Packed, PullJob, Spawner};
pub use start::seal;
pub use stop::{RemoveOptions, signal};
pub use store::{Fresh, PathStat, clean as clean_path};
pub use terminal::{RawMode, read_secret};
pub use usage::{Traffic, Usage};
pub use volume::{Snapshot, Volume, VolumeOptions};

use container::Containers;

/// Everything there is on one machine under one pair of roots.
#[derive(Debug, Clone)]
pub struct Engine {
    root: PathBuf,
    store: store::Store,
    containers: Containers,
    registry: registry::Config,
    /// Who we are for registries, if not whom `~/.docker/config.json` says.
    auth: Option<registry::Auth>,
    /// The command that gives a container another monitor, but for the container's id.
    adopter: Vec<OsString>,
}

impl Engine {
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
