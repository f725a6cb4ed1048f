//! The image as it grows: appended to in large writes, with holes where nothing is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::format::{BLOCK, BLOCKS_MAX};
use crate::uncached::write_uncached;

/// Bytes that are gathered for one write.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes of data that stay in memory when they have been written, as all metadata does: what a
/// first start reads of a small image is then there, and a large one does not push out what others
/// read (docs/decisions/0011-layers-are-images.md).
const CACHED_BYTES: u64 = 16 << 20;

/// Of the holes in an image, in bytes: they cost no space, but whoever reads the files reads them.
const HOLES_BYTES_MAX: u64 = 1 << 40;

#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    buffer: Vec<u8>,
    /// Where in the file the buffer starts.
    start: u64,
    /// Bytes of holes.
    holes: u64,
    /// Up to where in the file what is written stays in memory.
    cached_end: u64,
}

impl Output {
    /// Starts behind the first blocks, which are written last.
    pub(crate) fn new(file: File, first_blocks: u64) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            start: first_blocks * BLOCK,
            holes: 0,
            cached_end: CACHED_BYTES,
        }
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.position() + bytes.len() as u64 > BLOCKS_MAX * BLOCK {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        while !bytes.is_empty() {
            if self.buffer.is_empty() && bytes.len() >= BUFFER_BYTES / 4 {
                return self.write(bytes);
            }
            let n = bytes.len().min(BUFFER_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Leaves zeros up to `position`, which is not before the present one.
    pub(crate) fn skip_to(&mut self, position: u64) -> io::Result<()> {
        if position > BLOCKS_MAX * BLOCK {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let gap = position - self.position();
        // Whole blocks stay holes: zeros that were written would let an archive of kilobytes take
        // gigabytes.
        if gap < BLOCK && gap <= (BUFFER_BYTES - self.buffer.len()) as u64 {
            self.buffer.resize(self.buffer.len() + gap as usize, 0);
            return Ok(());
        }
        self.holes += gap;
        if self.holes > HOLES_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.flush()?;
        self.start = position;
        Ok(())
    }

    /// Goes to the start of a block: its number.
    pub(crate) fn align(&mut self) -> io::Result<u32> {
        self.skip_to(self.position().next_multiple_of(BLOCK))?;
        Ok((self.position() / BLOCK) as u32)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.start < self.cached_end {
            true => self.file.write_all_at(bytes, self.start)?,
            false => write_uncached(&self.file, bytes, self.start)?,
        }
        self.start += bytes.len() as u64;
        Ok(())
    }

    /// Says that what comes now is metadata, behind all data.
    pub(crate) fn begin_metadata(&mut self) -> io::Result<u32> {
        let block = self.align()?;
        self.flush()?;
        self.cached_end = u64::MAX;
        Ok(block)
    }

    /// Writes what is left and the first blocks.
    pub(crate) fn finish(mut self, first: &[u8]) -> io::Result<File> {
        self.align()?;
        self.flush()?;
        self.file.set_len(self.start)?;
        self.file.write_all_at(first, 0)?;
        Ok(self.file)
    }
}
