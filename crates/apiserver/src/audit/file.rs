//! A file that is put aside when it is long enough, with a bound for what is put aside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Rotation;

/// The file that is written, and those before it: `audit.log`, `audit.log.1`, `audit.log.2`, …
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    length: u64,
}

impl Rotating {
    /// Opens a file to write more to it.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = append(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), rotation, file, length })
    }

    /// Adds a line. What cannot be written is lost, and the next line is tried again.
    pub(super) fn write(&mut self, line: &[u8]) {
        let length = line.len() as u64;
        if self.length > 0 && self.length + length > self.rotation.bytes_max {
            // If it cannot be put aside, the file grows: better than losing what happened.
            if let Ok(file) = self.rotate() {
                (self.file, self.length) = (file, 0);
            }
        }
        if self.file.write_all(line).is_ok() {
            self.length += length;
        }
    }

    fn rotate(&self) -> io::Result<File> {
        let backup = |number: usize| {
            let mut path = self.path.as_os_str().to_owned();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        let most = self.rotation.backups_max;
        for number in (1..most).rev() {
            match fs::rename(backup(number), backup(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match most {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, backup(1))?,
        }
        append(&self.path)
    }
}

/// Only its owner may read what people did.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
