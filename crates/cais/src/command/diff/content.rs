//! `cais diff --content`: a patch, and what no patch can say in lines that start with `#`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use engine::{Error, Kind, Result};
use jiff::Timestamp;
use rustix::fs::FileType;
use store::{Comparison, Node};

use super::item::{self, Item};
use crate::output::patch::{self, Counts, Paint, Side};
use crate::session::Session;

/// Of a file that is compared line by line, in bytes.
pub(super) const TEXT_BYTES_MAX: u64 = 8 << 20;
/// Bytes of an extended attribute's value that are shown.
const XATTR_SHOWN_MAX: usize = 64;

/// What to show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) binary: bool,
    pub(super) renames: bool,
}

pub(super) fn show(
    session: &Session,
    comparison: &Comparison,
    within: &[PathBuf],
    options: Options,
    is_colour: bool,
) -> Result<i32> {
    let differences = comparison.differences(within)?;
    let items = item::items(comparison, &differences, options.renames)?;
    session.stream(|out| {
        let mut paint;
        let out: &mut dyn Write = match is_colour || io::stdout().is_terminal() {
            true => {
                paint = Paint::new(out, is_colour);
                &mut paint
            }
            false => out,
        };
        items.iter().try_for_each(|item| one(out, comparison, item, options))
    })?;
    Ok(0)
}

/// What differs between the contents of two files.
pub(super) enum Body {
    /// Nothing.
    Same,
    /// Lines: their hunks, and the names that git gives both texts.
    Text(Vec<u8>, Counts, [String; 2]),
    /// Bytes, or more lines than are looked at.
    Binary,
}

fn one(
    out: &mut dyn Write,
    comparison: &Comparison,
    item: &Item<'_>,
    options: Options,
) -> io::Result<()> {
    notes(out, item)?;
    if !item.is_patchable() {
        return Ok(());
    }
    let body = body(comparison, item).map_err(io::Error::other)?;
    let (open_old, open_new);
    let old: Option<Side<'_>> = match item.old {
        Some(entry) => {
            open_old = move || item::open(comparison, entry);
            Some(item::side(entry, &open_old))
        }
        None => None,
    };
    let new: Option<Side<'_>> = match item.new {
        Some(entry) => {
            open_new = move || item::open(comparison, entry);
            Some(item::side(entry, &open_new))
        }
        None => None,
    };
    let (old, new) = (old.as_ref(), new.as_ref());
    if let (Body::Same, Some(a), Some(b)) = (&body, old, new)
        && a.mode == b.mode
        && !item.is_moved()
    {
        return Ok(());
    }
    if let Body::Binary = body {
        summaries(out, comparison, item)?;
    }
    patch::header(out, old, new)?;
    let (from, to) = patch::names(old, new);
    match body {
        Body::Same => Ok(()),
        Body::Text(hunks, _, [before, after]) => {
            patch::index(out, old.zip(Some(&before[..])), new.zip(Some(&after[..])))?;
            if hunks.is_empty() {
                return Ok(());
            }
            out.write_all(&[b"--- ", &from[..], b"\n+++ ", &to[..], b"\n", &hunks[..]].concat())
        }
        Body::Binary if options.binary => patch::whole(out, old, new),
        Body::Binary => {
            out.write_all(&[b"Binary files ", &from[..], b" and ", &to[..], b" differ\n"].concat())
        }
    }
}

/// What differs between the contents of an entry.
pub(super) fn body(comparison: &Comparison, item: &Item<'_>) -> Result<Body> {
    if !item.content {
        return Ok(Body::Same);
    }
    let mut texts = [Vec::new(), Vec::new()];
    for (text, side) in texts.iter_mut().zip([item.old, item.new]) {
        let Some((path, node)) = side else { continue };
        if node.size > TEXT_BYTES_MAX {
            return Ok(Body::Binary);
        }
        let opened = item::open(comparison, (path, node)).map_err(|e| unreadable(path, e))?;
        opened.take(TEXT_BYTES_MAX + 1).read_to_end(text).map_err(|e| unreadable(path, e))?;
        if text.contains(&0) || text.len() as u64 > TEXT_BYTES_MAX {
            return Ok(Body::Binary);
        }
    }
    let (hunks, counts) = patch::unified(&texts[0], &texts[1]);
    let id = |text: &Vec<u8>| patch::blob_id(text.len() as u64, &mut &text[..]);
    let failed = |error| unreadable(item.path(), error);
    let ids = [id(&texts[0]).map_err(failed)?, id(&texts[1]).map_err(failed)?];
    Ok(Body::Text(hunks, counts, ids))
}

pub(super) fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::caused(Kind::Internal, format!("read `{}`", path.display()), error)
}

/// Size, digest and build id of both sides.
fn summaries(out: &mut dyn Write, comparison: &Comparison, item: &Item<'_>) -> io::Result<()> {
    for (mark, side) in [("-", item.old), ("+", item.new)] {
        let Some((path, node)) = side else { continue };
        let found = item::summary(comparison, path, node).map_err(io::Error::other)?;
        let id = found.build_id.map_or_else(String::new, |id| format!(", build id {id}"));
        note(out, path, &format!("{mark} {} bytes, {}{id}", found.size, found.digest))?;
    }
    Ok(())
}

/// What a patch does not say: owners, permission bits, times, attributes, and all of what is
/// neither file nor link.
fn notes(out: &mut dyn Write, item: &Item<'_>) -> io::Result<()> {
    match (item.old, item.new) {
        (None, Some((path, node))) => {
            let mut text = facts(node);
            if !item.is_patchable() || !is_usual(node) {
                text.insert_str(0, "added: ");
                note(out, path, &text)?;
            }
            xattrs(out, path, &BTreeMap::new(), &node.xattrs)
        }
        (Some((path, node)), None) if !item.is_patchable() => {
            note(out, path, &format!("deleted: {}", facts(node)))
        }
        (Some((_, old)), Some((path, new))) => {
            if old.mode != new.mode && new.kind != FileType::Symlink {
                note(out, path, &format!("mode {:04o} -> {:04o}", old.mode, new.mode))?;
            }
            if (old.uid, old.gid) != (new.uid, new.gid) {
                let text = format!("owner {}:{} -> {}:{}", old.uid, old.gid, new.uid, new.gid);
                note(out, path, &text)?;
            }
            if old.device != new.device {
                note(out, path, &format!("device {} -> {}", device(old), device(new)))?;
            }
            if !item.content && old.mtime != new.mtime && new.kind != FileType::Directory {
                note(out, path, &format!("time {} -> {}", time(old), time(new)))?;
            }
            xattrs(out, path, &old.xattrs, &new.xattrs)
        }
        _ => Ok(()),
    }
}

fn note(out: &mut dyn Write, path: &Path, text: &str) -> io::Result<()> {
    let name = patch::quoted(b"", path.as_os_str().as_bytes());
    out.write_all(&[b"# ", &name[..], b": ", text.as_bytes(), b"\n"].concat())
}

/// Whether a patch makes an entry as it is.
fn is_usual(node: &Node) -> bool {
    let mode = node.kind == FileType::Symlink || matches!(node.mode, 0o644 | 0o755);
    mode && (node.uid, node.gid) == (0, 0)
}

fn facts(node: &Node) -> String {
    let what = kind(node.kind);
    let number = match node.kind {
        FileType::CharacterDevice | FileType::BlockDevice => format!(" {}", device(node)),
        _ => String::new(),
    };
    format!("{what}{number}, mode {:04o}, owner {}:{}", node.mode, node.uid, node.gid)
}

pub(super) fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown",
    }
}

fn device(node: &Node) -> String {
    format!("{}:{}", rustix::fs::major(node.device), rustix::fs::minor(node.device))
}

pub(super) fn time(node: &Node) -> String {
    let (seconds, nanoseconds) = node.mtime;
    let time = Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0));
    time.map_or_else(|_| format!("@{seconds}"), |time| time.to_string())
}

fn xattrs(
    out: &mut dyn Write,
    path: &Path,
    old: &BTreeMap<Vec<u8>, Vec<u8>>,
    new: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> io::Result<()> {
    let names: std::collections::BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    for name in names {
        let shown = |value: Option<&Vec<u8>>| value.map_or_else(|| "none".into(), |v| xattr(v));
        let (before, after) = (old.get(name), new.get(name));
        if before != after {
            let name = String::from_utf8_lossy(&patch::quoted(b"", name)).into_owned();
            note(out, path, &format!("xattr {name} {} -> {}", shown(before), shown(after)))?;
        }
    }
    Ok(())
}

/// The value of an extended attribute: as text where it is some, else its digits.
pub(super) fn xattr(value: &[u8]) -> String {
    let cut = &value[..value.len().min(XATTR_SHOWN_MAX)];
    let more = if cut.len() < value.len() { "…" } else { "" };
    match cut.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        true => format!("\"{}\"{more}", String::from_utf8_lossy(cut)),
        false => {
            let digits: String = cut.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}{more}")
        }
    }
}
