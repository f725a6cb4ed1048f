//! Files that go in and out of containers.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Error, Extract, Kind, PathStat, Result};
use remote::Request;
use serde_json::Value;

use super::Remote;
use super::list::text;
use crate::command::cp::{self, There};

/// Of the types of files as Go writes them (`os.FileMode`), and as stat(2) does.
const GO_DIRECTORY: u64 = 1 << 31;
const GO_LINK: u64 = 1 << 27;
const GO_OTHER: u64 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const REGULAR: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;
/// Permissions.
const MODE: u64 = 0o777;

pub(super) fn cp(remote: &Remote<'_>, args: &cp::Args) -> Result<i32> {
    cp::copy(args, |container| Ok(Box::new(Elsewhere { remote, container: container.to_owned() })))
}

/// The files of a container elsewhere.
struct Elsewhere<'a> {
    remote: &'a Remote<'a>,
    container: String,
}

impl Elsewhere<'_> {
    fn request<'r>(&self, method: &'static str, path: &Path) -> Request<'r> {
        let request = Request::new(method, &["containers", &self.container, "archive"]);
        request.with("path", path.to_string_lossy())
    }
}

impl There for Elsewhere<'_> {
    fn stat(&self, path: &Path) -> Result<PathStat> {
        let answer = self.remote.ask(self.request("HEAD", path)).map_err(|error| {
            let message = format!("Could not find the file {}", path.display());
            match error.kind() {
                Kind::NotFound => {
                    Error::new(Kind::NotFound, format!("{message} in container {}", self.container))
                }
                _ => error,
            }
        })?;
        let encoded = answer.field("x-docker-container-path-stat").unwrap_or_default();
        let decoded = STANDARD.decode(encoded).unwrap_or_default();
        let told: Value = serde_json::from_slice(&decoded).map_err(|error| {
            Error::caused(Kind::Unavailable, "understand what the engine says of a path", error)
        })?;
        let mode = told["mode"].as_u64().unwrap_or(0);
        let kind = match mode {
            mode if mode & GO_DIRECTORY != 0 => DIRECTORY,
            mode if mode & GO_LINK != 0 => LINK,
            mode if mode & GO_OTHER != 0 => DEVICE,
            _ => REGULAR,
        };
        Ok(PathStat {
            name: text(&told, "name").into(),
            size: told["size"].as_i64().unwrap_or(0),
            mode: kind | u32::try_from(mode & MODE).unwrap_or(0),
            mtime: (0, 0),
            link_target: text(&told, "linkTarget").into(),
        })
    }

    fn archive(&self, path: &Path, title: Option<&[u8]>, out: &mut dyn Write) -> Result<()> {
        let mut body = self.remote.ask(self.request("GET", path))?.into_body();
        let copied = match title {
            None => io::copy(&mut body, out).map(drop),
            Some(title) => renamed(&mut body, title, out),
        };
        copied.map_err(|error| self.remote.broken(error))
    }

    fn extract(
        &self,
        path: &Path,
        options: Extract,
        archive: &mut (dyn Read + Send),
    ) -> Result<()> {
        let request = self.request("PUT", path);
        let request = request.with_flag("noOverwriteDirNonDir", options.keeps_kinds);
        let request = request.with_flag("copyUIDGID", options.own_user);
        self.remote.act(request.stream("application/x-tar", archive))
    }
}

/// Writes an archive whose entries are all below one that is called `title` now.
fn renamed(from: &mut dyn Read, title: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Archive::new(from);
    let mut written = tar::Builder::new(out);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = below(&entry.path_bytes(), title);
        let mut header = entry.header().clone();
        let kind = header.entry_type();
        if kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = below(&target, title);
            written.append_link(&mut header, path, target)?;
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            let target = PathBuf::from(OsString::from_vec(target));
            written.append_link(&mut header, path, target)?;
        } else {
            written.append_data(&mut header, path, &mut entry)?;
        }
    }
    written.into_inner()?.flush()
}

/// A path with another first part.
fn below(path: &[u8], title: &[u8]) -> PathBuf {
    let rest = path.splitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
    let title = Path::new(std::ffi::OsStr::from_bytes(title));
    match rest {
        [] => title.to_owned(),
        rest => title.join(std::ffi::OsStr::from_bytes(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_get_another_first_part() {
        for (path, expected) in [("a/", "b"), ("a", "b"), ("a/c/d", "b/c/d"), ("./c", "b/c")] {
            assert_eq!(below(path.as_bytes(), b"b"), Path::new(expected), "{path}");
        }
    }
}
