//! Volumes: directories that outlive containers.
//!
//! `<root>/volumes/<name>/_data` holds the content; an anonymous volume has beside it a file
//! `owner` with the id of the container that it was made for, and one that was made by itself a
//! file `volume.json` with its labels. Whoever makes or removes volumes holds a lock on `volumes/`.

mod content;
mod driver;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::quota;
use crate::settings::{Mount, MountSource};

pub use content::Snapshot;
pub(crate) use driver::describe;

/// The directory of the content.
const DATA: &str = "_data";
/// What is known of a volume that was made by itself.
const RECORD: &str = "volume.json";

/// Accepts what Docker accepts as a volume's name.
pub(crate) fn validate(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && (2..=255).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
    ))
    .hint("If you intended to pass a host directory, use absolute path"))
}

/// Makes the content directory; whoever may enter it is decided by the container's own users.
pub(crate) fn make(dir: &Path, anonymous_for: Option<&str>) -> Result<()> {
    if let Some(id) = anonymous_for {
        crate::file::write_file(dir, "owner", id.as_bytes())?;
    }
    let data = dir.join(DATA);
    let make = || -> std::io::Result<()> {
        match fs::create_dir(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755))
    };
    make().doing(|| format!("create volume {}", dir.display()))
}

/// Where a volume is while it is made for container `id`: under a name that no volume can have.
pub(crate) fn unfinished(volumes: &Path, id: &str) -> PathBuf {
    volumes.join(format!(".{id}"))
}

/// Those of the volumes that were made for container `id`, and that no container which `exists` has
/// been given since.
pub(crate) fn made_for(
    volumes: &Path,
    names: &[&str],
    id: &str,
    exists: impl Fn(&str) -> bool,
) -> Vec<PathBuf> {
    let is_its_alone = |dir: &PathBuf| {
        let owners = fs::read_to_string(dir.join("owner")).unwrap_or_default();
        owners.lines().any(|owner| owner == id)
            && owners.lines().all(|owner| owner == id || !exists(owner))
    };
    names.iter().map(|name| volumes.join(name)).filter(is_its_alone).collect()
}

/// Writes down that an anonymous volume is another container's, too. The caller holds the volumes.
pub(crate) fn share(dir: &Path, id: &str) -> Result<()> {
    match fs::read_to_string(dir.join("owner")) {
        // One that was made by itself goes with nobody.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        owners => {
            let owners = owners.doing(|| format!("share volume {}", dir.display()))?;
            crate::file::write_file(dir, "owner", format!("{owners}\n{id}").as_bytes())
        }
    }
}

/// A volume, as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What its maker wrote on it; `None` if it was made for a container.
    pub labels: Option<BTreeMap<String, String>>,
    /// Options of the local driver.
    pub options: BTreeMap<String, String>,
    /// Whether nobody named it.
    pub is_anonymous: bool,
    /// Where its content is.
    pub mountpoint: PathBuf,
}

/// What is kept of a volume that was made by itself.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    created: String,
    labels: BTreeMap<String, String>,
    is_anonymous: bool,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

/// What a volume is made with.
#[derive(Debug, Clone, Default)]
pub struct VolumeOptions {
    /// What its maker writes on it.
    pub labels: BTreeMap<String, String>,
    /// Options of the local driver: `type`, `device` and `o`, as mount(8) has them, and `size`.
    pub options: BTreeMap<String, String>,
}

impl Engine {
    /// Where volumes lie.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// All volumes, by their names.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn volume_list(&self) -> Result<Vec<Volume>> {
        let dir = self.volumes();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(|| format!("list {}", dir.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut volumes: Vec<Volume> = names.filter_map(|name| self.volume(&name).ok()).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// A volume by its name.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let dir = self.volumes().join(name);
        let mountpoint = dir.join(DATA);
        if validate(name).is_err() || !mountpoint.is_dir() {
            return Err(no_such(name));
        }
        let record: Option<Record> = crate::file::read_json(&dir.join(RECORD)).ok();
        let made = || {
            let modified = fs::metadata(&dir).and_then(|meta| meta.modified()).ok()?;
            Some(crate::clock::format(jiff::Timestamp::try_from(modified).ok()?))
        };
        let is_anonymous = match &record {
            Some(record) => record.is_anonymous,
            None => dir.join("owner").exists(),
        };
        Ok(Volume {
            name: name.to_owned(),
            created: record.as_ref().map(|r| r.created.clone()).or_else(made).unwrap_or_default(),
            options: record.as_ref().map(|record| record.options.clone()).unwrap_or_default(),
            labels: record.map(|record| record.labels),
            is_anonymous,
            mountpoint,
        })
    }

    /// Makes a volume; with an empty name, one of 64 random digits. One that is there stays.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a name that none can have.
    pub fn create_volume(&self, name: &str, asked: VolumeOptions) -> Result<Volume> {
        driver::check(&asked.options)?;
        let is_anonymous = name.is_empty();
        let name = if is_anonymous { crate::id::fresh()? } else { name.to_owned() };
        validate(&name)?;
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        if let Ok(volume) = self.volume(&name) {
            return Ok(volume);
        }
        self.make_recorded(&name, asked, is_anonymous)?;
        self.volume(&name)
    }

    /// Makes a volume that is not there, with a record of its own.
    pub(crate) fn make_recorded(
        &self,
        name: &str,
        asked: VolumeOptions,
        is_anonymous: bool,
    ) -> Result<()> {
        let VolumeOptions { labels, options } = asked;
        driver::check(&options)?;
        let dir = self.volumes().join(name);
        crate::file::create_dir(&dir)?;
        let bytes = driver::size(&options)?;
        let record = Record { created: crate::clock::now(), labels, is_anonymous, options };
        crate::file::write_json(&dir, RECORD, &record)?;
        make(&dir, None)?;
        if let Some(bytes) = bytes {
            let limited = quota::limit(&[&dir.join(DATA)], bytes, &format!("volume {name}"));
            limited.inspect_err(|_| drop(self.store().discard(&dir)))?;
        }
        self.emit(Event::volume("create", name));
        Ok(())
    }

    /// Removes a volume with all that is in it.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] if a container uses it.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        // Before anything is made: the name may be mistyped, or the root.
        self.volume(name)?;
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        let volume = self.volume(name)?;
        let users = self.volume_users(&volume.name)?;
        if !users.is_empty() {
            let users = users.join(", ");
            return Err(Error::new(
                Kind::Conflict,
                format!("remove {name}: volume is in use - [{users}]"),
            )
            .hint("remove the containers first"));
        }
        if volume.options.contains_key("size") {
            quota::forget(&volume.mountpoint);
        }
        self.store().discard(&self.volumes().join(name))?;
        self.emit(Event::volume("destroy", name));
        Ok(())
    }

    /// The ids of the containers that a volume is mounted into.
    ///
    /// # Errors
    /// If the containers cannot be listed.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>> {
        let containers = self.list()?.into_iter();
        let users = containers.filter(|container| uses(&container.record, name));
        Ok(users.map(|container| container.record.id).collect())
    }

    /// Keeps volumes as they are: shared, so that none is removed; alone, to remove some.
    pub(crate) fn hold_volumes(&self, operation: FlockOperation) -> Result<fs::File> {
        let dir = self.volumes();
        if !dir.exists() {
            crate::file::create_dir(&dir)?;
        }
        let file = fs::File::open(&dir).doing(|| format!("open {}", dir.display()))?;
        crate::file::flock(&file, operation)?;
        Ok(file)
    }
}

/// Whether a volume is mounted into a container.
pub(crate) fn uses(record: &crate::Record, volume: &str) -> bool {
    let is_it =
        |mount: &Mount| matches!(&mount.source, MountSource::Volume { name, .. } if name == volume);
    record.settings.mounts.iter().any(is_it)
}

fn no_such(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("No such volume: {name}"))
        .hint("`cais volume ls` lists all volumes")
}
