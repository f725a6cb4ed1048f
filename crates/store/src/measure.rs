//! How much of a disk a tree takes.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

use crate::error::{Doing as _, Error};

/// Bytes that the kernel counts disk space in (stat(2), `st_blocks`).
const BLOCK_BYTES: u64 = 512;

/// Adds up what trees take of the disk, as `du` does: whole blocks, directories too, and a file
/// with several names once.
#[derive(Debug, Default)]
pub struct Measure {
    linked: HashSet<(u64, u64)>,
}

impl Measure {
    /// Bytes of disk of what lies at `path` and below, that were not counted before. What is not
    /// there, vanishes meanwhile or lies deeper than a path can say does not count.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, path: &Path) -> Result<u64, Error> {
        let doing = || format!("measure `{}`", path.display());
        let stat = match rustix::fs::lstat(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(0),
            stat => stat.doing(doing)?,
        };
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Ok(self.one(&stat));
        }
        let root = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            root => root.doing(doing)?,
        };
        Ok(self.one(&stat) + self.below(&root).doing(doing)?)
    }

    /// Bytes of disk of a directory itself.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn own(&mut self, path: &Path) -> Result<u64, Error> {
        match rustix::fs::lstat(path) {
            Err(Errno::NOENT) => Ok(0),
            stat => Ok(self.one(&stat.doing(|| format!("measure `{}`", path.display()))?)),
        }
    }

    fn one(&mut self, stat: &Stat) -> u64 {
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        if !is_dir && stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return 0;
        }
        u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES
    }

    fn below(&mut self, root: &File) -> Result<u64, Errno> {
        let mut bytes = 0;
        let mut pending = vec![PathBuf::from(".")];
        while let Some(path) = pending.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let directory = match openat2(root, &path, flags, Mode::empty(), beneath) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => continue,
                opened => opened?,
            };
            let mut entries = Dir::read_from(&directory)?;
            while let Some(entry) = entries.read() {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                    continue;
                };
                bytes += self.one(&stat);
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    pending.push(path.join(OsStr::from_bytes(name.to_bytes())));
                }
            }
        }
        Ok(bytes)
    }
}
