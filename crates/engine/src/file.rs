//! Files of state: made private, replaced whole, read as JSON, locked.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
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

/// The files that somebody holds a lock on (flock(2)), as the kernel lists them: to try a lock would
/// be to hold it for a moment, and to be in the way of those who do not wait.
#[derive(Debug)]
pub(crate) struct Locks(HashSet<(u64, u64)>);

impl Locks {
    /// Those that are held now; none where /proc does not say.
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/locks").unwrap_or_default();
        Self(text.lines().filter_map(Self::parse).collect())
    }

    /// `1: FLOCK  ADVISORY  WRITE 716 08:02:393219 0 EOF` (proc_locks(5)): device and inode.
    fn parse(line: &str) -> Option<(u64, u64)> {
        let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK");
        let mut numbers = words.nth(4)?.split(':');
        let mut part = |radix| u64::from_str_radix(numbers.next()?, radix).ok();
        let (major, minor, inode) = (part(16)?, part(16)?, part(10)?);
        Some((rustix::fs::makedev(major as u32, minor as u32), inode))
    }

    /// Whether somebody holds one on this file.
    pub(crate) fn hold(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| self.0.contains(&(meta.dev(), meta.ino())))
    }
}

/// What a file of state is expected to fit into, in bytes.
const STATE_BYTES: usize = 8 * 1024;

/// Reads a regular file: with one call, if it is as small as is expected, since lists read thousands.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; STATE_BYTES];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => length += read?,
        }
        // A regular file gives all that it has.
        if length < bytes.len() {
            bytes.truncate(length);
            return Ok(bytes);
        }
        bytes.resize(2 * length, 0);
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read(path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Internal,
        };
        Error::caused(kind, format!("read {}", path.display()), error)
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::caused(Kind::Internal, format!("read {}", path.display()), error))
}

/// As [`write_json`], where several may write the same file at once: the last one's stays.
pub(crate) fn write_shared_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<()> {
    let path = dir.join(name);
    let mut file = store::Fresh::create(&path, 0o644)?;
    let bytes = serde_json::to_vec(value).map_err(io::Error::from);
    let written = bytes.and_then(|bytes| file.write_all(&bytes));
    written.doing(|| format!("write {}", path.display()))?;
    Ok(file.keep()?)
}

/// Replaces `dir/name` whole, for who holds a lock: readers see the old content or the new.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_size_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for size in [0, 1, STATE_BYTES - 1, STATE_BYTES, STATE_BYTES + 1, 5 * STATE_BYTES] {
            let text: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            fs::write(&path, &text).unwrap();
            assert_eq!(read(&path).unwrap(), text, "{size}");
        }
        assert!(read(directory.path()).is_err());
    }

    #[test]
    fn locks_are_known_without_being_tried() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = File::create(&path).unwrap();
        assert!(!Locks::now().hold(&path));
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert!(Locks::now().hold(&path));
        assert!(!Locks::now().hold(&directory.path().join("none")));
    }
}
