//! Directories on disk: blocks of entries with their names behind them, sorted over all blocks.

use crate::format::{BLOCK, DIRENT_BYTES};

/// One entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a [u8],
    /// The number of the inode.
    pub(crate) inode: u64,
    /// See [`crate::inode::entry_type`].
    pub(crate) kind: u8,
}

/// How many entries each block holds, of names in their order.
fn fill<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<(usize, usize)> {
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    for name in names {
        let bytes = DIRENT_BYTES + name.len();
        match blocks.last_mut() {
            Some((entries, used)) if *used + bytes <= BLOCK as usize => {
                *entries += 1;
                *used += bytes;
            }
            _ => blocks.push((1, bytes)),
        }
    }
    blocks
}

/// The size of a directory with these names.
pub(crate) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let blocks = fill(names);
    let last = blocks.last().map_or(0, |(_, used)| *used as u64);
    (blocks.len() as u64).saturating_sub(1) * BLOCK + last
}

/// The content of a directory. `entries` are sorted by their names.
pub(crate) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut rest = entries;
    for (count, _) in fill(entries.iter().map(|entry| entry.name)) {
        content.resize(content.len().next_multiple_of(BLOCK as usize), 0);
        let (block, after) = rest.split_at(count);
        rest = after;
        let mut name_at = count * DIRENT_BYTES;
        for entry in block {
            content.extend_from_slice(&entry.inode.to_le_bytes());
            content.extend_from_slice(&(name_at as u16).to_le_bytes());
            content.extend_from_slice(&[entry.kind, 0]);
            name_at += entry.name.len();
        }
        block.iter().for_each(|entry| content.extend_from_slice(entry.name));
    }
    content
}
