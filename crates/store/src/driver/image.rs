//! The driver that writes a layer into one EROFS image while it arrives.
//!
//! Nothing is extracted: an archive's names and links exist in memory only, where nothing can be
//! reached that is not the image's. What they mean is the same as in a directory tree; where the
//! kernel would refuse something there, it is refused here with the same error.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead};
use std::rc::Rc;

use erofs::{Attributes, Builder, Content, Kind, Node, ROOT};
use rustix::fs::{FileType, Timespec};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use super::acl::{self, Owner};
use crate::error::{Doing as _, Error, invalid};
use crate::extract::{Leaf, Meta, Sink};
use crate::overlay::{OPAQUE_XATTR, is_capability};
use crate::tarball::{Tar, shown};
use crate::walk::{LINKS_MAX, Missing};

/// The image of a layer, below its directory.
pub(crate) const FILE: &str = "layer.erofs";

const SET_GROUP_ID: u32 = 0o2000;

/// What is remembered of directories until the end: enough for a million with ordinary names.
const REMEMBERED_BYTES_MAX: usize = 256 << 20;

/// An image under construction, with names resolved as the kernel would in a directory.
pub(crate) struct ImageTree {
    pub(crate) builder: Builder,
    /// The time of directories that are needed but not described.
    now: Timespec,
}

impl ImageTree {
    pub(crate) fn new(builder: Builder) -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self { builder, now }
    }

    /// What a directory is given that nothing describes.
    pub(crate) fn implied(&self, mode: u32) -> Attributes {
        let (seconds, nanoseconds) = (self.now.tv_sec, self.now.tv_nsec as u32);
        Attributes { mode, seconds, nanoseconds, ..Attributes::default() }
    }

    /// The same for a directory that is made in `parent`: in one with the set-group-id bit, the
    /// kernel gives its group and that bit on (inode(7)).
    fn implied_in(&self, parent: Node) -> Attributes {
        let mut attributes = self.implied(0o755);
        self.inherit(parent, &mut attributes);
        attributes.mode |= self.builder.attributes(parent).mode & SET_GROUP_ID;
        attributes
    }

    /// Gives what is made in `parent` its group, if that is how groups go there.
    pub(crate) fn inherit(&self, parent: Node, attributes: &mut Attributes) {
        let above = self.builder.attributes(parent);
        if above.mode & SET_GROUP_ID != 0 {
            attributes.gid = above.gid;
        }
    }

    /// The directory at `path`, components below the root without `.` and `..`. As in the kernel,
    /// there is one limit for the links of the whole path.
    pub(crate) fn directory(&mut self, path: &[&[u8]], missing: Missing) -> Result<Node, Errno> {
        let mut links = LINKS_MAX;
        path.iter().try_fold(ROOT, |at, name| self.step(at, name, missing, &mut links))
    }

    /// Where `target`, a link's text found in `from`, leads.
    pub(crate) fn follow(
        &mut self,
        from: Node,
        target: &[u8],
        missing: Missing,
        links: &mut u32,
    ) -> Result<Node, Errno> {
        *links = links.checked_sub(1).ok_or(Errno::LOOP)?;
        let mut at = if target.starts_with(b"/") { ROOT } else { from };
        for name in target.split(|&b| b == b'/') {
            at = match name {
                b"" | b"." => continue,
                b".." => self.builder.parent(at)?,
                name => self.step(at, name, missing, links)?,
            };
        }
        Ok(at)
    }

    fn step(
        &mut self,
        at: Node,
        name: &[u8],
        missing: Missing,
        links: &mut u32,
    ) -> Result<Node, Errno> {
        let create = missing == Missing::Create;
        let Some(found) = self.builder.lookup(at, name)? else {
            if !create {
                return Err(Errno::NOENT);
            }
            return self.builder.add_directory((at, name), self.implied_in(at));
        };
        match self.builder.kind(found) {
            Kind::Directory => Ok(found),
            Kind::Symlink(target) => {
                let target = target.to_vec();
                self.follow(at, &target, missing, links)
            }
            // A directory where a whiteout is. What was hidden there stays so.
            Kind::CharDevice(0) if create => {
                self.builder.unlink(at, name)?;
                let made = self.builder.add_directory((at, name), self.implied(0o755))?;
                self.set_opaque(made)?;
                Ok(made)
            }
            Kind::CharDevice(_) | Kind::Regular | Kind::Other => Err(Errno::NOTDIR),
        }
    }

    fn set_opaque(&mut self, directory: Node) -> Result<(), Errno> {
        self.builder.change(directory, |a| a.set_xattr(OPAQUE_XATTR.as_bytes(), b"y"))
    }

    /// Completes the image. Its id is a random one: overlayfs takes file systems without for one.
    pub(crate) fn finish(self) -> io::Result<File> {
        let mut id = [0; 16];
        rustix::rand::getrandom(&mut id, GetRandomFlags::empty())?;
        self.builder.finish(id)
    }
}

/// Metadata of a directory, set when nothing in it changes any more.
struct Later {
    path: Vec<u8>,
    meta: Meta,
}

/// A layer's image that is being written.
pub(crate) struct ImageSink {
    tree: ImageTree,
    directories: Vec<Later>,
    /// Of names and attributes in `directories`.
    remembered_bytes: usize,
    /// Files get room for their data and nothing else; where that of the last one starts, in bytes.
    reserved: Option<Rc<Cell<Option<u64>>>>,
}

impl ImageSink {
    /// Starts an image in an empty file.
    pub(crate) fn new(file: File) -> Self {
        let mut tree = ImageTree::new(Builder::new(file, Attributes::default(), &[]));
        let root = tree.implied(0o755);
        tree.builder.change(ROOT, |a| *a = root).expect("attributes without names have no limit");
        Self { tree, directories: Vec::new(), remembered_bytes: 0, reserved: None }
    }

    /// Starts an image of files whose data comes later. After each file, `reserved` has where in
    /// the image its data belongs, in bytes.
    pub(crate) fn reserving(file: File, reserved: Rc<Cell<Option<u64>>>) -> Self {
        Self { reserved: Some(reserved), ..Self::new(file) }
    }

    /// A file whose data comes later.
    fn reserve(
        &mut self,
        place: (Node, &[u8]),
        size: u64,
        attributes: Attributes,
        reserved: &Cell<Option<u64>>,
    ) -> io::Result<()> {
        let data = self.tree.builder.reserve(size)?;
        reserved.set(data.start());
        self.tree.builder.add(place, attributes, Content::Regular(data))?;
        Ok(())
    }

    /// Takes away what is in the way of something new.
    fn clear(&mut self, (parent, name): (Node, &[u8])) -> Result<(), Errno> {
        match self.tree.builder.lookup(parent, name)? {
            Some(_) => self.tree.builder.unlink(parent, name),
            None => Ok(()),
        }
    }

    fn remember(&mut self, later: Later) -> Result<(), Error> {
        let attributes = later.meta.xattrs.iter().map(|(name, value)| name.len() + value.len());
        self.remembered_bytes += size_of::<Later>() + later.path.len() + attributes.sum::<usize>();
        if self.remembered_bytes > REMEMBERED_BYTES_MAX {
            return invalid("archive has too many directories");
        }
        self.directories.push(later);
        Ok(())
    }

    fn make_directory(&mut self, (parent, name): (Node, &[u8])) -> Result<(), Errno> {
        let builder = &mut self.tree.builder;
        let there = builder.lookup(parent, name)?;
        let is_whiteout = match there.map(|node| builder.kind(node)) {
            Some(Kind::Directory) => return Ok(()),
            kind => kind == Some(Kind::CharDevice(0)),
        };
        if there.is_some() {
            builder.unlink(parent, name)?;
        }
        let attributes = self.tree.implied(0o755);
        let made = self.tree.builder.add_directory((parent, name), attributes)?;
        if is_whiteout { self.tree.set_opaque(made) } else { Ok(()) }
    }

    fn finish_directory(&mut self, later: &Later) -> Result<(), Errno> {
        let mut node = ROOT;
        if !later.path.is_empty() {
            let parts: Vec<&[u8]> = later.path.split(|&b| b == b'/').collect();
            let (&name, above) = parts.split_last().ok_or(Errno::NOENT)?;
            let parent = match self.tree.directory(above, Missing::Refuse) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                found => found?,
            };
            // A later entry may have put something else there.
            match self.tree.builder.lookup(parent, name)? {
                Some(found) if self.tree.builder.kind(found) == Kind::Directory => node = found,
                _ => return Ok(()),
            }
        }
        let set = checked(&later.meta, true)?;
        let mut listed = Ok(());
        self.tree.builder.change(node, |there| {
            let xattrs = std::mem::take(&mut there.xattrs);
            *there = Attributes { xattrs, ..plain(&later.meta) };
            set.iter().for_each(|(name, value)| there.set_xattr(name, value));
            listed = acl::apply(there, Owner::Directory, &later.meta.xattrs);
        })?;
        listed
    }
}

impl Sink for ImageSink {
    type Directory = Node;

    fn parent(&mut self, path: &[&[u8]]) -> Result<Node, Errno> {
        self.tree.directory(path, Missing::Create)
    }

    fn file<R: BufRead>(
        &mut self,
        tar: &mut Tar<R>,
        (parent, name): (&Node, &[u8]),
        (size, segments): (u64, Option<Vec<(u64, u64)>>),
        meta: Meta,
    ) -> Result<u64, Error> {
        let doing = || format!("unpack file `{}`", shown(name));
        self.clear((*parent, name)).doing(doing)?;
        if let Some(reserved) = self.reserved.clone() {
            let attributes = attributes(&meta, true, Owner::Other).doing(doing)?;
            self.reserve((*parent, name), size, attributes, &reserved).doing(doing)?;
            return Ok(size);
        }
        let mut written = 0;
        let mut source = |most: u64, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
            let chunk = tar.data().map_err(Failed::Archive)?;
            let n = chunk.len().min(usize::try_from(most).unwrap_or(usize::MAX));
            if n == 0 {
                return Err(Failed::Archive(Error::Invalid("archive is truncated".into())));
            }
            sink(&chunk[..n]).map_err(Failed::Image)?;
            tar.consume(n);
            written += n as u64;
            Ok(n as u64)
        };
        let data = self.tree.builder.data(size, segments.as_deref(), &mut source);
        let data = match data {
            Err(Failed::Archive(error)) => return Err(error),
            Err(Failed::Image(error)) => Err(error).doing(|| "write a file of the layer")?,
            Ok(data) => data,
        };
        let attributes = attributes(&meta, true, Owner::Other).doing(doing)?;
        let content = Content::Regular(data);
        self.tree.builder.add((*parent, name), attributes, content).doing(doing)?;
        Ok(written)
    }

    fn directory(
        &mut self,
        (parent, name): (&Node, &[u8]),
        path: &[&[u8]],
        meta: Meta,
    ) -> Result<(), Error> {
        let path = path.join(&b'/');
        self.make_directory((*parent, name)).doing(|| format!("unpack `{}`", shown(&path)))?;
        self.remember(Later { path, meta })
    }

    fn root(&mut self, meta: Meta) -> Result<(), Error> {
        self.remember(Later { path: Vec::new(), meta })
    }

    fn leaf(
        &mut self,
        (parent, name): (&Node, &[u8]),
        leaf: Leaf<'_>,
        meta: Meta,
    ) -> Result<(), Errno> {
        self.clear((*parent, name))?;
        let owner = match leaf {
            Leaf::Symlink(_) => Owner::Symlink,
            Leaf::Special(..) => Owner::Other,
        };
        let mut attributes = attributes(&meta, false, owner)?;
        let content = match leaf {
            Leaf::Symlink(target) => {
                attributes.mode = 0o777;
                Content::Symlink(target.into())
            }
            // The kernel's mknod(2) takes 32 bits of a device number.
            Leaf::Special(FileType::CharacterDevice, device) => Content::CharDevice(device as u32),
            Leaf::Special(FileType::BlockDevice, device) => Content::BlockDevice(device as u32),
            Leaf::Special(..) => Content::Fifo,
        };
        self.tree.builder.add((*parent, name), attributes, content).map(drop)
    }

    fn hard_link(
        &mut self,
        (parent, name): (&Node, &[u8]),
        target: &[&[u8]],
        meta: Meta,
    ) -> Result<(), Errno> {
        let (&to, above) = target.split_last().ok_or(Errno::ISDIR)?;
        let at = self.tree.directory(above, Missing::Refuse)?;
        let node = self.tree.builder.lookup(at, to)?.ok_or(Errno::NOENT)?;
        let kind = self.tree.builder.kind(node);
        if matches!(kind, Kind::Directory | Kind::CharDevice(0)) {
            return Err(Errno::ISDIR);
        }
        let (is_symlink, is_regular) = (matches!(kind, Kind::Symlink(_)), kind == Kind::Regular);
        if self.tree.builder.lookup(*parent, name)? == Some(node) {
            return Ok(());
        }
        self.clear((*parent, name))?;
        self.tree.builder.link((*parent, name), node)?;
        // As for what cannot be opened: by its name.
        let set = checked(&meta, false)?;
        let owner = if is_symlink { Owner::Symlink } else { Owner::Other };
        let mut listed = Ok(());
        self.tree.builder.change(node, |there| {
            let mut xattrs = std::mem::take(&mut there.xattrs);
            if is_regular && (there.uid, there.gid) != (meta.uid, meta.gid) {
                // The kernel takes them away with the owner.
                xattrs.retain(|(name, _)| !is_capability(name));
            }
            let mode = if is_symlink { there.mode } else { meta.mode };
            *there = Attributes { xattrs, mode, ..plain(&meta) };
            set.iter().for_each(|(name, value)| there.set_xattr(name, value));
            listed = acl::apply(there, owner, &meta.xattrs);
        })?;
        listed
    }

    fn whiteout(&mut self, (parent, name): (&Node, &[u8])) -> Result<(), Errno> {
        let builder = &mut self.tree.builder;
        match builder.lookup(*parent, name)? {
            Some(there) if builder.kind(there) == Kind::Directory => self.tree.set_opaque(there),
            Some(_) => Ok(()),
            None => {
                let attributes = self.tree.implied(0);
                let content = Content::CharDevice(0);
                self.tree.builder.add((*parent, name), attributes, content).map(drop)
            }
        }
    }

    fn opaque(&mut self, path: &[&[u8]]) -> Result<(), Errno> {
        let directory = self.tree.directory(path, Missing::Create)?;
        self.tree.set_opaque(directory)
    }

    /// Sets what directories are to look like, now that nothing in them changes any more.
    fn finish(mut self) -> Result<(), Error> {
        for later in std::mem::take(&mut self.directories) {
            self.finish_directory(&later).doing(|| format!("unpack `{}`", shown(&later.path)))?;
        }
        self.tree.finish().map(drop).doing(|| "write the image of the layer")
    }
}

/// Extended attributes by their names.
type Xattrs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Who is to blame when data cannot be moved.
enum Failed {
    Archive(Error),
    Image(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Image(error)
    }
}

fn plain(meta: &Meta) -> Attributes {
    let time = meta.times.last_modification;
    Attributes {
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec as u32,
        xattrs: Vec::new(),
    }
}

fn attributes(meta: &Meta, can_open: bool, owner: Owner) -> Result<Attributes, Errno> {
    let mut attributes = plain(meta);
    for (name, value) in checked(meta, can_open)? {
        attributes.set_xattr(name, value);
    }
    acl::apply(&mut attributes, owner, &meta.xattrs)?;
    Ok(attributes)
}

/// The extended attributes that a file gets, but for access lists. Those of users are for files and directories only; a
/// class that the format does not know is left out, as one that a file system does not know is.
fn checked(meta: &Meta, can_open: bool) -> Result<Xattrs<'_>, Errno> {
    let mut set = Vec::new();
    for (name, value) in &meta.xattrs {
        if name.starts_with(b"user.") && !can_open {
            continue;
        }
        if acl::is_list(name) {
            continue;
        }
        let is_class = matches!(&name[..], b"user." | b"trusted." | b"security.");
        if is_class || is_capability(name) && !is_valid_capability(value) {
            return Err(Errno::INVAL);
        }
        if erofs::supports_attribute(name) {
            set.push((&name[..], &value[..]));
        }
    }
    Ok(set)
}

/// What the kernel accepts as file capabilities: `struct vfs_cap_data` of revision 2, or of
/// revision 3 with the id of a user namespace's root (<linux/capability.h>).
fn is_valid_capability(value: &[u8]) -> bool {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    match value.len() {
        20 => value[3] == REVISION_2,
        24 => value[3] == REVISION_3,
        _ => false,
    }
}
