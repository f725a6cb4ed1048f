//! Containers as they stand on disk: the record, the state, names and look-up.
//!
//! ```text
//! <root>/containers/<id>/config.json   the record: written when the container is created, after
//!                                      all else; removed before all else
//! <root>/containers/<id>               flock: held during every change of state
//! <root>/containers/<id>/state.json    the state: replaced whole by whoever holds the lock; missing
//!                                      until the first start
//! <root>/containers/<id>/upper, work   the writable layer
//! <root>/containers/<id>/hosts, hostname, resolv.conf   what is mounted over those in /etc
//! <root>/containers/<id>/container.log the log, and its rotated files
//! <root>/names/<name>                  symbolic link to the id: the name is taken
//! <run root>/<id>/monitor              flock: held by the monitor as long as it lives; the exit
//!                                      code is written into it before it is let go
//! <run root>/<id>/attach               the monitor's socket
//! <run root>/<id>/health.json          what checks of its health have found
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use oci::runtime::LinuxResources;
use oci::{ContainerConfig, Digest};
use runtime::cgroup::Cgroup;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock, read_json, write_json};
use crate::id;
use crate::memory::MemoryEnd;
use crate::monitor::health::{HEALTH, Health};
use crate::settings::{MountSource, Settings};

/// Digits of an id that `ps` shows.
pub const SHORT_ID_LENGTH: usize = 12;
/// The file of the record.
pub(crate) const RECORD: &str = "config.json";
const NAME_ATTEMPTS_MAX: u32 = 16;

/// The path of a container's cgroup: in its parent, or where nobody asked for one, right below the
/// roots of the hierarchies (docs/decisions/0021-groups-where-they-count.md).
pub(crate) fn cgroup_path(parent: &str, id: &str) -> PathBuf {
    match parent {
        "" => PathBuf::from(format!("/cais-{id}")),
        parent => Path::new(parent).join(id),
    }
}

/// A container, as it was created.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name; changes only by a rename.
    pub name: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The id of its image.
    pub image_id: Digest,
    /// The image's layers, lowest first: kept as long as the container is.
    pub layers: Vec<Digest>,
    /// The image's manifest, if the layers were still arriving by its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// What was asked.
    pub settings: Settings,
    /// What was asked, with the image's defaults.
    pub config: ContainerConfig,
}

impl Record {
    /// What its root file system is put together from.
    #[must_use]
    pub fn chain(&self) -> store::Chain<'_> {
        store::Chain { layers: &self.layers, manifest: self.manifest.as_ref() }
    }

    /// The images that it needs: its own, and those that are mounted into it.
    #[must_use]
    pub fn images(&self) -> Vec<Digest> {
        let mounted = self.settings.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image { id, .. } => *id,
            _ => None,
        });
        [self.image_id].into_iter().chain(mounted).collect()
    }

    /// The layers of all its images.
    pub(crate) fn all_layers(&self) -> Vec<Digest> {
        let mounted = self.settings.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image { layers, .. } => Some(layers),
            _ => None,
        });
        [&self.layers].into_iter().chain(mounted).flatten().copied().collect()
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its process lives.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended, and its monitor waits to start it again.
    Restarting,
    /// Its process has ended.
    Exited,
    /// Being removed, or a removal was interrupted.
    Removing,
}

impl Status {
    /// The word for it, which is Docker's too.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
        }
    }
}

/// What happens to a container, as it is known now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// Its first process, on the host; 0 when there is none.
    pub pid: i32,
    /// The kernel's start time of that process, to tell it from a later one with its number.
    pub pid_start: u64,
    /// The monitor's process.
    pub monitor_pid: i32,
    /// The kernel's start time of the monitor, as of the container's process.
    pub monitor_start: u64,
    /// The last exit code.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// What became of its memory when it ended last.
    pub memory: MemoryEnd,
    /// When it was started last, RFC 3339; empty before.
    pub started_at: String,
    /// When it ended last, RFC 3339; empty before.
    pub finished_at: String,
    /// Its places on networks, the first first.
    pub places: Vec<Placement>,
    /// The ports of the host that stand for its own.
    pub ports: Vec<net::port::Port>,
    /// Whether somebody asked it to end, so that it is not started again.
    pub stop_requested: bool,
    /// How often its monitor has started it again.
    pub restarts: u32,
    /// Whether it is kept when it exits, although it was to be removed: it is being restarted.
    pub keep: bool,
    /// How often its record was changed after it was created.
    pub changes: u32,
    /// What checks of its health had found when it ended last.
    pub health: Option<Health>,
    /// Which start of the machine it was started in: numbers of processes are of one start only.
    /// Empty in states of before this was kept.
    pub boot: String,
    /// The numbers of the pipes that are its standard input, output and error; 0 where there is
    /// none. Who adopts it finds them by these.
    pub pipes: [u64; 3],
    /// The descriptors by which the monitor of a pod holds its namespaces, by their names.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub pins: std::collections::BTreeMap<String, i32>,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// Where it is.
    pub endpoint: net::Endpoint,
    /// Names that it is known by there, beyond its own.
    pub aliases: Vec<String>,
}

/// A container and its directories.
#[derive(Debug, Clone)]
pub struct Container {
    /// As it was created.
    pub record: Record,
    /// As it is now.
    pub state: State,
    pub(crate) dir: PathBuf,
    pub(crate) run_dir: PathBuf,
}

/// Holds a container's `lock` while its state changes.
#[derive(Debug)]
pub(crate) struct StateLock(
    #[expect(dead_code, reason = "the lock lives as long as the file")] File,
);

impl State {
    /// The state of a container that nothing is known of but its changes.
    pub(crate) fn anew(&self) -> Self {
        Self { changes: self.changes, ..Self::default() }
    }
}

impl Container {
    /// The first digits of the id.
    #[must_use]
    pub fn short_id(&self) -> &str {
        &self.record.id[..SHORT_ID_LENGTH]
    }

    /// The file that the log is written to.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("container.log")
    }

    /// The file that is mounted over `/etc/<name>` while the container runs: `hosts`, `hostname`
    /// or `resolv.conf`. It is made anew for each start; it lies where the writable layer does, and
    /// not in the machine's memory, since the container can make it as large as it likes.
    #[must_use]
    pub fn name_file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the writable layer is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Whether a monitor holds it: its process lives, frozen or not, or will be started again. As
    /// in Docker, what is restarting is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state.status, Status::Running | Status::Paused | Status::Restarting)
    }

    /// What checks of its health have found; `None` where there are none.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        match self.state.status {
            Status::Running | Status::Paused => read_json(&self.run_dir.join(HEALTH)).ok(),
            _ => self.state.health.clone(),
        }
    }

    /// Whether somebody has asked it to end since its state was read.
    pub(crate) fn stop_is_requested(&self) -> bool {
        read_state(&self.dir).is_ok_and(|state| state.stop_requested)
    }

    pub(crate) fn monitor_path(&self) -> PathBuf {
        self.run_dir.join("monitor")
    }

    pub(crate) fn attach_path(&self) -> PathBuf {
        self.run_dir.join("attach")
    }

    /// The path of its cgroup below every hierarchy.
    #[must_use]
    pub fn cgroup_path(&self) -> PathBuf {
        cgroup_path(&self.record.settings.cgroup_parent, &self.record.id)
    }

    /// Makes its cgroup: in every hierarchy, if it could mount one or sees the host's.
    pub(crate) fn make_cgroup(
        &self,
        resources: Option<&LinuxResources>,
    ) -> std::result::Result<Cgroup, runtime::cgroup::Error> {
        match self.record.settings.security.may_mount_hierarchies() {
            true => Cgroup::create(&self.cgroup_path(), resources),
            false => Cgroup::create_sparing(&self.cgroup_path(), resources),
        }
    }

    /// Waits for whoever is changing the state, then reads it anew. The directory itself is the lock.
    pub(crate) fn lock(&mut self) -> Result<StateLock> {
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => no_such(&self.record.id),
            _ => {
                Error::caused(Kind::Internal, format!("lock container {}", self.record.name), error)
            }
        };
        let file = File::open(&self.dir).map_err(missing)?;
        flock(&file, FlockOperation::LockExclusive)?;
        // Whoever held the lock may have removed the container.
        if !self.dir.join(RECORD).exists() {
            return Err(no_such(&self.record.name));
        }
        let known = self.state.changes;
        self.state = read_state(&self.dir)?;
        if self.state.changes != known {
            self.record = read_json(&self.dir.join(RECORD))?;
        }
        Ok(StateLock(file))
    }

    /// Whether somebody holds its lock: it is being started, or ended, or changed.
    pub(crate) fn is_being_changed(&self) -> bool {
        let is_locked = |file: File| flock(&file, FlockOperation::NonBlockingLockShared).is_err();
        File::open(&self.dir).is_ok_and(is_locked)
    }

    /// Replaces the state on disk; the caller holds the lock.
    pub(crate) fn save(&self) -> Result<()> {
        write_json(&self.dir, "state.json", &self.state)
    }

    /// Whether a monitor holds the container: here, or where the run directory of who started it is
    /// another one, or was removed.
    pub(crate) fn has_monitor(&self) -> bool {
        let locked = File::open(self.monitor_path()).is_ok_and(|file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err()
        });
        locked || self.monitor_lives()
    }

    /// Whether the process that was its monitor when the state was written still runs.
    fn monitor_lives(&self) -> bool {
        let State { monitor_pid, monitor_start, .. } = self.state;
        monitor_pid != 0 && self.is_of_this_boot() && runtime::is_alive(monitor_pid, monitor_start)
    }

    /// Whether its first process still runs.
    pub(crate) fn process_lives(&self) -> bool {
        let State { pid, pid_start, .. } = self.state;
        pid != 0 && self.is_of_this_boot() && runtime::is_alive(pid, pid_start)
    }

    /// Whether the machine has not been restarted since it was started.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.state.boot.is_empty() || self.state.boot == boot()
    }
}

/// The containers of one root.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    root: PathBuf,
    run_root: PathBuf,
}

impl Containers {
    pub(crate) fn new(root: &Path, run_root: &Path) -> Self {
        Self { root: root.to_owned(), run_root: run_root.to_owned() }
    }

    fn dir(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    fn name_path(&self, name: &str) -> PathBuf {
        self.root.join("names").join(name)
    }

    /// A fresh id, and the container's directory.
    pub(crate) fn allocate(&self) -> Result<(String, PathBuf)> {
        let id = id::fresh()?;
        let dir = self.dir(&id);
        create_dir(&dir)?;
        Ok((id, dir))
    }

    /// Reserves `wanted`, or a random name where it is empty, for `id`.
    pub(crate) fn reserve(&self, wanted: &str, id: &str) -> Result<String> {
        if !wanted.is_empty() {
            crate::name::validate(wanted)?;
            return match self.link(wanted, id)? {
                true => Ok(wanted.to_owned()),
                false => Err(self.taken(wanted)),
            };
        }
        for attempt in 0..NAME_ATTEMPTS_MAX {
            let name = crate::name::random(attempt)?;
            if self.link(&name, id)? {
                return Ok(name);
            }
        }
        Err(Error::new(Kind::Exists, "choose a name: all that were tried are taken")
            .hint("give one with --name"))
    }

    /// Whether the name could be linked; a link whose container is gone is stale and replaced.
    fn link(&self, name: &str, id: &str) -> Result<bool> {
        let path = self.name_path(name);
        let doing = || format!("reserve the name {name}");
        match std::os::unix::fs::symlink(id, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dir(&self.root.join("names"))?;
                std::os::unix::fs::symlink(id, &path).doing(doing)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let owner = fs::read_link(&path).unwrap_or_default();
                if owner.as_os_str().is_empty() || self.dir(&owner.to_string_lossy()).exists() {
                    return Ok(false);
                }
                let fresh = self.root.join("names").join(format!(".{id}"));
                std::os::unix::fs::symlink(id, &fresh).doing(doing)?;
                fs::rename(&fresh, &path).doing(doing)?;
                Ok(true)
            }
            outcome => outcome.doing(doing).map(|()| true),
        }
    }

    /// The id that a name is taken by.
    pub(crate) fn owner(&self, name: &str) -> Option<String> {
        crate::name::validate(name).ok()?;
        fs::read_link(self.name_path(name)).ok()?.into_os_string().into_string().ok()
    }

    /// Whether there is a container of this id.
    pub(crate) fn exists(&self, id: &str) -> bool {
        self.dir(id).join(RECORD).exists()
    }

    /// Whether a container has a directory and no record: it is being created, or was not to the
    /// end.
    pub(crate) fn is_half_made(&self, id: &str) -> bool {
        let dir = self.dir(id);
        dir.exists() && !dir.join("config.json").exists()
    }

    fn taken(&self, name: &str) -> Error {
        let owner = fs::read_link(self.name_path(name)).unwrap_or_default();
        let owner = owner.to_string_lossy().into_owned();
        Error::new(
            Kind::Exists,
            format!("Conflict. The container name \"/{name}\" is already in use by container \"{owner}\""),
        )
        .hint(format!("remove it with `cais rm {name}`, rename it, or choose another --name"))
    }

    pub(crate) fn release(&self, name: &str, id: &str) {
        let path = self.name_path(name);
        if fs::read_link(&path).is_ok_and(|owner| owner == Path::new(id)) {
            // Already gone is as good.
            let _ = fs::remove_file(path);
        }
    }

    /// Reads one container by its whole id.
    pub(crate) fn read(&self, id: &str) -> Result<Container> {
        let dir = self.dir(id);
        let record = read_json(&dir.join(RECORD))?;
        let state = read_state(&dir)?;
        Ok(Container { record, state, dir, run_dir: self.run_root.join(id) })
    }

    /// All whole ids.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let dir = self.root.join("containers");
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(|| format!("list {}", dir.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.len() == id::LENGTH).collect())
    }

    /// The names that are taken, in no order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("names")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// Finds a container by its id, its name, or the first digits of its id, in this order.
    pub(crate) fn find(&self, key: &str) -> Result<Container> {
        let key = key.strip_prefix('/').unwrap_or(key);
        let is_hex = !key.is_empty() && key.bytes().all(|b| b.is_ascii_hexdigit());
        if key.len() == id::LENGTH && is_hex && self.dir(key).exists() {
            return self.read(key);
        }
        if crate::name::validate(key).is_ok()
            && let Ok(id) = fs::read_link(self.name_path(key))
        {
            return match self.read(&id.to_string_lossy()) {
                Err(error) if error.kind() == Kind::NotFound => Err(no_such(key)),
                outcome => outcome,
            };
        }
        if !is_hex {
            return Err(no_such(key));
        }
        let mut matches = self.ids()?.into_iter().filter(|id| id.starts_with(key));
        match (matches.next(), matches.next()) {
            (Some(id), None) => self.read(&id),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {key}"))
                    .hint("give more digits of the id, or the name"))
            }
            _ => Err(no_such(key)),
        }
    }

    /// Where running containers find each other's mounts of images.
    pub(crate) fn images(&self) -> PathBuf {
        self.run_root.join("images")
    }

    /// The directory that a container being created or removed hides in.
    pub(crate) fn run_dir(&self, id: &str) -> PathBuf {
        self.run_root.join(id)
    }
}

/// Names this start of the machine (`/proc/sys/kernel/random/boot_id`, proc_sys_kernel(5)).
pub(crate) fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The state of the container in `dir`. To write one at the creation would cost a file, and one
/// more when it is replaced: ext4 sends what a rename replaces to the disk at once.
fn read_state(dir: &Path) -> Result<State> {
    match read_json(&dir.join("state.json")) {
        // Asked now, since the container may have been removed after its record was read.
        Err(error) if error.kind() == Kind::NotFound && dir.join(RECORD).exists() => {
            Ok(State::default())
        }
        outcome => outcome,
    }
}

pub(crate) fn no_such(key: &str) -> Error {
    Error::new(Kind::NotFound, format!("No such container: {key}"))
        .hint("`cais ps -a` lists all containers")
}
