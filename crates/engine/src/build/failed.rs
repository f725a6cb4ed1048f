//! What a command that failed leaves: its files as they were then, and what it was. Of each Dockerfile
//! the last one is kept.
//!
//! ```text
//! <root>/build/failed/<hex>/          by the Dockerfile's name
//!   failed.json  what failed
//!   upper/       what the command had written
//!   mount-<n>/   files that were mounted
//!   lock         flock: somebody looks around in it
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::cache::same_file;
use super::step::{Site, Step, Surroundings};
use crate::Engine;
use crate::container::{Container, Record, State};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock, read_json, write_json};
use crate::settings::{Mount, MountSource};

const RECORD: &str = "failed.json";

/// A command that failed, and what it had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedStep {
    /// The step's name, for people.
    pub name: String,
    /// Why it failed.
    pub error: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What was mounted, as `--mount` has it.
    pub mounts: Vec<String>,
    /// `default`, `none` or `host`.
    pub network: String,
    record: Record,
}

impl FailedStep {
    /// `NAME=value`, without secrets.
    #[must_use]
    pub fn env(&self) -> &[String] {
        &self.record.config.env
    }

    /// Where it started.
    #[must_use]
    pub fn working_dir(&self) -> &str {
        &self.record.config.working_dir
    }

    /// Whose it was: `user[:group]`; empty for root.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.record.config.user
    }

    /// The layers that it started from, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Digest] {
        &self.record.layers
    }
}

impl Engine {
    fn failed_path(&self, name: &str) -> PathBuf {
        self.root.join("build/failed").join(Digest::of(name.as_bytes()).hex())
    }

    /// Writes down what a command that failed was; its directory then stays until the build has
    /// decided whether it keeps it.
    pub(crate) fn record_failed(
        &self,
        step: &Step<'_>,
        site: &Site<'_>,
        (record, secrets): (&Record, &[String]),
        (around, error): (&Surroundings, &Error),
    ) -> Result<()> {
        // A build that only looks whether another was right keeps nothing.
        let build::Op::Run(run) = step.op else { return Ok(()) };
        if around.conditions.is_some() {
            return Ok(());
        }
        let place = self.failed_path(&around.name);
        let mut record = record.clone();
        record.config.env.retain(|variable| !secrets.contains(variable));
        record.settings.mounts.retain_mut(|mount| stays(mount, site, &place));
        let failed = FailedStep {
            name: step.name.clone(),
            error: error.to_string(),
            command: run.args.clone(),
            mounts: run.mounts.iter().map(super::exec::described).collect(),
            network: run.network.clone(),
            record,
        };
        write_json(&site.path, RECORD, &failed)?;
        site.stays.set(true);
        Ok(())
    }

    /// Keeps what the step with this id has left, in the place of what failed before, if it was a
    /// command.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if somebody is in there.
    pub(crate) fn keep_failed(&self, name: &str, id: &str) -> Result<()> {
        let (site, place) = (self.build_dir("run")?.join(id), self.failed_path(name));
        if !site.join(RECORD).exists() {
            return Ok(());
        }
        create_dir(&self.root.join("build/failed"))?;
        if place.exists() {
            let _alone = be_alone(&place)?;
            self.store.discard(&place)?;
        }
        fs::rename(&site, &place).doing(|| format!("keep {}", place.display()))
    }

    /// The command that failed last in a build of the Dockerfile with this name
    /// ([`crate::BuildOptions::name`]).
    ///
    /// # Errors
    /// [`Kind::NotFound`] if none is kept.
    pub fn failed_step(&self, name: &str) -> Result<FailedStep> {
        read_json(&self.failed_path(name).join(RECORD)).map_err(|error| match error.kind() {
            Kind::NotFound => {
                Error::new(Kind::NotFound, format!("no failed command of {name} is kept"))
                    .hint("a RUN that fails in `cais build` leaves one, until the build succeeds")
            }
            _ => error,
        })
    }

    /// Forgets what failed before, unless somebody is in there: now it did not.
    pub(crate) fn forget_failed(&self, name: &str) -> Result<()> {
        self.discard_failed(&self.failed_path(name)).map(drop)
    }

    /// Forgets everything that failed and that nobody is in; the bytes that it took.
    pub(crate) fn prune_failed(&self) -> Result<u64> {
        let entries = fs::read_dir(self.root.join("build/failed")).into_iter().flatten().flatten();
        entries.map(|entry| self.discard_failed(&entry.path())).sum()
    }

    fn discard_failed(&self, place: &Path) -> Result<u64> {
        if !place.exists() {
            return Ok(0);
        }
        let Ok(_alone) = be_alone(place) else { return Ok(0) };
        let bytes = store::Measure::default().add(place)?;
        self.store.discard(place)?;
        Ok(bytes)
    }

    /// Runs another command where one has failed, on our own terminal or with our own input and output;
    /// its exit code. What it writes stays there for the next.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if nothing is kept; [`Kind::Conflict`] if somebody else is in there.
    pub fn enter_failed(&self, name: &str, command: &[String], tty: bool) -> Result<i32> {
        let failed = self.failed_step(name)?;
        let dir = self.failed_path(name);
        let _lease = self.store.lease()?;
        let _alone = be_alone(&dir)?;
        // What overlayfs leaves there of an earlier mount would refuse the next.
        self.store.discard(&dir.join("work"))?;
        create_dir(&dir.join("work"))?;
        let id = crate::id::fresh()?;
        let mut record = failed.record;
        let _caches = hold_caches(&record)?;
        record.name = format!("debug-{}", &id[..12]);
        record.id = id;
        record.config.cmd = command.to_vec();
        (record.settings.tty, record.settings.open_stdin) = (tty, true);
        let run_dir = self.containers.run_dir(&record.id);
        create_dir(&run_dir)?;
        let rootfs = self.store.rootfs(&record.layers, &dir, true)?;
        let mut container = Container { record, state: State::default(), dir, run_dir };
        let code = self.execute_step(&mut container, &rootfs, (Vec::new(), None));
        self.bury(&mut container);
        code
    }

    /// The layers that failed commands started from.
    pub(crate) fn failed_layers(&self) -> Vec<Digest> {
        let entries = fs::read_dir(self.root.join("build/failed")).into_iter().flatten().flatten();
        let kept = entries.filter_map(|entry| read_json(&entry.path().join(RECORD)).ok());
        kept.flat_map(|failed: FailedStep| failed.record.layers).collect()
    }
}

/// Keeps everybody else out of what a failed command left.
///
/// # Errors
/// [`Kind::Conflict`] if somebody is in there.
fn be_alone(place: &Path) -> Result<File> {
    let path = place.join("lock");
    let lock = File::create(&path).doing(|| format!("use {}", place.display()))?;
    let is_held = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
    match is_held || !same_file(&lock, &path) {
        true => {
            Err(Error::new(Kind::Conflict, "somebody else is in there")
                .hint("wait until they leave"))
        }
        false => Ok(lock),
    }
}

/// Moves a mount to where its files will be; `false` for what is in memory only, as secrets are.
fn stays(mount: &mut Mount, site: &Site<'_>, place: &Path) -> bool {
    let MountSource::Bind { path, .. } = &mut mount.source else { return true };
    if path.starts_with(&site.run_dir) {
        return false;
    }
    if let Ok(below) = path.strip_prefix(&site.path) {
        *path = place.join(below);
    }
    true
}

/// Keeps cache mounts from being emptied meanwhile.
fn hold_caches(record: &Record) -> Result<Vec<File>> {
    let mut locks = Vec::new();
    for mount in &record.settings.mounts {
        let MountSource::Bind { path, .. } = &mount.source else { continue };
        let lock = path.parent().map(|parent| parent.join("lock"));
        if let Some(lock) = lock.filter(|lock| path.ends_with("files") && lock.exists()) {
            let lock = File::open(&lock).doing(|| format!("open {}", lock.display()))?;
            flock(&lock, FlockOperation::LockShared)?;
            locks.push(lock);
        }
    }
    Ok(locks)
}
