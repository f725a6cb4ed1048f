//! Directory trees as canonical archives: sorted by name, each directory before what is in it.
//!
//! Trees may be changing under somebody else's hands, so every step is relative to a descriptor
//! and never through a symbolic link; what vanishes on the way is left out.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, ResolveFlags, SeekFrom, Stat, readlinkat, statat};
use rustix::io::Errno;

use crate::error::{Doing as _, Error, invalid};
use crate::live::{Ids, is_kernels};
use crate::overlay::{is_opaque, is_whiteout};
use crate::regular::open_regular;
use crate::tarball::{Entry, Kind, shown};
use crate::tarwriter::{TarWriter, plain_entry};
use crate::walk::open_directory;
use crate::walk::through_proc;

/// What may be remembered of files whose other names were not met yet, in bytes: enough for two
/// million.
const LINKS_BYTES_MAX: usize = 256 << 20;
/// What one of them takes besides its name.
const LINK_BYTES: usize = 64;
/// Of the directories of a tree: a path says no more (`PATH_MAX`).
const DEPTH_MAX: usize = 2048;
/// Directories below each other that are open at a time; those above are opened again later.
const OPEN_MAX: usize = 256;
/// Bytes of names and values of one file's extended attributes; the kernel's own limit for each.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// A file whose holes come to less is written whole.
const HOLES_MIN: u64 = 64 << 10;
/// Segments of a sparse file; one with more is written whole.
const SEGMENTS_MAX: usize = 16 << 10;
/// Of a canonical archive: what a hole is made of, and how large a file is that may have some. Where
/// the file system keeps holes is its own affair, and differs between two copies of a file.
const BLOCK_BYTES: usize = 4 << 10;
const CANONICAL_HOLES_MIN: u64 = 16 << 20;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A root file system.
    Whole,
    /// A part of one that a container may be using: what the kernel makes up is left out.
    Live,
    /// A layer in overlayfs' conventions, which become those of image-spec, layer.md.
    Layer {
        /// Whether the root's own owner and mode belong to it.
        with_root: bool,
    },
}

/// What an archive came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) entries: u64,
    /// Bytes of data in files.
    pub(crate) size: u64,
}

/// Writes everything below `root` to `out`.
///
/// # Errors
/// [`Error::Invalid`] for what no layer can hold; [`Error::Io`].
pub(crate) fn pack<W: Write>(root: BorrowedFd<'_>, tree: Tree, out: W) -> Result<W, Error> {
    pack_until(root, tree, None, out).map(|(out, _)| out)
}

/// As [`pack`]; with `epoch_s` nothing in the archive is younger than that, in seconds since 1970, and
/// its bytes depend on nothing but what the files say.
///
/// # Errors
/// As of [`pack`].
pub(crate) fn pack_until<W: Write>(
    root: BorrowedFd<'_>,
    tree: Tree,
    epoch_s: Option<i64>,
    out: W,
) -> Result<(W, Packed), Error> {
    let mut pack = Pack { epoch_s, ..Pack::new(tree, out) };
    if tree == (Tree::Layer { with_root: true }) {
        let stat = rustix::fs::fstat(root).doing(|| "inspect a root directory")?;
        let entry = Entry { name: b"./".to_vec(), ..pack.described(Kind::Directory, &stat) };
        pack.append(&entry, &mut io::empty())?;
    }
    if tree.is_layer() && is_opaque(root) {
        pack.mark(OPAQUE)?;
    }
    pack.directory(root)?;
    let out = pack.tar.finish().doing(|| "write archive")?;
    Ok((out, pack.packed))
}

/// Writes what `name` in `at` is, and what is below it, to `out` under the name `title`. `skipped`
/// is a directory (device and inode) whose content is left out unless it is `name` itself.
///
/// # Errors
/// [`Error::Invalid`] for a tree that is too deep; [`Error::Io`].
pub(crate) fn pack_entry<W: Write>(
    (at, name): (BorrowedFd<'_>, &CStr),
    title: &[u8],
    (ids, skipped): (Ids, Option<(u64, u64)>),
    out: W,
) -> Result<W, Error> {
    let mut pack = Pack { ids, skipped, ..Pack::new(Tree::Live, out) };
    let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
    let stat = stat.doing(|| format!("inspect `{}`", shown(title)))?;
    if let Some(directory) = pack.entry_as((at, name), title.to_vec(), &stat)? {
        pack.directory(directory.as_fd())?;
    }
    pack.tar.finish().doing(|| "write archive")
}

impl Tree {
    fn is_layer(self) -> bool {
        matches!(self, Self::Layer { .. })
    }
}

struct Pack<W> {
    tar: TarWriter<W>,
    tree: Tree,
    /// The latest time there is, if there is one.
    epoch_s: Option<i64>,
    /// Of the directory being written, with a slash at its end unless it is the root.
    path: Vec<u8>,
    depth: usize,
    /// The first name of each file that has more, and how many those are.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    /// Of the names in `links`.
    links_bytes: usize,
    ids: Ids,
    skipped: Option<(u64, u64)>,
    packed: Packed,
}

/// A directory that is being written.
struct Level {
    /// Unless it is far above.
    opened: Option<OwnedFd>,
    id: (u64, u64),
    /// What is left of its names.
    names: std::vec::IntoIter<CString>,
    /// How long the path of the directory is that it is in.
    above: usize,
}

impl<W: Write> Pack<W> {
    fn new(tree: Tree, out: W) -> Self {
        Self {
            tar: TarWriter::new(out),
            tree,
            epoch_s: None,
            path: Vec::new(),
            depth: 0,
            links: HashMap::new(),
            links_bytes: 0,
            ids: Ids::default(),
            skipped: None,
            packed: Packed::default(),
        }
    }

    /// Writes everything below a directory, without recursion: it may be as deep as a path.
    fn directory(&mut self, at: BorrowedFd<'_>) -> Result<(), Error> {
        let opened = at.try_clone_to_owned().doing(|| format!("open `/{}`", shown(&self.path)))?;
        let mut levels = vec![self.level(opened, self.path.len())?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                let left = levels.pop();
                if let (Some(left), Some(above)) = (left, levels.last_mut()) {
                    self.leave(&left, above)?;
                }
                continue;
            };
            let Some(at) = &level.opened else { continue };
            let stat = match statat(at, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.doing(|| format!("inspect `{}`", self.shown(&name)))?,
            };
            let above = self.path.len();
            if let Some(opened) = self.entry(at.as_fd(), &name, &stat)? {
                levels.push(self.level(opened, above)?);
                if let Some(far) = levels.len().checked_sub(1 + OPEN_MAX) {
                    levels[far].opened = None;
                }
            }
        }
        Ok(())
    }

    /// A directory that is entered; `above` is how long the path of the one it is in is.
    fn level(&self, opened: OwnedFd, above: usize) -> Result<Level, Error> {
        let names = names(opened.as_fd()).doing(|| format!("list `/{}`", shown(&self.path)))?;
        let id = identity(opened.as_fd()).doing(|| format!("inspect `/{}`", shown(&self.path)))?;
        Ok(Level { opened: Some(opened), id, names: names.into_iter(), above })
    }

    /// Goes back to the directory `above`, which may have been closed meanwhile: then it is what the
    /// one that is left is in, unless somebody has moved that.
    fn leave(&mut self, left: &Level, above: &mut Level) -> Result<(), Error> {
        if let (None, Some(below)) = (&above.opened, &left.opened) {
            let doing = || format!("return from `/{}`", shown(&self.path));
            let opened = open_directory(below.as_fd(), b"..").doing(doing)?;
            if identity(opened.as_fd()).doing(doing)? != above.id {
                let path = shown(&self.path);
                return invalid(format!("`/{path}` was moved while it was read"));
            }
            above.opened = Some(opened);
        }
        self.depth -= 1;
        self.path.truncate(left.above);
        Ok(())
    }

    fn shown(&self, name: &CStr) -> String {
        format!("/{}", shown(&self.below(name)))
    }

    fn below(&self, name: &CStr) -> Vec<u8> {
        [&self.path, name.to_bytes()].concat()
    }

    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        self.packed.entries += 1;
        self.packed.size += match &entry.sparse {
            Some(segments) => segments.iter().map(|(_, length)| length).sum(),
            None if entry.kind == Kind::File => entry.size,
            None => 0,
        };
        self.tar.append(entry, data).map_err(|source| Error::Io {
            // The file itself is only read.
            doing: match source.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge
                | io::ErrorKind::BrokenPipe => "write the archive".to_owned(),
                _ => format!("archive `/{}`", shown(&entry.name)),
            },
            source,
        })
    }

    fn mark(&mut self, name: &[u8]) -> Result<(), Error> {
        let name = [&self.path, name].concat();
        self.append(&plain_entry(Kind::File, &name, 0, 0), &mut io::empty())
    }

    /// Writes one entry; if that is a directory whose content belongs to the archive, it is given
    /// back, open, and is the one whose path is held.
    fn entry(
        &mut self,
        at: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> Result<Option<OwnedFd>, Error> {
        if self.tree.is_layer() {
            if is_whiteout(stat) {
                return self.mark(&[WHITEOUT, name.to_bytes()].concat()).map(|()| None);
            }
            if name.to_bytes().starts_with(WHITEOUT) {
                return invalid(format!("`{}` would be taken for a whiteout", self.shown(name)));
            }
        }
        self.entry_as((at, name), self.below(name), stat)
    }

    fn entry_as(
        &mut self,
        (at, name): (BorrowedFd<'_>, &CStr),
        title: Vec<u8>,
        stat: &Stat,
    ) -> Result<Option<OwnedFd>, Error> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            // As tar and Docker: a socket is nothing without its process.
            _ => return Ok(None),
        };
        let mut entry = Entry { name: title, ..self.described(kind, stat) };
        (entry.uid, entry.gid) = self.ids.inside(entry.uid, entry.gid);
        if kind != Kind::Directory
            && stat.st_nlink > 1
            && let Some(link) = self.first_name(&entry.name, stat)?
        {
            let entry = Entry { kind: Kind::HardLink, link, size: 0, ..entry };
            return self.append(&entry, &mut io::empty()).map(|()| None);
        }
        match kind {
            Kind::Directory => self.descend(at, name, entry),
            Kind::File => self.file(at, name, entry).map(|()| None),
            _ => {
                if kind == Kind::Symlink {
                    let target = readlinkat(at, name, Vec::new());
                    entry.link =
                        target.doing(|| format!("read `{}`", self.shown(name)))?.into_bytes();
                }
                entry.xattrs =
                    self.attributes(&Owner::Named(through_proc(at, name.to_bytes())), name)?;
                self.append(&entry, &mut io::empty()).map(|()| None)
            }
        }
    }

    /// The first name of a file with several, unless this is it. It is remembered as long as there
    /// are more to come.
    fn first_name(&mut self, name: &[u8], stat: &Stat) -> Result<Option<Vec<u8>>, Error> {
        let file = (stat.st_dev, stat.st_ino);
        let Some((first, more)) = self.links.get_mut(&file) else {
            self.links_bytes += name.len() + LINK_BYTES;
            if self.links_bytes > LINKS_BYTES_MAX {
                return invalid(format!(
                    "`/{}`: too many files have further names elsewhere",
                    shown(name)
                ));
            }
            self.links.insert(file, (name.to_vec(), stat.st_nlink - 1));
            return Ok(None);
        };
        *more -= 1;
        let name = first.clone();
        if *more == 0 {
            self.links.remove(&file);
            self.links_bytes -= name.len() + LINK_BYTES;
        }
        Ok(Some(name))
    }

    fn descend(
        &mut self,
        at: BorrowedFd<'_>,
        name: &CStr,
        mut entry: Entry,
    ) -> Result<Option<OwnedFd>, Error> {
        if self.depth == DEPTH_MAX {
            return invalid(format!("`{}` lies too deep", self.shown(name)));
        }
        let opened = match open_directory(at, name.to_bytes()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            opened => opened.doing(|| format!("open `{}`", self.shown(name)))?,
        };
        if entry.name.last() != Some(&b'/') {
            entry.name.push(b'/');
        }
        entry.xattrs = self.attributes(&Owner::Open(opened.as_fd()), name)?;
        self.append(&entry, &mut io::empty())?;
        if self.tree == Tree::Live && self.is_left_out(opened.as_fd()) {
            return Ok(None);
        }
        self.path = entry.name;
        self.depth += 1;
        if self.tree.is_layer() && is_opaque(opened.as_fd()) {
            self.mark(OPAQUE)?;
        }
        Ok(Some(opened))
    }

    fn is_left_out(&self, directory: BorrowedFd<'_>) -> bool {
        let found = identity(directory);
        let skipped = self.skipped.is_some_and(|skipped| found == Ok(skipped));
        is_kernels(directory) || skipped && self.depth > 0
    }

    fn file(&mut self, at: BorrowedFd<'_>, name: &CStr, mut entry: Entry) -> Result<(), Error> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = match open_regular(at, name, resolve) {
            // It went away, or something else was put there, since we looked.
            Err(Errno::NOENT | Errno::LOOP | Errno::INVAL) => return Ok(()),
            opened => opened.doing(|| format!("open `{}`", self.shown(name)))?,
        };
        entry.xattrs = self.attributes(&Owner::Open(opened.as_fd()), name)?;
        let stat =
            rustix::fs::fstat(&opened).doing(|| format!("inspect `{}`", self.shown(name)))?;
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.sparse = match self.epoch_s {
            None if entry.size > HOLES_MIN => segments(&opened, entry.size),
            Some(_) if entry.size >= CANONICAL_HOLES_MIN => {
                let found = canonical_segments(&opened, entry.size);
                found.doing(|| format!("read `{}`", self.shown(name)))?
            }
            _ => None,
        };
        let whole = [(0, entry.size)];
        let segments = entry.sparse.clone().unwrap_or_else(|| whole.to_vec());
        self.append(
            &entry,
            &mut Segments { file: opened, segments: segments.into_iter(), at: 0, end: 0 },
        )
    }

    /// All extended attributes that a layer may have, sorted by name.
    fn attributes(&self, of: &Owner<'_>, name: &CStr) -> Result<Attributes, Error> {
        let doing = || format!("read the attributes of `{}`", self.shown(name));
        let mut list = vec![0; XATTR_BYTES_MAX];
        let length = match of.list(&mut list) {
            Err(Errno::OPNOTSUPP | Errno::NOENT) => 0,
            length => length.doing(doing)?,
        };
        list.truncate(length);
        let mut found = Vec::new();
        // What some file systems keep and others do not is no part of a canonical archive.
        let is_canonical = self.epoch_s.is_some();
        let kept = |key: &&[u8]| is_kept(key) && (!is_canonical || erofs::supports_attribute(key));
        for key in list.split(|&b| b == 0).filter(kept) {
            if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
                // Anybody may set those of users, which mean nothing to an overlay of ours.
                let is_part = key.ends_with(b".redirect") || key.ends_with(b".metacopy");
                if is_part && key.starts_with(b"trusted.") {
                    return invalid(format!("`{}` is only a part of a file", self.shown(name)));
                }
                continue;
            }
            let mut value = vec![0; XATTR_BYTES_MAX];
            match of.get(key, &mut value) {
                Err(Errno::NODATA) => continue,
                length => value.truncate(length.doing(doing)?),
            }
            found.push((key.to_vec(), value));
        }
        found.sort();
        Ok(found)
    }
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// What has extended attributes.
enum Owner<'a> {
    Open(BorrowedFd<'a>),
    /// What cannot be opened, itself and not what it links to.
    Named(PathBuf),
}

impl Owner<'_> {
    fn list(&self, into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, into),
            Self::Named(path) => rustix::fs::llistxattr(path, into),
        }
    }

    fn get(&self, key: &[u8], into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, key, into),
            Self::Named(path) => rustix::fs::lgetxattr(path, key, into),
        }
    }
}

/// Labels belong to the machine, not to the image.
fn is_kept(key: &[u8]) -> bool {
    !key.is_empty()
        && key != b"security.selinux"
        && key != b"security.ima"
        && key != b"security.evm"
}

impl<W> Pack<W> {
    fn described(&self, kind: Kind, stat: &Stat) -> Entry {
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let device = if is_device { stat.st_rdev } else { 0 };
        let own = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let (mtime_s, mtime_ns) = self.epoch_s.map_or(own, |epoch_s| own.min((epoch_s, 0)));
        Entry {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime_s,
            mtime_ns,
            major: rustix::fs::major(device),
            minor: rustix::fs::minor(device),
            ..plain_entry(kind, b"", stat.st_mode & 0o7777, 0)
        }
    }
}

fn identity(directory: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    rustix::fs::fstat(directory).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The names in a directory, sorted by their bytes.
pub(crate) fn names(at: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let mut entries = Dir::read_from(at)?;
    while let Some(entry) = entries.read() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Where a file has data: offset and length of each part. `None` where that cannot be told, or if
/// holes come to little. How many blocks a file has tells nothing: of EROFS, it is as many as if it
/// had no holes.
fn segments(file: &File, size: u64) -> Option<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            start => start.ok()?,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if start >= size {
            break;
        }
        if end <= start || found.len() == SEGMENTS_MAX {
            return None;
        }
        found.push((start, end - start));
        at = end;
    }
    has_holes(&found, size).then_some(found)
}

/// Whether holes come to enough to be kept.
fn has_holes(segments: &[(u64, u64)], size: u64) -> bool {
    let data: u64 = segments.iter().map(|(_, length)| length).sum();
    data + HOLES_MIN < size
}

/// Where a file has anything but zeros, in whole blocks; `None` if holes would come to little.
fn canonical_segments(file: &File, size: u64) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut at = 0;
    while at < size {
        // What the file system knows to be zeros need not be read.
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            Ok(data) => data / BLOCK_BYTES as u64 * BLOCK_BYTES as u64,
            Err(_) => at,
        };
        let length = (size - at).min(BLOCK_BYTES as u64);
        let block = &mut buffer[..usize::try_from(length).unwrap_or(BLOCK_BYTES)];
        file.read_exact_at(block, at)?;
        if block.iter().any(|byte| *byte != 0) {
            let count = found.len();
            match found.last_mut() {
                Some((start, known)) if *start + *known == at => *known += length,
                _ if count == SEGMENTS_MAX => return Ok(None),
                _ => found.push((at, length)),
            }
        }
        at += length;
    }
    Ok(has_holes(&found, size).then_some(found))
}

/// The data of a file, without its holes.
struct Segments {
    file: File,
    segments: std::vec::IntoIter<(u64, u64)>,
    at: u64,
    end: u64,
}

impl Read for Segments {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.end {
            let Some((offset, length)) = self.segments.next() else { return Ok(0) };
            (self.at, self.end) = (offset, offset + length);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let n = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
