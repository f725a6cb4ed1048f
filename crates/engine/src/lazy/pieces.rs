//! One layer whose data comes when it is read.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use oci::Descriptor;
use registry::Parts;
use runtime::Source;
use rustix::io::Errno;
use store::{Sketch, Store};

/// Bytes of a blob that are got at once at least, if they follow each other: a question to a
/// registry costs as much time as many of them.
const AHEAD_BYTES: u64 = 1 << 20;
/// Bytes between two pieces, the headers of an archive, that are passed over.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// How often a piece is asked for before the reader gets an error. Each time the registry is asked
/// patiently.
const ATTEMPTS_MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Missing,
    /// Somebody is getting it.
    Coming,
    Here,
}

/// A layer on its way: its image, and which pieces are in it.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    store: &'a Store,
    parts: Parts<'a>,
    blob: &'a Descriptor,
    sketch: Sketch,
    size: u64,
    stages: Mutex<Vec<Stage>>,
    changed: Condvar,
    own_blob: OnceLock<File>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(
        store: &'a Store,
        parts: Parts<'a>,
        blob: &'a Descriptor,
        sketch: Sketch,
    ) -> io::Result<Self> {
        let stages = Mutex::new(vec![Stage::Missing; sketch.pieces.len()]);
        let size = sketch.file.metadata()?.len();
        let (changed, own_blob) = (Condvar::new(), OnceLock::new());
        Ok(Self { store, parts, blob, sketch, size, stages, changed, own_blob })
    }

    fn stages(&self) -> MutexGuard<'_, Vec<Stage>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when all data of `range` of the image is there.
    fn need(&self, range: &Range<u64>) -> Result<(), Errno> {
        let pieces = &self.sketch.pieces;
        let first = pieces.partition_point(|piece| piece.at.end <= range.start);
        let last = pieces.partition_point(|piece| piece.at.start < range.end);
        let mut attempts = 0;
        let mut stages = self.stages();
        while let Some(at) = (first..last).find(|at| stages[*at] != Stage::Here) {
            if stages[at] == Stage::Coming {
                stages = self.changed.wait(stages).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if attempts == ATTEMPTS_MAX {
                return Err(Errno::IO);
            }
            attempts += 1;
            let run = at..self.end_of_run(at, last, &stages);
            stages[run.clone()].fill(Stage::Coming);
            drop(stages);
            let got = self.get(run.clone());
            stages = self.stages();
            stages[at..at + got].fill(Stage::Here);
            stages[at + got..run.end].fill(Stage::Missing);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Where the pieces end that are got together with that at `at`.
    fn end_of_run(&self, at: usize, needed: usize, stages: &[Stage]) -> usize {
        let pieces = &self.sketch.pieces;
        let start = pieces[at].blob.start;
        let mut end = at + 1;
        while end < pieces.len() && stages[end] == Stage::Missing {
            let (before, next) = (&pieces[end - 1].blob, &pieces[end].blob);
            let follows = next.start >= before.end && next.start - before.end <= GAP_BYTES_MAX;
            if !follows || (end >= needed && next.end - start > AHEAD_BYTES) {
                break;
            }
            end += 1;
        }
        end
    }

    /// Gets pieces that follow each other in the blob: how many came.
    fn get(&self, run: Range<usize>) -> usize {
        let pieces = &self.sketch.pieces[run];
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return 0 };
        let Ok(mut from) = self.open(first.blob.start..last.blob.end) else { return 0 };
        let mut at = first.blob.start;
        for (got, piece) in pieces.iter().enumerate() {
            let gap = io::copy(&mut from.by_ref().take(piece.blob.start - at), &mut io::sink());
            let mut stored = from.by_ref().take(piece.blob.end - piece.blob.start);
            let filled = gap.is_ok() && self.sketch.fill(piece, &mut stored).is_ok();
            if !filled || io::copy(&mut stored, &mut io::sink()).is_err() {
                return got;
            }
            at = piece.blob.end;
        }
        pieces.len()
    }

    /// The blob from the start of `range` on: from the store, if it is there by now.
    fn open(&self, range: Range<u64>) -> io::Result<Box<dyn Read + '_>> {
        if let Some(blob) = self.own_blob.get() {
            return Ok(Box::new(From { blob, at: range.start }));
        }
        if let Ok(mut file) = self.store.open_blob(&self.blob.digest) {
            file.seek(SeekFrom::Start(range.start))?;
            return Ok(Box::new(file));
        }
        self.parts.read(self.blob, range).map_err(io::Error::other)
    }

    /// Keeps the blob, which is in the store now: nothing depends on the registry any more, nor on
    /// what becomes of the image.
    pub(crate) fn keep_blob(&self) {
        if let Ok(file) = self.store.open_blob(&self.blob.digest) {
            let _ = self.own_blob.set(file);
        }
    }

    fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let end = offset.saturating_add(length as u64).min(self.size);
        let length = end.saturating_sub(offset) as usize;
        self.need(&(offset..end))?;
        let mut bytes = vec![0; length];
        let file: &File = &self.sketch.file;
        file.read_exact_at(&mut bytes, offset).map_err(|_| Errno::IO)?;
        Ok(bytes)
    }
}

/// A file that several read at once, each from a place of its own on.
struct From<'a> {
    blob: &'a File,
    at: u64,
}

impl Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.blob.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Source for &Pieces<'_> {
    fn size(&mut self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        self.read_at(offset, length)
    }
}
