//! Filling an empty volume with what the image has at its place.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate,
    futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat, readlinkat, seek, sendfile, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

/// The deepest tree that is copied: deeper ones come from nobody's image.
const DEPTH_MAX: usize = 512;
/// The longest value of an extended attribute and list of names (xattr(7)), in bytes.
const XATTR_MAX: usize = 64 << 10;
/// How much is asked of sendfile(2) at a time, in bytes.
const CHUNK: usize = 1 << 30;

/// What is known of a copy on its way.
#[derive(Debug, Default)]
struct Links {
    /// Where files with several names were copied to first: (device, inode) to directory and name.
    first: HashMap<(u64, u64), (Rc<OwnedFd>, CString)>,
    /// Whether files may share their data with what they were copied from, where that works
    /// (ioctl_ficlone(2)).
    shares: bool,
}

/// Copies the tree below `from` into `to`, unless `to` already has content: owners, modes, times,
/// extended attributes, links and special files, and those of the top directory itself. Both
/// descriptors may be `O_PATH` ones.
///
/// # Errors
/// The first that occurs.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    copy_with(from, to, Links::default())
}

/// As [`copy`], within one file system perhaps: data is shared, where the file system can do so,
/// until one of the two is changed.
///
/// # Errors
/// The first that occurs.
pub fn clone_tree(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    copy_with(from, to, Links { shares: true, ..Links::default() })
}

fn copy_with(from: &OwnedFd, to: &OwnedFd, mut links: Links) -> io::Result<()> {
    let open = |directory| {
        openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let to = open(to)?;
    if !is_empty(&to)? {
        return Ok(());
    }
    copy_directory(&open(from)?, &Rc::new(to), &mut links, DEPTH_MAX)
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        // A volume on a file system of its own has this directory from the start.
        if !matches!(entry.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy_directory(
    from: &OwnedFd,
    to: &Rc<OwnedFd>,
    links: &mut Links,
    depth: usize,
) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            copy_entry(from, to, entry.file_name(), (&mut *links, depth))?;
        }
    }
    let stat = fstat(from)?;
    copy_attributes(from, to, &stat)
}

fn copy_entry(
    from: &OwnedFd,
    to: &Rc<OwnedFd>,
    name: &CStr,
    (links, depth): (&mut Links, usize),
) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode as RawMode);
    let linked = kind != FileType::Directory && stat.st_nlink > 1;
    let inode = (stat.st_dev, stat.st_ino);
    if let Some((directory, first)) = links.first.get(&inode).filter(|_| linked) {
        return Ok(linkat(&**directory, first, to, name, AtFlags::empty())?);
    }
    match kind {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = openat(from, name, flags, Mode::empty())?;
            let made = Rc::new(openat(to, name, flags, Mode::empty())?);
            copy_directory(&inner, &made, links, depth)?;
        }
        FileType::RegularFile => copy_file(from, to, name, links)?,
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(&target, to, name)?;
            finish_special(to, name, &stat)?;
        }
        // A socket is the address of a process that does not run here.
        FileType::Socket => return Ok(()),
        _ => {
            mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
            finish_special(to, name, &stat)?;
        }
    }
    if linked {
        links.first.insert(inode, (Rc::clone(to), name.to_owned()));
    }
    Ok(())
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr, links: &mut Links) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(from, name, OFlags::RDONLY | flags, Mode::empty())?;
    let stat = fstat(&source)?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let made = openat(to, name, create | flags, Mode::from_raw_mode(0o600))?;
    // What refuses one file refuses all.
    links.shares = links.shares && ioctl_ficlone(&made, &source).is_ok();
    if !links.shares {
        copy_content(&source, &made, &stat)?;
    }
    copy_attributes(&source, &made, &stat)
}

/// Copies the data and leaves the holes: a file of terabytes may have been a few bytes of image.
fn copy_content(source: &OwnedFd, made: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    ftruncate(made, size)?;
    let mut at = 0;
    while at < size {
        at = match seek(source, SeekFrom::Data(at)) {
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => return Ok(()),
            data => data?,
        };
        let end = seek(source, SeekFrom::Hole(at))?;
        seek(made, SeekFrom::Start(at))?;
        while at < end {
            let length = usize::try_from(end - at).map_or(CHUNK, |length| length.min(CHUNK));
            // It may have become shorter.
            if sendfile(made, source, Some(&mut at), length)? == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Owner before mode, because chown(2) clears the set-id bits; extended attributes after the
/// owner, because it clears file capabilities; times last.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(from.as_fd(), to.as_fd())?;
    futimens(to, &times(stat))?;
    Ok(())
}

fn finish_special(directory: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as i64 },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 },
    }
}

/// Attributes that the target's file system refuses are left out, as cp(1) does.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; XATTR_MAX];
    let length = match flistxattr(from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    if length == 0 {
        return Ok(());
    }
    let mut value = vec![0; XATTR_MAX];
    for name in names[..length].split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let length = fgetxattr(from, name, &mut value[..])?;
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
