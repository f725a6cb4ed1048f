//! Containers as they stand on disk: the record, the state, names and look-up.
//!
//! ```text
//! <root>/containers/<id>/config.json   the record: written once, when the container is created
//! <root>/containers/<id>/state.json    the state: replaced whole by whoever holds `lock`
//! <root>/containers/<id>/lock          flock: held during every change of state
//! <root>/containers/<id>/upper, work   the writable layer
//! <root>/containers/<id>/container.log the log, and its rotated files
//! <root>/containers/<id>/hosts, hostname, resolv.conf
//! <root>/names/<name>                  symbolic link to the id: the name is taken
//! <run root>/<id>/monitor              flock: held by the monitor as long as it lives; the exit
//!                                      code is written into it before it is let go
//! <run root>/<id>/attach               the monitor's socket
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use oci::{ContainerConfig, Digest};
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Kind, Result};
use crate::settings::Settings;

/// Digits of an id that `ps` shows.
pub const SHORT_ID_LENGTH: usize = 12;
const ID_BYTES: usize = 32;
const NAME_ATTEMPTS_MAX: u32 = 16;

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
    /// What was asked.
    pub settings: Settings,
    /// What was asked, with the image's defaults.
    pub config: ContainerConfig,
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
    /// Its process has ended.
    Exited,
    /// Being removed, or a removal was interrupted.
    Removing,
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
    /// The last exit code.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When it was started last, RFC 3339; empty before.
    pub started_at: String,
    /// When it ended last, RFC 3339; empty before.
    pub finished_at: String,
    /// Its address on the bridge.
    pub address: Option<net::Endpoint>,
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

    /// Where the writable layer is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Whether its process lives, frozen or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state.status, Status::Running | Status::Paused)
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
        Path::new("/cais").join(&self.record.id)
    }

    /// Waits for whoever is changing the state, then reads it anew.
    pub(crate) fn lock(&mut self) -> Result<StateLock> {
        let path = self.dir.join("lock");
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => no_such(&self.record.id),
            _ => {
                Error::caused(Kind::Internal, format!("lock container {}", self.record.name), error)
            }
        };
        let file = File::options().write(true).open(path).map_err(missing)?;
        flock(&file, FlockOperation::LockExclusive)?;
        // Whoever held the lock may have removed the container.
        self.state =
            read_json(&self.dir.join("state.json")).map_err(|error| match error.kind() {
                Kind::NotFound => no_such(&self.record.name),
                _ => error,
            })?;
        Ok(StateLock(file))
    }

    /// Replaces the state on disk; the caller holds the lock.
    pub(crate) fn save(&self) -> Result<()> {
        write_json(&self.dir, "state.json", &self.state)
    }

    /// Whether a monitor holds the container.
    pub(crate) fn has_monitor(&self) -> bool {
        let Ok(file) = File::open(self.monitor_path()) else { return false };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err()
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
        let id = hex(&random::<ID_BYTES>()?);
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
        let record = read_json(&dir.join("config.json"))?;
        let state = read_json(&dir.join("state.json"))?;
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
        Ok(names.filter(|name| name.len() == 2 * ID_BYTES).collect())
    }

    /// Finds a container by its id, its name, or the first digits of its id, in this order.
    pub(crate) fn find(&self, key: &str) -> Result<Container> {
        let key = key.strip_prefix('/').unwrap_or(key);
        let is_hex = !key.is_empty() && key.bytes().all(|b| b.is_ascii_hexdigit());
        if key.len() == 2 * ID_BYTES && is_hex && self.dir(key).exists() {
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

    /// The directory that a container being created or removed hides in.
    pub(crate) fn run_dir(&self, id: &str) -> PathBuf {
        self.run_root.join(id)
    }
}

pub(crate) fn no_such(key: &str) -> Error {
    Error::new(Kind::NotFound, format!("No such container: {key}"))
        .hint("`cais ps -a` lists all containers")
}

/// Bytes from the kernel's random source.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::caused(Kind::Internal, "read random bytes", error.to_string()))?;
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a directory that only its owner may enter, and those above it.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).doing(|| format!("create {}", path.display()))
}

/// Refuses a directory in which somebody else than root and this user could have planted files and
/// links: one of another's, or one that all may write to and that holds something of another's or
/// a link.
pub(crate) fn is_ours(path: &Path) -> Result<()> {
    let ours = |meta: &fs::Metadata| [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    let meta = match fs::metadata(path) {
        // It is made when it is needed, for this user alone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta.doing(|| format!("look at {}", path.display()))?,
    };
    if ours(&meta) && meta.mode() & 0o002 == 0 {
        return Ok(());
    }
    let entries = fs::read_dir(path).doing(|| format!("list {}", path.display()))?;
    let planted = entries.flatten().find(|entry| {
        // What vanishes meanwhile is not in the way.
        entry.metadata().is_ok_and(|meta| !ours(&meta) || meta.is_symlink())
    });
    let what = match planted {
        None if ours(&meta) => return Ok(()),
        None => path.to_owned(),
        Some(entry) => entry.path(),
    };
    Err(Error::invalid(format!("{} is not ours: others may have planted it", what.display()))
        .hint("choose a directory of your own as --root and --run-root"))
}

pub(crate) fn flock(file: &File, operation: FlockOperation) -> Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)).doing(|| "lock a file".into())
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Internal,
        };
        Error::caused(kind, format!("read {}", path.display()), error)
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::caused(Kind::Internal, format!("read {}", path.display()), error))
}

/// Replaces `dir/name` whole: readers see the old content or the new.
pub(crate) fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::caused(Kind::Internal, format!("write {name}"), error))?;
    write_file(dir, name, &bytes)
}

/// Replaces `dir/name` whole, with mode 0644: containers read some of these.
pub(crate) fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let fresh = dir.join(format!(".{name}"));
    let write = || -> io::Result<()> {
        File::create(&fresh)?.write_all(bytes)?;
        fs::rename(&fresh, &path)
    };
    write().doing(|| format!("write {}", path.display()))
}
