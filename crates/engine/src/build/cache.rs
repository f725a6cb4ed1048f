//! What steps have left before, by their keys; and what else of builds stays.
//!
//! ```text
//! <root>/build/cache/<hex>.json   the key of a step, and the layers that it left
//! <root>/build/locks/<hex>        flock: somebody does the step with this key
//! <root>/build/locks/builds       flock: shared by builds, so that what they use is not pruned
//! <root>/build/files/<hex>        the digests of a context's files, as they were last
//! <root>/build/last/<hex>.json    why the steps of the last build of a Dockerfile were done
//! <root>/build/trees/<hex>        the digest of some files of a chain of layers
//! <root>/build/downloads/<hex>    a file that ADD got, by its digest
//! <root>/build/mounts/<hex>/      cache mounts: see cache_mount.rs
//! <root>/build/failed/<hex>/       what the last command of a Dockerfile that failed left: see failed.rs
//! <root>/build/run/<id>/          a step that is being done; `lock` is held meanwhile
//! ```

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use build::Key;
use oci::Digest;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::error::{Doing, Kind, Result};
use crate::event::{Event, Subject};
use crate::file::{create_dir, flock, read_json, write_shared_json};
use crate::prune::Pruned;

/// How far behind the kernel's times of files may be.
const TICK_MAX: Duration = Duration::from_secs(1);

/// What a step left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// What it depended on.
    pub(crate) key: Key,
    /// All layers of its files, lowest first.
    pub(crate) layers: Vec<Digest>,
}

/// A step that only this process does.
#[derive(Debug)]
pub(crate) struct StepLock {
    file: File,
    path: PathBuf,
}

impl Drop for StepLock {
    fn drop(&mut self) {
        // Whoever waits for it finds that it is another file, and looks at the cache anyway.
        let _ = fs::remove_file(&self.path);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Engine {
    /// Where a part of what builds keep lies; it is made when it is needed.
    pub(crate) fn build_dir(&self, part: &str) -> Result<PathBuf> {
        let dir = self.root.join("build").join(part);
        create_dir(&dir)?;
        Ok(dir)
    }

    fn outcome_path(&self, key: &Digest) -> PathBuf {
        self.root.join("build/cache").join(format!("{}.json", key.hex()))
    }

    /// What a step with this key left, if all of it is still here.
    pub(crate) fn recall_step(&self, key: &Digest) -> Result<Option<Vec<Digest>>> {
        let path = self.outcome_path(key);
        let outcome: Outcome = match read_json(&path) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            // A loss of power may have left a part of it: then it is not known.
            Err(_) => return Ok(None),
            Ok(outcome) => outcome,
        };
        if !outcome.layers.iter().all(|layer| self.store.has_layer(layer)) {
            return Ok(None);
        }
        // So that what is not used is what goes first.
        let times = fs::FileTimes::new().set_modified(SystemTime::now());
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_times(times));
        Ok(Some(outcome.layers))
    }

    /// Remembers what a step left.
    pub(crate) fn remember_step(&self, outcome: &Outcome) -> Result<()> {
        let dir = self.build_dir("cache")?;
        write_shared_json(&dir, &format!("{}.json", outcome.key.digest().hex()), outcome)
    }

    /// Waits until nobody else does the step with this key.
    pub(crate) fn lock_step(&self, key: &Digest) -> Result<StepLock> {
        let path = self.build_dir("locks")?.join(key.hex());
        loop {
            let file = File::create(&path).doing(|| format!("create {}", path.display()))?;
            flock(&file, FlockOperation::LockExclusive)?;
            // Whoever had it may have removed it meanwhile.
            if same_file(&file, &path) {
                return Ok(StepLock { file, path });
            }
        }
    }

    /// The layers that remembered steps need.
    pub(crate) fn build_layers(&self) -> HashSet<Digest> {
        let outcomes = self.outcomes().into_iter().filter_map(|path| read_json(&path).ok());
        let remembered = outcomes.flat_map(|outcome: Outcome| outcome.layers);
        remembered.chain(self.failed_layers()).collect()
    }

    fn outcomes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("build/cache")).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension() == Some("json".as_ref()))
            .collect()
    }

    /// Forgets what steps left, and removes what nothing else needs. `with_mounts` also empties cache
    /// mounts that nobody uses. What builds use meanwhile stays, and the failed commands that somebody
    /// looks at.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn prune_builds(&self, with_mounts: bool) -> Result<Pruned<String>> {
        let alone = self.keep_builds_away()?;
        let used_since = alone.as_ref().err();
        let mut removed = Vec::new();
        for path in self.outcomes() {
            let used = fs::metadata(&path).and_then(|meta| meta.modified());
            if used_since.is_some_and(|since| used.is_ok_and(|used| used >= *since)) {
                continue;
            }
            fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            removed.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
        let mut bytes = self.prune_failed()?;
        for part in ["files", "trees", "downloads", "last"].iter().filter(|_| alone.is_ok()) {
            let path = self.root.join("build").join(part);
            bytes += store::Measure::default().add(&path)?;
            self.store.discard(&path)?;
        }
        drop(alone);
        self.sweep_steps()?;
        bytes += if with_mounts { self.empty_mounts()? } else { 0 };
        bytes += self.collect(store::INGEST_AGE_MAX)?.bytes;
        self.emit(Event::prune(Subject::Builder, bytes));
        Ok(Pruned { removed, bytes })
    }

    /// Keeps what a build uses from being pruned until what this returns goes.
    pub(crate) fn use_cache(&self) -> Result<File> {
        let (file, path) = self.using()?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // The kernel's times of files are up to a tick behind.
            let now = SystemTime::now() - TICK_MAX;
            let times = fs::FileTimes::new().set_modified(now);
            file.set_times(times).doing(|| format!("use {}", path.display()))?;
        }
        flock(&file, FlockOperation::LockShared)?;
        Ok(file)
    }

    /// Keeps builds from beginning until what this returns goes; if some have begun, since when.
    fn keep_builds_away(&self) -> Result<std::result::Result<File, SystemTime>> {
        let (file, path) = self.using()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Ok(file)),
            Err(_) => {
                let since = file.metadata().and_then(|meta| meta.modified());
                Ok(Err(since.doing(|| format!("look at {}", path.display()))?))
            }
        }
    }

    /// Whose lock builds share, and whose time is when the first of those began that overlap.
    fn using(&self) -> Result<(File, PathBuf)> {
        let path = self.build_dir("locks")?.join("builds");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        Ok((file.doing(|| format!("create {}", path.display()))?, path))
    }

    fn empty_mounts(&self) -> Result<u64> {
        let mut bytes = 0;
        let entries = fs::read_dir(self.root.join("build/mounts")).into_iter().flatten().flatten();
        for entry in entries {
            let Ok(lock) = File::create(entry.path().join("lock")) else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let path = entry.path();
                bytes += crate::image::bytes_below(&path).unwrap_or(0);
                self.store.discard(&path)?;
            }
        }
        Ok(bytes)
    }

    /// Makes a directory in `build/run` that is swept once nobody holds its lock, which is returned.
    pub(crate) fn make_run_dir(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.build_dir("run")?.join(name);
        // Nobody sweeps what has no lock yet.
        let _making = self.run_lock(FlockOperation::LockShared)?;
        create_dir(&path)?;
        let lock = File::create(path.join("lock")).doing(|| format!("lock {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok((path, lock))
    }

    fn run_lock(&self, operation: FlockOperation) -> Result<File> {
        let path = self.build_dir("locks")?.join("run");
        let file = File::create(&path).doing(|| format!("create {}", path.display()))?;
        flock(&file, operation)?;
        Ok(file)
    }

    /// Removes what steps that were killed have left.
    pub(crate) fn sweep_steps(&self) -> Result<()> {
        let _sweeping = self.run_lock(FlockOperation::LockExclusive)?;
        let entries = fs::read_dir(self.root.join("build/run")).into_iter().flatten().flatten();
        for entry in entries {
            let path = entry.path();
            let Ok(lock) = File::open(path.join("lock")) else {
                continue;
            };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                self.store.discard(&path)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}
