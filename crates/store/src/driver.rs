//! How layers are kept on disk: one driver for a store, chosen once and recorded.
//!
//! A layer is what it is found to be, a tree or an image, whatever the record says: the record
//! decides what new layers become.

mod acl;
pub(crate) mod dir;
pub(crate) mod image;
pub(crate) mod merged;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use serde::{Deserialize, Serialize};

use crate::disk::{Part, Store, all_names, hidden_name, json, read_if_there};
use crate::error::{Doing as _, Error};

/// The record of a store.
pub(crate) const RECORD: &str = "store.json";

/// How layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Each layer is one EROFS image: a file, mounted by the kernel.
    Erofs,
    /// Each layer is a directory tree. Works on every kernel and without privilege.
    Dir,
}

impl Driver {
    /// All there are, the best first.
    pub const ALL: [Self; 2] = [Self::Erofs, Self::Dir];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Dir => "dir",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|driver| driver.name() == name);
        known.ok_or_else(|| {
            Error::Invalid(format!("unknown storage driver `{name}`: there are `erofs` and `dir`"))
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct StoreRecord {
    driver: Driver,
}

impl Store {
    /// The driver of this store: as recorded, else as it would be chosen now.
    ///
    /// # Errors
    /// [`Error::Driver`] if another one was asked for; [`Error::Io`].
    pub fn driver(&self) -> Result<Driver, Error> {
        let recorded = match self.recorded_driver()? {
            // Stores were trees before they had a record.
            None if self.has_layers()? => Some(Driver::Dir),
            recorded => recorded,
        };
        match (recorded, self.requested) {
            (Some(recorded), Some(requested)) if recorded != requested => {
                let root = self.root().display().to_string();
                Err(Error::Driver { root, recorded, requested })
            }
            (Some(driver), _) | (None, Some(driver)) => Ok(driver),
            // Loop devices are for those who ask: every image takes one, on kernels that share
            // mounts of images with nobody; and a tmpfs is memory already.
            (None, None) if self.tries_images(true) => Ok(Driver::Erofs),
            (None, None) => Ok(Driver::Dir),
        }
    }

    /// As [`Store::driver`], and records it. The caller holds a [`crate::Lease`]. The first layer of
    /// a store does so in any case.
    ///
    /// # Errors
    /// As of [`Store::driver`]; [`Error::Invalid`] if the driver does not work here.
    pub fn settle_driver(&self) -> Result<Driver, Error> {
        let driver = self.driver()?;
        if self.recorded_driver()?.is_some() {
            return Ok(driver);
        }
        if driver == Driver::Erofs && !self.mounts_images() {
            return Err(store_cannot());
        }
        // Where the collector finds it if this process is killed.
        let hidden = self.made(Part::Images)?.join(hidden_name()?);
        let bytes = json(&StoreRecord { driver })?;
        fs::write(&hidden, bytes).doing(|| format!("write `{}`", hidden.display()))?;
        // Whoever is first decides.
        let linked = fs::hard_link(&hidden, self.root().join(RECORD));
        crate::disk::remove_if_there(&hidden)?;
        match linked {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.driver(),
            linked => linked.doing(|| format!("write `{RECORD}`")).map(|()| driver),
        }
    }

    /// Changes the record. The caller holds the exclusive lock.
    pub(crate) fn record_driver(&self, driver: Driver) -> Result<(), Error> {
        let place = self.root().join(RECORD);
        // Where the collector finds it if this process is killed.
        let hidden = self.made(Part::Images)?.join(hidden_name()?);
        let bytes = json(&StoreRecord { driver })?;
        fs::write(&hidden, bytes)
            .and_then(|()| fs::rename(&hidden, &place))
            .doing(|| format!("write `{}`", place.display()))
    }

    fn recorded_driver(&self) -> Result<Option<Driver>, Error> {
        let path = self.root().join(RECORD);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        // One that a loss of power has emptied counts as absent.
        if bytes.is_empty() {
            return Ok(None);
        }
        let record: Result<StoreRecord, _> = serde_json::from_slice(&bytes);
        let record = record.map_err(io::Error::from);
        record.map(|record| Some(record.driver)).doing(|| format!("read `{}`", path.display()))
    }

    fn has_layers(&self) -> Result<bool, Error> {
        let names = all_names(&self.part(Part::Layers))?;
        Ok(names.iter().any(|name| !name.starts_with('.')))
    }

    /// Whether this kernel mounts an image of this file system for this process, and an overlay
    /// over it: found out with one.
    #[must_use]
    pub fn mounts_images(&self) -> bool {
        self.tries_images(false)
    }

    fn tries_images(&self, from_file: bool) -> bool {
        // Who only asks leaves nothing.
        let missing = self.root().ancestors().take_while(|above| !above.exists());
        let missing: Vec<&Path> = missing.collect();
        let attempt = || -> Result<(), Error> {
            let scratch = self.scratch(Part::Layers)?;
            try_image(scratch.path(), from_file).doing(|| "try an image")
        };
        let works = attempt().is_ok();
        if !missing.is_empty() {
            let parts = [Part::Layers, Part::Trash].map(|part| self.part(part));
            let made = parts.iter().map(PathBuf::as_path).chain(missing);
            // What others have put something into meanwhile stays.
            made.for_each(|directory| drop(fs::remove_dir(directory)));
        }
        works
    }
}

/// Why a store cannot have images.
pub(crate) fn store_cannot() -> Error {
    let why = "the kernel mounts no EROFS image from this store's file system";
    Error::Invalid(format!("the storage driver `erofs` does not work here: {why}"))
}

/// The kernel bounds how deep file systems lie on each other, so the overlay is tried, too.
fn try_image(directory: &Path, from_file: bool) -> io::Result<()> {
    let path = directory.join(image::FILE);
    let root = erofs::Attributes { mode: 0o755, ..erofs::Attributes::default() };
    erofs::Builder::new(File::create_new(&path)?, root, &[]).finish([1; 16])?;
    if from_file && !erofs::mounts_from_file(&path) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let lower = erofs::mount(&path, &[])?;
    for name in ["upper", "work"] {
        fs::create_dir(directory.join(name))?;
    }
    let open = |name| crate::snapshot::open_path(&directory.join(name));
    let (upper, work) = (open("upper")?, open("work")?);
    let over = |lower| crate::snapshot::detached_overlay(&[lower], &upper, &work).map(drop);
    match over(lower) {
        // Before Linux 6.15 layers must be attached somewhere: that says nothing about the depth.
        Err(Errno::INVAL) if over(detached_tmpfs()?) == Err(Errno::INVAL) => Ok(()),
        made => Ok(made?),
    }
}

fn detached_tmpfs() -> Result<OwnedFd, Errno> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&tmpfs)?;
    fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}
