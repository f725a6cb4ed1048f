//! Where the data of a sparse file goes, in the formats of GNU tar: what a map says, and whether it
//! can be meant.

use super::number;
use crate::error::{Error, invalid};

/// Of one sparse file.
pub(super) const SEGMENTS_MAX: usize = 1 << 20;
/// The apparent size of a sparse file, at most, in bytes: what file systems hold.
const SPARSE_BYTES_MAX: u64 = 1 << 44;
/// Bytes that file systems give to a segment at least.
const SEGMENT_BLOCK: u64 = 4096;
/// How many times its data a sparse file may occupy on the disk beyond [`SCATTERED_BYTES`]; tar
/// itself makes segments of 512 bytes and more.
const SCATTER_MAX: u64 = 16;
const SCATTERED_BYTES: u64 = 64 << 10;

/// Numbers on lines of their own: first how many pairs follow, then those.
#[derive(Default)]
pub(super) struct DecimalLines {
    pub(super) numbers: Vec<u64>,
    partial: Option<u64>,
}

impl DecimalLines {
    /// Takes a block; whether the map is complete.
    pub(super) fn take(&mut self, block: &[u8]) -> Result<bool, Error> {
        for &byte in block {
            match byte {
                b'0'..=b'9' => {
                    let sum = self.partial.unwrap_or(0).checked_mul(10);
                    let sum = sum.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    self.partial = sum;
                    if sum.is_none() {
                        return invalid("sparse archive entry with a number out of range");
                    }
                }
                b'\n' if self.partial.is_some() => self.numbers.extend(self.partial.take()),
                _ => return invalid("sparse archive entry with a malformed map"),
            }
            match self.numbers.first() {
                Some(&n) if n > SEGMENTS_MAX as u64 => {
                    return invalid("sparse archive entry with too many segments");
                }
                Some(&n) if self.numbers.len() as u64 == 1 + 2 * n => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }
}

pub(super) fn gnu_segment_slots(slots: &[u8], segments: &mut Vec<(u64, u64)>) -> Result<(), Error> {
    for slot in slots.chunks_exact(24) {
        if slot[0] == 0 {
            break;
        }
        segments.push((number(&slot[..12], "offset")?, number(&slot[12..], "length")?));
    }
    Ok(())
}

pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, Error> {
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * SEGMENTS_MAX {
        return invalid("sparse archive entry with a malformed map");
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Segments ascend without overlap, end within the file, and hold exactly the data that follows.
pub(super) fn check_segments(segments: &[(u64, u64)], size: u64, data: u64) -> Result<(), Error> {
    if size > SPARSE_BYTES_MAX {
        return invalid(format!("sparse archive entry of {size} bytes, more than 16 TiB"));
    }
    let mut end = 0;
    let mut sum = 0u64;
    // Segments of a byte, each in a block of its own, would fill the disk from a small archive.
    let mut occupied = 0u64;
    for &(offset, length) in segments {
        let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
        let Some(next) = next else {
            return invalid("sparse archive entry whose segments do not fit");
        };
        end = next;
        sum += length;
        occupied += match length {
            0 => 0,
            _ => next.next_multiple_of(SEGMENT_BLOCK) - offset / SEGMENT_BLOCK * SEGMENT_BLOCK,
        };
    }
    if sum != data {
        return invalid("sparse archive entry whose map does not match its data");
    }
    if occupied > SCATTERED_BYTES + SCATTER_MAX.saturating_mul(data) {
        return invalid(format!(
            "sparse archive entry that scatters {data} bytes over {occupied} of the disk"
        ));
    }
    Ok(())
}
