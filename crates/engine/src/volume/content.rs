//! The content of volumes as a whole: copied, kept for later, put back, compared, as archives.
//!
//! `<root>/volumes/<name>/snapshots/<snapshot>/_data` is what a volume had at some time. Copies
//! share their data with what they were copied from where the file system can do so. While content
//! is read that is to be of one moment, the containers that use it stand still.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use store::{Comparison, View};

use super::{DATA, RECORD, Record, Volume, VolumeOptions, uses, validate};
use crate::Engine;
use crate::commit::Frozen;
use crate::container::Status;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::file::create_dir;

/// Where a volume's snapshots are.
const SNAPSHOTS: &str = "snapshots";

/// What a volume had at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, unique for the volume.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Where its content is.
    pub path: PathBuf,
}

impl Engine {
    /// Makes a volume with the content of another one, its labels and options.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Exists`] if there is a volume of the new name.
    pub fn copy_volume(&self, from: &str, to: &str) -> Result<Volume> {
        validate(to)?;
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        let source = self.directory_volume(from)?;
        self.is_free(to)?;
        let fresh = Fresh::new(self, to)?;
        fresh.limit(&source.options)?;
        self.still(from, || clone(&source.mountpoint, &fresh.data()))?;
        let options =
            VolumeOptions { labels: source.labels.unwrap_or_default(), options: source.options };
        fresh.publish(options)
    }

    /// Keeps what a volume has now; without a name, under the time of day.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Exists`] if the volume has a snapshot of this name.
    pub fn snapshot_volume(&self, volume: &str, name: &str) -> Result<Snapshot> {
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        let source = self.directory_volume(volume)?;
        let name = match name {
            "" => crate::clock::now()[..19].replace(':', "-"),
            name => name.to_owned(),
        };
        validate(&name)?;
        let place = self.snapshots_of(volume).join(&name);
        if place.exists() {
            let text = format!("volume {volume} has a snapshot {name} already");
            return Err(Error::new(Kind::Exists, text));
        }
        let fresh = self.snapshots_of(volume).join(format!(".{name}"));
        // What a process that was killed left there.
        self.store().discard(&fresh)?;
        create_dir(&fresh)?;
        let made = self.still(volume, || clone(&source.mountpoint, &fresh.join(DATA)));
        let made = made.and_then(|()| {
            fs::rename(&fresh, &place).doing(|| format!("keep {}", place.display()))
        });
        made.inspect_err(|_| drop(self.store().discard(&fresh)))?;
        self.snapshot(volume, &name)
    }

    /// The snapshots of a volume, the oldest first.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the volume.
    pub fn snapshots(&self, volume: &str) -> Result<Vec<Snapshot>> {
        self.volume(volume)?;
        let dir = self.snapshots_of(volume);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(|| format!("list {}", dir.display()))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut all: Vec<Snapshot> =
            names.filter_map(|name| self.snapshot(volume, &name).ok()).collect();
        all.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
        Ok(all)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn remove_snapshot(&self, volume: &str, name: &str) -> Result<()> {
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        let snapshot = self.snapshot(volume, name)?;
        let dir = snapshot.path.parent().unwrap_or(&snapshot.path);
        Ok(self.store().discard(dir)?)
    }

    /// Gives a volume the content back that it had; what it has now is gone.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] while a container runs that uses it.
    pub fn restore_volume(&self, volume: &str, snapshot: &str) -> Result<()> {
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        let target = self.directory_volume(volume)?;
        let snapshot = self.snapshot(volume, snapshot)?;
        let running = self.running_users(volume)?;
        if !running.is_empty() {
            let users = running.iter().map(|user| user.record.name.as_str()).collect::<Vec<_>>();
            let text = format!("restore {volume}: volume is in use by {}", users.join(", "));
            return Err(Error::new(Kind::Conflict, text).hint("stop the containers first"));
        }
        let fresh = self.volumes().join(volume).join(".restored");
        self.store().discard(&fresh)?;
        if let Some(bytes) = super::driver::size(&target.options)? {
            fs::create_dir(&fresh).doing(|| format!("restore {volume}"))?;
            crate::quota::limit(&[&fresh], bytes, &format!("volume {volume}"))?;
        }
        clone(&snapshot.path, &fresh)?;
        // The old content is there until the new one is, whole.
        renameat_with(CWD, &fresh, CWD, &target.mountpoint, RenameFlags::EXCHANGE)
            .doing(|| format!("restore {volume}"))?;
        Ok(self.store().discard(&fresh)?)
    }

    /// What differs between a volume, or a snapshot of it, and its present content.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn compare_volumes(&self, before: &Path, after: &Path) -> Result<Comparison> {
        Ok(Comparison::new(View::directory(before)?, View::directory(after)?)?)
    }

    /// Where the content of `volume` is, or of `volume@snapshot`.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn content(&self, name: &str) -> Result<PathBuf> {
        match name.split_once('@') {
            Some((volume, snapshot)) => Ok(self.snapshot(volume, snapshot)?.path),
            None => Ok(self.directory_volume(name)?.mountpoint),
        }
    }

    /// Writes the content of `volume` or `volume@snapshot` as an archive.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; or if it cannot be read or written.
    pub fn export_volume<W: Write>(&self, name: &str, out: W) -> Result<W> {
        let content = self.content(name)?;
        let _held = self.hold_volumes(FlockOperation::LockShared)?;
        let archive = || Ok(store::archive_directory(&content, out)?);
        match name.contains('@') {
            true => archive(),
            false => self.still(name, archive),
        }
    }

    /// Makes a volume of an archive, plain or compressed.
    ///
    /// # Errors
    /// [`Kind::Exists`] if there is a volume of this name; [`Kind::Invalid`] for what is no archive.
    pub fn import_volume(&self, name: &str, archive: &mut dyn Read) -> Result<Volume> {
        validate(name)?;
        // Shared, so that what a volume exports at the same time can be imported.
        let held = self.hold_volumes(FlockOperation::LockShared)?;
        self.is_free(name)?;
        let fresh = Fresh::new(self, name)?;
        let tree = store::extract_directory(&fresh.dir, archive)?;
        fs::rename(&tree, fresh.data()).doing(|| format!("make volume {name}"))?;
        drop(held);
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        self.is_free(name)?;
        fresh.publish(VolumeOptions::default())
    }

    /// Gives a volume another name.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Exists`]; [`Kind::Conflict`] if a container uses it.
    pub fn rename_volume(&self, from: &str, to: &str) -> Result<()> {
        validate(to)?;
        let _held = self.hold_volumes(FlockOperation::LockExclusive)?;
        let volume = self.volume(from)?;
        self.is_free(to)?;
        let users = self.volume_users(&volume.name)?;
        if !users.is_empty() {
            let text = format!("rename {from}: volume is in use - [{}]", users.join(", "));
            return Err(Error::new(Kind::Conflict, text).hint("remove the containers first"));
        }
        let (old, new) = (self.volumes().join(from), self.volumes().join(to));
        let mut record = match crate::file::read_json(&old.join(RECORD)) {
            Ok(record) => record,
            Err(_) => Record {
                created: volume.created,
                labels: volume.labels.unwrap_or_default(),
                is_anonymous: false,
                options: volume.options,
            },
        };
        // Somebody has named it.
        record.is_anonymous = false;
        crate::file::write_json(&old, RECORD, &record)?;
        fs::rename(&old, &new).doing(|| format!("rename volume {from}"))
    }

    /// A volume that is a directory of ours.
    fn directory_volume(&self, name: &str) -> Result<Volume> {
        let volume = self.volume(name)?;
        match volume.options.get("type") {
            None => Ok(volume),
            Some(kind) => Err(Error::new(
                Kind::Unsupported,
                format!("volume {name} is of type {kind}: its content lies elsewhere"),
            )),
        }
    }

    fn is_free(&self, name: &str) -> Result<()> {
        match self.volumes().join(name).exists() {
            true => Err(Error::new(Kind::Exists, format!("there is a volume {name} already"))
                .hint("choose another name, or remove it with `cais volume rm`")),
            false => Ok(()),
        }
    }

    fn snapshots_of(&self, volume: &str) -> PathBuf {
        self.volumes().join(volume).join(SNAPSHOTS)
    }

    fn snapshot(&self, volume: &str, name: &str) -> Result<Snapshot> {
        self.volume(volume)?;
        let missing = || {
            Error::new(Kind::NotFound, format!("volume {volume} has no snapshot {name}"))
                .hint("`cais volume snapshot --list VOLUME` lists them")
        };
        let dir = self.snapshots_of(volume).join(name);
        validate(name).map_err(|_| missing())?;
        let modified =
            fs::metadata(&dir).and_then(|meta| meta.modified()).map_err(|_| missing())?;
        let created = jiff::Timestamp::try_from(modified).map(crate::clock::format);
        Ok(Snapshot {
            name: name.to_owned(),
            created: created.unwrap_or_default(),
            path: dir.join(DATA),
        })
    }

    fn running_users(&self, volume: &str) -> Result<Vec<crate::Container>> {
        let users = self.list()?.into_iter();
        Ok(users.filter(|user| user.is_running() && uses(&user.record, volume)).collect())
    }

    /// Does something while the containers that use a volume stand still.
    fn still<T>(&self, volume: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut frozen = Vec::new();
        for user in self.running_users(volume)? {
            // One that was paused stands still already.
            if user.state.status == Status::Running {
                frozen.push(Frozen::new(&user)?);
            }
        }
        let done = act();
        drop(frozen);
        done
    }
}

/// Copies everything in a directory, and what the directory itself is, into a new one.
fn clone(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        match fs::create_dir(to) {
            // It has a limit already.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
        runtime::clone_tree(&OwnedFd::from(File::open(from)?), &OwnedFd::from(File::open(to)?))
    };
    copy().doing(|| format!("copy {}", from.display()))
}

/// A volume that is being made, under a name that no volume can have; gone if it does not come to
/// be.
struct Fresh<'a> {
    engine: &'a Engine,
    name: &'a str,
    dir: PathBuf,
}

impl<'a> Fresh<'a> {
    fn new(engine: &'a Engine, name: &'a str) -> Result<Self> {
        let own = |pid: &str| super::unfinished(&engine.volumes(), &format!("{name}.{pid}"));
        let prefix = format!(".{name}.");
        for entry in fs::read_dir(engine.volumes()).into_iter().flatten().flatten() {
            let left = entry.file_name();
            let pid = left.to_str().and_then(|left| left.strip_prefix(&prefix));
            // What a process that was killed left there.
            let is_number = |pid: &&str| pid.bytes().all(|digit| digit.is_ascii_digit());
            let pid = pid.filter(is_number);
            if let Some(pid) = pid.filter(|pid| !Path::new("/proc").join(pid).exists()) {
                engine.store().discard(&own(pid))?;
            }
        }
        let dir = own(&std::process::id().to_string());
        create_dir(&dir)?;
        Ok(Self { engine, name, dir })
    }

    /// Gives it the limit that its options ask for, before there is anything in it.
    fn limit(&self, options: &BTreeMap<String, String>) -> Result<()> {
        let Some(bytes) = super::driver::size(options)? else { return Ok(()) };
        let data = self.data();
        fs::create_dir(&data).doing(|| format!("create volume {}", self.name))?;
        crate::quota::limit(&[&data], bytes, &format!("volume {}", self.name))
    }

    fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    fn publish(self, asked: VolumeOptions) -> Result<Volume> {
        let VolumeOptions { labels, options } = asked;
        let record = Record { created: crate::clock::now(), labels, is_anonymous: false, options };
        crate::file::write_json(&self.dir, RECORD, &record)?;
        let place = self.engine.volumes().join(self.name);
        fs::rename(&self.dir, place).doing(|| format!("create volume {}", self.name))?;
        self.engine.emit(Event::volume("create", self.name));
        self.engine.volume(self.name)
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        // It is not there any more once it was published.
        let _ = self.engine.store().discard(&self.dir);
    }
}
