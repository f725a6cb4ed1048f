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

pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
const SUPERBLOCK_AT: usize = 1024;
/// Where in an image its id stands.
pub(crate) const ID_AT: u64 = 1024 + 48;
const COMPAT_MTIME: u32 = 0x2;
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;
/// Right behind the superblock, in units of a slot.
const DEVICE_TABLE_AT: usize = 9;
const DEVICE_BYTES: usize = 128;
/// Where the blocks of other images start among the block addresses of one that is made of them;
/// its own end before. 64 GiB.
pub(crate) const DEVICES_START: u64 = 1 << 24;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Tells file systems apart, for overlayfs.
    pub(crate) id: [u8; 16],
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) meta_block: u32,
    pub(crate) has_chunks: bool,
}

impl Superblock {
    /// The first blocks of an image, with `devices`, the number of blocks of each.
    pub(crate) fn encode(self, devices: &[u32]) -> Vec<u8> {
        let mut block = vec![0; (first_blocks(devices.len()) * BLOCK) as usize];
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
        put(48, &self.id);
        let chunks = if self.has_chunks { INCOMPAT_CHUNKED_FILE } else { 0 };
        let table = if devices.is_empty() { 0 } else { INCOMPAT_DEVICE_TABLE };
        put(80, &(chunks | table).to_le_bytes());
        if !devices.is_empty() {
            put(86, &(devices.len() as u16).to_le_bytes());
            put(88, &(DEVICE_TABLE_AT as u16).to_le_bytes());
        }
        let mut start = DEVICES_START as u32;
        for (index, blocks) in devices.iter().enumerate() {
            let slot = (DEVICE_TABLE_AT + index) * DEVICE_BYTES - SUPERBLOCK_AT;
            put(slot + 64, &blocks.to_le_bytes());
            put(slot + 68, &start.to_le_bytes());
            start = start.wrapping_add(*blocks);
        }
        block
    }

    /// What the first block of an image says, if it is one of those that are written here.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let block = block.get(SUPERBLOCK_AT..SUPERBLOCK_AT + 128)?;
        let incompat = u32_at(block, 80);
        let is_ours = u32_at(block, 0) == MAGIC
            && u32::from(block[12]) == BLOCK_BITS
            && incompat & !INCOMPAT_CHUNKED_FILE == 0;
        is_ours.then(|| Self {
            id: block[48..64].try_into().expect("16 bytes were taken"),
            root: u16_at(block, 14),
            inodes: u64_at(block, 16),
            blocks: u32_at(block, 36),
            meta_block: u32_at(block, 40),
            has_chunks: incompat & INCOMPAT_CHUNKED_FILE != 0,
        })
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

impl InodeRecord {
    /// What the bytes of an extended inode say.
    pub(crate) fn decode(bytes: &[u8; INODE_BYTES as usize]) -> Option<Self> {
        let layout = match u16_at(bytes, 0) {
            1 => Layout::Plain,
            5 => Layout::Inline,
            9 => Layout::Chunked,
            _ => return None,
        };
        Some(Self {
            layout,
            xattr_count: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            size: u64_at(bytes, 8),
            place: u32_at(bytes, 16),
            number: u32_at(bytes, 20),
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            seconds: u64_at(bytes, 32).cast_signed(),
            nanoseconds: u32_at(bytes, 40),
            links: u32_at(bytes, 44),
        })
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes were taken"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were taken"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were taken"))
}

/// Blocks that the superblock and a table of devices take.
pub(crate) fn first_blocks(devices: usize) -> u64 {
    blocks(((DEVICE_TABLE_AT + devices) * DEVICE_BYTES) as u64)
}

/// Blocks that so many bytes take.
pub(crate) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}
