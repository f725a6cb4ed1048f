//! The tree in memory: names, and the files they are of.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::format::{NAME_MAX, TARGET_MAX};
use crate::inode::{Attributes, Content, area, kind};

/// Bytes that an allocation costs beside its content, at most.
const ALLOCATION_BYTES: usize = 16;
/// Bytes of an inode in a list that grows by doubling, and is copied for it.
const INODE_LISTED_BYTES: usize = 2 * size_of::<Inode>();
/// Bytes of a name, beside its own, in nodes of a map that are half full.
const NAME_LISTED_BYTES: usize = 2 * size_of::<(Box<[u8]>, Node)>() + ALLOCATION_BYTES;
/// Bytes of a directory: itself, and the node for its first names (`alloc::collections::btree` has
/// 11 entries in each).
const DIRECTORY_BYTES: usize =
    size_of::<Directory>() + 11 * size_of::<(Box<[u8]>, Node)>() + 2 * ALLOCATION_BYTES;

/// A file of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node(pub(crate) u32);

/// The directory at the top.
pub const ROOT: Node = Node(0);

/// What a [`Node`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A symbolic link, with its target.
    Symlink(&'a [u8]),
    /// A character device, with its number.
    CharDevice(u32),
    /// A regular file.
    Regular,
    /// Anything else.
    Other,
}

#[derive(Debug)]
pub(crate) enum Body {
    Directory(Box<Directory>),
    Content(Content),
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) parent: Node,
    pub(crate) names: BTreeMap<Box<[u8]>, Node>,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) attributes: Attributes,
    pub(crate) body: Body,
    /// Names; a directory has one. Without any, the file is not part of the image.
    pub(crate) links: u32,
    /// The number of links to show instead, unless 0.
    pub(crate) shown_links: u32,
}

impl Inode {
    /// The kind of file, as a mode says it.
    pub(crate) fn kind(&self) -> u32 {
        match &self.body {
            Body::Directory(_) => kind::DIRECTORY,
            Body::Content(content) => content.kind(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) inodes: Vec<Inode>,
    /// Of all that is allocated, as far as can be told: what an archive makes us remember.
    bytes: usize,
    bytes_max: usize,
}

impl Tree {
    pub(crate) fn new(root: Attributes, bytes_max: usize) -> Self {
        let directory = Box::new(Directory { parent: ROOT, names: BTreeMap::new() });
        let root =
            Inode { attributes: root, body: Body::Directory(directory), links: 1, shown_links: 0 };
        Self { inodes: vec![root], bytes: 0, bytes_max }
    }

    pub(crate) fn inode(&self, node: Node) -> &Inode {
        &self.inodes[node.0 as usize]
    }

    fn inode_mut(&mut self, node: Node) -> &mut Inode {
        &mut self.inodes[node.0 as usize]
    }

    pub(crate) fn kind(&self, node: Node) -> Kind<'_> {
        match &self.inode(node).body {
            Body::Directory(_) => Kind::Directory,
            Body::Content(Content::Symlink(target)) => Kind::Symlink(target),
            Body::Content(Content::CharDevice(number)) => Kind::CharDevice(*number),
            Body::Content(Content::Regular(_)) => Kind::Regular,
            Body::Content(_) => Kind::Other,
        }
    }

    fn directory(&self, node: Node) -> Result<&Directory, Errno> {
        match &self.inode(node).body {
            Body::Directory(directory) => Ok(directory),
            Body::Content(_) => Err(Errno::NOTDIR),
        }
    }

    fn names(&mut self, node: Node) -> Result<&mut BTreeMap<Box<[u8]>, Node>, Errno> {
        match &mut self.inode_mut(node).body {
            Body::Directory(directory) => Ok(&mut directory.names),
            Body::Content(_) => Err(Errno::NOTDIR),
        }
    }

    pub(crate) fn parent(&self, node: Node) -> Result<Node, Errno> {
        self.directory(node).map(|directory| directory.parent)
    }

    pub(crate) fn lookup(&self, directory: Node, name: &[u8]) -> Result<Option<Node>, Errno> {
        check_name(name)?;
        Ok(self.directory(directory)?.names.get(name).copied())
    }

    /// Puts something new under a name that is free.
    pub(crate) fn add(
        &mut self,
        (directory, name): (Node, &[u8]),
        attributes: Attributes,
        content: Option<Content>,
    ) -> Result<Node, Errno> {
        if let Some(Content::Symlink(target)) = &content {
            match target.len() {
                0 => return Err(Errno::NOENT),
                1..=TARGET_MAX => {}
                _ => return Err(Errno::NAMETOOLONG),
            }
            self.remember(target.len() + ALLOCATION_BYTES)?;
        }
        self.check(&attributes)?;
        let directory_bytes = if content.is_none() { DIRECTORY_BYTES } else { 0 };
        self.remember(INODE_LISTED_BYTES + directory_bytes)?;
        let body = match content {
            Some(content) => Body::Content(content),
            None => {
                Body::Directory(Box::new(Directory { parent: directory, names: BTreeMap::new() }))
            }
        };
        let number = u32::try_from(self.inodes.len()).map_err(|_| Errno::NOSPC)?;
        self.inodes.push(Inode { attributes, body, links: 0, shown_links: 0 });
        self.link((directory, name), Node(number))?;
        Ok(Node(number))
    }

    /// Gives a file another name, which is free.
    pub(crate) fn link(
        &mut self,
        (directory, name): (Node, &[u8]),
        node: Node,
    ) -> Result<(), Errno> {
        check_name(name)?;
        self.remember(name.len() + NAME_LISTED_BYTES)?;
        let before = self.names(directory)?.insert(name.into(), node);
        debug_assert!(before.is_none(), "the name is free");
        self.inode_mut(node).links += 1;
        Ok(())
    }

    /// Takes a name away; with a directory, everything in it.
    pub(crate) fn unlink(&mut self, directory: Node, name: &[u8]) -> Result<(), Errno> {
        let removed = self.names(directory)?.remove(name).ok_or(Errno::NOENT)?;
        let mut waiting = vec![removed];
        while let Some(node) = waiting.pop() {
            let inode = self.inode_mut(node);
            inode.links -= 1;
            if let Body::Directory(directory) = &mut inode.body {
                waiting.extend(std::mem::take(&mut directory.names).into_values());
            }
        }
        Ok(())
    }

    pub(crate) fn change(
        &mut self,
        node: Node,
        change: impl FnOnce(&mut Attributes),
    ) -> Result<(), Errno> {
        let mut attributes = self.inode(node).attributes.clone();
        change(&mut attributes);
        self.check(&attributes)?;
        self.inode_mut(node).attributes = attributes;
        Ok(())
    }

    pub(crate) fn show_links(&mut self, node: Node, links: u32) {
        self.inode_mut(node).shown_links = links;
    }

    /// That the attributes can be written, and may be remembered.
    fn check(&mut self, attributes: &Attributes) -> Result<(), Errno> {
        if attributes.xattrs.is_empty() {
            return Ok(());
        }
        let bytes = area(attributes)?.len();
        let each = size_of::<(Vec<u8>, Vec<u8>)>() + 2 * ALLOCATION_BYTES;
        self.remember(bytes + attributes.xattrs.len() * each)
    }

    pub(crate) fn remember(&mut self, bytes: usize) -> Result<(), Errno> {
        self.bytes += bytes;
        if self.bytes > self.bytes_max { Err(Errno::NOMEM) } else { Ok(()) }
    }
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name.len() {
        0 => Err(Errno::NOENT),
        1..=NAME_MAX => Ok(()),
        _ => Err(Errno::NAMETOOLONG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    #[test]
    fn what_is_allocated_is_counted() {
        const BOUND: usize = 96 << 20;
        let attributes = || Attributes { mode: 0o755, ..Attributes::default() };
        // Directories with one name each cost the most beside their names.
        let before = resident_bytes();
        let mut tree = Tree::new(attributes(), BOUND);
        let mut at = ROOT;
        let refused = loop {
            match tree.add((at, b"a"), attributes(), None) {
                Ok(made) => at = made,
                Err(errno) => break errno,
            }
        };
        assert_eq!(refused, Errno::NOMEM);
        let used = resident_bytes() - before;
        assert!(used < BOUND + (4 << 20), "{used} bytes are used");
        // It is no bound on ordinary trees.
        assert!(tree.inodes.len() * 600 > BOUND, "{} directories", tree.inodes.len());
    }
}
