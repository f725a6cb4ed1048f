//! How two views differ: as `docker diff` says it, or exactly.
//!
//! Docker compares two complete views. The same answer comes from what the two do not have in
//! common: an entry that only layers of both have is the same in both. For a container and its
//! image that is the writable layer, where overlayfs puts everything that differs. Docker's rules:
//!
//! - an entry of the image counts as changed if its kind, permission bits, owner, device number or
//!   capabilities differ or, unless it is a directory, its size or modification time. Times are the
//!   same if they fall into one second of which either knows no fraction. A file that was copied up
//!   and not changed is not reported;
//! - a directory counts as changed, too, if anything below it does; the root never;
//! - everything in a new directory is added; of a deleted one, only the directory is deleted;
//! - what replaces a directory by something else is a change, and its entries are not mentioned;
//! - of a directory that was removed and made again, the entries that are not there are deleted.
//!
//! Other than Docker, which fails there, a directory that lies deeper than a path can say and is not
//! the image's is reported as one change, without what is in it.
//!
//! An exact comparison reports every entry by itself, with all that can be seen of it, and reads
//! the files where everything else is equal.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Rootfs;
use rustix::fs::{FileType, SeekFrom, Stat, lgetxattr, llistxattr, readlinkat};
use rustix::io::Errno;

use crate::disk::Store;
use crate::error::{Doing as _, Error};
use crate::overlay::is_directory;
use crate::view::{Entry, Keep, Part, Place, Roots, View};
use crate::walk::through_proc;

/// Directories below each other that are open while their own are looked at, if others may change
/// them.
const OPEN_MAX: usize = 400;
/// Bytes of a path below the root with a slash at its end, where it is longer than [`OPEN_MAX`] names:
/// the kernel's own limit (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;
/// What a walk down the longest path takes of a stack, with room to spare.
const STACK_BYTES: usize = 64 << 20;
/// Bytes read at a time where two files are compared.
const COMPARE_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of an extended attribute's value, the kernel's own limit (`XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 * 1024;
/// Extended attributes that say how a layer lies over others, and nothing to who looks through.
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// `A`: the image does not have it.
    Added,
    /// `C`: it, or something in it, differs from the image's.
    Changed,
    /// `D`: the image has it.
    Deleted,
}

/// A path that differs between a container and its image, or between any two views.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// How it differs.
    pub kind: ChangeKind,
    /// The absolute path in the container.
    pub path: PathBuf,
}

/// An entry that is not the same in two views: see [`Comparison::differences`].
#[derive(Debug, Clone)]
pub struct Difference {
    /// Its path, relative to the root, which is empty.
    pub path: PathBuf,
    /// What it was.
    pub old: Option<Node>,
    /// What it is.
    pub new: Option<Node>,
    /// Whether what is in it differs: bytes, a link's target, a device's number, or its kind.
    pub content: bool,
}

/// All that can be seen of an entry but what is in a file.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its kind.
    pub kind: FileType,
    /// Permission bits.
    pub mode: u32,
    /// The owner's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// Bytes in it.
    pub size: u64,
    /// When it was changed last: seconds, and nanoseconds.
    pub mtime: (i64, u32),
    /// The number of a device, as the kernel packs it.
    pub device: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What a symbolic link says.
    pub target: Option<Vec<u8>>,
    root: usize,
}

/// Two views side by side.
#[derive(Debug)]
pub struct Comparison {
    roots: Roots,
    old: Place,
    new: Place,
    _keep: Vec<Keep>,
}

impl Store {
    /// What was changed in a view that [`Store::prepare`] made, sorted by the bytes of the paths.
    ///
    /// Reads the writable layer, not the image, so its cost is that of the changes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `rootfs` is a plain directory; [`Error::Io`].
    pub fn diff(&self, rootfs: &Rootfs) -> Result<Vec<Change>, Error> {
        let (old, new) = self.view_rootfs(rootfs)?;
        Comparison::new(old, new)?.changes(&[])
    }
}

impl Comparison {
    /// Puts two views side by side. The cost of comparing them is that of the layers which are not
    /// in both.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(old: View, new: View) -> Result<Self, Error> {
        let mut roots = Roots::default();
        let doing = || "open what is compared";
        let (above, below) = (old.roots, new.roots);
        let (old_place, new_place) =
            (roots.add(above).doing(doing)?, roots.add(below).doing(doing)?);
        let keep = old.keep.into_iter().chain(new.keep).collect();
        Ok(Self { roots, old: old_place, new: new_place, _keep: keep })
    }

    /// The changes by Docker's rules, sorted by the bytes of the paths; those at or below `within`,
    /// relative paths, unless that is empty.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn changes(&self, within: &[PathBuf]) -> Result<Vec<Change>, Error> {
        let found = self.walk(Rule::Docker, within)?;
        let kind = |found: &Found| match (&found.old, &found.new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Changed,
        };
        let path = |found: &Found| [b"/", &found.path[..]].concat();
        let change = |found: Found| Change {
            kind: kind(&found),
            path: Path::new(OsStr::from_bytes(&path(&found))).to_owned(),
        };
        Ok(found.into_iter().map(change).collect())
    }

    /// Every entry that differs in whatever can be seen, sorted as [`Comparison::changes`]; of
    /// directories, not their times, which follow from what is in them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn differences(&self, within: &[PathBuf]) -> Result<Vec<Difference>, Error> {
        let found = self.walk(Rule::Exact, within)?;
        let difference = |found: Found| Difference {
            path: Path::new(OsStr::from_bytes(&found.path)).to_owned(),
            content: found.content,
            old: found.old,
            new: found.new,
        };
        Ok(found.into_iter().map(difference).collect())
    }

    /// Opens a regular file that [`Comparison::differences`] found.
    ///
    /// # Errors
    /// [`Error::Io`], too if it has become something else since.
    pub fn open(&self, path: &Path, node: &Node) -> Result<File, Error> {
        let opened = self.roots.open(node.root, path.as_os_str().as_bytes());
        opened.doing(|| format!("open `{}`", path.display()))
    }

    fn walk(&self, rule: Rule, within: &[PathBuf]) -> Result<Vec<Found>, Error> {
        let walk = || {
            let mut walk = Walk {
                roots: &self.roots,
                rule,
                within,
                path: Vec::new(),
                depth: 0,
                found: Vec::new(),
            };
            walk.directory(&self.old, &self.new)
                .doing(|| format!("compare `/{}`", String::from_utf8_lossy(&walk.path)))?;
            Ok(walk.found)
        };
        let mut found = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("compare".to_owned());
            let thread = thread.stack_size(STACK_BYTES).spawn_scoped(scope, walk);
            let walked = thread.doing(|| "start a thread")?.join();
            walked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Docker,
    Exact,
}

/// A difference, without a slash in front of its path.
struct Found {
    path: Vec<u8>,
    old: Option<Node>,
    new: Option<Node>,
    content: bool,
}

struct Walk<'a> {
    roots: &'a Roots,
    rule: Rule,
    within: &'a [PathBuf],
    /// Of the directory being looked at, below the root, with a slash at its end unless it is that.
    path: Vec<u8>,
    depth: usize,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// Compares what the two views have of one directory.
    fn directory(&mut self, old: &Place, new: &Place) -> Result<(), Errno> {
        let shared = old.shared(new);
        let own = |place: &Place| self.roots.names(&place.0[..place.0.len() - shared], &self.path);
        let mut names = own(old)?;
        names.extend(own(new)?);
        for name in &names {
            if !self.is_wanted(name.to_bytes()) {
                continue;
            }
            let holds = self.depth < OPEN_MAX;
            let before = self.roots.entry(old, (&self.path, name), holds)?;
            let after = self.roots.entry(new, (&self.path, name), holds)?;
            match (before, after) {
                (None, None) => {}
                (None, Some(entry)) => {
                    self.add(name, None, Some((new, &entry)), true)?;
                    self.descend(name, &Place::default(), &entry.place)?;
                }
                (Some(entry), None) => {
                    self.add(name, Some((old, &entry)), None, true)?;
                    if self.rule == Rule::Exact {
                        self.descend(name, &entry.place, &Place::default())?;
                    }
                }
                (Some(before), Some(after)) => self.both(name, (old, &before), (new, &after))?,
            }
        }
        Ok(())
    }

    /// An entry that both have.
    fn both(
        &mut self,
        name: &CStr,
        old: (&Place, &Entry),
        new: (&Place, &Entry),
    ) -> Result<(), Errno> {
        let (before, after) = (old.1, new.1);
        let found = self.found.len();
        if is_directory(&after.stat) || self.rule == Rule::Exact {
            self.descend(name, &before.place, &after.place)?;
        }
        if before.root == after.root {
            // One file, or a directory of which only what is in it can differ.
            let below = self.found.len() > found && self.rule == Rule::Docker;
            return if below { self.add(name, Some(old), Some(new), false) } else { Ok(()) };
        }
        let (differs, content) = match self.rule {
            Rule::Docker => {
                let is_cut = is_directory(&after.stat) && self.is_cut(name);
                let differs = is_cut
                    || stat_differs(&before.stat, &after.stat)
                    || self.capability(old, name)? != self.capability(new, name)?;
                (differs || self.found.len() > found, false)
            }
            Rule::Exact => {
                let content = self.content_differs(name, old, new)?;
                (content || self.node(old, name)? != self.node(new, name)?, content)
            }
        };
        if differs { self.add(name, Some(old), Some(new), content) } else { Ok(()) }
    }

    fn descend(&mut self, name: &CStr, old: &Place, new: &Place) -> Result<(), Errno> {
        if old.0.is_empty() && new.0.is_empty() {
            return Ok(());
        }
        if self.is_cut(name) {
            return match self.rule {
                // The directory itself is reported.
                Rule::Docker => Ok(()),
                Rule::Exact => Err(Errno::NAMETOOLONG),
            };
        }
        let length = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        self.depth += 1;
        self.directory(old, new)?;
        self.depth -= 1;
        self.path.truncate(length);
        Ok(())
    }

    /// Whether the directory `name` of this one lies too deep to be looked into.
    fn is_cut(&self, name: &CStr) -> bool {
        let length = self.path.len() + name.to_bytes().len() + 1;
        self.depth >= OPEN_MAX && length > PATH_BYTES_MAX
    }

    /// Whether a path leads to one of those wanted, is one, or lies below one.
    fn is_wanted(&self, name: &[u8]) -> bool {
        let path = self.below(name);
        let path = Path::new(OsStr::from_bytes(&path));
        self.within.is_empty()
            || self.within.iter().any(|wanted| path.starts_with(wanted) || wanted.starts_with(path))
    }

    fn add(
        &mut self,
        name: &CStr,
        old: Option<(&Place, &Entry)>,
        new: Option<(&Place, &Entry)>,
        content: bool,
    ) -> Result<(), Errno> {
        let node =
            |side: Option<(&Place, &Entry)>| side.map(|side| self.node(side, name)).transpose();
        let (old, new) = (node(old)?, node(new)?);
        // On the way to what is wanted, but not it.
        let path = self.below(name.to_bytes());
        let at = Path::new(OsStr::from_bytes(&path));
        if self.rule == Rule::Docker
            || self.within.is_empty()
            || self.within.iter().any(|wanted| at.starts_with(wanted))
        {
            self.found.push(Found { path, old, new, content });
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// The path of an entry below the root.
    fn below(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, name].concat()
    }

    /// Where the entry of a directory lies.
    fn at(
        &self,
        (place, entry): (&Place, &Entry),
        name: &CStr,
    ) -> Result<(Arc<OwnedFd>, Vec<u8>), Errno> {
        let part: &Part =
            place.part(entry.root).expect("an entry shows from a part of its directory");
        self.roots.at(part, &self.path, name.to_bytes())
    }

    fn node(&self, side: (&Place, &Entry), name: &CStr) -> Result<Node, Errno> {
        let stat = &side.1.stat;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let (at, path) = self.at(side, name)?;
        let exact = self.rule == Rule::Exact;
        let target = match kind {
            FileType::Symlink if exact => {
                Some(readlinkat(&at, &path[..], Vec::new())?.into_bytes())
            }
            _ => None,
        };
        let xattrs = if exact { xattrs(at.as_fd(), &path)? } else { BTreeMap::new() };
        Ok(Node {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            device: stat.st_rdev,
            xattrs,
            target,
            root: side.1.root,
        })
    }

    /// Whether what is in two entries differs; directories are compared entry by entry.
    fn content_differs(
        &self,
        name: &CStr,
        old: (&Place, &Entry),
        new: (&Place, &Entry),
    ) -> Result<bool, Errno> {
        let (before, after) = (&old.1.stat, &new.1.stat);
        let kind = FileType::from_raw_mode(before.st_mode);
        if kind != FileType::from_raw_mode(after.st_mode) {
            return Ok(true);
        }
        match kind {
            FileType::RegularFile if before.st_size != after.st_size => Ok(true),
            FileType::RegularFile => {
                let path = self.below(name.to_bytes());
                let open = |side: (&Place, &Entry)| self.roots.open(side.1.root, &path);
                let size = u64::try_from(before.st_size).unwrap_or(0);
                let differ = files_differ(&open(old)?, &open(new)?, size);
                differ.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            }
            FileType::Symlink => {
                let read = |side: (&Place, &Entry)| {
                    let (at, path) = self.at(side, name)?;
                    readlinkat(&at, &path[..], Vec::new())
                };
                Ok(read(old)? != read(new)?)
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                Ok(before.st_rdev != after.st_rdev)
            }
            _ => Ok(false),
        }
    }

    /// The value of `security.capability`, empty if there is none.
    fn capability(&self, side: (&Place, &Entry), name: &CStr) -> Result<Vec<u8>, Errno> {
        let (at, path) = self.at(side, name)?;
        let mut value = vec![0; 64];
        match lgetxattr(through_proc(at.as_fd(), &path), "security.capability", &mut value[..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Vec::new()),
            length => {
                value.truncate(length?);
                Ok(value)
            }
        }
    }
}

impl PartialEq for Node {
    /// Whether nothing that can be seen from outside differs; a directory's size and times follow
    /// from its entries, a link's permission bits do not count.
    fn eq(&self, other: &Self) -> bool {
        let times =
            |node: &Self| (node.kind != FileType::Directory).then_some((node.size, node.mtime));
        self.kind == other.kind
            && (self.mode == other.mode || self.kind == FileType::Symlink)
            && (self.uid, self.gid) == (other.uid, other.gid)
            && times(self) == times(other)
            && self.xattrs == other.xattrs
    }
}

/// Whether the data of two files of this size differs. What is a hole in both is not read.
fn files_differ(old: &File, new: &File, size: u64) -> io::Result<bool> {
    let mut buffers = (vec![0; COMPARE_BUFFER_BYTES], vec![0; COMPARE_BUFFER_BYTES]);
    let mut at = 0;
    loop {
        at = data_from(old, at, size)?.min(data_from(new, at, size)?);
        if at >= size {
            return Ok(false);
        }
        let n = usize::try_from(size - at).unwrap_or(usize::MAX).min(COMPARE_BUFFER_BYTES);
        let (left, right) = (&mut buffers.0[..n], &mut buffers.1[..n]);
        let (read, also) = (fill_from(old, left, at)?, fill_from(new, right, at)?);
        if read != also || left[..read] != right[..read] {
            return Ok(true);
        }
        // It has become shorter meanwhile.
        if read < n {
            return Ok(false);
        }
        at += n as u64;
    }
}

/// Where the next data of a file is, at `at` or behind; its size if there is none.
fn data_from(file: &File, at: u64, size: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Err(Errno::NXIO) => Ok(size),
        // A file system without holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(at),
        found => Ok(found?),
    }
}

/// Reads until the buffer is full or the file ends.
fn fill_from(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The extended attributes of an entry that it has for whoever looks through its layer.
fn xattrs(at: BorrowedFd<'_>, path: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = through_proc(at, path);
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match llistxattr(&path, &mut names[..]) {
        Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(BTreeMap::new()),
        length => length?,
    };
    let mut all = BTreeMap::new();
    let names = names[..length].split(|&b| b == 0);
    for name in names.filter(|name| !name.is_empty() && !name.starts_with(OVERLAY_XATTRS)) {
        let mut value = vec![0; XATTR_BYTES_MAX];
        match lgetxattr(&path, name, &mut value[..]) {
            Err(Errno::NODATA | Errno::NOENT) => continue,
            length => value.truncate(length?),
        }
        all.insert(name.to_vec(), value);
    }
    Ok(all)
}

fn stat_differs(old: &Stat, new: &Stat) -> bool {
    let same_time = old.st_mtime == new.st_mtime
        && (old.st_mtime_nsec == new.st_mtime_nsec
            || old.st_mtime_nsec == 0
            || new.st_mtime_nsec == 0);
    (old.st_mode, old.st_uid, old.st_gid, old.st_rdev)
        != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev)
        || !is_directory(new) && (old.st_size != new.st_size || !same_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 8 TiB with bytes in it.
    fn sparse(bytes: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 43).unwrap();
        for (at, bytes) in bytes {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    #[test]
    fn holes_are_not_read_and_are_zeros() {
        let zeros = [0; 100_000];
        let files = [sparse(&[]), sparse(&[(1 << 42, &zeros)]), sparse(&[(7 << 40, b"x")])];
        for (n, left) in files.iter().enumerate() {
            for (m, right) in files.iter().enumerate() {
                let differ = files_differ(left, right, 1 << 43).unwrap();
                assert_eq!(differ, (n == 2) != (m == 2), "{n} and {m}");
            }
        }
    }
}
