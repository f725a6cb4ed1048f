//! Unpacks one layer's archive into an empty directory, in overlayfs' conventions
//! (image-spec, layer.md; kernel, Documentation/filesystems/overlayfs.rst).
//!
//! Everything is done relative to open directories that were reached without following a link
//! (see `walk`). The directory belongs to the caller alone until it is published.

use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Doing as _, Error, invalid};
use crate::overlay::{is_directory, is_whiteout, set_opaque};
use crate::tarball::{Entry, Kind, Tar, shown};
use crate::walk::{Missing, Tree, open_directory};

/// Entries of one layer. The largest images in use have about one million files in all.
pub(crate) const ENTRIES_MAX: u64 = 4_000_000;
const PATH_BYTES_MAX: usize = 4096;
/// What is remembered of directories until the end: enough for a million with ordinary names.
const REMEMBERED_BYTES_MAX: usize = 256 << 20;

/// The tree of a layer, below its directory.
pub(crate) const TREE: &str = "tree";
/// What became unneeded while the layer was unpacked.
pub(crate) const PIT: &str = "replaced";

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

/// Where a layer is unpacked: a directory that belongs to nobody else.
#[derive(Debug)]
pub(crate) struct Site {
    directory: OwnedFd,
    root: OwnedFd,
    /// Permission bits that the process' umask takes away.
    umask: u32,
}

impl Site {
    /// Creates the tree in `directory`.
    pub(crate) fn new(directory: OwnedFd) -> Result<Self, Errno> {
        rustix::fs::mkdirat(&directory, TREE, Mode::from(0o777))?;
        let root = open_directory(directory.as_fd(), TREE.as_bytes())?;
        let umask = 0o777 & !rustix::fs::fstat(&root)?.st_mode;
        // A default ACL on the store's directory would change the mode of everything below.
        match rustix::fs::fremovexattr(&root, "system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
        rustix::fs::fchmod(&root, Mode::from(0o755))?;
        Ok(Self { directory, root, umask })
    }
}

/// Unpacks `tar`. Directories that an entry replaces are left in [`PIT`], for the caller to remove.
pub(crate) fn extract<R: BufRead>(
    tar: &mut Tar<R>,
    site: Site,
    entries_max: u64,
) -> Result<Extracted, Error> {
    let mut extractor = Extractor::new(site);
    while let Some(entry) = tar.next()? {
        extractor.done.entries += 1;
        if extractor.done.entries > entries_max {
            return invalid(format!("archive has more than {entries_max} entries"));
        }
        extractor.entry(tar, entry)?;
    }
    extractor.finish()?;
    Ok(extractor.done)
}

/// Metadata of a directory, set when nothing in it changes any more.
#[derive(Debug)]
struct Later {
    path: Vec<u8>,
    entry: Meta,
    /// Whether the directory was there before with other metadata.
    existed: bool,
}

/// What an entry says besides its content.
#[derive(Debug)]
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    times: Timestamps,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Extractor {
    tree: Tree,
    /// A second place to look, so that the targets of hard links do not displace the first.
    targets: Tree,
    /// Where the tree lies.
    directory: OwnedFd,
    /// What was put into [`PIT`] so far.
    in_pit: u64,
    directories: Vec<Later>,
    /// Of names and attributes in `directories`.
    remembered_bytes: usize,
    umask: u32,
    /// Who owns what this process creates.
    own: (u32, u32),
    done: Extracted,
}

impl Extractor {
    fn new(site: Site) -> Self {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let root = Rc::new(site.root);
        Self {
            tree: Tree::new(root.clone()),
            targets: Tree::new(root),
            directory: site.directory,
            in_pit: 0,
            directories: Vec::new(),
            remembered_bytes: 0,
            umask: site.umask,
            own,
            done: Extracted::default(),
        }
    }

    fn entry<R: BufRead>(&mut self, tar: &mut Tar<R>, mut entry: Entry) -> Result<(), Error> {
        let name = std::mem::take(&mut entry.name);
        let link = std::mem::take(&mut entry.link);
        let path = components(&name)?;
        let Some((&last, above)) = path.split_last() else {
            return self.root_entry(entry);
        };
        if path.iter().any(|part| part.starts_with(WHITEOUT_META_PREFIX)) {
            // The others are housekeeping of aufs.
            let is_mark = last == OPAQUE_MARK
                && !above.iter().any(|part| part.starts_with(WHITEOUT_META_PREFIX));
            return if is_mark { self.opaque(above) } else { Ok(()) };
        }
        let doing = || format!("unpack `{}`", shown(&name));
        let parent = self.tree.directory(above, Missing::Create).doing(doing)?;
        let parent = parent.as_fd();
        if let Some(hidden) = last.strip_prefix(WHITEOUT_PREFIX) {
            return self.whiteout(parent, above, hidden);
        }
        match entry.kind {
            Kind::File => self.file(tar, parent, last, entry),
            Kind::Directory => {
                let existed = self.directory(parent, last, entry.mode).doing(doing)?;
                self.remember(Later { path: path.join(&b'/'), entry: Meta::of(entry), existed })
            }
            Kind::HardLink => self.hard_link(parent, &path, &link, &Meta::of(entry)),
            Kind::Symlink => {
                let make = || rustix::fs::symlinkat(&link[..], parent, last);
                self.make(parent, last, make).doing(doing)?;
                self.leaf_meta(parent, last, &Meta::of(entry), true).doing(doing)
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                self.special(parent, last, entry).doing(doing)
            }
        }
    }

    /// The entry `./`.
    fn root_entry(&mut self, entry: Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            return invalid("archive's root is not a directory");
        }
        self.remember(Later { path: Vec::new(), entry: Meta::of(entry), existed: true })
    }

    fn remember(&mut self, later: Later) -> Result<(), Error> {
        let attributes = later.entry.xattrs.iter().map(|(name, value)| name.len() + value.len());
        self.remembered_bytes += size_of::<Later>() + later.path.len() + attributes.sum::<usize>();
        if self.remembered_bytes > REMEMBERED_BYTES_MAX {
            return invalid("archive has too many directories");
        }
        self.directories.push(later);
        Ok(())
    }

    /// Makes a directory, unless there is one: whether there was.
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<bool, Errno> {
        // Until the end, root's lack of capabilities must not keep us from filling it.
        let mode = Mode::from(mode & 0o777 | 0o700);
        let mut existed = false;
        match rustix::fs::mkdirat(parent, name, mode) {
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                existed = is_directory(&there);
                if !existed {
                    self.remove(parent, name)?;
                    rustix::fs::mkdirat(parent, name, mode)?;
                }
                if is_whiteout(&there) {
                    set_opaque(open_directory(parent, name)?.as_fd())?;
                }
            }
            made => made?,
        }
        Ok(existed)
    }

    fn file<R: BufRead>(
        &mut self,
        tar: &mut Tar<R>,
        parent: BorrowedFd<'_>,
        name: &[u8],
        mut entry: Entry,
    ) -> Result<(), Error> {
        let doing = || format!("unpack file `{}`", shown(name));
        let sparse = entry.sparse.take();
        let size = entry.size;
        let meta = Meta::of(entry);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from(meta.mode & 0o777);
        let file = self
            .make(parent, name, || rustix::fs::openat(parent, name, flags, mode))
            .doing(doing)?;
        match sparse {
            None => self.done.size += write_data(tar, &file, size)?,
            Some(segments) => {
                rustix::fs::ftruncate(&file, size).doing(doing)?;
                for (offset, length) in segments {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset)).doing(doing)?;
                    self.done.size += write_data(tar, &file, length)?;
                }
            }
        }
        self.file_meta(&file, &meta).doing(doing)
    }

    /// Owner, then mode (a change of owner clears set-user-id), then attributes (it clears
    /// capabilities, too), then times.
    fn file_meta(&self, file: &OwnedFd, meta: &Meta) -> Result<(), Errno> {
        if (meta.uid, meta.gid) != self.own {
            rustix::fs::fchown(file, Some(uid(meta.uid)), Some(gid(meta.gid)))?;
        }
        if self.mode_differs(meta.mode) {
            rustix::fs::fchmod(file, meta.mode.into())?;
        }
        for (name, value) in &meta.xattrs {
            let set = rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty());
            allow_unsupported(set, name)?;
        }
        rustix::fs::futimens(file, &meta.times)
    }

    /// The same for what cannot be opened, which nobody but us can have put there.
    fn leaf_meta(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        meta: &Meta,
        is_link: bool,
    ) -> Result<(), Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if (meta.uid, meta.gid) != self.own {
            let (user, group) = (Some(uid(meta.uid)), Some(gid(meta.gid)));
            rustix::fs::chownat(parent, name, user, group, flags)?;
        }
        if !is_link && self.mode_differs(meta.mode) {
            rustix::fs::chmodat(parent, name, meta.mode.into(), AtFlags::empty())?;
        }
        attributes_and_times(parent, name, meta)
    }

    /// The same for another name of what `there` is: as in Docker, the entry that comes last
    /// decides for all names. What it does not change is not set, since that clears capabilities.
    fn link_meta(
        parent: BorrowedFd<'_>,
        name: &[u8],
        meta: &Meta,
        there: &rustix::fs::Stat,
    ) -> Result<(), Errno> {
        let moves = (meta.uid, meta.gid) != (there.st_uid, there.st_gid);
        if moves {
            let (user, group) = (Some(uid(meta.uid)), Some(gid(meta.gid)));
            rustix::fs::chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let is_symlink = FileType::from_raw_mode(there.st_mode).is_symlink();
        if !is_symlink && (moves || meta.mode != there.st_mode & 0o7777) {
            rustix::fs::chmodat(parent, name, meta.mode.into(), AtFlags::empty())?;
        }
        attributes_and_times(parent, name, meta)
    }

    fn mode_differs(&self, mode: u32) -> bool {
        mode & 0o7000 != 0 || mode & self.umask != 0
    }

    fn special(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: Entry) -> Result<(), Errno> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.major, entry.minor);
        let meta = Meta::of(entry);
        let mode = Mode::from(meta.mode & 0o777);
        self.make(parent, name, || rustix::fs::mknodat(parent, name, kind, mode, device))?;
        self.leaf_meta(parent, name, &meta, false)
    }

    /// A link to an earlier entry of the same layer; its last component is not followed.
    fn hard_link(
        &mut self,
        parent: BorrowedFd<'_>,
        path: &[&[u8]],
        link: &[u8],
        meta: &Meta,
    ) -> Result<(), Error> {
        let doing = || format!("link `{}` to `{}`", shown(&path.join(&b'/')), shown(link));
        let to = components(link)?;
        let (Some((&to, above)), Some(&name)) = (to.split_last(), path.last()) else {
            return invalid(format!("{}: not a file", doing()));
        };
        let at = self.targets.directory(above, Missing::Refuse).doing(doing)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let target = rustix::fs::statat(&at, to, flags).doing(doing)?;
        if is_directory(&target) || is_whiteout(&target) {
            return invalid(format!("{}: not a file", doing()));
        }
        if let Ok(there) = rustix::fs::statat(parent, name, flags)
            && (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino)
        {
            return Ok(());
        }
        let make = || rustix::fs::linkat(&at, to, parent, name, AtFlags::empty());
        self.make(parent, name, make).doing(doing)?;
        Self::link_meta(parent, name, meta, &target).doing(doing)
    }

    /// Hides `name` of the layers below. What this layer itself has there stays, and hides it.
    fn whiteout(
        &mut self,
        parent: BorrowedFd<'_>,
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
        let doing = || format!("hide `{}`", shown(name));
        let kind = FileType::CharacterDevice;
        match rustix::fs::mknodat(parent, name, kind, Mode::empty(), 0) {
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                if is_directory(&there.doing(doing)?) {
                    let directory = open_directory(parent, name).doing(doing)?;
                    set_opaque(directory.as_fd()).doing(doing)?;
                }
                Ok(())
            }
            made => made.doing(doing),
        }
    }

    /// Hides everything that the layers below have in a directory.
    fn opaque(&mut self, path: &[&[u8]]) -> Result<(), Error> {
        let doing = || format!("make `{}` opaque", shown(&path.join(&b'/')));
        let directory = self.tree.directory(path, Missing::Create).doing(doing)?;
        let own = open_directory(directory.as_fd(), b".").doing(doing)?;
        set_opaque(own.as_fd()).doing(doing)?;
        self.done.is_opaque |= path.is_empty();
        Ok(())
    }

    /// Makes something; what is in the way gives way: the later entry wins.
    fn make<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        mut make: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                make()
            }
            made => made,
        }
    }

    fn remove(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        self.tree.forget();
        self.targets.forget();
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                if self.in_pit == 0 {
                    rustix::fs::mkdirat(&self.directory, PIT, Mode::from(0o700))?;
                }
                self.in_pit += 1;
                let place = format!("{PIT}/{}", self.in_pit);
                rustix::fs::renameat(parent, name, &self.directory, place)
            }
            removed => removed,
        }
    }

    /// Sets what directories are to look like, now that nothing in them changes any more.
    fn finish(&mut self) -> Result<(), Error> {
        for later in std::mem::take(&mut self.directories) {
            self.finish_directory(&later).doing(|| format!("unpack `{}`", shown(&later.path)))?;
        }
        Ok(())
    }

    fn finish_directory(&mut self, later: &Later) -> Result<(), Errno> {
        let parts: Vec<&[u8]> = later.path.split(|&b| b == b'/').collect();
        let Some((&name, above)) = parts.split_last().filter(|_| !later.path.is_empty()) else {
            let root = open_directory(self.tree.root(), b".")?;
            return self.directory_meta(&root, &later.entry);
        };
        let parent = match self.tree.directory(above, Missing::Refuse) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            found => found?,
        };
        let meta = &later.entry;
        let is_plain = (meta.uid, meta.gid) == self.own
            && !self.mode_differs(meta.mode)
            && meta.mode & 0o700 == 0o700
            && meta.xattrs.is_empty();
        if is_plain && !later.existed && self.in_pit == 0 {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            return rustix::fs::utimensat(&parent, name, &meta.times, flags);
        }
        match open_directory(parent.as_fd(), name) {
            // A later entry put something else there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            opened => self.directory_meta(&opened?, meta),
        }
    }

    fn directory_meta(&self, directory: &OwnedFd, meta: &Meta) -> Result<(), Errno> {
        rustix::fs::fchown(directory, Some(uid(meta.uid)), Some(gid(meta.gid)))?;
        rustix::fs::fchmod(directory, meta.mode.into())?;
        for (name, value) in &meta.xattrs {
            let set = rustix::fs::fsetxattr(directory, &name[..], value, XattrFlags::empty());
            allow_unsupported(set, name)?;
        }
        rustix::fs::futimens(directory, &meta.times)
    }
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

fn write_data<R: BufRead>(tar: &mut Tar<R>, file: &OwnedFd, mut left: u64) -> Result<u64, Error> {
    let length = left;
    while left > 0 {
        let chunk = tar.data()?;
        let n = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if n == 0 {
            return invalid("archive is truncated");
        }
        let n = rustix::io::retry_on_intr(|| rustix::io::write(file, &chunk[..n]))
            .doing(|| "write a file of the layer")?;
        tar.consume(n);
        left -= n as u64;
    }
    Ok(length)
}

/// Extended attributes and times of what cannot be opened.
fn attributes_and_times(parent: BorrowedFd<'_>, name: &[u8], meta: &Meta) -> Result<(), Errno> {
    for (key, value) in &meta.xattrs {
        if !key.starts_with(b"user.") {
            let path = through_proc(parent, name);
            let set = rustix::fs::lsetxattr(&path, &key[..], value, XattrFlags::empty());
            allow_unsupported(set, key)?;
        }
    }
    rustix::fs::utimensat(parent, name, &meta.times, AtFlags::SYMLINK_NOFOLLOW)
}

/// A kernel or file system without a class of attributes is no reason to refuse an image, except
/// for capabilities, without which its programs would not work.
fn allow_unsupported(set: Result<(), Errno>, name: &[u8]) -> Result<(), Errno> {
    match set {
        Err(Errno::OPNOTSUPP) if name != b"security.capability" => Ok(()),
        set => set,
    }
}

/// A name below an open directory, for calls that take only paths.
pub(crate) fn through_proc(parent: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name));
    path
}

fn uid(raw: u32) -> Uid {
    Uid::from_raw(raw)
}

fn gid(raw: u32) -> Gid {
    Gid::from_raw(raw)
}
