//! From a tree that comes in any order to an image.

use std::fs::File;
use std::io;

use rustix::io::Errno;

use crate::directory::{self, Entry};
use crate::format::{
    BLOCK, DEVICES_START, HOLE, INODE_BYTES, InodeRecord, Layout, SLOT, Superblock, blocks,
    first_blocks,
};
use crate::inode::{Attributes, Content, area, entry_type};
use crate::output::Output;
use crate::tree::{Body, Inode, Kind, Node, ROOT, Tree};
use crate::xattr;

/// Files up to this size follow their inodes, in bytes: they cost no block, and reading them costs
/// no second one.
const INLINE_MAX: u64 = 1024;
/// Directories up to this size do.
const DIRECTORY_INLINE_MAX: u64 = 2048;
/// Entries in the map of a sparse file, at most: its chunks grow with it.
const CHUNKS_MAX: u64 = 1 << 16;
/// And those of one whose data is in few segments: this many, and as many more for each segment as
/// the second number says. A file of a few bytes would cost as much as a full map otherwise.
const CHUNKS_FEW: (u64, u64) = (1 << 13, 16);
/// The apparent size of a sparse file, at most, in bytes: 16 TiB, as of an image and of a file in
/// ext4.
pub const SIZE_MAX: u64 = 1 << 44;
/// `log2` of how many blocks a chunk may have, at most.
const CHUNK_BITS_MAX: u32 = 31;
/// What an image may make us remember, in bytes: enough for two million ordinary files.
const REMEMBERED_BYTES_MAX: usize = 768 << 20;

/// Where the data of a regular file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    pub(crate) size: u64,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// With its inode.
    Inline(Box<[u8]>),
    /// From this block on.
    Blocks(u32),
    /// Chunks of `1 << bits` blocks, by their first blocks.
    Chunks { bits: u32, map: Box<[u32]> },
}

impl Data {
    /// That of an empty file.
    #[must_use]
    pub fn empty() -> Self {
        Self { size: 0, place: Place::Inline([][..].into()) }
    }

    /// Where in the image it starts, in bytes, if it lies in blocks of its own, in one piece.
    #[must_use]
    pub fn start(&self) -> Option<u64> {
        match self.place {
            Place::Blocks(block) => Some(u64::from(block) * BLOCK),
            Place::Inline(_) | Place::Chunks { .. } => None,
        }
    }
}

/// A source of data: gives some of it, at most so many bytes.
type Source<'a, E> = dyn FnMut(u64, &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<u64, E> + 'a;

/// An image that is being written.
///
/// Data goes to the image as it comes; names and metadata stay in memory until [`Builder::finish`].
#[derive(Debug)]
pub struct Builder {
    output: Output,
    tree: Tree,
    has_chunks: bool,
    /// The blocks of each image that data of this one lies in.
    devices: Vec<u32>,
}

impl Builder {
    /// Starts an image in an empty file. Data of it may lie in `devices`, images with so many
    /// blocks.
    #[must_use]
    pub fn new(file: File, root: Attributes, devices: &[u32]) -> Self {
        let tree = Tree::new(root, REMEMBERED_BYTES_MAX);
        let output = Output::new(file, first_blocks(devices.len()));
        Self { output, tree, has_chunks: false, devices: devices.to_vec() }
    }

    /// What a file is.
    #[must_use]
    pub fn kind(&self, node: Node) -> Kind<'_> {
        self.tree.kind(node)
    }

    /// The metadata of a file.
    #[must_use]
    pub fn attributes(&self, node: Node) -> &Attributes {
        &self.tree.inode(node).attributes
    }

    /// The directory that a directory is in; the root is in itself.
    ///
    /// # Errors
    /// [`Errno::NOTDIR`].
    pub fn parent(&self, directory: Node) -> Result<Node, Errno> {
        self.tree.parent(directory)
    }

    /// What has this name.
    ///
    /// # Errors
    /// [`Errno::NOTDIR`]; [`Errno::NAMETOOLONG`] beyond 255 bytes.
    pub fn lookup(&self, directory: Node, name: &[u8]) -> Result<Option<Node>, Errno> {
        self.tree.lookup(directory, name)
    }

    /// Makes a file under a name that is free.
    ///
    /// # Errors
    /// [`Errno::NAMETOOLONG`] for a name beyond 255 bytes or a target beyond 4095;
    /// [`Errno::NOENT`] for an empty one; [`Errno::OPNOTSUPP`], [`Errno::RANGE`] and
    /// [`Errno::TOOBIG`] for extended attributes that the format cannot hold; [`Errno::NOMEM`]
    /// when there is more to remember than a bound allows.
    pub fn add(
        &mut self,
        place: (Node, &[u8]),
        attributes: Attributes,
        content: Content,
    ) -> Result<Node, Errno> {
        if let Content::Regular(Data { place: Place::Chunks { .. }, .. }) = &content {
            self.has_chunks = true;
        }
        self.tree.add(place, attributes, Some(content))
    }

    /// Makes a directory under a name that is free.
    ///
    /// # Errors
    /// As of [`Builder::add`].
    pub fn add_directory(
        &mut self,
        place: (Node, &[u8]),
        attributes: Attributes,
    ) -> Result<Node, Errno> {
        self.tree.add(place, attributes, None)
    }

    /// Makes stat(2) show so many links of a file, of which some names are elsewhere.
    pub(crate) fn show_links(&mut self, node: Node, links: u32) {
        self.tree.show_links(node, links);
    }

    /// Gives a file that is not a directory another name, which is free.
    ///
    /// # Errors
    /// As of [`Builder::add`].
    pub fn link(&mut self, place: (Node, &[u8]), node: Node) -> Result<(), Errno> {
        self.tree.link(place, node)
    }

    /// Takes a name away; with a directory, everything in it.
    ///
    /// # Errors
    /// [`Errno::NOTDIR`]; [`Errno::NOENT`].
    pub fn unlink(&mut self, directory: Node, name: &[u8]) -> Result<(), Errno> {
        self.tree.unlink(directory, name)
    }

    /// Changes the metadata of a file.
    ///
    /// # Errors
    /// As of [`Builder::add`].
    pub fn change(
        &mut self,
        node: Node,
        change: impl FnOnce(&mut Attributes),
    ) -> Result<(), Errno> {
        self.tree.change(node, change)
    }

    /// Takes the data of a file of `size` bytes: all of it, or what is in `segments` (offset and
    /// length, ascending, within the size). `source` gives some more each time it is called.
    ///
    /// # Errors
    /// Those of `source`; [`io::ErrorKind::FileTooLarge`] beyond 16 TiB of image or of a file, and
    /// beyond 1 TiB of holes in the image.
    pub fn data<E: From<io::Error>>(
        &mut self,
        size: u64,
        segments: Option<&[(u64, u64)]>,
        source: &mut Source<'_, E>,
    ) -> Result<Data, E> {
        let place = match segments {
            Some(segments) => self.chunks(size, segments, source)?,
            None if size <= INLINE_MAX => {
                let mut bytes = Vec::with_capacity(size as usize);
                pour(size, source, &mut |some| {
                    bytes.extend_from_slice(some);
                    Ok(())
                })?;
                self.tree.remember(bytes.len()).map_err(io::Error::from)?;
                Place::Inline(bytes.into())
            }
            None => {
                let start = self.output.align()?;
                pour(size, source, &mut |some| self.output.append(some))?;
                Place::Blocks(start)
            }
        };
        Ok(Data { size, place })
    }

    /// Leaves room for the data of a file of `size` bytes, from a block on: whoever has it writes it
    /// there. Until then it reads as zeros.
    ///
    /// # Errors
    /// As of [`Builder::data`].
    pub fn reserve(&mut self, size: u64) -> io::Result<Data> {
        if size == 0 {
            return Ok(Data::empty());
        }
        let start = self.output.align()?;
        let end = size.checked_next_multiple_of(BLOCK).ok_or(io::ErrorKind::FileTooLarge)?;
        self.output.skip_to((u64::from(start) * BLOCK).saturating_add(end))?;
        Ok(Data { size, place: Place::Blocks(start) })
    }

    fn chunks<E: From<io::Error>>(
        &mut self,
        size: u64,
        segments: &[(u64, u64)],
        source: &mut Source<'_, E>,
    ) -> Result<Place, E> {
        if size > SIZE_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
        let few = match segments.iter().any(|(_, length)| *length > 0) {
            true => CHUNKS_FEW.0 + CHUNKS_FEW.1.saturating_mul(segments.len() as u64),
            false => 1,
        };
        let bits = (0..CHUNK_BITS_MAX)
            .find(|bits| size.div_ceil(BLOCK << bits) <= CHUNKS_MAX.min(few))
            .unwrap_or(CHUNK_BITS_MAX);
        let chunk = BLOCK << bits;
        let count = size.div_ceil(chunk) as usize;
        self.tree.remember(count * size_of::<u32>()).map_err(io::Error::from)?;
        let mut map = vec![HOLE; count];
        for &(mut offset, mut length) in segments {
            while length > 0 {
                let (index, within) = ((offset / chunk) as usize, offset % chunk);
                if map[index] == HOLE {
                    map[index] = self.output.align()?;
                }
                let n = length.min(chunk - within);
                self.output.skip_to(u64::from(map[index]) * BLOCK + within)?;
                pour(n, source, &mut |some| self.output.append(some))?;
                (offset, length) = (offset + n, length - n);
                // The kernel reads all blocks of a chunk but those behind the end of the file.
                let end = chunk.min(size - index as u64 * chunk).next_multiple_of(BLOCK);
                let next = segments_from(segments, offset);
                if next.is_none_or(|next| next / chunk > index as u64) {
                    self.output.skip_to(u64::from(map[index]) * BLOCK + end)?;
                }
            }
        }
        Ok(Place::Chunks { bits, map: map.into() })
    }

    /// Writes the metadata and, last of all, the superblock. `id` tells file systems apart that are
    /// mounted together.
    ///
    /// # Errors
    /// Those of writing; [`io::ErrorKind::FileTooLarge`] beyond 16 TiB.
    pub fn finish(mut self, id: [u8; 16]) -> io::Result<File> {
        let meta_block = self.output.begin_metadata()?;
        let plan = Plan::new(&self.tree, u64::from(meta_block))?;
        let mut written = 0;
        for (index, inode) in self.tree.inodes.iter().enumerate() {
            if inode.links > 0 {
                self.output.skip_to(u64::from(meta_block) * BLOCK + plan.slots[index] * SLOT)?;
                plan.write(&self.tree, (index, inode), &mut self.output)?;
                written += 1;
            }
        }
        self.output.skip_to(plan.end_block * BLOCK)?;
        plan.write_directories(&self.tree, &mut self.output)?;
        let end = self.output.align()?;
        if !self.devices.is_empty() && u64::from(end) > DEVICES_START {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let first = Superblock {
            id,
            root: plan.slots[ROOT.0 as usize] as u16,
            inodes: written,
            blocks: end,
            meta_block,
            has_chunks: self.has_chunks,
        };
        self.output.finish(&first.encode(&self.devices))
    }
}

/// Where the first segment that ends behind `offset` starts, or goes on.
fn segments_from(segments: &[(u64, u64)], offset: u64) -> Option<u64> {
    let at = segments.partition_point(|(start, length)| start + length <= offset);
    segments[at..].iter().find(|(_, length)| *length > 0).map(|(start, _)| (*start).max(offset))
}

/// Moves exactly `size` bytes.
fn pour<E: From<io::Error>>(
    mut size: u64,
    source: &mut Source<'_, E>,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), E> {
    while size > 0 {
        match source(size, sink)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => size -= n,
        }
    }
    Ok(())
}

/// Where everything goes.
struct Plan {
    /// The place of each inode, in slots from the start of the metadata; 0 for what is gone.
    slots: Vec<u64>,
    /// The first block of each large directory, in the order of inodes.
    directories: Vec<(usize, u32)>,
    /// The first block behind the inodes.
    end_block: u64,
    /// Data that has to lie in blocks of its own because it does not fit behind its inode.
    spilled: Vec<(usize, u32)>,
}

/// What follows an inode and its attributes.
#[derive(Clone, Copy)]
enum Tail {
    /// Must not cross from one block to another.
    Whole(u64),
    /// May.
    Map(u64),
    Nothing,
}

impl Plan {
    fn new(tree: &Tree, meta_block: u64) -> io::Result<Self> {
        let mut slots = vec![0; tree.inodes.len()];
        let (mut directories, mut spilled) = (Vec::new(), Vec::new());
        // Number 0 would be an entry that readers pass over.
        let mut at = 2 * SLOT;
        for (index, inode) in tree.inodes.iter().enumerate().filter(|(_, i)| i.links > 0) {
            let head = INODE_BYTES + area(&inode.attributes)?.len() as u64;
            let (tail, blocks_apart) = Self::tail(inode);
            let mut place = at.next_multiple_of(SLOT);
            let crosses = |place: u64| {
                let tail_at = place + head;
                let whole =
                    matches!(tail, Tail::Whole(n) if tail_at / BLOCK != (tail_at + n - 1) / BLOCK);
                whole || place / BLOCK != (place + INODE_BYTES - 1) / BLOCK
            };
            if crosses(place) {
                place = place.next_multiple_of(BLOCK);
            }
            let mut end = place + head;
            match tail {
                // Attributes that fill a block up to its end.
                Tail::Whole(_) if crosses(place) => spilled.push((index, 1)),
                Tail::Whole(n) | Tail::Map(n) => end += n,
                Tail::Nothing if blocks_apart > 0 => directories.push((index, blocks_apart)),
                Tail::Nothing => {}
            }
            slots[index] = place / SLOT;
            at = end;
        }
        let end_block = meta_block + blocks(at);
        let mut next = end_block;
        for (_, place) in directories.iter_mut().chain(&mut spilled) {
            let length = u64::from(*place);
            *place = u32::try_from(next).map_err(|_| io::ErrorKind::FileTooLarge)?;
            next += length;
        }
        Ok(Self { slots, directories, end_block, spilled })
    }

    /// What follows an inode, and how many blocks it has elsewhere that are still to be placed.
    fn tail(inode: &Inode) -> (Tail, u32) {
        let whole = |n: u64| if n == 0 { Tail::Nothing } else { Tail::Whole(n) };
        match &inode.body {
            Body::Directory(_) => match directory_size(inode) {
                n if n <= DIRECTORY_INLINE_MAX => (whole(n), 0),
                n => (Tail::Nothing, blocks(n) as u32),
            },
            Body::Content(Content::Symlink(target)) => (whole(target.len() as u64), 0),
            Body::Content(Content::Regular(data)) => match &data.place {
                Place::Inline(bytes) => (whole(bytes.len() as u64), 0),
                Place::Blocks(_) => (Tail::Nothing, 0),
                Place::Chunks { map, .. } => (Tail::Map(4 * map.len() as u64), 0),
            },
            Body::Content(_) => (Tail::Nothing, 0),
        }
    }

    fn apart(&self, index: usize) -> Option<u32> {
        let find = |list: &[(usize, u32)]| {
            list.binary_search_by_key(&index, |(index, _)| *index).ok().map(|at| list[at].1)
        };
        find(&self.directories).or_else(|| find(&self.spilled))
    }

    fn write(
        &self,
        tree: &Tree,
        (index, inode): (usize, &Inode),
        output: &mut Output,
    ) -> io::Result<()> {
        let attributes = &inode.attributes;
        let area = area(attributes)?;
        let apart = self.apart(index);
        let mut record = InodeRecord {
            layout: Layout::Plain,
            xattr_count: xattr::count(area.len()),
            mode: (inode.kind() | attributes.mode & 0o7777) as u16,
            size: 0,
            place: apart.unwrap_or(0),
            number: index as u32 + 1,
            uid: attributes.uid,
            gid: attributes.gid,
            seconds: attributes.seconds,
            nanoseconds: attributes.nanoseconds,
            links: if inode.shown_links > 0 { inode.shown_links } else { links(tree, inode) },
        };
        let mut tail = Vec::new();
        match &inode.body {
            Body::Directory(_) => record.size = directory_size(inode),
            Body::Content(Content::Symlink(target)) => record.size = target.len() as u64,
            Body::Content(Content::CharDevice(number) | Content::BlockDevice(number)) => {
                record.place = *number;
            }
            Body::Content(Content::Fifo | Content::Socket) => {}
            Body::Content(Content::Regular(data)) => {
                record.size = data.size;
                match &data.place {
                    Place::Inline(_) => {}
                    Place::Blocks(start) => record.place = *start,
                    Place::Chunks { bits, map } => {
                        (record.layout, record.place) = (Layout::Chunked, *bits);
                        tail = map.iter().flat_map(|start| start.to_le_bytes()).collect();
                    }
                }
            }
        }
        if let (Tail::Whole(_), None) = (Self::tail(inode).0, apart) {
            record.layout = Layout::Inline;
            tail = self.whole(tree, index);
        }
        output.append(&record.encode())?;
        output.append(&area)?;
        output.append(&tail)
    }

    /// The content that follows an inode or has a block of its own.
    fn whole(&self, tree: &Tree, index: usize) -> Vec<u8> {
        match &tree.inodes[index].body {
            Body::Directory(_) => self.directory(tree, index),
            Body::Content(Content::Symlink(target)) => target.to_vec(),
            Body::Content(Content::Regular(Data { place: Place::Inline(bytes), .. })) => {
                bytes.to_vec()
            }
            Body::Content(_) => Vec::new(),
        }
    }

    fn write_directories(&self, tree: &Tree, output: &mut Output) -> io::Result<()> {
        for (index, start) in self.directories.iter().chain(&self.spilled) {
            output.skip_to(u64::from(*start) * BLOCK)?;
            output.append(&self.whole(tree, *index))?;
        }
        Ok(())
    }

    fn directory(&self, tree: &Tree, index: usize) -> Vec<u8> {
        let Body::Directory(directory) = &tree.inodes[index].body else { return Vec::new() };
        let entry = |name, node: Node| Entry {
            name,
            inode: self.slots[node.0 as usize],
            kind: entry_type(tree.inode(node).kind()),
        };
        let own = [entry(&b"."[..], Node(index as u32)), entry(b"..", directory.parent)];
        let named = directory.names.iter().map(|(name, node)| entry(name, *node));
        let mut entries: Vec<Entry<'_>> = own.into_iter().chain(named).collect();
        entries.sort_by(|a, b| a.name.cmp(b.name));
        directory::encode(&entries)
    }
}

/// The names of a directory, sorted, with its own two.
fn directory_size(inode: &Inode) -> u64 {
    let Body::Directory(directory) = &inode.body else { return 0 };
    let mut names: Vec<&[u8]> = directory.names.keys().map(|name| &name[..]).collect();
    names.extend([&b"."[..], b".."]);
    names.sort();
    directory::size(names.into_iter())
}

/// The number of links that stat(2) shows: of a directory, its own name, its `.`, and the `..` of
/// each directory in it.
fn links(tree: &Tree, inode: &Inode) -> u32 {
    let Body::Directory(directory) = &inode.body else { return inode.links };
    let is_directory = |node: &&Node| matches!(tree.inode(**node).body, Body::Directory(_));
    2 + directory.names.values().filter(is_directory).count() as u32
}
