//! The container's log: Docker's `json-file` lines, bounded on disk by rotation.
//!
//! A line is `{"log":"text\n","stream":"stdout","time":"RFC 3339"}`. A line longer than
//! [`LINE_BYTES_MAX`] is split, and only its last part ends in a newline.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The longest text of one entry, in bytes; Docker splits there too.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// A log file is rotated when it has grown beyond this many bytes.
const FILE_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// Files kept, the current one included: a container's log never takes more than 100 MiB.
pub(crate) const FILES_MAX: u32 = 5;

/// One of a container's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text; ends in a newline unless it is the part of a longer line.
    pub log: String,
    /// The stream that it was written to.
    pub stream: Stream,
    /// When it was written, RFC 3339 with nanoseconds, UTC.
    pub time: String,
}

/// The path of a rotated file: 0 is the current one, larger numbers are older.
#[must_use]
pub(crate) fn file(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

/// Appends to a log.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    out: File,
    bytes: u64,
    partial: [Vec<u8>; 2],
    encoded: Vec<u8>,
}

impl Writer {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let out = File::options().append(true).create(true).open(path)?;
        let bytes = out.metadata()?.len();
        let partial = [Vec::new(), Vec::new()];
        Ok(Self { path: path.to_owned(), out, bytes, partial, encoded: Vec::new() })
    }

    /// Takes what a stream wrote; whole lines reach the disk at once.
    pub(crate) fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let held = self.partial[stream as usize].len();
            let room = (LINE_BYTES_MAX - held).min(bytes.len());
            let (end, whole) = match bytes[..room].iter().position(|&b| b == b'\n') {
                Some(newline) => (newline + 1, true),
                None => (room, held + room == LINE_BYTES_MAX),
            };
            self.partial[stream as usize].extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if whole {
                self.encode(stream)?;
            }
        }
        self.flush()
    }

    /// Writes what is left without a newline: the container has ended.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.partial[stream as usize].is_empty() {
                self.encode(stream)?;
            }
        }
        self.flush()
    }

    fn encode(&mut self, stream: Stream) -> io::Result<()> {
        let text = &mut self.partial[stream as usize];
        let log = String::from_utf8_lossy(text).into_owned();
        text.clear();
        let entry = Entry { log, stream, time: crate::clock::now() };
        serde_json::to_writer(&mut self.encoded, &entry)?;
        self.encoded.push(b'\n');
        Ok(())
    }

    /// Writes what is encoded. What the disk does not take is lost, and what comes later starts on
    /// a line of its own.
    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.try_flush();
        if flushed.is_err() {
            self.encoded.clear();
            self.encoded.push(b'\n');
            self.bytes = self.out.metadata().map_or(self.bytes, |meta| meta.len());
        }
        flushed
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if self.encoded.is_empty() {
            return Ok(());
        }
        if self.bytes > 0 && self.bytes + self.encoded.len() as u64 > FILE_BYTES_MAX {
            self.rotate()?;
        }
        self.out.write_all(&self.encoded)?;
        self.bytes += self.encoded.len() as u64;
        self.encoded.clear();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for age in (0..FILES_MAX - 1).rev() {
            match std::fs::rename(file(&self.path, age), file(&self.path, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.out = File::options().append(true).create(true).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All files of a log that exist, oldest first.
    fn files(path: &Path) -> Vec<PathBuf> {
        (0..FILES_MAX).rev().map(|age| file(path, age)).filter(|path| path.exists()).collect()
    }

    fn entries(path: &Path) -> Vec<Entry> {
        let read = |path| std::fs::read_to_string(path).unwrap();
        files(path)
            .iter()
            .flat_map(|path| {
                read(path).lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn lines_are_whole_and_streams_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Writer::open(&path).unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"error\n").unwrap();
        log.write(Stream::Stdout, b"o\nend").unwrap();
        log.finish().unwrap();
        let text: Vec<_> = entries(&path).into_iter().map(|e| (e.stream, e.log)).collect();
        let out = |t: &str| (Stream::Stdout, t.to_owned());
        let expected = [out("one\n"), (Stream::Stderr, "error\n".into()), out("two\n"), out("end")];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_line_is_split_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Writer::open(&path).unwrap();
        let line = "x".repeat(LINE_BYTES_MAX * 2 + 10) + "\n";
        log.write(Stream::Stdout, line.as_bytes()).unwrap();
        let parts = entries(&path);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts.into_iter().map(|e| e.log).collect::<String>(), line);
    }

    #[test]
    fn the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Writer::open(&path).unwrap();
        let chunk = ("y".repeat(1023) + "\n").repeat(1024);
        for _ in 0..130 {
            log.write(Stream::Stdout, chunk.as_bytes()).unwrap();
        }
        let sizes: Vec<u64> =
            files(&path).iter().map(|path| path.metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), FILES_MAX as usize);
        let chunk_max = 2 * chunk.len() as u64;
        assert!(sizes.iter().all(|&size| size <= FILE_BYTES_MAX + chunk_max), "{sizes:?}");
    }
}
