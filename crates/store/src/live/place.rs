//! Entries of an archive, put into a tree that others use.

use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, statat,
};
use rustix::io::Errno;

use super::{Live, Owner, Unpack};
use crate::driver::dir::{allow_unsupported, write_data};
use crate::error::{Doing as _, Error, invalid};
use crate::extract::components;
use crate::overlay::is_directory;
use crate::tarball::{Entry, Kind, Tar, shown};
use crate::walk::{open_directory, through_proc};

/// Mode of directories that the archive needs and does not describe.
const IMPLIED_MODE: u32 = 0o755;
/// Directories below each other that are removed to make room.
const DEPTH_MAX: usize = 400;
/// Of the names of directories that are to get their times at the end, in bytes.
const REMEMBERED_BYTES_MAX: usize = 64 << 20;

/// Puts entries below one directory.
pub(super) struct Place<'a> {
    live: &'a Live,
    unpack: Unpack<'a>,
    /// The directory of the last entry: most are beside each other.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Directories, whose times are set when nothing in them changes any more.
    later: Vec<(PathBuf, Timestamps)>,
    remembered_bytes: usize,
}

impl<'a> Place<'a> {
    pub(super) fn new(live: &'a Live, unpack: Unpack<'a>) -> Self {
        Self { live, unpack, last: None, later: Vec::new(), remembered_bytes: 0 }
    }

    pub(super) fn take<R: BufRead>(
        &mut self,
        tar: &mut Tar<R>,
        entry: &Entry,
    ) -> Result<(), Error> {
        let name = &entry.name;
        let path = components(name)?;
        let Some((&last, above)) = path.split_last() else {
            // As in Docker: the directory itself stays as it is.
            return Ok(());
        };
        let doing = || format!("copy to `{}`", shown(name));
        let parent = self.directory(above).doing(doing)?;
        let is_merged = self.make_room(&parent, last, entry, name)?;
        let place = (parent.as_fd(), last);
        match entry.kind {
            Kind::File => self.file(tar, place, entry),
            Kind::Directory => {
                let directory = make_directory(place, is_merged).doing(doing)?;
                self.describe(&directory, entry).doing(doing)?;
                self.remember(&path, entry)
            }
            Kind::HardLink => self.hard_link(place, entry).doing(doing),
            Kind::Symlink => {
                let made = rustix::fs::symlinkat(&entry.link[..], place.0, last);
                made.and_then(|()| self.describe_named(place, entry)).doing(doing)
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharDevice => FileType::CharacterDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(entry.major, entry.minor);
                let made = rustix::fs::mknodat(place.0, last, kind, Mode::empty(), device);
                made.and_then(|()| self.describe_named(place, entry)).doing(doing)
            }
        }
    }

    /// The path of an entry from the root of the tree.
    fn path(&self, parts: &[&[u8]]) -> PathBuf {
        let mut path = self.unpack.path.to_owned();
        path.extend(parts.iter().map(|part| OsStr::from_bytes(part)));
        path
    }

    /// Opens a directory below ours; what is missing of it is made.
    fn directory(&mut self, parts: &[&[u8]]) -> Result<Rc<OwnedFd>, Errno> {
        let path = self.path(parts);
        if let Some((known, directory)) = &self.last
            && *known == path
        {
            return Ok(directory.clone());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = match (self.live.open(&path, flags), parts.split_last()) {
            (Err(Errno::NOENT), Some((&name, above))) => {
                let parent = self.directory(above)?;
                match rustix::fs::mkdirat(&parent, name, Mode::from(IMPLIED_MODE)) {
                    Err(error) if error != Errno::EXIST => return Err(error),
                    _ => Rc::new(open_directory(parent.as_fd(), name)?),
                }
            }
            (opened, _) => Rc::new(opened?),
        };
        self.last = Some((path, opened.clone()));
        Ok(opened)
    }

    /// Removes what is in the way of an entry; whether it is a directory that is kept.
    fn make_room(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        title: &[u8],
    ) -> Result<bool, Error> {
        let there = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            there => there.doing(|| format!("inspect `{}`", shown(title)))?,
        };
        let (old, new) = (is_directory(&there), entry.kind == Kind::Directory);
        if old && new {
            return Ok(true);
        }
        if self.unpack.keeps_kinds && old != new {
            let word = |directory| if directory { "directory" } else { "non-directory" };
            return invalid(format!(
                "cannot overwrite {} \"{}\" with {} \"{}\"",
                word(old),
                self.path(&[title]).display(),
                word(new),
                self.unpack.path.display()
            ));
        }
        self.last = None;
        let removed = remove(parent.as_fd(), name, DEPTH_MAX);
        removed.doing(|| format!("replace `{}`", shown(title))).map(|()| false)
    }

    fn file<R: BufRead>(
        &self,
        tar: &mut Tar<R>,
        (parent, name): (BorrowedFd<'_>, &[u8]),
        entry: &Entry,
    ) -> Result<(), Error> {
        let doing = || format!("copy to `{}`", shown(&entry.name));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::from(0o600)).doing(doing)?;
        match &entry.sparse {
            None => drop(write_data(tar, &file, entry.size)?),
            Some(segments) => {
                rustix::fs::ftruncate(&file, entry.size).doing(doing)?;
                for (offset, length) in segments {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(*offset)).doing(doing)?;
                    write_data(tar, &file, *length)?;
                }
            }
        }
        self.describe(&file, entry).doing(doing)?;
        rustix::fs::futimens(&file, &times(entry)).doing(doing)
    }

    /// Another name for an earlier entry, whose last part is not followed.
    fn hard_link(
        &mut self,
        (parent, name): (BorrowedFd<'_>, &[u8]),
        entry: &Entry,
    ) -> Result<(), Errno> {
        let target = components(&entry.link).map_err(|_| Errno::INVAL)?;
        let (to, above) = target.split_last().ok_or(Errno::ISDIR)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let from = self.live.open(&self.path(above), flags)?;
        rustix::fs::linkat(&from, *to, parent, name, AtFlags::empty())
    }

    fn owner(&self, entry: &Entry) -> Result<Option<(Uid, Gid)>, Errno> {
        let (uid, gid) = match self.unpack.owner {
            Owner::Caller => return Ok(None),
            Owner::Archive => (entry.uid, entry.gid),
            Owner::Of(uid, gid) => (uid, gid),
        };
        let (uid, gid) = (self.live.ids.on_host(uid)?, self.live.ids.on_host(gid)?);
        Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid))))
    }

    /// Owner, then mode (a change of owner clears set-user-id), then attributes (it clears
    /// capabilities, too).
    fn describe(&self, file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner(entry)? {
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(file, entry.mode.into())?;
        for (name, value) in kept(entry) {
            let set = rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty());
            allow_unsupported(set, name)?;
        }
        Ok(())
    }

    /// The same for what cannot be opened: of what is there now, whoever put it there.
    fn describe_named(
        &self,
        (parent, name): (BorrowedFd<'_>, &[u8]),
        entry: &Entry,
    ) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        if let Some((uid, gid)) = self.owner(entry)? {
            rustix::fs::chownat(&found, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        if entry.kind != Kind::Symlink {
            // The link of /proc leads to what is open, and a link there would not be followed on.
            let own = format!("/proc/self/fd/{}", found.as_raw_fd());
            if !is_symlink(&rustix::fs::fstat(&found)?) {
                rustix::fs::chmod(own, entry.mode.into())?;
            }
        }
        for (key, value) in kept(entry).filter(|(key, _)| !key.starts_with(b"user.")) {
            let path = through_proc(parent, name);
            let set = rustix::fs::lsetxattr(&path, &key[..], value, XattrFlags::empty());
            allow_unsupported(set, key)?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn remember(&mut self, path: &[&[u8]], entry: &Entry) -> Result<(), Error> {
        let path = self.path(path);
        self.remembered_bytes += path.as_os_str().len() + size_of::<(PathBuf, Timestamps)>();
        if self.remembered_bytes > REMEMBERED_BYTES_MAX {
            return invalid("archive has too many directories");
        }
        self.later.push((path, times(entry)));
        Ok(())
    }

    /// Sets the times of directories.
    pub(super) fn finish(self) -> Result<(), Error> {
        for (path, times) in self.later.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match self.live.open(path, flags) {
                // Somebody has put something else there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                opened => opened
                    .and_then(|directory| rustix::fs::futimens(&directory, times))
                    .doing(|| format!("set the time of `{}`", path.display()))?,
            }
        }
        Ok(())
    }
}

/// Opens a directory, which is made unless it is there.
fn make_directory(
    (parent, name): (BorrowedFd<'_>, &[u8]),
    is_there: bool,
) -> Result<OwnedFd, Errno> {
    if !is_there {
        rustix::fs::mkdirat(parent, name, Mode::from(0o700))?;
    }
    open_directory(parent, name)
}

/// Removes a name, and what is below it.
fn remove(parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return removed,
    }
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let directory = open_directory(parent, name)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(name);
        }
    }
    names.iter().try_for_each(|name| remove(directory.as_fd(), name, depth))?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Attributes without overlayfs' own, which would rename and redirect what others hold.
fn kept(entry: &Entry) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
    let own =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    entry.xattrs.iter().map(|(name, value)| (name, value)).filter(move |(name, _)| !own(name))
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_s, tv_nsec: entry.mtime_ns.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn is_symlink(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_symlink()
}
