//! From the entries of one layer's archive to a file tree in overlayfs' conventions
//! (image-spec, layer.md; kernel, Documentation/filesystems/overlayfs.rst).
//!
//! Here stands what an archive means; how a tree is kept is a [`Sink`], of which there is one for
//! each storage driver. The tree belongs to the caller alone until it is published.

use std::io::BufRead;

use rustix::fs::{FileType, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Doing as _, Error, invalid};
use crate::tarball::{Entry, Kind, Tar, shown};

/// Entries of one layer. The largest images in use have about one million files in all.
pub(crate) const ENTRIES_MAX: u64 = 4_000_000;
const PATH_BYTES_MAX: usize = 4096;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// What an archive came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    /// Bytes of data in files.
    pub(crate) size: u64,
    pub(crate) entries: u64,
    /// Whether the layer hides everything below it.
    pub(crate) is_opaque: bool,
}

/// What an entry says besides its name and its content.
#[derive(Debug)]
pub(crate) struct Meta {
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) times: Timestamps,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry makes that has no data and is not a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaf<'a> {
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// A device or a pipe, with its device number.
    Special(FileType, u64),
}

/// A file tree that is being made.
///
/// Paths are components below the root without `.` and `..`. Symbolic links on the way are followed
/// within the tree, the last component never. What is in the way of a new entry gives way, except a
/// directory in the way of a directory.
pub(crate) trait Sink {
    /// A directory of the tree, valid until the next call that is not about it.
    type Directory;

    /// The directory at `path`; what is missing of it is made, of mode 0755 and owned by root.
    fn parent(&mut self, path: &[&[u8]]) -> Result<Self::Directory, Errno>;

    /// A file of `size` bytes that holds the data of `tar`'s entry, in `segments` (offset and
    /// length) if it is sparse. Gives the bytes of data.
    fn file<R: BufRead>(
        &mut self,
        tar: &mut Tar<R>,
        place: (&Self::Directory, &[u8]),
        content: (u64, Option<Vec<(u64, u64)>>),
        meta: Meta,
    ) -> Result<u64, Error>;

    /// A directory. If there is one, it stays, and gets this metadata at the end.
    fn directory(
        &mut self,
        place: (&Self::Directory, &[u8]),
        path: &[&[u8]],
        meta: Meta,
    ) -> Result<(), Error>;

    /// The metadata of the root.
    fn root(&mut self, meta: Meta) -> Result<(), Error>;

    fn leaf(
        &mut self,
        place: (&Self::Directory, &[u8]),
        leaf: Leaf<'_>,
        meta: Meta,
    ) -> Result<(), Errno>;

    /// Another name for what is at `target`: [`Errno::ISDIR`] if that is a directory or a
    /// whiteout. As in Docker, the entry that comes last decides for all names.
    fn hard_link(
        &mut self,
        place: (&Self::Directory, &[u8]),
        target: &[&[u8]],
        meta: Meta,
    ) -> Result<(), Errno>;

    /// Hides a name of the layers below. What this layer itself has there stays, and hides it.
    fn whiteout(&mut self, place: (&Self::Directory, &[u8])) -> Result<(), Errno>;

    /// Hides everything that the layers below have in the directory at `path`.
    fn opaque(&mut self, path: &[&[u8]]) -> Result<(), Errno>;

    /// Completes the tree.
    fn finish(self) -> Result<(), Error>;
}

/// Makes what is in `tar`.
pub(crate) fn extract<R: BufRead, S: Sink>(
    tar: &mut Tar<R>,
    mut sink: S,
    entries_max: u64,
) -> Result<Extracted, Error> {
    let mut done = Extracted::default();
    while let Some(entry) = tar.next()? {
        done.entries += 1;
        if done.entries > entries_max {
            return invalid(format!("archive has more than {entries_max} entries"));
        }
        take(tar, entry, &mut sink, &mut done)?;
    }
    sink.finish()?;
    Ok(done)
}

/// Makes what a table of contents names, of which there is no data yet; `made` is told of each entry
/// by its number.
pub(crate) fn outline<S: Sink>(
    entries: impl Iterator<Item = Entry>,
    mut sink: S,
    made: &mut dyn FnMut(usize),
) -> Result<Extracted, Error> {
    let mut nothing = Tar::new(std::io::empty());
    let mut done = Extracted::default();
    for (number, entry) in entries.enumerate() {
        done.entries += 1;
        take(&mut nothing, entry, &mut sink, &mut done)?;
        made(number);
    }
    sink.finish()?;
    Ok(done)
}

fn take<R: BufRead, S: Sink>(
    tar: &mut Tar<R>,
    mut entry: Entry,
    sink: &mut S,
    done: &mut Extracted,
) -> Result<(), Error> {
    let name = std::mem::take(&mut entry.name);
    let path = components(&name)?;
    let Some((&last, above)) = path.split_last() else {
        // The entry `./`.
        if entry.kind != Kind::Directory {
            return invalid("archive's root is not a directory");
        }
        return sink.root(Meta::of(entry));
    };
    if path.iter().any(|part| part.starts_with(WHITEOUT_META_PREFIX)) {
        // The others are housekeeping of aufs.
        let is_mark =
            last == OPAQUE_MARK && !above.iter().any(|part| part.starts_with(WHITEOUT_META_PREFIX));
        if is_mark {
            done.is_opaque |= above.is_empty();
            let doing = || format!("make `{}` opaque", shown(&above.join(&b'/')));
            sink.opaque(above).doing(doing)?;
        }
        return Ok(());
    }
    let doing = || format!("unpack `{}`", shown(&name));
    let parent = sink.parent(above).doing(doing)?;
    if let Some(hidden) = last.strip_prefix(WHITEOUT_PREFIX) {
        return whiteout(sink, &parent, above, hidden);
    }
    let place = (&parent, last);
    match entry.kind {
        Kind::File => {
            let content = (entry.size, entry.sparse.take());
            done.size += sink.file(tar, place, content, Meta::of(entry))?;
            Ok(())
        }
        Kind::Directory => sink.directory(place, &path, Meta::of(entry)),
        Kind::HardLink => hard_link(sink, place, &path, entry),
        Kind::Symlink => {
            let link = std::mem::take(&mut entry.link);
            sink.leaf(place, Leaf::Symlink(&link), Meta::of(entry)).doing(doing)
        }
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
            let kind = match entry.kind {
                Kind::CharDevice => FileType::CharacterDevice,
                Kind::BlockDevice => FileType::BlockDevice,
                _ => FileType::Fifo,
            };
            let device = rustix::fs::makedev(entry.major, entry.minor);
            sink.leaf(place, Leaf::Special(kind, device), Meta::of(entry)).doing(doing)
        }
    }
}

/// A link to an earlier entry of the same layer; its last component is not followed.
fn hard_link<S: Sink>(
    sink: &mut S,
    place: (&S::Directory, &[u8]),
    path: &[&[u8]],
    mut entry: Entry,
) -> Result<(), Error> {
    let link = std::mem::take(&mut entry.link);
    let doing = || format!("link `{}` to `{}`", shown(&path.join(&b'/')), shown(&link));
    let target = components(&link)?;
    let linked = match target.is_empty() {
        true => Err(Errno::ISDIR),
        false => sink.hard_link(place, &target, Meta::of(entry)),
    };
    match linked {
        Err(Errno::ISDIR) => invalid(format!("{}: not a file", doing())),
        linked => linked.doing(doing),
    }
}

fn whiteout<S: Sink>(
    sink: &mut S,
    parent: &S::Directory,
    above: &[&[u8]],
    name: &[u8],
) -> Result<(), Error> {
    if matches!(name, b"" | b"." | b"..") {
        return invalid(format!(
            "archive has a whiteout of `{}` in `{}`",
            shown(name),
            shown(&above.join(&b'/'))
        ));
    }
    sink.whiteout((parent, name)).doing(|| format!("hide `{}`", shown(name)))
}

impl Meta {
    fn of(entry: Entry) -> Self {
        let time = Timespec { tv_sec: entry.mtime_s, tv_nsec: entry.mtime_ns.into() };
        let mut xattrs = entry.xattrs;
        // Overlayfs' own attributes would let a layer rename and redirect what others hold.
        xattrs.retain(|(name, _)| {
            !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
        });
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            times: Timestamps { last_access: time, last_modification: time },
            xattrs,
        }
    }
}

/// The parts of a name below the root. Absolute names are taken to start there, too.
pub(crate) fn components(name: &[u8]) -> Result<Vec<&[u8]>, Error> {
    if name.len() > PATH_BYTES_MAX || name.contains(&0) {
        return invalid(format!("archive entry with an invalid name of {} bytes", name.len()));
    }
    let mut parts = Vec::new();
    for part in name.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.pop().is_none() => {
                return invalid(format!("archive entry `{}` is outside its root", shown(name)));
            }
            b".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts)
}
