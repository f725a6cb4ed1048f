//! A log as files: the current one under the log's own name, those that were full with a number
//! behind it that counts up, and `.gz` behind that once they are compressed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::compress::Compressor;
use super::line::{Envelope, encode};

/// What is encoded goes to the file when it is more than this, in bytes: what was read at once, with
/// what lines of a hundred bytes have besides.
const ENCODED_BYTES_MAX: usize = 256 * 1024;
/// Room for what is encoded that is kept while little is.
const ENCODED_BYTES_KEPT: usize = 64 * 1024;

/// A file that was filled faster than this is not compressed: at that speed it is soon removed.
/// What is left of it is compressed once the container writes less.
const FILL_TIME_MIN: Duration = Duration::from_secs(5);

/// How much a log may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes of a file; `None` for one file without a bound.
    pub(crate) file_bytes: Option<u64>,
    /// Files, the current one included; at least 1.
    pub(crate) files: u64,
    /// Whether files that are full are compressed.
    pub(crate) compress: bool,
}

/// The name of a file that was full.
pub(crate) fn full(path: &Path, serial: u64, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{serial}{suffix}"));
    name.into()
}

/// The numbers of the files that were full, and the suffixes that each has: empty, `.gz`, or `.tmp`
/// for one that is being compressed.
pub(crate) fn serials(path: &Path) -> io::Result<BTreeMap<u64, Vec<String>>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let (Some(dir), Some(own)) = (path.parent(), path.file_name()) else { return Ok(found) };
    let prefix = [own.to_string_lossy().as_ref(), "."].concat();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else {
            continue;
        };
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if let Ok(serial) = rest[..digits].parse() {
            found.entry(serial).or_default().push(rest[digits..].to_owned());
        }
    }
    Ok(found)
}

/// Appends to a log's files.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    bounds: Bounds,
    /// The file that is written; `None` until something is, since many containers say nothing.
    out: Option<File>,
    bytes: u64,
    /// When the current file was begun, by us.
    begun: Instant,
    /// The number of the file that was full last; `None` until that matters.
    serial: Option<u64>,
    encoded: Vec<u8>,
    compressor: Option<Compressor>,
}

impl Files {
    pub(super) fn new(path: &Path, bounds: Bounds) -> Self {
        let (path, begun) = (path.to_owned(), Instant::now());
        let (serial, encoded, compressor) = (None, Vec::new(), None);
        Self { path, bounds, out: None, bytes: 0, begun, serial, encoded, compressor }
    }

    /// The descriptor of the file that is written, if there is one yet.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.out.as_ref().map(AsFd::as_fd)
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.out.is_none() {
            let out = File::options().append(true).create(true).open(&self.path)?;
            self.bytes = out.metadata()?.len();
            self.out = Some(out);
        }
        Ok(self.out.as_mut().expect("it was just opened"))
    }

    /// Adds an entry, which reaches the disk with the next [`Files::flush`] at the latest.
    pub(super) fn add(&mut self, text: &[u8], envelope: &Envelope) -> io::Result<()> {
        let start = self.encoded.len();
        encode(&mut self.encoded, text, envelope);
        let end = self.bytes + self.encoded.len() as u64;
        if start > 0 && self.bounds.file_bytes.is_some_and(|max| end > max) {
            // What came before still fits.
            let entry = self.encoded.split_off(start);
            let flushed = self.flush();
            self.encoded.extend_from_slice(&entry);
            flushed?;
        }
        match self.encoded.len() > ENCODED_BYTES_MAX {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes what is encoded. What the disk does not take is lost, and what comes later starts on
    /// a line of its own.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let flushed = self.try_flush();
        if flushed.is_err() {
            self.encoded.clear();
            self.encoded.push(b'\n');
            let meta = self.out.as_ref().and_then(|out| out.metadata().ok());
            self.bytes = meta.map_or(self.bytes, |meta| meta.len());
        }
        flushed
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if self.encoded.is_empty() {
            return Ok(());
        }
        self.open()?;
        let full = |max| self.bytes > 0 && self.bytes + self.encoded.len() as u64 > max;
        if self.bounds.file_bytes.is_some_and(full) {
            self.rotate()?;
        }
        let encoded = std::mem::take(&mut self.encoded);
        let written = self.open().and_then(|out| out.write_all(&encoded));
        self.encoded = encoded;
        written?;
        self.bytes += self.encoded.len() as u64;
        if self.encoded.len() < ENCODED_BYTES_KEPT {
            self.encoded.shrink_to(ENCODED_BYTES_KEPT);
        }
        self.encoded.clear();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let last = match self.serial {
            Some(serial) => serial,
            None => serials(&self.path)?.last_key_value().map_or(0, |(serial, _)| *serial),
        };
        let serial = last + 1;
        std::fs::rename(&self.path, full(&self.path, serial, ""))?;
        self.serial = Some(serial);
        self.out = None;
        self.open()?;
        self.prune(serial)?;
        let begun = std::mem::replace(&mut self.begun, Instant::now());
        if self.bounds.compress && self.bounds.files > 1 && begun.elapsed() >= FILL_TIME_MIN {
            self.compress();
        }
        Ok(())
    }

    /// Removes what is too old. The last number stays, if only as an empty file: readers tell by it
    /// how many files they missed.
    fn prune(&self, serial: u64) -> io::Result<()> {
        let oldest = (serial + 2).saturating_sub(self.bounds.files);
        if oldest > serial {
            let empty = full(&self.path, serial, ".tmp");
            File::create(&empty)?;
            std::fs::rename(empty, full(&self.path, serial, ""))?;
        }
        for (serial, suffixes) in serials(&self.path)?.range(..oldest.min(serial)) {
            for suffix in suffixes {
                match std::fs::remove_file(full(&self.path, *serial, suffix)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Has the full files compressed, unless that is being done.
    fn compress(&mut self) {
        self.advance();
        if self.compressor.is_none() {
            // The files are as good as they are.
            self.compressor = Compressor::start(&self.path).ok();
        }
    }

    /// What becomes readable when [`Files::advance`] has something to do.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.compressor.as_ref().map(Compressor::end)
    }

    /// Takes note of a compressor that has ended.
    pub(super) fn advance(&mut self) {
        if self.compressor.as_ref().is_some_and(Compressor::has_ended) {
            self.compressor = None;
        }
    }
}

#[cfg(test)]
pub(crate) fn compress_for_tests(path: &Path, serial: u64) {
    super::compress::compress(path, serial).unwrap();
}

#[cfg(test)]
mod tests {
    use super::super::{Stream, plain_writer};
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let bounds = Bounds { file_bytes: Some(1_000_000), files: 3, compress: true };
        let mut log = plain_writer(&path, bounds);
        let chunk = ("y".repeat(1023) + "\n").repeat(32);
        for _ in 0..300 {
            log.write(Stream::Stdout, chunk.as_bytes()).unwrap();
        }
        let kept: Vec<u64> = serials(&path).unwrap().into_keys().collect();
        assert_eq!(kept.len(), 2);
        let sizes = kept.iter().map(|serial| full(&path, *serial, "").metadata().unwrap().len());
        let sizes: Vec<u64> = sizes.chain([path.metadata().unwrap().len()]).collect();
        assert!(sizes.iter().all(|&size| size <= 1_000_000), "{sizes:?}");
        drop(log);
        // Numbers go on after a restart.
        let mut log = plain_writer(&path, bounds);
        for _ in 0..60 {
            log.write(Stream::Stdout, chunk.as_bytes()).unwrap();
        }
        let later: Vec<u64> = serials(&path).unwrap().into_keys().collect();
        assert!(later[0] > kept[0] && later.len() == 2, "{kept:?} {later:?}");
    }

    #[test]
    fn a_full_file_is_compressed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = "some text\n".repeat(5000);
        std::fs::write(full(&path, 7, ""), &text).unwrap();
        std::fs::write(full(&path, 7, ".tmp"), "what a killed compressor left").unwrap();
        let before = full(&path, 7, "").metadata().unwrap().modified().unwrap();
        compress_for_tests(&path, 7);
        let compressed = full(&path, 7, ".gz");
        assert_eq!(serials(&path).unwrap()[&7], [".gz"]);
        assert_eq!(compressed.metadata().unwrap().modified().unwrap(), before);
        assert!(compressed.metadata().unwrap().len() < text.len() as u64 / 10);
        let mut back = String::new();
        let file = File::open(compressed).unwrap();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut back).unwrap();
        assert_eq!(back, text);
    }
}
