//! Reading and writing the small files of a control group.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};

/// The largest file read: `memory.stat` and `io.stat` of a large machine stay far below.
const FILE_MAX: usize = 1 << 20;

/// Opens the directory `path` below `root`; no symbolic link, mount point trick or `..` leads out.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Opens `name` in `dir` for writing. Never creates: a file that is missing is a missing feature.
pub(super) fn open_write(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Opens `name` in `dir` for reading.
pub(super) fn open_read(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Writes `value` to `name` in one write, as the kernel expects it.
pub(super) fn write(dir: impl AsFd, name: &str, value: &str) -> io::Result<()> {
    write_fd(&open_write(dir, name)?, value)
}

/// Writes `value` to an open file in one write.
pub(super) fn write_fd(fd: &OwnedFd, value: &str) -> io::Result<()> {
    match rustix::io::write(fd, value.as_bytes())? {
        all if all == value.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The whole of `name`.
pub(super) fn read(dir: impl AsFd, name: &str) -> io::Result<String> {
    read_fd(&open_read(dir, name)?)
}

/// The whole of an open file, from its beginning.
pub(super) fn read_fd(fd: &OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match rustix::io::pread(fd, &mut chunk, bytes.len() as u64)? {
            0 => break,
            _ if bytes.len() > FILE_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The value after `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key { value.trim().parse().ok() } else { None }
    })
}
