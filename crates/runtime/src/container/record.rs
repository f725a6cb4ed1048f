//! The directory of one container, and the record in it.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{Spec, State};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat,
    renameat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::cgroup::Unit;
use crate::error::Doing;

/// The record's name.
const RECORD: &str = "state.json";
/// The name of the specification's copy.
const SPEC: &str = "config.json";
/// The largest file that is read here, in bytes.
pub(super) const FILE_MAX: u64 = 16 << 20;
/// Most files are smaller, in bytes, and are read at once.
pub(super) const FILE_USUAL: usize = 16 << 10;
/// The longest name of a file (`NAME_MAX` of limits.h).
const ID_BYTES_MAX: usize = 255;

/// What is known about a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of the specification that the bundle names.
    pub oci_version: String,
    /// Unique below the state root.
    pub id: String,
    /// The first process in the creator's process namespace; 0 before there is one.
    pub pid: i32,
    /// When that process started, in clock ticks since boot.
    pub start_time: u64,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: u64,
    /// Its cgroup, below each hierarchy's root; `None` where it has none.
    pub cgroup: Option<PathBuf>,
    /// The unit of systemd's that it is, if systemd made it.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// Whether its processes end with the first.
    pub own_pid_namespace: bool,
    /// Whether its processes stay in the session keyring of their creator.
    pub keep_keyring: bool,
    /// How many mounts were on the root file system before, for a container in the mount namespace
    /// of the host.
    #[serde(default)]
    pub root_mounts: Option<usize>,
    /// The pipes that its first process has as descriptors 0, 1 and 2, as procfs names them; an
    /// empty name for anything else, and none at all with a terminal.
    #[serde(default)]
    pub stdio: Vec<String>,
    /// Those of the specification.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
}

impl Record {
    /// The part of the state that does not change.
    pub(super) fn state(&self) -> State {
        let mut state = State::default();
        state
            .set_version(self.oci_version.clone())
            .set_id(self.id.clone())
            .set_bundle(self.bundle.clone())
            .set_annotations(
                Some(self.annotations.clone()).filter(|annotations| !annotations.is_empty()),
            );
        state
    }
}

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To change the container: nobody else may be at it.
    Change,
    /// To keep others from changing it.
    Use,
}

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Whether the lock is this process' own.
    locked: Cell<bool>,
    spec: OnceCell<Spec>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    /// Makes it, and locks it.
    pub(super) fn make(root: &Path, id: &str) -> Result<Directory, Error> {
        check_id(id)?;
        make_root(root).doing(|| format!("make the state root `{}`", root.display()))?;
        let path = root.join(id);
        match mkdirat(CWD, &path, Mode::RWXU) {
            Err(Errno::EXIST) => return Err(Error::Exists),
            other => other.doing(|| format!("make `{}`", path.display()))?,
        }
        let directory = Directory::open(root, id)?;
        directory.lock(Access::Change)?;
        Ok(directory)
    }

    pub(super) fn open(root: &Path, id: &str) -> Result<Directory, Error> {
        check_id(id)?;
        let path = root.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(CWD, &path, flags, Mode::empty()) {
            Err(Errno::NOENT) => Err(Error::NotExist),
            other => {
                let fd = other.doing(|| format!("open `{}`", path.display()))?;
                Ok(Directory { fd, path, locked: Cell::new(false), spec: OnceCell::new() })
            }
        }
    }

    /// Waits until nobody else has it locked in a way that this one excludes.
    pub(super) fn lock(&self, access: Access) -> Result<(), Error> {
        let operation = match access {
            Access::Change => FlockOperation::LockExclusive,
            Access::Use => FlockOperation::LockShared,
        };
        let doing = || format!("lock `{}`", self.path.display());
        rustix::io::retry_on_intr(|| flock(&self.fd, operation)).doing(doing)?;
        self.locked.set(true);
        // Who had it locked may have deleted it.
        let status = fstat(&self.fd).doing(doing)?;
        if status.st_nlink == 0 { Err(Error::NotExist) } else { Ok(()) }
    }

    pub(super) fn unlock(&self) {
        let _ = flock(&self.fd, FlockOperation::Unlock);
        self.locked.set(false);
    }

    /// Whether somebody else is changing it now.
    pub(super) fn is_locked(&self) -> bool {
        if self.locked.get() {
            return false;
        }
        match flock(&self.fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                self.unlock();
                false
            }
            Err(errno) => errno == Errno::WOULDBLOCK,
        }
    }

    /// The record; `None` where there is none yet.
    pub(super) fn read(&self) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.read_file(RECORD)? else { return Ok(None) };
        let wrong = |error| Error::Refused(format!("read {}: {error}", self.shown(RECORD)));
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), Error> {
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::Refused(format!("describe the container: {error}")))?;
        self.write_file(RECORD, &bytes)
    }

    /// The specification, read once: nobody changes it.
    pub(super) fn spec(&self) -> Result<&Spec, Error> {
        if let Some(spec) = self.spec.get() {
            return Ok(spec);
        }
        let bytes = self.read_file(SPEC)?.ok_or(Error::NotExist)?;
        let wrong = |error| Error::Refused(format!("read {}: {error}", self.shown(SPEC)));
        let spec = super::bundle::parse(&bytes).map_err(wrong)?.value;
        Ok(self.spec.get_or_init(|| spec))
    }

    /// Whether the specification is this text.
    pub(super) fn has_spec(&self, bytes: &[u8]) -> bool {
        self.read_file(SPEC).is_ok_and(|own| own.as_deref() == Some(bytes))
    }

    pub(super) fn write_spec(&self, bytes: &[u8]) -> Result<(), Error> {
        self.write_file(SPEC, bytes)
    }

    fn shown(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.doing(|| format!("open `{}`", self.shown(name)))?,
        };
        let mut bytes = Vec::with_capacity(FILE_USUAL);
        File::from(file)
            .take(FILE_MAX)
            .read_to_end(&mut bytes)
            .doing(|| format!("read `{}`", self.shown(name)))?;
        Ok(Some(bytes))
    }

    /// Replaces a file; who reads it sees the old or the new one.
    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let fresh = format!("{name}.new");
        let doing = || format!("write `{}`", self.shown(name));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOFOLLOW;
        let file = openat(&self.fd, &*fresh, flags, Mode::RUSR | Mode::WUSR).doing(doing)?;
        File::from(file).write_all(bytes).doing(doing)?;
        renameat(&self.fd, &*fresh, &self.fd, name).doing(doing)?;
        Ok(())
    }

    /// Removes it with everything in it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let doing = || format!("remove `{}`", self.path.display());
        empty(self.fd.as_fd()).doing(doing)?;
        match rustix::fs::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            other => other.doing(doing).map_err(Error::from),
        }
    }
}

/// Removes what is in a directory of ours; nobody else can put anything there.
fn empty(directory: BorrowedFd<'_>) -> std::io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let mut flags = AtFlags::empty();
        if entry.file_type() == FileType::Directory {
            let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            empty(openat(directory, name, open, Mode::empty())?.as_fd())?;
            flags = AtFlags::REMOVEDIR;
        }
        match unlinkat(directory, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Makes the state root, which nobody but its owner may look into.
fn make_root(root: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)
}

/// Whether `id` can be the id of a container; runc's rule.
fn check_id(id: &str) -> Result<(), Error> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    let fits = !id.is_empty() && id.len() <= ID_BYTES_MAX;
    if fits && id.bytes().all(plain) && id != "." && id != ".." {
        return Ok(());
    }
    Err(Error::InvalidId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_name() {
        for id in ["a", "A.b-c_d+e", "0", "..."] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "é", "a\n", &"x".repeat(256)] {
            assert!(matches!(check_id(id), Err(Error::InvalidId)), "{id}");
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::make(root.path(), "a").unwrap();
        assert_eq!(directory.read().unwrap(), None);
        let record = Record { id: "a".into(), pid: 7, ..Record::default() };
        directory.write(&record).unwrap();
        assert_eq!(directory.read().unwrap(), Some(record));
        assert!(matches!(Directory::make(root.path(), "a"), Err(Error::Exists)));
        directory.remove().unwrap();
        assert!(matches!(Directory::open(root.path(), "a"), Err(Error::NotExist)));
        assert!(matches!(directory.lock(Access::Use), Err(Error::NotExist)));
    }
}
