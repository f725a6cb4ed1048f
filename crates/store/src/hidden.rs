//! What the layers of an image hide of those below them: bytes that are stored and never seen.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;

use crate::disk::Store;
use crate::error::{Doing as _, Error};
use crate::overlay::{is_directory, is_opaque, is_whiteout};
use crate::walk::open_directory;

/// Of the directories of a layer.
const DEPTH_MAX: usize = 1000;

/// What a layer holds and what is seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUse {
    /// The layer.
    pub diff_id: Digest,
    /// Bytes of data in its files.
    pub size: u64,
    /// Bytes of data in those of its files that layers above hide.
    pub wasted: u64,
    /// The files that layers above hide, in the order of their paths.
    pub hidden: Vec<Hidden>,
}

/// An entry of a layer that is no directory, and that a layer above hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// The absolute path.
    pub path: PathBuf,
    /// Bytes in it.
    pub size: u64,
    /// The layer that hides it, as an index of the image's.
    pub by: usize,
    /// Whether that layer has something else there, rather than nothing.
    pub is_replaced: bool,
}

impl Store {
    /// What each of `layers`, lowest first, hides of those below it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if one is missing; [`Error::Io`].
    pub fn layer_uses(&self, layers: &[Digest]) -> Result<Vec<LayerUse>, Error> {
        let _lease = self.lease()?;
        let mut uses = Vec::new();
        let mut roots = Vec::new();
        let mut parts = Vec::new();
        let mut cover = None;
        for (layer, diff_id) in layers.iter().enumerate() {
            let size = self.layer(diff_id)?.size;
            uses.push(LayerUse { diff_id: *diff_id, size, wasted: 0, hidden: Vec::new() });
            roots.push(self.layer_root(diff_id)?.fd);
            debug_assert_eq!(roots.len(), layer + 1);
        }
        for layer in (0..layers.len()).rev() {
            parts.push(Part { layer, cover });
            if self.layer(&layers[layer])?.is_opaque && cover.is_none() {
                cover = Some(Cover { by: layer, is_replaced: false });
            }
        }
        let mut walk =
            Walk { roots: &roots, uses, path: Vec::new(), depth: 0, links: HashMap::new() };
        walk.directory(&parts).doing(|| "look for what layers hide")?;
        let Walk { mut uses, links, .. } = walk;
        for ((layer, _), link) in links {
            let wasted = if link.is_seen { 0 } else { link.size };
            uses[layer].wasted = uses[layer].wasted.saturating_add(wasted);
        }
        for layer in &mut uses {
            layer.hidden.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Ok(uses)
    }
}

/// Why nothing of a directory or file is seen.
#[derive(Debug, Clone, Copy)]
struct Cover {
    by: usize,
    is_replaced: bool,
}

/// What one layer has of a directory.
#[derive(Debug, Clone, Copy)]
struct Part {
    layer: usize,
    cover: Option<Cover>,
}

/// A file with several names, of which one that is seen is enough.
struct Link {
    size: u64,
    is_seen: bool,
}

struct Walk<'a> {
    /// Of the layers, lowest first.
    roots: &'a [Arc<OwnedFd>],
    uses: Vec<LayerUse>,
    path: Vec<u8>,
    depth: usize,
    links: HashMap<(usize, u64), Link>,
}

impl Walk<'_> {
    /// `parts` are topmost first.
    fn directory(&mut self, parts: &[Part]) -> Result<(), Errno> {
        let mut names: BTreeSet<CString> = BTreeSet::new();
        let here = [&self.path[..], b"."].concat();
        for part in parts {
            let directory = open_directory(self.roots[part.layer].as_fd(), &here)?;
            let mut entries = Dir::new(directory)?;
            while let Some(entry) = entries.read() {
                let name = entry?.file_name().to_owned();
                if !matches!(name.to_bytes(), b"." | b"..") {
                    names.insert(name);
                }
            }
        }
        names.iter().try_for_each(|name| self.entry(parts, name))
    }

    fn entry(&mut self, parts: &[Part], name: &CStr) -> Result<(), Errno> {
        let path = [&self.path[..], name.to_bytes()].concat();
        let mut cover = None;
        let mut inner = Vec::new();
        for part in parts {
            let root = self.roots[part.layer].as_fd();
            let stat = match statat(root, &path[..], AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let own = part.cover.or(cover);
            let covers = |is_replaced| Some(Cover { by: part.layer, is_replaced });
            if is_whiteout(&stat) {
                cover = own.or(covers(false));
                continue;
            }
            if !is_directory(&stat) {
                let above = inner.first().map(|above: &Part| above.layer);
                let replaced = above.map(|by| Cover { by, is_replaced: true });
                self.file(part.layer, &path, &stat, own.or(replaced));
                cover = own.or(covers(true));
                continue;
            }
            inner.push(Part { layer: part.layer, cover: own });
            if own.is_none() && is_opaque(open_directory(root, &path)?.as_fd()) {
                cover = covers(false);
            }
        }
        if inner.is_empty() {
            return Ok(());
        }
        if self.depth == DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let length = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        self.depth += 1;
        self.directory(&inner)?;
        self.depth -= 1;
        self.path.truncate(length);
        Ok(())
    }

    fn file(&mut self, layer: usize, path: &[u8], stat: &Stat, cover: Option<Cover>) {
        let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
        let size = if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        if stat.st_nlink > 1 {
            let fresh = Link { size, is_seen: false };
            self.links.entry((layer, stat.st_ino)).or_insert(fresh).is_seen |= cover.is_none();
        }
        let Some(cover) = cover else { return };
        let path = Path::new(OsStr::from_bytes(&[b"/", path].concat())).to_owned();
        let layer = &mut self.uses[layer];
        // Sparse files may claim more together than there can be.
        layer.wasted = layer.wasted.saturating_add(if stat.st_nlink > 1 { 0 } else { size });
        layer.hidden.push(Hidden { path, size, by: cover.by, is_replaced: cover.is_replaced });
    }
}
