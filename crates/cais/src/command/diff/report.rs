//! `cais diff --stat` and `--json`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use engine::Result;
use rustix::fs::FileType;
use serde_json::{Map, Value, json};
use store::{Comparison, Difference, Node};

use super::content::{self, Body};
use super::item::{self, Item};
use crate::output::{patch, printable_line};
use crate::session::Session;

/// Signs that stand for the lines of one file, at most; git's on a terminal of 80 columns is about
/// as many.
const SIGNS_MAX: u64 = 50;

/// How much of which files differs, as git says it.
pub(super) fn stat(
    session: &Session,
    comparison: &Comparison,
    within: &[PathBuf],
    renames: bool,
) -> Result<i32> {
    let differences = comparison.differences(within)?;
    let mut rows = Vec::new();
    for item in item::items(comparison, &differences, renames)? {
        if item.is_patchable() {
            rows.extend(row(comparison, &item)?);
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let most = rows.iter().map(|row| row.removed + row.added).max().unwrap_or(0);
    let digits = most.to_string().len();
    let (mut added, mut removed) = (0, 0);
    let mut text = String::new();
    for row in &rows {
        (added, removed) = (added + row.added, removed + row.removed);
        let pad = " ".repeat(width - row.name.chars().count());
        let what = row.binary.clone().unwrap_or_else(|| {
            let scaled = |n: u64| if most > SIGNS_MAX { (n * SIGNS_MAX).div_ceil(most) } else { n };
            let signs = |sign: &str, n: u64| sign.repeat(usize::try_from(scaled(n)).unwrap_or(0));
            let lines = row.added + row.removed;
            format!("{lines:digits$} {}{}", signs("+", row.added), signs("-", row.removed))
        });
        text.push_str(format!(" {}{pad} | {what}", row.name).trim_end());
        text.push('\n');
    }
    let plural = |n: u64| if n == 1 { "" } else { "s" };
    let files = rows.len() as u64;
    text.push_str(&format!(
        " {files} file{} changed, {added} insertion{}(+), {removed} deletion{}(-)\n",
        plural(files),
        plural(added),
        plural(removed)
    ));
    session.print(&text)?;
    Ok(0)
}

struct Row {
    name: String,
    added: u64,
    removed: u64,
    binary: Option<String>,
}

fn row(comparison: &Comparison, item: &Item<'_>) -> Result<Option<Row>> {
    let shown = |path: &Path| {
        printable_line(&String::from_utf8_lossy(&patch::quoted(b"", path.as_os_str().as_bytes())))
            .into_owned()
    };
    let name = match (item.old, item.new) {
        (Some((from, _)), Some((to, _))) if item.is_moved() => {
            format!("{} => {}", shown(from), shown(to))
        }
        _ => shown(item.path()),
    };
    let row = |added, removed, binary| Ok(Some(Row { name: name.clone(), added, removed, binary }));
    match content::body(comparison, item)? {
        Body::Text(_, counts, _) => row(counts.added, counts.removed, None),
        Body::Binary => {
            let size = |side: Option<(&Path, &Node)>| side.map_or(0, |(_, node)| node.size);
            row(0, 0, Some(format!("Bin {} -> {} bytes", size(item.old), size(item.new))))
        }
        Body::Same => match (item.old, item.new) {
            (Some((_, old)), Some((_, new)))
                if item.is_moved() || item::git_mode(old) != item::git_mode(new) =>
            {
                row(0, 0, None)
            }
            _ => Ok(None),
        },
    }
}

/// Every difference as an object on a line of its own.
pub(super) fn json(session: &Session, comparison: &Comparison, within: &[PathBuf]) -> Result<i32> {
    let differences = comparison.differences(within)?;
    session.stream(|out| {
        for difference in &differences {
            let object = object(comparison, difference).map_err(std::io::Error::other)?;
            writeln!(out, "{object}")?;
        }
        Ok(())
    })?;
    Ok(0)
}

fn object(comparison: &Comparison, difference: &Difference) -> Result<Value> {
    let kind = match (&difference.old, &difference.new) {
        (None, _) => "A",
        (_, None) => "D",
        _ => "C",
    };
    let path = difference.path.as_os_str().as_bytes();
    let mut object = Map::new();
    object.insert("Path".into(), format!("/{}", String::from_utf8_lossy(path)).into());
    if std::str::from_utf8(path).is_err() {
        object.insert("RawPath".into(), hex(path).into());
    }
    object.insert("Kind".into(), kind.into());
    object.insert("ContentDiffers".into(), difference.content.into());
    for (name, node) in [("Old", &difference.old), ("New", &difference.new)] {
        let Some(node) = node else { continue };
        object.insert(name.into(), state(comparison, difference, node)?);
    }
    Ok(object.into())
}

fn state(comparison: &Comparison, difference: &Difference, node: &Node) -> Result<Value> {
    let mut state = json!({
        "Type": content::kind(node.kind),
        "Mode": format!("{:04o}", node.mode),
        "Uid": node.uid,
        "Gid": node.gid,
        "Size": node.size,
        "ModTime": content::time(node),
    });
    if let Some(target) = &node.target {
        state["Target"] = String::from_utf8_lossy(target).into();
    }
    if matches!(node.kind, FileType::CharacterDevice | FileType::BlockDevice) {
        state["Major"] = rustix::fs::major(node.device).into();
        state["Minor"] = rustix::fs::minor(node.device).into();
    }
    if node.kind == FileType::RegularFile && difference.content {
        let found = item::summary(comparison, &difference.path, node)?;
        state["Digest"] = found.digest.to_string().into();
        if let Some(id) = found.build_id {
            state["BuildId"] = id.into();
        }
    }
    if !node.xattrs.is_empty() {
        let all = node.xattrs.iter();
        let all = all
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), hex(value).into()));
        state["Xattrs"] = Value::Object(all.collect());
    }
    Ok(state)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
