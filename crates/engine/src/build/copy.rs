//! Copying files into the view that a step changes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use build::Chmod;
use oci::Digest;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, linkat,
    mkdirat, mknodat, openat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::hash::{Content, Tally, copy_hashed};
use super::mode::changed_mode;
use super::source::{Entry, Picked, Source, is_directory, lstat, named};
use super::user::Owner;
use crate::error::{Doing, Error, Result};

/// Of directories that are needed and not described.
const IMPLIED_MODE: u32 = 0o755;
/// Of all names of a file's extended attributes, and of each value, in bytes (xattr(7)).
const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;
/// Zeros that are fewer are written.
const HOLE_BYTES_MIN: usize = 4 << 10;
/// Directories that are held open because a file in them may have further names.
const LINKED_DIRECTORIES_MAX: usize = 256;

/// Where files are copied to, and what they become.
pub(crate) struct Target<'a> {
    pub(crate) root: BorrowedFd<'a>,
    /// Absolute; with a slash at its end for a directory.
    pub(crate) destination: &'a str,
    /// Whether a directory that is made for the content of another becomes as that one is.
    pub(crate) mirrors: bool,
    pub(crate) owner: Option<Owner>,
    pub(crate) chmod: Option<&'a Chmod>,
    /// The time of everything that is made, in seconds since 1970.
    pub(crate) epoch_s: i64,
    /// The first name of each file that has several.
    pub(crate) links: Links,
    /// The digest of what is copied, if somebody wants to know.
    pub(crate) tally: Option<Tally>,
}

/// The first name of a file, in an open directory, and what was found in it.
#[derive(Debug)]
struct First {
    at: Rc<OwnedFd>,
    name: OsString,
    content: Content,
}

/// Files that have several names, by device and inode: where the first one is, and its name.
#[derive(Debug, Default)]
pub(crate) struct Links {
    files: HashMap<(u64, u64), First>,
    directories: HashMap<(u64, u64), Rc<OwnedFd>>,
}

impl Links {
    fn clear(&mut self) {
        self.files.clear();
        self.directories.clear();
    }

    /// Remembers a first name, unless names are in too many directories: then what follows is a
    /// file of its own.
    fn remember(
        &mut self,
        file: (u64, u64),
        (at, name): (BorrowedFd<'_>, &OsStr),
        content: &Content,
    ) -> io::Result<()> {
        let stat = rustix::fs::fstat(at)?;
        let directory = (stat.st_dev, stat.st_ino);
        let held = match self.directories.get(&directory) {
            Some(held) => held.clone(),
            None if self.directories.len() >= LINKED_DIRECTORIES_MAX => return Ok(()),
            None => {
                let held = Rc::new(at.try_clone_to_owned()?);
                self.directories.insert(directory, held.clone());
                held
            }
        };
        let first = First { at: held, name: name.to_owned(), content: content.clone() };
        self.files.insert(file, first);
        Ok(())
    }
}

impl<'a> Target<'a> {
    /// A place below `root` whose files become root's, with the modes that they have.
    pub(crate) fn new(root: BorrowedFd<'a>, destination: &'a str, epoch_s: i64) -> Self {
        let (owner, chmod, tally) = (None, None, None);
        let (mirrors, links) = (false, Links::default());
        Self { root, destination, mirrors, owner, chmod, epoch_s, links, tally }
    }

    /// Copies what was picked.
    ///
    /// # Errors
    /// If something is in the way, or the disk refuses.
    pub(crate) fn copy(&mut self, source: &Source, picked: &Picked) -> Result<()> {
        if let Some(tally) = &mut self.tally {
            tally.begin(picked);
        }
        if picked.entries.is_empty() {
            return Ok(());
        }
        self.links.clear();
        if !picked.is_directory {
            let (directory, name) = self.place(&picked.name)?;
            return self.entry(source, &picked.entries[0], directory.as_fd(), &name);
        }
        let (top, below) = picked.entries.split_first().expect("it is not empty");
        self.count(top, &Content::Nothing);
        let root = self.top(source, top)?;
        let mut open: Vec<(PathBuf, OwnedFd)> = vec![(PathBuf::new(), root)];
        for entry in below {
            let parent = entry.below.parent().unwrap_or(Path::new(""));
            while open.len() > 1 && open.last().is_some_and(|(path, _)| path != parent) {
                self.close(open.pop())?;
            }
            let name = entry.below.file_name().unwrap_or_default();
            let (_, directory) = open.last().expect("the first stays");
            self.entry(source, entry, directory.as_fd(), name)?;
            if is_directory(&entry.stat) {
                let opened = open_directory(directory.as_fd(), name);
                let opened = opened.doing(|| format!("open {}", entry.below.display()))?;
                open.push((entry.below.clone(), opened));
            }
        }
        open.drain(1..).rev().try_for_each(|directory| self.close(Some(directory)))
    }

    fn count(&mut self, entry: &Entry, content: &Content) {
        if let Some(tally) = &mut self.tally {
            tally.entry(entry, content);
        }
    }

    /// Sets the time of a directory that nothing more comes into.
    fn close(&self, directory: Option<(PathBuf, OwnedFd)>) -> Result<()> {
        let Some((path, directory)) = directory else { return Ok(()) };
        rustix::fs::futimens(&directory, &self.times())
            .doing(|| format!("set the time of {}", path.display()))
    }

    /// Writes a file from what can be read.
    ///
    /// # Errors
    /// As of [`Target::copy`].
    pub(crate) fn write(&mut self, name: &str, content: &mut dyn Read, mode: u32) -> Result<()> {
        let (directory, name) = self.place(OsStr::new(name))?;
        let doing = || format!("write {}", self.destination);
        let mut file = self.create(directory.as_fd(), &name)?;
        std::io::copy(content, &mut file).doing(doing)?;
        self.finish(&file, mode, None).doing(doing)
    }

    /// Makes the destination a directory.
    pub(crate) fn directory(&self) -> Result<OwnedFd> {
        self.make(Path::new(self.destination.trim_matches('/')))
    }

    /// The directory that a file goes to, and its name there.
    fn place(&self, name: &OsStr) -> Result<(OwnedFd, OsString)> {
        // A link at the destination says where it really is.
        let view = self.view()?;
        let path = view.resolve(Path::new(self.destination.trim_matches('/')))?;
        let is_inside = self.destination.ends_with('/')
            || view.find(&path)?.is_some_and(|(_, stat)| is_directory(&stat));
        if is_inside {
            return Ok((self.make(&path)?, name.to_owned()));
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or(name).to_owned();
        Ok((self.make(parent)?, name))
    }

    /// What is there so far.
    fn view(&self) -> Result<Source> {
        let root = self.root.try_clone_to_owned().doing(|| "copy a descriptor".to_owned())?;
        Ok(Source::tree(root))
    }

    /// The directory that the content of another goes to.
    fn top(&self, source: &Source, top: &Entry) -> Result<OwnedFd> {
        let opened = self.directory()?;
        if self.mirrors {
            let doing = || format!("make {}", self.destination);
            let owner = source.keeps_owners.then_some((top.stat.st_uid, top.stat.st_gid));
            self.finish(&opened, top.stat.st_mode, owner).doing(doing)?;
        }
        Ok(opened)
    }

    /// Makes a directory, and those above it that are not there, where links lead.
    fn make(&self, path: &Path) -> Result<OwnedFd> {
        let doing = || format!("make the directory /{}", path.display());
        let (path, mut so_far) = (self.view()?.resolve(path)?, PathBuf::new());
        let mode = match self.chmod {
            Some(Chmod::Octal(bits)) => *bits,
            _ => IMPLIED_MODE,
        };
        for part in path.components() {
            so_far.push(part);
            match self.enter(&so_far) {
                Err(Errno::NOENT) => {}
                entered => {
                    entered.doing(doing)?;
                    continue;
                }
            }
            let parent = self.enter(so_far.parent().unwrap_or(Path::new(""))).doing(doing)?;
            let name = so_far.file_name().unwrap_or_default();
            mkdirat(&parent, name, Mode::from(IMPLIED_MODE)).doing(doing)?;
            let made = open_directory(parent.as_fd(), name).doing(doing)?;
            self.set(&made, mode, None).doing(doing)?;
        }
        self.enter(&path).doing(doing)
    }

    fn enter(&self, path: &Path) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(self.root, named(path), flags, Mode::empty(), resolve)
    }

    /// Copies one file, directory or whatever it is.
    fn entry(
        &mut self,
        source: &Source,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<()> {
        let doing = || format!("copy {}", entry.path.display());
        let owner = source.keeps_owners.then_some((entry.stat.st_uid, entry.stat.st_gid));
        let kind = FileType::from_raw_mode(entry.stat.st_mode);
        if kind == FileType::Directory {
            match mkdirat(at, name, Mode::from(0o700)) {
                Err(Errno::EXIST) => {}
                made => made.doing(doing)?,
            }
            let made = match open_directory(at, name) {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let name = name.to_string_lossy();
                    return Err(Error::invalid(format!(
                        "cannot copy a directory over the file {name}"
                    )));
                }
                made => made.doing(doing)?,
            };
            self.count(entry, &Content::Nothing);
            return self.finish(&made, entry.stat.st_mode, owner).doing(doing);
        }
        self.make_way(at, name)?;
        if kind == FileType::RegularFile {
            let content = self.file(source, entry, at, name, owner)?;
            self.count(entry, &content);
            return Ok(());
        }
        let mut content = Content::Nothing;
        match kind {
            FileType::Symlink => {
                let target = source.link(&entry.path)?;
                symlinkat(target.as_os_str(), at, name).doing(doing)?;
                content = Content::Link(target);
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                let mode = Mode::from_raw_mode(entry.stat.st_mode);
                mknodat(at, name, kind, mode, entry.stat.st_rdev).doing(doing)?;
            }
            // A socket is nothing without its process: as with BuildKit, its place in a context is a
            // file's.
            FileType::Socket if !source.keeps_owners => {
                let made = self.create(at, name)?;
                self.count(entry, &content);
                return self.finish(&made, entry.stat.st_mode, owner).doing(doing);
            }
            _ => {
                self.count(entry, &content);
                return Ok(());
            }
        }
        self.count(entry, &content);
        let (uid, gid) = self.owner.or(owner).unwrap_or((0, 0));
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).doing(doing)?;
        utimensat(at, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW).doing(doing)
    }

    /// Copies a regular file; what was found in it.
    fn file(
        &mut self,
        source: &Source,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &OsStr,
        owner: Option<Owner>,
    ) -> Result<Content> {
        let doing = || format!("copy {}", entry.path.display());
        let inode = (entry.stat.st_dev, entry.stat.st_ino);
        let is_linked = entry.stat.st_nlink > 1;
        if is_linked && let Some(first) = self.links.files.get(&inode) {
            linkat(&first.at, &first.name, at, name, AtFlags::empty()).doing(doing)?;
            return Ok(first.content.clone());
        }
        let mut from = source.open_file(&entry.path)?;
        let mut to = self.create(at, name)?;
        let digest = self.data(&mut from, &mut to).doing(doing)?;
        self.finish(&to, entry.stat.st_mode, owner).doing(doing)?;
        let own = match source.keeps_owners {
            true => copy_attributes(&from, &to).doing(doing)?,
            false => Attributes::new(),
        };
        let content = digest.map_or(Content::Nothing, |digest| Content::Data(digest, own));
        if is_linked {
            self.links.remember(inode, (at, name), &content).doing(doing)?;
        }
        Ok(content)
    }

    /// Copies the data of a file, by sharing it where the file system can; its digest, if somebody
    /// wants to know it: of the copy, since what is copied may change meanwhile.
    fn data(&self, from: &mut File, to: &mut File) -> io::Result<Option<Digest>> {
        let is_cloned = rustix::fs::ioctl_ficlone(&*to, &*from).is_ok();
        match (self.tally.is_some(), is_cloned) {
            (true, true) => copy_hashed(to, &mut io::sink()).map(Some),
            (false, true) => Ok(None),
            (true, false) => {
                let digest = copy_hashed(from, &mut Holes(to))?;
                // What ends in a hole is longer than what was written.
                let end = to.stream_position()?;
                to.set_len(end)?;
                Ok(Some(digest))
            }
            (false, false) => io::copy(from, to).map(|_| None),
        }
    }

    /// Removes what is at a name, unless that is a directory.
    fn make_way(&self, at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        let doing = || format!("replace {}", name.to_string_lossy());
        match lstat(at, name).doing(doing)? {
            None => Ok(()),
            Some(stat) if is_directory(&stat) => Err(Error::invalid(format!(
                "cannot copy a file over the directory {}",
                name.to_string_lossy()
            ))),
            Some(_) => unlinkat(at, name, AtFlags::empty()).doing(doing),
        }
    }

    fn create(&self, at: BorrowedFd<'_>, name: &OsStr) -> Result<File> {
        self.make_way(at, name)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDWR;
        let made = openat(at, name, flags, Mode::from(0o600));
        made.map(File::from).doing(|| format!("create {}", name.to_string_lossy()))
    }

    /// Gives what was copied its owner, mode and time; `own` is whose it was.
    fn finish(
        &self,
        made: impl std::os::fd::AsFd,
        mode: u32,
        own: Option<Owner>,
    ) -> std::result::Result<(), Errno> {
        let mode = self.chmod.map_or(mode, |chmod| changed_mode(chmod, mode));
        self.set(made, mode, own)
    }

    fn set(
        &self,
        made: impl std::os::fd::AsFd,
        mode: u32,
        own: Option<Owner>,
    ) -> std::result::Result<(), Errno> {
        let (uid, gid) = self.owner.or(own).unwrap_or((0, 0));
        rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode & 0o7777))?;
        rustix::fs::futimens(&made, &self.times())
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.epoch_s, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }
}

fn open_directory(at: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// A new file in which zeros become holes.
struct Holes<'a>(&'a File);

impl Write for Holes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() < HOLE_BYTES_MIN || bytes.iter().any(|byte| *byte != 0) {
            return self.0.write(bytes);
        }
        self.0.seek(io::SeekFrom::Current(bytes.len() as i64))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Extended attributes: names and values.
pub(crate) type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

fn copy_attributes(from: &File, to: &File) -> std::result::Result<Attributes, Errno> {
    let own = attributes(from)?;
    for (key, value) in &own {
        rustix::fs::fsetxattr(to, &key[..], value, rustix::fs::XattrFlags::empty())?;
    }
    Ok(own)
}

/// What of a file's extended attributes belongs to the file and not to the machine.
pub(crate) fn attributes(file: &File) -> std::result::Result<Attributes, Errno> {
    let mut list = vec![0; ATTRIBUTES_BYTES_MAX];
    let length = match rustix::fs::flistxattr(file, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    list.truncate(length);
    let kept = |key: &&[u8]| *key == b"security.capability" || key.starts_with(b"user.");
    let read = |key: &[u8]| {
        let mut value = vec![0; ATTRIBUTES_BYTES_MAX];
        let length = rustix::fs::fgetxattr(file, key, &mut value[..])?;
        value.truncate(length);
        Ok((key.to_vec(), value))
    };
    list.split(|byte| *byte == 0).filter(kept).map(read).collect()
}
