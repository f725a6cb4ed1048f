//! What registries of packages have, fetched once and kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host;

/// Runs a command that fetches something into a directory. A registry may be out of reach for a
/// moment.
pub(crate) fn fetch(command: &[&str], directory: &Path) -> Result<()> {
    let (program, arguments) = command.split_first().context("a command has a name")?;
    let once = || host::finish(Command::new(program).args(arguments).current_dir(directory));
    once().or_else(|_| once()).or_else(|_| once()).map(drop)
}

/// Makes `place` if it is not there: `make` is given a fresh directory, and says which directory
/// below it, or whether it itself, is to be kept.
pub(crate) fn cached(place: &Path, make: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<()> {
    if place.exists() {
        return Ok(());
    }
    let parent = place.parent().context("the cache is a directory")?;
    fs::create_dir_all(parent)?;
    let unfinished = tempfile::tempdir_in(parent).context("make a directory for a package")?;
    let finished = make(unfinished.path())?;
    host::run("chmod", [Path::new("755"), &finished])?;
    match fs::rename(&finished, place) {
        // Another process was faster.
        Err(_) if place.exists() => Ok(()),
        renamed => renamed.context("keep a package in the cache"),
    }
}
