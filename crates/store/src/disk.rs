//! The root directory of a store: where things lie, how files appear in it, and who may remove them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::{FlockOperation, RenameFlags};
use rustix::rand::GetRandomFlags;
use serde::Serialize;

use crate::driver::Driver;
use crate::error::{Doing as _, Error};

/// Images, layers and their content below one directory.
///
/// Nothing is kept in memory or open: any number of processes may use one root at a time.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) root: PathBuf,
    /// The driver that was asked for.
    pub(crate) requested: Option<Driver>,
    /// Whether images are on disk before they can be seen.
    pub(crate) syncs: bool,
}

/// A promise that the collector removes nothing while it is held.
///
/// Whoever adds content (a pull, a load, the creation of a container) holds one from before the
/// first thing it needs exists until something durable refers to it. The kernel drops it with the
/// process; dropping it lets go at once, even if a child was forked meanwhile. A process that holds
/// an [`Exclusive`] must not ask for one: it would wait for itself.
#[derive(Debug)]
pub struct Lease {
    lock: Lock,
}

impl Lease {
    /// Lets go of it in a forked child, where it is still the parent's.
    ///
    /// # Errors
    /// If /dev/null cannot be opened; then it stays.
    pub fn leave_to_parent(mut self) -> io::Result<()> {
        // Closed without being unlocked, which would be for both.
        drop(std::mem::replace(&mut self.lock.0, File::open("/dev/null")?));
        Ok(())
    }
}

/// The right to remove what nothing refers to: no [`Lease`] exists while it is held.
#[derive(Debug)]
pub struct Exclusive {
    _lock: Lock,
}

/// A lock on an open file, which a forked child shares: closing one's own copy would not end it.
#[derive(Debug)]
pub(crate) struct Lock(pub(crate) File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Unlocking a file that is open cannot fail, and closing it comes next anyway.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The parts of a store, as directories below its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Blobs,
    Ingest,
    Layers,
    Bases,
    Images,
    Tags,
    Trash,
    Arriving,
    Unsynced,
}

impl Part {
    fn path(self) -> &'static str {
        match self {
            Self::Blobs => "blobs/sha256",
            Self::Ingest => "ingest",
            Self::Layers => "layers",
            Self::Bases => "bases",
            Self::Images => "images",
            Self::Tags => "tags",
            Self::Trash => "trash",
            Self::Arriving => "arriving",
            Self::Unsynced => "unsynced",
        }
    }
}

impl Store {
    /// The store at `root`, which is created (mode 0700) when something is put there: whoever only
    /// looks, or mistypes, leaves nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if `root` cannot be a path.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).doing(|| format!("resolve `{}`", root.display()))?;
        Ok(Self { root, requested: None, syncs: true })
    }

    /// The same store, for somebody who wants this driver and no other, if any.
    ///
    /// # Errors
    /// [`Error::Driver`] if the store has another one; [`Error::Io`].
    pub fn with_driver(mut self, requested: Option<Driver>) -> Result<Self, Error> {
        self.requested = requested;
        if requested.is_some() {
            self.driver()?;
        }
        Ok(self)
    }

    /// The same store, which leaves it to the kernel when images are written to disk, if `syncs` is
    /// false: a loss of power may then leave images that are not whole.
    #[must_use]
    pub fn with_sync(self, syncs: bool) -> Self {
        Self { syncs, ..self }
    }

    /// Waits until everything that was written to this store is on disk (syncfs(2)): all of an
    /// image at once, however many files it is. What others have written to this file system is
    /// written with it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn sync(&self) -> Result<(), Error> {
        if !self.syncs {
            return Ok(());
        }
        let synced = File::open(&self.root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        synced.doing(|| format!("write `{}` to disk", self.root.display()))
    }

    /// Waits until the data of a new file is on disk.
    pub(crate) fn sync_file(&self, path: &Path) -> Result<(), Error> {
        if !self.syncs {
            return Ok(());
        }
        let synced = File::open(path).and_then(|file| file.sync_data());
        synced.doing(|| format!("write `{}` to disk", path.display()))
    }

    /// The directory everything lies in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps the collector away. Waits while it is at work.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lease(&self) -> Result<Lease, Error> {
        let lock = self.lock_file()?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockShared))
            .doing(|| "lock the store")?;
        let lease = Lease { lock: Lock(lock) };
        self.distrust_unsynced()?;
        Ok(lease)
    }

    /// Keeps everybody who adds content away, for [`Store::collect`].
    ///
    /// What is in use must be found out while this is held, or a container that is just being
    /// created would be missed.
    ///
    /// # Errors
    /// [`Error::Busy`] while anyone holds a [`Lease`].
    pub fn exclusive(&self) -> Result<Exclusive, Error> {
        let lock = self.lock_file()?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy("collect garbage".into())),
            outcome => {
                outcome.doing(|| "lock the store")?;
                Ok(Exclusive { _lock: Lock(lock) })
            }
        }
    }

    /// As [`Store::exclusive`], but waits until nobody holds a lease.
    pub(crate) fn wait_exclusive(&self) -> Result<Exclusive, Error> {
        let lock = self.lock_file()?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .doing(|| "lock the store")?;
        Ok(Exclusive { _lock: Lock(lock) })
    }

    /// Where the registry in the box keeps its repositories, one directory each.
    ///
    /// A file named by a blob's hexadecimal digits in `blobs/` or `manifests/` of a repository
    /// keeps that blob from being collected.
    #[must_use]
    pub fn registry_path(&self) -> PathBuf {
        self.root.join("registry")
    }

    fn lock_file(&self) -> Result<File, Error> {
        let path = self.root.join("store.lock");
        loop {
            make_directory(&self.root)?;
            match open_lock(&path) {
                // Whoever only looked has taken away again what was missing when they came.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.doing(|| format!("open `{}`", path.display())),
            }
        }
    }

    /// Where a part lies; it may not exist yet.
    pub(crate) fn part(&self, part: Part) -> PathBuf {
        self.root.join(part.path())
    }

    /// A part that exists.
    pub(crate) fn made(&self, part: Part) -> Result<PathBuf, Error> {
        let path = self.part(part);
        make_directory(&path)?;
        Ok(path)
    }

    /// The place of a blob.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.part(Part::Blobs).join(digest.hex())
    }

    /// The place of a layer: its tree or image, and its record.
    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.part(Part::Layers).join(diff_id.hex())
    }

    /// An empty directory of a random, hidden name in `part`, removed on drop unless published.
    pub(crate) fn scratch(&self, part: Part) -> Result<Scratch, Error> {
        let path = self.made(part)?.join(hidden_name()?);
        rustix::fs::mkdir(&path, 0o700.into()).doing(|| format!("create `{}`", path.display()))?;
        Ok(Scratch { store: self.clone(), path: Some(path) })
    }

    /// Makes `bytes` appear as the file `name` of `part`, whole or not at all.
    pub(crate) fn publish(&self, part: Part, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let directory = self.made(part)?;
        let hidden = directory.join(hidden_name()?);
        // A record says that something is there, and that it is there is acknowledged.
        let syncs = self.syncs && matches!(part, Part::Images | Part::Tags);
        let doing = || format!("write `{}`", directory.join(name).display());
        let publish = || {
            let file = write_new(&hidden, bytes).doing(doing)?;
            if syncs {
                file.sync_data().doing(doing)?;
            }
            if part == Part::Blobs {
                self.note_unsynced(part, name)?;
            }
            fs::rename(&hidden, directory.join(name)).doing(doing)?;
            match syncs {
                true => File::open(&directory).and_then(|all| all.sync_all()).doing(doing),
                false => Ok(()),
            }
        };
        let written = publish();
        if written.is_err() {
            // The first failure is the one to report; what is left is hidden and collected later.
            let _ = fs::remove_file(&hidden);
        }
        written
    }

    /// [`Store::publish`] for a record.
    pub(crate) fn publish_json<T: Serialize>(
        &self,
        part: Part,
        name: &str,
        record: &T,
    ) -> Result<(), Error> {
        self.publish(part, name, &json(record)?)
    }

    /// Serialises changes to the records of `part`, so that two read-modify-writes do not lose one.
    pub(crate) fn change(&self, part: Part) -> Result<Lock, Error> {
        let path = self.made(part)?;
        let directory = File::open(&path).doing(|| format!("open `{}`", path.display()))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockExclusive))
            .doing(|| format!("lock `{}`", path.display()))?;
        Ok(Lock(directory))
    }
}

/// A record as it is written to disk.
pub(crate) fn json<T: Serialize>(record: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(io::Error::from).doing(|| "serialise a record")
}

/// The names in a directory; none if it does not exist. Hidden names are left out.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, Error> {
    Ok(all_names(directory)?.into_iter().filter(|name| !name.starts_with('.')).collect())
}

/// The names in a directory, hidden ones too; none if it does not exist.
pub(crate) fn all_names(directory: &Path) -> Result<Vec<String>, Error> {
    let listed = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let listed = listed.doing(|| format!("list `{}`", directory.display()))?;
    Ok(listed.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// The bytes of a file, or `None` if it does not exist.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).doing(|| format!("read `{}`", path.display())),
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("remove `{}`", path.display())),
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing(|| format!("create `{}`", path.display()))
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// `.` and 16 random hexadecimal digits. Readers pass over hidden names.
pub(crate) fn hidden_name() -> Result<String, Error> {
    let mut random = [0; 8];
    // So few bytes come at once (random(7)).
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty()).doing(|| "draw a random name")?;
    Ok(format!(".{:016x}", u64::from_ne_bytes(random)))
}

/// A directory under construction.
#[derive(Debug)]
pub(crate) struct Scratch {
    store: Store,
    path: Option<PathBuf>,
}

impl Scratch {
    /// Where it is being built.
    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().expect("a scratch directory has a path until it is published")
    }

    /// Moves it to `place` in one step. `false` if something was there already: then that stays,
    /// and this is removed.
    pub(crate) fn publish(mut self, place: &Path) -> Result<bool, Error> {
        use rustix::io::Errno;
        let moved = rustix::fs::renameat_with(
            rustix::fs::CWD,
            self.path(),
            rustix::fs::CWD,
            place,
            RenameFlags::NOREPLACE,
        );
        match moved {
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
            moved => {
                moved.doing(|| format!("move into place `{}`", place.display()))?;
                self.path = None;
                Ok(true)
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed now stays hidden, and the next collection takes it.
            let _ = self.store.discard(path);
        }
    }
}
