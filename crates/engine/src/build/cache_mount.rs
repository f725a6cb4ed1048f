//! `RUN --mount=type=cache`: directories that outlive builds.
//!
//! ```text
//! <root>/build/mounts/<hex>/lock    flock: shared by those who use it, exclusive for one who is alone
//! <root>/build/mounts/<hex>/making  flock: held while it is made
//! <root>/build/mounts/<hex>/files/  what is in it; it appears whole
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use build::{From, RunMountKind, RunOp, Sharing};
use oci::Digest;
use rustix::fs::FlockOperation;

use super::cache::same_file;
use super::step::{Step, Surroundings};
use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock};

const MODE: u32 = 0o755;

/// The caches that a command uses, as long as this lives.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    held: BTreeMap<String, PathBuf>,
    /// Held as long as the caches are used.
    locks: Vec<File>,
}

impl Caches {
    /// Where the files of a cache are.
    pub(crate) fn path(&self, id: &str) -> PathBuf {
        self.held.get(id).cloned().expect("all caches of a command are held")
    }
}

impl Engine {
    /// Takes all caches of a command: in the order of their names, so that two commands never wait
    /// for each other, and each once.
    pub(crate) fn hold_caches(
        &self,
        step: &Step<'_>,
        op: &RunOp,
        around: &Surroundings,
    ) -> Result<Caches> {
        let mut wanted: BTreeMap<&str, Vec<&RunMountKind>> = BTreeMap::new();
        for mount in &op.mounts {
            if let RunMountKind::Cache { id, .. } = &mount.kind {
                wanted.entry(id).or_default().push(&mount.kind);
            }
        }
        let mut caches = Caches::default();
        for (id, mounts) in wanted {
            let sharing = |kind: &&RunMountKind| match kind {
                RunMountKind::Cache { sharing, .. } => *sharing,
                _ => Sharing::Shared,
            };
            let strictest = mounts.iter().map(sharing).find(|sharing| *sharing != Sharing::Shared);
            let dir = match &around.conditions {
                None => {
                    let (dir, lock) = self.take_cache(id, strictest.unwrap_or(Sharing::Shared))?;
                    caches.locks.push(lock);
                    dir
                }
                // One that nobody has filled, which goes with the step.
                Some(_) => {
                    let name = format!("{}/cache-{}", step.id, caches.held.len());
                    self.build_dir(&format!("run/{name}"))?
                }
            };
            let files = self.cache_files(step, mounts[0], &dir, around)?;
            caches.held.insert(id.to_owned(), files);
        }
        Ok(caches)
    }

    /// The directory of a cache, and its lock.
    fn take_cache(&self, id: &str, sharing: Sharing) -> Result<(PathBuf, File)> {
        let mut number = 0;
        loop {
            let own = if number == 0 { id.to_owned() } else { format!("{id}\0{number}") };
            let dir = self.build_dir("mounts")?.join(Digest::of(own.as_bytes()).hex());
            create_dir(&dir)?;
            let path = dir.join("lock");
            let lock = File::create(&path).doing(|| format!("create {}", path.display()))?;
            match sharing {
                Sharing::Shared => flock(&lock, FlockOperation::LockShared)?,
                Sharing::Locked => flock(&lock, FlockOperation::LockExclusive)?,
                // Somebody else has it: then it is another one.
                Sharing::Private => {
                    let operation = FlockOperation::NonBlockingLockExclusive;
                    if rustix::fs::flock(&lock, operation).is_err() {
                        number += 1;
                        continue;
                    }
                }
            }
            // It may have been removed meanwhile.
            if same_file(&lock, &path) {
                return Ok((dir, lock));
            }
        }
    }

    /// The files of a cache, which are made if there are none.
    fn cache_files(
        &self,
        step: &Step<'_>,
        kind: &RunMountKind,
        dir: &Path,
        around: &Surroundings,
    ) -> Result<PathBuf> {
        let RunMountKind::Cache { id, from, source, owner, .. } = kind else {
            return Err(Error::invalid("not a cache"));
        };
        if *from == From::Scratch && source != "/" {
            let message = format!("source {source} of the cache {id} is not supported yet");
            return Err(Error::new(Kind::Unsupported, message).hint("leave it out, or say from"));
        }
        let doing = || format!("make the cache {id}");
        let making = File::create(dir.join("making")).doing(doing)?;
        flock(&making, FlockOperation::LockExclusive)?;
        let files = dir.join("files");
        if files.exists() {
            return Ok(files);
        }
        let fresh = dir.join("fresh");
        self.store.discard(&fresh)?;
        create_dir(&fresh)?;
        let made = match from {
            From::Scratch => {
                let made = fresh.join("files");
                create_dir(&made)?;
                made
            }
            from => self.bring(step, from, source, &fresh, around)?.0,
        };
        let (mode, uid, gid) = owner.unwrap_or((MODE, 0, 0));
        if *from == From::Scratch || owner.is_some() {
            fs::set_permissions(&made, fs::Permissions::from_mode(mode)).doing(doing)?;
            chown(&made, Some(uid), Some(gid)).doing(doing)?;
        }
        fs::rename(&made, &files).doing(doing)?;
        self.store.discard(&fresh)?;
        Ok(files)
    }
}
