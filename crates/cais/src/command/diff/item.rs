//! Differences as a patch tells them: a file that became a link was removed, and a link added.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use engine::Result;
use oci::{Digest, Hasher};
use rustix::fs::FileType;
use store::{Comparison, Difference, Node};

use crate::output::patch::{FILE, HEAD_BYTES, LINK, PROGRAM, Side, build_id};

/// What happened to one entry; with two paths, it was moved.
pub(super) struct Item<'a> {
    pub(super) old: Option<(&'a Path, &'a Node)>,
    pub(super) new: Option<(&'a Path, &'a Node)>,
    /// Whether more than what is said about it differs.
    pub(super) content: bool,
}

/// What is told apart of a file that is no text.
pub(super) struct Summary {
    pub(super) size: u64,
    pub(super) digest: Digest,
    pub(super) build_id: Option<String>,
}

/// Removals first, so that what was a directory is free when a file takes its place.
pub(super) fn items<'a>(
    comparison: &Comparison,
    differences: &'a [Difference],
    renames: bool,
) -> Result<Vec<Item<'a>>> {
    let (mut removed, mut rest) = (Vec::new(), Vec::new());
    for difference in differences {
        let path = difference.path.as_path();
        let side = |node: &'a Option<Node>| node.as_ref().map(|node| (path, node));
        let (old, new) = (side(&difference.old), side(&difference.new));
        match (old, new) {
            (Some((_, a)), Some((_, b))) if a.kind != b.kind => {
                removed.push(Item { old, new: None, content: true });
                rest.push(Item { old: None, new, content: true });
            }
            (Some(_), None) => removed.push(Item { old, new, content: true }),
            _ => rest.push(Item { old, new, content: difference.content }),
        }
    }
    if renames {
        join_moved(comparison, &mut removed, &mut rest)?;
    }
    // Of a directory, what is in it goes first.
    removed.reverse();
    removed.append(&mut rest);
    Ok(removed)
}

/// Finds files that were removed here and are the same there.
fn join_moved<'a>(
    comparison: &Comparison,
    removed: &mut Vec<Item<'a>>,
    rest: &mut [Item<'a>],
) -> Result<()> {
    let is_file = |node: &Node| node.kind == FileType::RegularFile && node.size > 0;
    let mut sizes: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, item) in removed.iter().enumerate() {
        if let Some((_, node)) = item.old.filter(|(_, node)| is_file(node)) {
            sizes.entry(node.size).or_default().push(index);
        }
    }
    let mut digests: HashMap<usize, Digest> = HashMap::new();
    let mut taken = Vec::new();
    for item in rest.iter_mut().filter(|item| item.old.is_none()) {
        let Some((path, node)) = item.new.filter(|(_, node)| is_file(node)) else { continue };
        let Some(candidates) = sizes.get_mut(&node.size).filter(|all| !all.is_empty()) else {
            continue;
        };
        let wanted = digest(comparison, path, node)?;
        for &index in candidates.iter() {
            if !digests.contains_key(&index)
                && let Some((path, node)) = removed[index].old
            {
                digests.insert(index, digest(comparison, path, node)?);
            }
        }
        if let Some(at) = candidates.iter().position(|index| digests.get(index) == Some(&wanted)) {
            let index = candidates.remove(at);
            item.old = removed[index].old;
            item.content = false;
            taken.push(index);
        }
    }
    let mut index = 0;
    removed.retain(|_| {
        index += 1;
        !taken.contains(&(index - 1))
    });
    Ok(())
}

/// The digest of a file's content.
pub(super) fn digest(comparison: &Comparison, path: &Path, node: &Node) -> Result<Digest> {
    Ok(summary(comparison, path, node)?.digest)
}

pub(super) fn summary(comparison: &Comparison, path: &Path, node: &Node) -> Result<Summary> {
    let failed = |error| super::content::unreadable(path, error);
    let mut file = comparison.open(path, node)?;
    let mut head = Vec::new();
    io::Read::by_ref(&mut file).take(HEAD_BYTES).read_to_end(&mut head).map_err(failed)?;
    let mut hasher = Hasher::default();
    hasher.update(&head);
    let mut size = head.len() as u64;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
    Ok(Summary { size, digest: hasher.finish(), build_id: build_id(&head) })
}

impl Item<'_> {
    /// The later of its paths.
    pub(super) fn path(&self) -> &Path {
        self.new.or(self.old).map_or(Path::new(""), |(path, _)| path)
    }

    /// Whether a patch can tell of it: git knows files and links.
    pub(super) fn is_patchable(&self) -> bool {
        let kind = self.new.or(self.old).map(|(_, node)| node.kind);
        matches!(kind, Some(FileType::RegularFile | FileType::Symlink))
    }

    pub(super) fn is_moved(&self) -> bool {
        matches!((self.old, self.new), (Some((a, _)), Some((b, _))) if a != b)
    }
}

/// The mode that git has for an entry.
pub(super) fn git_mode(node: &Node) -> u32 {
    match node.kind {
        FileType::Symlink => LINK,
        _ if node.mode & 0o100 != 0 => PROGRAM,
        _ => FILE,
    }
}

/// Reads an entry's content: of a link, what it says.
pub(super) fn open<'a>(
    comparison: &'a Comparison,
    (path, node): (&'a Path, &'a Node),
) -> io::Result<Box<dyn Read + 'a>> {
    match &node.target {
        Some(target) => Ok(Box::new(&target[..])),
        None => {
            let opened = comparison.open(path, node);
            Ok(Box::new(opened.map_err(io::Error::other)?))
        }
    }
}

/// An entry as a side of a patch.
pub(super) fn side<'a>(
    (path, node): (&'a Path, &'a Node),
    open: &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>,
) -> Side<'a> {
    let size = node.target.as_ref().map_or(node.size, |target| target.len() as u64);
    Side { path: path.as_os_str().as_bytes(), mode: git_mode(node), size, open }
}
