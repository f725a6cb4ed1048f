//! What a container changed, as `docker diff` says it.
//!
//! Docker compares two complete views, the container's and its image's. The same answer comes from
//! the writable layer alone, because overlayfs puts everything that differs there:
//!
//! - an entry of the image counts as changed if its kind, permission bits, owner, device number or
//!   capabilities differ or, unless it is a directory, its size or modification time. Times are the
//!   same if they fall into one second of which either knows no fraction. A file that was copied up
//!   and not changed is not reported;
//! - a directory counts as changed, too, if anything below it does; the root never;
//! - everything in a new directory is added; of a deleted one, only the directory is deleted;
//! - what replaces a directory by something else is a change, and its entries are not mentioned;
//! - of a directory that was removed and made again, the entries that are not there are deleted.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci::Rootfs;
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;

use crate::disk::Store;
use crate::error::{Doing as _, Error, invalid};
use crate::layer::open_lower;
use crate::overlay::{is_directory, is_opaque, is_whiteout};
use crate::walk::open_directory;

/// Of the directories of a writable layer, each of which is open while its own are looked at.
const DEPTH_MAX: usize = 400;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// `A`: the image does not have it.
    Added,
    /// `C`: it, or something in it, differs from the image's.
    Changed,
    /// `D`: the image has it.
    Deleted,
}

/// A path that differs between a container and its image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// How it differs.
    pub kind: ChangeKind,
    /// The absolute path in the container.
    pub path: PathBuf,
}

impl Store {
    /// What was changed in a view that [`Store::prepare`] made, sorted by the bytes of the paths.
    ///
    /// Reads the writable layer, not the image, so its cost is that of the changes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `rootfs` is a plain directory; [`Error::Io`].
    pub fn diff(&self, rootfs: &Rootfs) -> Result<Vec<Change>, Error> {
        let Rootfs::Overlay { lower, upper, .. } = rootfs else {
            return invalid("a plain directory has no image to compare it with");
        };
        let layers = lower.iter().map(open_lower).collect::<Result<Vec<_>, Error>>()?;
        let all = View((0..layers.len()).collect());
        let upper_fd = File::open(upper).doing(|| format!("open `{}`", upper.display()))?;
        let mut walk = Walk { layers, path: Vec::new(), depth: 0, changes: Vec::new() };
        walk.directory(upper_fd.as_fd(), &all, true)
            .doing(|| format!("compare `{}` with its image", upper.display()))?;
        let mut changes = walk.changes;
        changes.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
        Ok(changes)
    }
}

/// A directory of the image: the layers that have a part of it that shows, topmost first. Empty
/// where the image has none.
///
/// Layers do not change, so their parts are found again by path: an open descriptor for each would
/// be more than a process may have.
struct View(Vec<usize>);

/// An entry of the image: its own state and, if it is a directory, its parts.
struct Entry {
    stat: Stat,
    /// The layer it shows from.
    layer: usize,
    view: View,
}

struct Walk {
    /// The roots of the layers, topmost first.
    layers: Vec<OwnedFd>,
    /// Of the directory being looked at, below the root, with a slash at its end unless it is that.
    path: Vec<u8>,
    depth: usize,
    changes: Vec<Change>,
}

impl Walk {
    /// Compares a directory of the writable layer with the image's. `merges` is whether the
    /// container sees both: everything below an opaque directory is as if it were opaque, too.
    fn directory(
        &mut self,
        upper: BorrowedFd<'_>,
        below: &View,
        merges: bool,
    ) -> Result<(), Errno> {
        let merges = merges && !is_opaque(upper);
        let listed = list(upper)?;
        for (name, kind) in &listed {
            let old = self.entry(below, name)?;
            let stat = || statat(upper, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW);
            if *kind == FileType::CharacterDevice && is_whiteout(&stat()?) {
                if old.is_some() {
                    self.add(ChangeKind::Deleted, name);
                }
                continue;
            }
            let new = stat()?;
            match old {
                None => self.added(upper, name, &new)?,
                Some(old) => self.both((upper, name, &new), &old, merges)?,
            }
        }
        if !merges {
            let here: BTreeSet<CString> = listed.into_iter().map(|(name, _)| name).collect();
            for name in self.names(below)?.difference(&here) {
                self.add(ChangeKind::Deleted, name);
            }
        }
        Ok(())
    }

    fn added(&mut self, upper: BorrowedFd<'_>, name: &CStr, new: &Stat) -> Result<(), Errno> {
        self.add(ChangeKind::Added, name);
        if is_directory(new) {
            self.descend(upper, name, &View(Vec::new()), true)?;
        }
        Ok(())
    }

    /// An entry that both have.
    fn both(
        &mut self,
        (upper, name, new): (BorrowedFd<'_>, &CStr, &Stat),
        old: &Entry,
        merges: bool,
    ) -> Result<(), Errno> {
        let at = self.changes.len();
        if is_directory(new) {
            self.descend(upper, name, &old.view, merges)?;
        }
        let differs = stat_differs(&old.stat, new)
            || capability(self.layers[old.layer].as_fd(), &self.below(name))?
                != capability(upper, name.to_bytes())?;
        if differs || self.changes.len() > at {
            self.add(ChangeKind::Changed, name);
        }
        Ok(())
    }

    fn descend(
        &mut self,
        upper: BorrowedFd<'_>,
        name: &CStr,
        below: &View,
        merges: bool,
    ) -> Result<(), Errno> {
        if self.depth == DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let directory = open_directory(upper, name.to_bytes())?;
        let length = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        self.depth += 1;
        self.directory(directory.as_fd(), below, merges)?;
        self.depth -= 1;
        self.path.truncate(length);
        Ok(())
    }

    fn add(&mut self, kind: ChangeKind, name: &CStr) {
        let path = [b"/", &self.path[..], name.to_bytes()].concat();
        self.changes.push(Change { kind, path: Path::new(OsStr::from_bytes(&path)).to_owned() });
    }
}

impl Walk {
    /// The path of an entry below the root.
    fn below(&self, name: &CStr) -> Vec<u8> {
        [&self.path, name.to_bytes()].concat()
    }

    /// Looks a name up in the image the way overlayfs does.
    fn entry(&self, view: &View, name: &CStr) -> Result<Option<Entry>, Errno> {
        let mut found: Option<Entry> = None;
        let path = self.below(name);
        for &layer in &view.0 {
            let root = self.layers[layer].as_fd();
            let stat = match statat(root, &path[..], AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let is_directory = is_directory(&stat);
            if is_whiteout(&stat) || found.is_some() && !is_directory {
                break;
            }
            let entry = found.get_or_insert_with(|| Entry { stat, layer, view: View(Vec::new()) });
            if !is_directory {
                break;
            }
            entry.view.0.push(layer);
            if is_opaque(open_directory(root, &path)?.as_fd()) {
                break;
            }
        }
        Ok(found)
    }

    /// The names in the image's directory, with the layers merged.
    fn names(&self, view: &View) -> Result<BTreeSet<CString>, Errno> {
        let mut hidden = BTreeSet::new();
        let mut shown = BTreeSet::new();
        for &layer in &view.0 {
            let path = [&self.path[..], b"."].concat();
            let part = open_directory(self.layers[layer].as_fd(), &path)?;
            let mut hidden_below = Vec::new();
            for (name, kind) in list(part.as_fd())? {
                let stat = |name: &CStr| statat(&part, name, AtFlags::SYMLINK_NOFOLLOW);
                if kind == FileType::CharacterDevice && is_whiteout(&stat(&name)?) {
                    hidden_below.push(name);
                } else if !hidden.contains(&name) {
                    shown.insert(name);
                }
            }
            hidden.extend(hidden_below);
        }
        Ok(shown)
    }
}

fn list(directory: BorrowedFd<'_>) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut names = Vec::new();
    let mut entries = Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

fn stat_differs(old: &Stat, new: &Stat) -> bool {
    let same_time = old.st_mtime == new.st_mtime
        && (old.st_mtime_nsec == new.st_mtime_nsec
            || old.st_mtime_nsec == 0
            || new.st_mtime_nsec == 0);
    (old.st_mode, old.st_uid, old.st_gid, old.st_rdev)
        != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev)
        || !is_directory(new) && (old.st_size != new.st_size || !same_time)
}

/// The value of `security.capability`, empty if there is none.
fn capability(at: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let path = crate::walk::through_proc(at, path);
    let mut value = vec![0; 64];
    match rustix::fs::lgetxattr(&path, "security.capability", &mut value[..]) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Vec::new()),
        length => {
            value.truncate(length?);
            Ok(value)
        }
    }
}
