//! Layer archives: from a tree on disk, or from a list of entries. Sorted, with one fixed time, so
//! that the same input gives the same digest.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tar::{EntryType, Header};

/// The modification time of every entry, in seconds since 1970: 14 November 2023.
pub(crate) const EPOCH: u64 = 1_700_000_000;

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// What stands there.
    pub node: Node,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file with this content.
    File(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A hard link to this earlier path.
    Hardlink(String),
    /// A named pipe.
    Fifo,
    /// A character device of these numbers.
    Device(u32, u32),
}

impl Entry {
    /// A directory, 0755.
    #[must_use]
    pub fn directory(path: &str) -> Self {
        Self::of(path, 0o755, Node::Directory)
    }

    /// A regular file, 0644.
    #[must_use]
    pub fn file(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self::of(path, 0o644, Node::File(content.into()))
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::of(path, 0o777, Node::Symlink(target.to_owned()))
    }

    /// A hard link to the earlier entry `target`.
    #[must_use]
    pub fn hardlink(path: &str, target: &str) -> Self {
        Self::of(path, 0o644, Node::Hardlink(target.to_owned()))
    }

    /// What removes `path` of the layers below.
    #[must_use]
    pub fn whiteout(path: &str) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        Self::file(format!("{directory}/.wh.{name}").trim_start_matches('/'), "")
    }

    /// What hides everything that the layers below have in `directory`.
    #[must_use]
    pub fn opaque(directory: &str) -> Self {
        Self::file(&format!("{directory}/.wh..wh..opq"), "")
    }

    /// An entry owned by root.
    #[must_use]
    pub fn of(path: &str, mode: u32, node: Node) -> Self {
        Self { path: path.to_owned(), mode, owner: (0, 0), node }
    }

    /// The same entry with other permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The same entry with another owner.
    #[must_use]
    pub fn owner(mut self, user: u32, group: u32) -> Self {
        self.owner = (user, group);
        self
    }
}

/// A tar stream being written to `W`.
pub(crate) struct Archive<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self { tar: tar::Builder::new(sink) }
    }

    /// Adds one made-up entry.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<()> {
        let mut header = header(entry.mode, entry.owner.0, entry.owner.1);
        let adding = || format!("add {} to a layer", entry.path);
        match &entry.node {
            Node::Directory => self.directory(&mut header, Path::new(&entry.path)),
            Node::File(content) => self.file(
                &mut header,
                Path::new(&entry.path),
                content.len() as u64,
                content.as_slice(),
            ),
            Node::Symlink(target) => {
                self.link(&mut header, EntryType::Symlink, &entry.path, Path::new(target))
            }
            Node::Hardlink(target) => {
                self.link(&mut header, EntryType::Link, &entry.path, Path::new(target))
            }
            Node::Fifo => self.special(&mut header, EntryType::Fifo, &entry.path, (0, 0)),
            Node::Device(major, minor) => {
                self.special(&mut header, EntryType::Char, &entry.path, (*major, *minor))
            }
        }
        .with_context(adding)
    }

    /// Adds what stands at `paths` below `root`, with its times: compiled Python files name the
    /// time of their source. What was written later than `begun` gets [`EPOCH`] instead, since
    /// that was the making of the tree.
    pub(crate) fn add_tree(
        &mut self,
        root: &Path,
        paths: &BTreeSet<PathBuf>,
        begun: SystemTime,
    ) -> Result<()> {
        let begun = begun.duration_since(UNIX_EPOCH).map_or(EPOCH, |time| time.as_secs());
        let mut links = HashMap::new();
        for path in paths {
            self.add_node(root, path, begun, &mut links)
                .with_context(|| format!("add {} to a layer", path.display()))?;
        }
        Ok(())
    }

    fn add_node(
        &mut self,
        root: &Path,
        path: &Path,
        begun: u64,
        links: &mut HashMap<(u64, u64), PathBuf>,
    ) -> io::Result<()> {
        let on_disk = root.join(path);
        let meta = on_disk.symlink_metadata()?;
        let mut header = header(meta.mode() & 0o7777, meta.uid(), meta.gid());
        if let Some(time) = u64::try_from(meta.mtime()).ok().filter(|&time| time < begun) {
            header.set_mtime(time);
        }
        let kind = meta.file_type();
        if kind.is_dir() {
            return self.directory(&mut header, path);
        }
        if kind.is_symlink() {
            return self.link(&mut header, EntryType::Symlink, path, &fs::read_link(on_disk)?);
        }
        if !kind.is_file() {
            return Ok(());
        }
        if meta.nlink() > 1 {
            if let Some(first) = links.get(&(meta.dev(), meta.ino())) {
                return self.link(&mut header, EntryType::Link, path, first);
            }
            links.insert((meta.dev(), meta.ino()), path.to_owned());
        }
        self.capabilities(&on_disk)?;
        self.file(&mut header, path, meta.len(), fs::File::open(on_disk)?)
    }

    /// Ends the archive and gives the sink back.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    fn directory(&mut self, header: &mut Header, path: &Path) -> io::Result<()> {
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        self.tar.append_data(header, path, io::empty())
    }

    fn file(
        &mut self,
        header: &mut Header,
        path: &Path,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        self.tar.append_data(header, path, content)
    }

    fn link(
        &mut self,
        header: &mut Header,
        kind: EntryType,
        path: impl AsRef<Path>,
        target: &Path,
    ) -> io::Result<()> {
        header.set_entry_type(kind);
        header.set_size(0);
        self.tar.append_link(header, path, target)
    }

    fn special(
        &mut self,
        header: &mut Header,
        kind: EntryType,
        path: &str,
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        self.tar.append_data(header, path, io::empty())
    }

    /// Writes a file's capabilities the way every container tool does: as a PAX record of star's.
    fn capabilities(&mut self, path: &Path) -> io::Result<()> {
        let name = "security.capability";
        let mut value = [0_u8; 64];
        match rustix::fs::lgetxattr(path, name, &mut value) {
            Ok(length) => {
                let record = [("SCHILY.xattr.security.capability", &value[..length])];
                self.tar.append_pax_extensions(record)
            }
            Err(_) => Ok(()),
        }
    }
}

fn header(mode: u32, uid: u32, gid: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_mtime(EPOCH);
    header
}

/// Every path below `root` that `keep` accepts, relative to it, parents before children. A
/// refused directory takes all that is below it along.
pub(crate) fn paths_below(root: &Path, keep: impl Fn(&Path) -> bool) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let on_disk = root.join(&directory);
        let entries =
            fs::read_dir(&on_disk).with_context(|| format!("list {}", on_disk.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if !keep(&path) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    Ok(found)
}
