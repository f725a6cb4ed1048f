//! The files of a log by their numbers, as a reader finds them while a writer goes on.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::monitor::log::file::{full, serials};

/// How often is looked again while a writer moves files: each time it has moved on by one.
const LOOKS_MAX: u32 = 1000;

/// What a file of a log is read through.
#[derive(Debug)]
pub(super) enum Input {
    Plain(BufReader<File>),
    Compressed(Box<BufReader<MultiGzDecoder<File>>>),
}

impl Input {
    pub(super) fn plain(file: File) -> Self {
        Self::Plain(BufReader::new(file))
    }

    fn compressed(file: File) -> Self {
        Self::Compressed(Box::new(BufReader::new(MultiGzDecoder::new(file))))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Compressed(input) => input.read(buffer),
        }
    }
}

impl io::BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(input) => input.fill_buf(),
            Self::Compressed(input) => input.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Self::Plain(input) => input.consume(amount),
            Self::Compressed(input) => input.consume(amount),
        }
    }
}

/// A file of a log that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Its number, or the one that it will have once it is full.
    pub(super) serial: u64,
    pub(super) input: Input,
}

/// The current file; `None` before there is one.
pub(super) fn current(path: &Path) -> io::Result<Option<Opened>> {
    for _ in 0..LOOKS_MAX {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match newest(path)? {
                // It is about to be made.
                Some(_) => {
                    std::thread::yield_now();
                    continue;
                }
                None => return Ok(None),
            },
            file => file?,
        };
        let last = newest(path)?.unwrap_or(0);
        // Nothing was moved while the numbers were looked at.
        if is_at(path, &file)? {
            return Ok(Some(Opened { serial: last + 1, input: Input::plain(file) }));
        }
    }
    // Its writer was killed before it made the next one, or is too fast to be caught.
    Ok(None)
}

/// A full file by its number; `None` if it was removed.
pub(super) fn by_number(path: &Path, serial: u64) -> io::Result<Option<Opened>> {
    // Whoever compresses it removes it when the other is there.
    for suffix in ["", ".gz"] {
        match File::open(full(path, serial, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file if suffix.is_empty() => {
                let file = file?;
                // What is empty stands for one that was removed.
                let input = (file.metadata()?.len() > 0).then(|| Input::plain(file));
                return Ok(input.map(|input| Opened { serial, input }));
            }
            file => return Ok(Some(Opened { serial, input: Input::compressed(file?) })),
        }
    }
    Ok(None)
}

/// The number of the file that was full last.
fn newest(path: &Path) -> io::Result<Option<u64>> {
    Ok(serials(path)?.last_key_value().map(|(serial, _)| *serial))
}

/// The numbers of the full files that can be read, from `first` on.
pub(super) fn numbers(path: &Path, first: u64) -> io::Result<Vec<u64>> {
    let is_whole = |suffixes: &Vec<String>| suffixes.iter().any(|suffix| suffix != ".tmp");
    let all = serials(path)?;
    let found = all.range(first..).filter(|(_, suffixes)| is_whole(suffixes));
    Ok(found.map(|(serial, _)| *serial).collect())
}

/// Whether a file is what the path names.
pub(super) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        meta => {
            let (meta, own) = (meta?, file.metadata()?);
            Ok((meta.dev(), meta.ino()) == (own.dev(), own.ino()))
        }
    }
}
