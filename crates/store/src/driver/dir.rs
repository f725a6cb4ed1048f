//! The driver that unpacks a layer into a directory tree.
//!
//! Everything is done relative to open directories that were reached without following a link
//! (see `walk`). The directory belongs to the caller alone until it is published.

use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Doing as _, Error, invalid};
use crate::extract::{Leaf, Meta, Sink};
use crate::overlay::{is_directory, is_whiteout, set_opaque};
use crate::tarball::{Tar, shown};
use crate::walk::{Missing, Tree, open_directory, through_proc};

/// What is remembered of directories until the end: enough for a million with ordinary names.
const REMEMBERED_BYTES_MAX: usize = 256 << 20;

/// The tree of a layer, below its directory.
pub(crate) const TREE: &str = "tree";
/// What became unneeded while the layer was unpacked.
pub(crate) const PIT: &str = "replaced";

/// Metadata of a directory, set when nothing in it changes any more.
#[derive(Debug)]
struct Later {
    path: Vec<u8>,
    entry: Meta,
    /// Whether the directory was there before with other metadata.
    existed: bool,
}

/// A tree that is being unpacked. Directories that an entry replaces are left in [`PIT`], for the
/// caller to remove.
pub(crate) struct DirSink {
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
    /// Permission bits that the process' umask takes away.
    umask: u32,
    /// Who owns what this process creates.
    own: (u32, u32),
}

impl DirSink {
    /// Creates the tree in `directory`, which belongs to nobody else.
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
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let root = Rc::new(root);
        Ok(Self {
            tree: Tree::new(root.clone()),
            targets: Tree::new(root),
            directory,
            in_pit: 0,
            directories: Vec::new(),
            remembered_bytes: 0,
            umask,
            own,
        })
    }

    /// Makes a directory, unless there is one: whether there was.
    fn make_directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        mode: u32,
    ) -> Result<bool, Errno> {
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

    fn remember(&mut self, later: Later) -> Result<(), Error> {
        let attributes = later.entry.xattrs.iter().map(|(name, value)| name.len() + value.len());
        self.remembered_bytes += size_of::<Later>() + later.path.len() + attributes.sum::<usize>();
        if self.remembered_bytes > REMEMBERED_BYTES_MAX {
            return invalid("archive has too many directories");
        }
        self.directories.push(later);
        Ok(())
    }

    fn mode_differs(&self, mode: u32) -> bool {
        mode & 0o7000 != 0 || mode & self.umask != 0
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

impl Sink for DirSink {
    type Directory = Rc<OwnedFd>;

    fn parent(&mut self, path: &[&[u8]]) -> Result<Rc<OwnedFd>, Errno> {
        self.tree.directory(path, Missing::Create)
    }

    fn file<R: BufRead>(
        &mut self,
        tar: &mut Tar<R>,
        (parent, name): (&Rc<OwnedFd>, &[u8]),
        (size, segments): (u64, Option<Vec<(u64, u64)>>),
        meta: Meta,
    ) -> Result<u64, Error> {
        let doing = || format!("unpack file `{}`", shown(name));
        let parent = parent.as_fd();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from(meta.mode & 0o777);
        let file = self
            .make(parent, name, || rustix::fs::openat(parent, name, flags, mode))
            .doing(doing)?;
        let mut written = 0;
        match segments {
            None => written += write_data(tar, &file, size)?,
            Some(segments) => {
                rustix::fs::ftruncate(&file, size).doing(doing)?;
                for (offset, length) in segments {
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset)).doing(doing)?;
                    written += write_data(tar, &file, length)?;
                }
            }
        }
        self.file_meta(&file, &meta).doing(doing)?;
        Ok(written)
    }

    fn directory(
        &mut self,
        (parent, name): (&Rc<OwnedFd>, &[u8]),
        path: &[&[u8]],
        meta: Meta,
    ) -> Result<(), Error> {
        let path = path.join(&b'/');
        let existed = self
            .make_directory(parent.as_fd(), name, meta.mode)
            .doing(|| format!("unpack `{}`", shown(&path)))?;
        self.remember(Later { path, entry: meta, existed })
    }

    fn root(&mut self, meta: Meta) -> Result<(), Error> {
        self.remember(Later { path: Vec::new(), entry: meta, existed: true })
    }

    fn leaf(
        &mut self,
        (parent, name): (&Rc<OwnedFd>, &[u8]),
        leaf: Leaf<'_>,
        meta: Meta,
    ) -> Result<(), Errno> {
        let parent = parent.as_fd();
        match leaf {
            Leaf::Symlink(target) => {
                self.make(parent, name, || rustix::fs::symlinkat(target, parent, name))?;
            }
            Leaf::Special(kind, device) => {
                let mode = Mode::from(meta.mode & 0o777);
                let make = || rustix::fs::mknodat(parent, name, kind, mode, device);
                self.make(parent, name, make)?;
            }
        }
        self.leaf_meta(parent, name, &meta, matches!(leaf, Leaf::Symlink(_)))
    }

    fn hard_link(
        &mut self,
        (parent, name): (&Rc<OwnedFd>, &[u8]),
        target: &[&[u8]],
        meta: Meta,
    ) -> Result<(), Errno> {
        let (&to, above) = target.split_last().ok_or(Errno::ISDIR)?;
        let at = self.targets.directory(above, Missing::Refuse)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let target = rustix::fs::statat(&at, to, flags)?;
        if is_directory(&target) || is_whiteout(&target) {
            return Err(Errno::ISDIR);
        }
        if let Ok(there) = rustix::fs::statat(parent, name, flags)
            && (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino)
        {
            return Ok(());
        }
        let parent = parent.as_fd();
        self.make(parent, name, || rustix::fs::linkat(&at, to, parent, name, AtFlags::empty()))?;
        Self::link_meta(parent, name, &meta, &target)
    }

    fn whiteout(&mut self, (parent, name): (&Rc<OwnedFd>, &[u8])) -> Result<(), Errno> {
        match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if is_directory(&there) {
                    set_opaque(open_directory(parent.as_fd(), name)?.as_fd())?;
                }
                Ok(())
            }
            made => made,
        }
    }

    fn opaque(&mut self, path: &[&[u8]]) -> Result<(), Errno> {
        let directory = self.tree.directory(path, Missing::Create)?;
        let own = open_directory(directory.as_fd(), b".")?;
        set_opaque(own.as_fd())
    }

    /// Sets what directories are to look like, now that nothing in them changes any more.
    fn finish(mut self) -> Result<(), Error> {
        for later in std::mem::take(&mut self.directories) {
            self.finish_directory(&later).doing(|| format!("unpack `{}`", shown(&later.path)))?;
        }
        Ok(())
    }
}

pub(crate) fn write_data<R: BufRead>(
    tar: &mut Tar<R>,
    file: &OwnedFd,
    mut left: u64,
) -> Result<u64, Error> {
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
pub(crate) fn allow_unsupported(set: Result<(), Errno>, name: &[u8]) -> Result<(), Errno> {
    match set {
        Err(Errno::OPNOTSUPP) if name != b"security.capability" => Ok(()),
        set => set,
    }
}

fn uid(raw: u32) -> Uid {
    Uid::from_raw(raw)
}

fn gid(raw: u32) -> Gid {
    Gid::from_raw(raw)
}
