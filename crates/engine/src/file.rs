//! Files of state: made private, replaced whole, read as JSON, locked.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Doing, Error, Kind, Result};

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
