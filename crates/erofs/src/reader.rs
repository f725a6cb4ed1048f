//! Reads the metadata of images that are written here; their data is the kernel's business.
//!
//! Images are one's own, but a disk may have damaged them: everything is bounded by the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::builder::{Data, Place};
use crate::format::{
    BLOCK, DIRENT_BYTES, HOLE, INODE_BYTES, InodeRecord, Layout, SLOT, Superblock, u16_at, u32_at,
    u64_at,
};
use crate::inode::{Attributes, Content, kind};
use crate::xattr;

/// The metadata of one image, in memory.
#[derive(Debug)]
pub struct Reader {
    /// From the start of the metadata to the end of the image.
    meta: Vec<u8>,
    superblock: Superblock,
}

/// A file of an image.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) attributes: Attributes,
    pub(crate) links: u32,
    /// `None` for a directory.
    pub(crate) content: Option<Content>,
}

impl Reader {
    /// Reads the metadata of an image.
    ///
    /// # Errors
    /// As of [`Reader::open_within`].
    pub fn open(file: &File) -> io::Result<Self> {
        Self::open_within(file, &mut { u64::MAX })
    }

    /// Reads the metadata of an image, if it has no more than `bytes_max`, of which it is taken.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for what is not an image that was written here;
    /// [`io::ErrorKind::OutOfMemory`] if there is more.
    pub fn open_within(file: &File, bytes_max: &mut u64) -> io::Result<Self> {
        let mut first = vec![0; BLOCK as usize];
        file.read_exact_at(&mut first, 0)?;
        let superblock = Superblock::decode(&first).ok_or_else(damaged)?;
        let blocks = superblock.blocks.checked_sub(superblock.meta_block).ok_or_else(damaged)?;
        let length = u64::from(blocks) * BLOCK;
        let start = u64::from(superblock.meta_block) * BLOCK;
        if file.metadata()?.len() < start + length {
            return Err(damaged());
        }
        *bytes_max = bytes_max.checked_sub(length).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut meta = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        file.read_exact_at(&mut meta, start)?;
        Ok(Self { meta, superblock })
    }

    /// The number of blocks of the image.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.superblock.blocks
    }

    pub(crate) fn root(&self) -> u64 {
        self.superblock.root.into()
    }

    fn bytes(&self, at: u64, length: u64) -> io::Result<&[u8]> {
        let (at, length) = (usize::try_from(at), usize::try_from(length));
        let (Ok(at), Ok(length)) = (at, length) else { return Err(damaged()) };
        let end = at.checked_add(length).ok_or_else(damaged)?;
        self.meta.get(at..end).ok_or_else(damaged)
    }

    fn record(&self, inode: u64) -> io::Result<(u64, InodeRecord)> {
        let at = inode.checked_mul(SLOT).ok_or_else(damaged)?;
        let bytes = self.bytes(at, INODE_BYTES)?.try_into().map_err(|_| damaged())?;
        Ok((at + INODE_BYTES, InodeRecord::decode(bytes).ok_or_else(damaged)?))
    }

    /// What lies in the metadata: behind an inode, or in a block of its own.
    fn content(&self, inode: u64) -> io::Result<&[u8]> {
        let (at, record) = self.record(inode)?;
        match record.layout {
            Layout::Inline => self.bytes(at + xattr::bytes(record.xattr_count), record.size),
            Layout::Plain if record.size == 0 => Ok(&[]),
            Layout::Plain => {
                let block = record.place.checked_sub(self.superblock.meta_block);
                self.bytes(u64::from(block.ok_or_else(damaged)?) * BLOCK, record.size)
            }
            Layout::Chunked => Err(damaged()),
        }
    }

    /// What a file is.
    pub(crate) fn read(&self, inode: u64) -> io::Result<Read> {
        let (at, record) = self.record(inode)?;
        let area = self.bytes(at, xattr::bytes(record.xattr_count))?;
        let mode = u32::from(record.mode);
        let attributes = Attributes {
            mode: mode & 0o7777,
            uid: record.uid,
            gid: record.gid,
            seconds: record.seconds,
            nanoseconds: record.nanoseconds,
            xattrs: xattr::decode(area).ok_or_else(damaged)?,
        };
        let content = match mode & !0o7777 {
            kind::DIRECTORY => None,
            kind::REGULAR => Some(Content::Regular(self.data(inode, &record)?)),
            kind::SYMLINK => Some(Content::Symlink(self.content(inode)?.into())),
            kind::CHAR => Some(Content::CharDevice(record.place)),
            kind::BLOCK => Some(Content::BlockDevice(record.place)),
            kind::FIFO => Some(Content::Fifo),
            kind::SOCKET => Some(Content::Socket),
            _ => return Err(damaged()),
        };
        Ok(Read { attributes, links: record.links, content })
    }

    fn data(&self, inode: u64, record: &InodeRecord) -> io::Result<Data> {
        let place = match record.layout {
            Layout::Inline => Place::Inline(self.content(inode)?.into()),
            Layout::Plain if record.size == 0 => Place::Inline([][..].into()),
            // What did not fit behind its inode is small enough to fit behind another.
            Layout::Plain if record.place >= self.superblock.meta_block => {
                Place::Inline(self.content(inode)?.into())
            }
            Layout::Plain => Place::Blocks(record.place),
            Layout::Chunked => {
                let bits = record.place & 0x1f;
                let count = record.size.div_ceil(BLOCK << bits);
                let at = inode * SLOT + INODE_BYTES + xattr::bytes(record.xattr_count);
                let length = count.checked_mul(4).ok_or_else(damaged)?;
                let map = self.bytes(at, length)?;
                Place::Chunks { bits, map: map.chunks_exact(4).map(|b| u32_at(b, 0)).collect() }
            }
        };
        Ok(Data { size: record.size, place })
    }

    /// The names in a directory, but for its own two, with their files.
    pub(crate) fn list(&self, inode: u64) -> io::Result<Vec<(&[u8], u64)>> {
        let mut names = Vec::new();
        for block in self.content(inode)?.chunks(BLOCK as usize) {
            let first = block.get(..DIRENT_BYTES).ok_or_else(damaged)?;
            let names_at = usize::from(u16_at(first, 8));
            let entries = block.get(..names_at).ok_or_else(damaged)?;
            let entries: Vec<&[u8]> = entries.chunks_exact(DIRENT_BYTES).collect();
            for (index, entry) in entries.iter().enumerate() {
                let start = usize::from(u16_at(entry, 8));
                let end = entries.get(index + 1).map_or(block.len(), |e| u16_at(e, 8).into());
                let name = block.get(start..end).ok_or_else(damaged)?;
                // The last name of a block ends where the zeros begin.
                let length = name.iter().position(|&b| b == 0).unwrap_or(name.len());
                match &name[..length] {
                    b"" => return Err(damaged()),
                    b"." | b".." => {}
                    name => names.push((name, u64_at(entry, 0))),
                }
            }
        }
        Ok(names)
    }
}

impl Data {
    /// The same data, as another image finds it whose addresses have this one's from `start` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if there is no such address.
    pub(crate) fn shifted(mut self, start: u32) -> io::Result<Self> {
        let shift = |block: &mut u32| {
            let there = block.checked_add(start).filter(|there| *there != HOLE);
            there.map(|there| *block = there).ok_or_else(damaged)
        };
        match &mut self.place {
            Place::Inline(_) => {}
            Place::Blocks(block) => shift(block)?,
            Place::Chunks { map, .. } => {
                map.iter_mut().filter(|block| **block != HOLE).try_for_each(shift)?;
            }
        }
        Ok(self)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "damaged EROFS image")
}
