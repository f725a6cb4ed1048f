//! The container's log: where its lines go, and how they are bounded.
//!
//! A file has Docker's `json-file` lines, `{"log":"text\n","stream":"stdout","time":"RFC 3339"}`,
//! whatever the driver. A line longer than 16 KiB is split, and only its last part ends in a
//! newline. Bytes that are no UTF-8 come back as they were: see [`line`].
//!
//! Readers read files, so that none of them holds anybody up.

mod buffer;
mod compress;
mod direct;
pub(crate) mod file;
mod journald;
mod line;
pub(crate) mod plan;
mod rate;
mod remote;
mod syslog;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::container::Record;

use self::buffer::Buffer;
use self::direct::Direct;
use self::plan::Plan;

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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Entry {
    /// The text; ends in a newline unless it is the part of a longer line.
    #[serde(deserialize_with = "text")]
    pub(crate) log: Vec<u8>,
    /// The stream that it was written to.
    pub(crate) stream: Stream,
    /// When it was written, RFC 3339 with nanoseconds, UTC.
    pub(crate) time: String,
    /// What is said of the container.
    #[serde(default)]
    pub(crate) attrs: BTreeMap<String, String>,
}

/// Text, or bytes in the place of it.
fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
    struct Text;
    impl serde::de::Visitor<'_> for Text {
        type Value = Vec<u8>;

        fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("a string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(line::unescape_binary(bytes.to_vec()))
        }
    }
    input.deserialize_bytes(Text)
}

/// Takes what a container writes.
#[derive(Debug)]
pub(crate) struct Writer(Inner);

#[derive(Debug)]
enum Inner {
    Direct(Box<Direct>),
    /// `None` once it was ended.
    Buffer(Option<Buffer>),
}

impl Writer {
    /// Opens the log of a container, whose files are at `path`.
    ///
    /// # Errors
    /// If the files cannot be opened, or the service not be reached.
    pub(crate) fn open(plan: &Plan, path: &Path, record: &Record) -> io::Result<Self> {
        let direct = Direct::open(plan, path, record)?;
        Ok(Self(match plan.buffer {
            None => Inner::Direct(Box::new(direct)),
            Some(bytes) => Inner::Buffer(Some(Buffer::start(bytes, direct)?)),
        }))
    }

    /// Takes what a stream wrote; whole lines are kept at once.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Inner::Direct(direct) => direct.write(stream, bytes),
            Inner::Buffer(buffer) => {
                if let Some(buffer) = buffer {
                    buffer.write(stream, bytes);
                }
                Ok(())
            }
        }
    }

    /// Keeps what is left without a newline: the container has ended.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Direct(direct) => direct.finish(),
            Inner::Buffer(buffer) => {
                buffer.take().into_iter().for_each(Buffer::finish);
                Ok(())
            }
        }
    }

    /// Whether it takes nothing any more, and is to be opened anew for another run.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.0, Inner::Buffer(None))
    }

    /// What becomes readable when [`Writer::advance`] has something to do.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Inner::Direct(direct) => direct.source(),
            Inner::Buffer(_) => None,
        }
    }

    /// Takes note of what has happened meanwhile.
    pub(crate) fn advance(&mut self) {
        if let Inner::Direct(direct) = &mut self.0 {
            direct.advance();
        }
    }
}

/// A writer to files alone.
#[cfg(test)]
pub(crate) fn plain_writer(path: &Path, bounds: file::Bounds) -> Writer {
    let plan = Plan { files: Some(bounds), ..Plan::default() };
    Writer(Inner::Direct(Box::new(Direct::open_files(&plan, path).unwrap())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_do_not_mix_and_a_rate_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let attrs = [("a".to_owned(), "\"1\"".to_owned())].into();
        let bounds = file::Bounds { file_bytes: None, files: 1, compress: false };
        let plan = Plan { files: Some(bounds), attrs, max_rate: Some(1), ..Plan::default() };
        let mut log = Writer(Inner::Direct(Box::new(Direct::open_files(&plan, &path).unwrap())));
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"error\n").unwrap();
        log.write(Stream::Stdout, b"o\n").unwrap();
        log.write(Stream::Stderr, &b"1234567\n".repeat(10_000)).unwrap();
        log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let entries: Vec<Entry> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(entries.iter().all(|entry| entry.attrs["a"] == "\"1\""));
        let shown =
            |entry: &Entry| format!("{:?} {}", entry.stream, String::from_utf8_lossy(&entry.log));
        let first: Vec<String> = entries.iter().take(3).map(shown).collect();
        assert_eq!(first, ["Stdout one\n", "Stderr error\n", "Stdout two\n"]);
        let last: Vec<String> = entries.iter().rev().take(2).map(shown).collect();
        let dropped = 10_000 - (entries.len() - 4);
        let mark = format!(
            "Stderr cais: {dropped} lines ({} bytes) dropped: the container wrote more than max-rate allows\n",
            dropped * 8
        );
        assert!(last.contains(&mark), "{last:?} {mark}");
        assert!((1000..9000).contains(&dropped), "{dropped}");
    }
}
