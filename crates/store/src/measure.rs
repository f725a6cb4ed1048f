//! How much of a disk a tree takes.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat,
};
use rustix::io::Errno;

use crate::error::{Doing as _, Error};
use crate::walk::open_directory;

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

/// Apparent bytes of the regular files below `root`, each file once, of a tree that nobody changes.
///
/// Goes down and up by descriptors: by paths from the root, each directory of a chain would cost
/// the whole way to it.
pub(crate) fn bytes_below(root: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut bytes = 0u64;
    let mut linked = HashSet::new();
    let mut here = open_directory(root, b".")?;
    // The way here: what each directory is, and those in it that are still to be looked at.
    let mut way = vec![(identity(&here)?, sum(&here, &mut bytes, &mut linked)?)];
    while let Some((_, pending)) = way.last_mut() {
        if let Some(name) = pending.pop() {
            here = open_directory(here.as_fd(), name.to_bytes())?;
            way.push((identity(&here)?, sum(&here, &mut bytes, &mut linked)?));
            continue;
        }
        way.pop();
        if let Some((above, _)) = way.last() {
            here = open_directory(here.as_fd(), b"..")?;
            if identity(&here)? != *above {
                return Err(Errno::STALE);
            }
        }
    }
    Ok(bytes)
}

fn identity(directory: &OwnedFd) -> Result<(u64, u64), Errno> {
    fstat(directory).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Adds up the files of one directory; the directories in it.
fn sum(
    directory: &OwnedFd,
    bytes: &mut u64,
    linked: &mut HashSet<u64>,
) -> Result<Vec<CString>, Errno> {
    let mut directories = Vec::new();
    let mut entries = Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => directories.push(name.to_owned()),
            FileType::RegularFile if stat.st_nlink == 1 || linked.insert(stat.st_ino) => {
                // Sparse files may claim more together than there can be.
                *bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
            _ => {}
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::openat;

    use super::*;
    use crate::walk::make_directory;

    #[test]
    fn trees_deeper_than_a_path_are_summed() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(directory.path()).unwrap());
        fs::write(directory.path().join("a"), "12345").unwrap();
        fs::hard_link(directory.path().join("a"), directory.path().join("b")).unwrap();
        let names = [[b'd'; 200], [b'e'; 200]];
        let mut at = open_directory(root.as_fd(), b".").unwrap();
        for n in 0..40 {
            for name in &names {
                make_directory(at.as_fd(), name, 0o755).unwrap();
            }
            at = open_directory(at.as_fd(), &names[n % 2]).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let deepest = openat(&at, "f", flags, Mode::RUSR).unwrap();
        rustix::io::write(&deepest, b"1234567").unwrap();
        assert_eq!(bytes_below(root.as_fd()), Ok(12));
    }
}
