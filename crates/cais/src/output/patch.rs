//! What turns one file into another, in git's form of unified diffs (git, `diff-format` and
//! `diff-generate-patch`), which GNU patch reads, too.
//!
//! Names are relative to the root of both trees. A name with anything but plain visible ASCII in it
//! is quoted as git does, and one with a blank, too: GNU patch would end it there.

mod binary;
mod elf;
mod hunk;
mod paint;
mod sha1;

use std::io::{self, Read, Write};

pub(crate) use binary::literal;
pub(crate) use elf::{HEAD_BYTES, build_id};
pub(crate) use hunk::{Counts, unified};
pub(crate) use paint::Paint;
pub(crate) use sha1::blob_id;

/// The kind in git's modes of a regular file and of a symbolic link.
pub(crate) const FILE: u32 = 0o100_644;
pub(crate) const PROGRAM: u32 = 0o100_755;
pub(crate) const LINK: u32 = 0o120_000;

/// A file on one side of a patch.
pub(crate) struct Side<'a> {
    /// Its path, relative and without a dot in front.
    pub(crate) path: &'a [u8],
    /// [`FILE`], [`PROGRAM`] or [`LINK`].
    pub(crate) mode: u32,
    /// Bytes in it.
    pub(crate) size: u64,
    /// Reads it from its start; for a link, what it says.
    pub(crate) open: &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>,
}

/// The lines in front of the content: names, modes, and what happens to the file as a whole.
///
/// # Errors
/// What `out` answers.
pub(crate) fn header<'a>(
    out: &mut dyn Write,
    old: Option<&Side<'a>>,
    new: Option<&Side<'a>>,
) -> io::Result<()> {
    let Some(any) = old.or(new) else { return Ok(()) };
    let from = old.unwrap_or(any).path;
    let to = new.unwrap_or(any).path;
    line(out, &[b"diff --git ", &quoted(b"a/", from), b" ", &quoted(b"b/", to)])?;
    match (old, new) {
        (None, Some(new)) => writeln!(out, "new file mode {:o}", new.mode)?,
        (Some(old), None) => writeln!(out, "deleted file mode {:o}", old.mode)?,
        (Some(old), Some(new)) if old.mode != new.mode => {
            writeln!(out, "old mode {:o}\nnew mode {:o}", old.mode, new.mode)?;
        }
        _ => {}
    }
    if from != to {
        line(out, &[b"similarity index 100%"])?;
        line(out, &[b"rename from ", &quoted(b"", from)])?;
        line(out, &[b"rename to ", &quoted(b"", to)])?;
    }
    Ok(())
}

/// The two lines of names in front of hunks, and what stands there for a file that is not.
pub(crate) fn names<'a>(old: Option<&Side<'a>>, new: Option<&Side<'a>>) -> (Vec<u8>, Vec<u8>) {
    let name = |prefix: &[u8], side: Option<&Side<'a>>| {
        side.map_or_else(|| b"/dev/null".to_vec(), |side| quoted(prefix, side.path))
    };
    (name(b"a/", old), name(b"b/", new))
}

/// The patch that carries all of both files, for `git apply` in either direction.
///
/// # Errors
/// If a file cannot be read, or is not as long as it was; what `out` answers.
pub(crate) fn whole<'a>(
    out: &mut dyn Write,
    old: Option<&Side<'a>>,
    new: Option<&Side<'a>>,
) -> io::Result<()> {
    let id = |side: Option<&Side<'a>>| match side {
        Some(side) => sha1::blob_id(side.size, &mut *(side.open)()?),
        None => Ok(String::new()),
    };
    let (before, after) = (id(old)?, id(new)?);
    index(out, old.zip(Some(&before[..])), new.zip(Some(&after[..])))?;
    out.write_all(b"GIT binary patch\n")?;
    for side in [new, old] {
        match side {
            Some(side) => literal(out, side.size, &mut *(side.open)()?)?,
            None => literal(out, 0, &mut io::empty())?,
        }
    }
    Ok(())
}

/// The line of the contents' names. GNU patch knows by it whether an empty file is there.
///
/// # Errors
/// What `out` answers.
pub(crate) fn index<'a>(
    out: &mut dyn Write,
    old: Option<(&Side<'a>, &str)>,
    new: Option<(&Side<'a>, &str)>,
) -> io::Result<()> {
    let none = "0".repeat(40);
    let (before, after) = (old.map_or(&none[..], |old| old.1), new.map_or(&none[..], |new| new.1));
    let mode = match (old, new) {
        (Some((old, _)), Some((new, _))) if old.mode == new.mode => format!(" {:o}", new.mode),
        _ => String::new(),
    };
    writeln!(out, "index {before}..{after}{mode}")
}

fn line(out: &mut dyn Write, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| out.write_all(part))?;
    out.write_all(b"\n")
}

/// A name as it stands in a patch (git, `quote.c`).
pub(crate) fn quoted(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    if path.iter().all(plain) {
        return [prefix, path].concat();
    }
    let mut text = [b"\"", prefix].concat();
    for &byte in path {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            b'\t' => text.extend(b"\\t"),
            b'\n' => text.extend(b"\\n"),
            b' '..=b'~' => text.push(byte),
            _ => text.extend(format!("\\{byte:03o}").bytes()),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side<'a>(
        path: &'a str,
        mode: u32,
        open: &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>,
    ) -> Side<'a> {
        Side { path: path.as_bytes(), mode, size: 0, open }
    }

    #[test]
    fn headers_say_what_happens_to_the_file() {
        let empty: &dyn Fn() -> io::Result<Box<dyn Read>> = &|| Ok(Box::new(io::empty()));
        let check =
            |old: Option<(&'static str, u32)>, new: Option<(&'static str, u32)>, expected: &str| {
                let mut out = Vec::new();
                let old = old.map(|(path, mode)| side(path, mode, empty));
                let new = new.map(|(path, mode)| side(path, mode, empty));
                header(&mut out, old.as_ref(), new.as_ref()).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            };
        check(None, Some(("a", FILE)), "diff --git a/a b/a\nnew file mode 100644\n");
        check(Some(("a", LINK)), None, "diff --git a/a b/a\ndeleted file mode 120000\n");
        check(
            Some(("a b", FILE)),
            Some(("a b", PROGRAM)),
            "diff --git \"a/a b\" \"b/a b\"\nold mode 100644\nnew mode 100755\n",
        );
        check(
            Some(("x", FILE)),
            Some(("y/ä", FILE)),
            "diff --git a/x \"b/y/\\303\\244\"\nsimilarity index 100%\nrename from x\nrename to \"y/\\303\\244\"\n",
        );
    }
}
