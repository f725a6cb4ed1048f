//! The words of the format on disk (kernel, fs/erofs/erofs_fs.h). All numbers are little-endian.

/// `log2` of the size of a block. Kernels mount no blocks larger than a page, and before Linux 6.4
/// no others.
pub(crate) const BLOCK_BITS: u32 = 12;
/// Bytes in a block.
pub(crate) const BLOCK: u64 = 1 << BLOCK_BITS;
/// Blocks have addresses of 32 bits: an image holds 16 TiB.
pub(crate) const BLOCKS_MAX: u64 = u32::MAX as u64 - 1;
/// Inodes are numbered by their place in the metadata, in units of this many bytes.
pub(crate) const SLOT: u64 = 32;
/// The longest name, in bytes.
pub(crate) const NAME_MAX: usize = 255;
/// The longest target of a symbolic link, in bytes: PATH_MAX without its end.
pub(crate) const TARGET_MAX: usize = 4095;
/// Bytes of an extended inode.
pub(crate) const INODE_BYTES: u64 = 64;
/// Bytes of an entry of a directory, without its name.
pub(crate) const DIRENT_BYTES: usize = 12;
/// What stands for a hole in the map of a chunked file.
pub(crate) const HOLE: u32 = u32::MAX;

const MAGIC: u32 = 0xe0f5_e1e2;
const SUPERBLOCK_AT: usize = 1024;
const COMPAT_MTIME: u32 = 0x2;
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;

/// How the data of an inode is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// From its first block on.
    Plain = 0,
    /// The same, but the end follows the inode.
    Inline = 2,
    /// By a map of chunks that follows the inode.
    Chunked = 4,
}

/// What the superblock says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Superblock {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) meta_block: u32,
    pub(crate) has_chunks: bool,
}

impl Superblock {
    /// The first block of an image.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            block[SUPERBLOCK_AT + at..SUPERBLOCK_AT + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPAT_MTIME.to_le_bytes());
        put(12, &[BLOCK_BITS as u8]);
        put(14, &self.root.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        let incompat = if self.has_chunks { INCOMPAT_CHUNKED_FILE } else { 0 };
        put(80, &incompat.to_le_bytes());
        block
    }
}

/// What an extended inode says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InodeRecord {
    pub(crate) layout: Layout,
    pub(crate) xattr_count: u16,
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// The first block, the device number, or the format of chunks.
    pub(crate) place: u32,
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) links: u32,
}

impl InodeRecord {
    pub(crate) fn encode(self) -> [u8; INODE_BYTES as usize] {
        let mut record = [0; INODE_BYTES as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            record[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let format = 1 | (self.layout as u16) << 1;
        put(0, &format.to_le_bytes());
        put(2, &self.xattr_count.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.place.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.seconds.to_le_bytes());
        put(40, &self.nanoseconds.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        record
    }
}

/// Blocks that so many bytes take.
pub(crate) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}
