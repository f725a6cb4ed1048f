//! Directory trees as canonical archives: sorted by name, each directory before what is in it.
//!
//! Trees may be changing under somebody else's hands, so every step is relative to a descriptor
//! and never through a symbolic link; what vanishes on the way is left out.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, ResolveFlags, SeekFrom, Stat, readlinkat, statat};
use rustix::io::Errno;

use crate::error::{Doing as _, Error, invalid};
use crate::overlay::{is_opaque, is_whiteout};
use crate::regular::open_regular;
use crate::tarball::{Entry, Kind, shown};
use crate::tarwriter::{TarWriter, plain_entry};
use crate::walk::open_directory;
use crate::walk::through_proc;

/// Of the directories of a tree, each of which is open while its own are looked at.
const DEPTH_MAX: usize = 400;
/// Bytes of names and values of one file's extended attributes; the kernel's own limit for each.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// A file whose holes come to less is written whole.
const HOLES_MIN: u64 = 64 << 10;
/// Segments of a sparse file; one with more is written whole.
const SEGMENTS_MAX: usize = 16 << 10;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A root file system.
    Whole,
    /// A layer in overlayfs' conventions, which become those of image-spec, layer.md.
    Layer {
        /// Whether the root's own owner and mode belong to it.
        with_root: bool,
    },
}

/// Writes everything below `root` to `out`.
///
/// # Errors
/// [`Error::Invalid`] for what no layer can hold; [`Error::Io`].
pub(crate) fn pack<W: Write>(root: BorrowedFd<'_>, tree: Tree, out: W) -> Result<W, Error> {
    let mut pack =
        Pack { tar: TarWriter::new(out), tree, path: Vec::new(), depth: 0, links: HashMap::new() };
    if tree == (Tree::Layer { with_root: true }) {
        let stat = rustix::fs::fstat(root).doing(|| "inspect a root directory")?;
        let entry = Entry { name: b"./".to_vec(), ..described(Kind::Directory, &stat) };
        pack.append(&entry, &mut io::empty())?;
    }
    if tree != Tree::Whole && is_opaque(root) {
        pack.mark(OPAQUE)?;
    }
    pack.directory(root)?;
    pack.tar.finish().doing(|| "write archive")
}

struct Pack<W> {
    tar: TarWriter<W>,
    tree: Tree,
    /// Of the directory being written, with a slash at its end unless it is the root.
    path: Vec<u8>,
    depth: usize,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Pack<W> {
    fn directory(&mut self, at: BorrowedFd<'_>) -> Result<(), Error> {
        let names = names(at).doing(|| format!("list `/{}`", shown(&self.path)))?;
        for name in names {
            let stat = match statat(at, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.doing(|| format!("inspect `{}`", self.shown(&name)))?,
            };
            self.entry(at, &name, &stat)?;
        }
        Ok(())
    }

    fn shown(&self, name: &CStr) -> String {
        format!("/{}", shown(&self.below(name)))
    }

    fn below(&self, name: &CStr) -> Vec<u8> {
        [&self.path, name.to_bytes()].concat()
    }

    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
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

    fn entry(&mut self, at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Error> {
        if self.tree != Tree::Whole {
            if is_whiteout(stat) {
                return self.mark(&[WHITEOUT, name.to_bytes()].concat());
            }
            if name.to_bytes().starts_with(WHITEOUT) {
                return invalid(format!("`{}` would be taken for a whiteout", self.shown(name)));
            }
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            // As tar and Docker: a socket is nothing without its process.
            _ => return Ok(()),
        };
        let mut entry = Entry { name: self.below(name), ..described(kind, stat) };
        if kind != Kind::Directory && stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&file) {
                let entry = Entry { kind: Kind::HardLink, link: first.clone(), size: 0, ..entry };
                return self.append(&entry, &mut io::empty());
            }
            self.links.insert(file, entry.name.clone());
        }
        match kind {
            Kind::Directory => self.descend(at, name, entry),
            Kind::File => self.file(at, name, entry),
            _ => {
                if kind == Kind::Symlink {
                    let target = readlinkat(at, name, Vec::new());
                    entry.link =
                        target.doing(|| format!("read `{}`", self.shown(name)))?.into_bytes();
                }
                entry.xattrs =
                    self.attributes(&Owner::Named(through_proc(at, name.to_bytes())), name)?;
                self.append(&entry, &mut io::empty())
            }
        }
    }

    fn descend(&mut self, at: BorrowedFd<'_>, name: &CStr, mut entry: Entry) -> Result<(), Error> {
        if self.depth == DEPTH_MAX {
            return invalid(format!("`{}` lies too deep", self.shown(name)));
        }
        let opened = match open_directory(at, name.to_bytes()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened.doing(|| format!("open `{}`", self.shown(name)))?,
        };
        entry.name.push(b'/');
        entry.xattrs = self.attributes(&Owner::Open(opened.as_fd()), name)?;
        self.append(&entry, &mut io::empty())?;
        let length = self.path.len();
        self.path = entry.name;
        self.depth += 1;
        if self.tree != Tree::Whole && is_opaque(opened.as_fd()) {
            self.mark(OPAQUE)?;
        }
        self.directory(opened.as_fd())?;
        self.depth -= 1;
        self.path.truncate(length);
        Ok(())
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
        let held = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if held + HOLES_MIN < entry.size {
            entry.sparse = segments(&opened, entry.size);
        }
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
        for key in list.split(|&b| b == 0).filter(|key| is_kept(key)) {
            if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
                if key.ends_with(b".redirect") || key.ends_with(b".metacopy") {
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

fn described(kind: Kind, stat: &Stat) -> Entry {
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let device = if is_device { stat.st_rdev } else { 0 };
    Entry {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_s: stat.st_mtime,
        mtime_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        ..plain_entry(kind, b"", stat.st_mode & 0o7777, 0)
    }
}

/// The names in a directory, sorted by their bytes.
fn names(at: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
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

/// Where a file has data: offset and length of each part. `None` where that cannot be told.
fn segments(file: &File, size: u64) -> Option<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            start => start.ok()?,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if start >= size || end <= start || found.len() == SEGMENTS_MAX {
            return (start >= size).then_some(found);
        }
        found.push((start, end - start));
        at = end;
    }
    Some(found)
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
