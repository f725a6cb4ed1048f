//! Removal of directory trees of any size and depth.
//!
//! A tree disappears by one rename into `trash/`; its files are removed afterwards, without any
//! lock, and by whoever comes first if that is interrupted. Images and containers may hold trees
//! deeper than any stack or table of open files, so a directory far down is not descended into: it
//! is moved up into the trash and becomes work of its own.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use crate::disk::{Part, Store, all_names, hidden_name};
use crate::error::{Doing as _, Error};
use crate::walk::open_directory;

/// How many directories are open below each other before one is moved up: as many as an empty
/// writable layer of overlayfs has, and a few more. A removal is cheaper than a rename.
const DEPTH_MAX: usize = 8;

/// Moves a directory up into the trash.
type MoveUp<'a> = dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno> + 'a;

impl Store {
    /// Removes a directory tree that lies on the store's file system, whatever is in it.
    ///
    /// It is gone from `path` at once, and this returns when its space is free. A tree that does
    /// not exist is no error. The caller is sure that nobody has it mounted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard(&self, path: &Path) -> Result<(), Error> {
        match self.hide(path)? {
            Some(name) => self.dispose(name),
            None => Ok(()),
        }
    }

    /// Moves something into the trash: its new name there, `None` if it does not exist.
    pub(crate) fn hide(&self, path: &Path) -> Result<Option<String>, Error> {
        let name = hidden_name()?;
        match fs::rename(path, self.made(Part::Trash)?.join(&name)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            moved => {
                moved.doing(|| format!("remove `{}`", path.display()))?;
                Ok(Some(name))
            }
        }
    }

    /// Removes everything in the trash.
    pub(crate) fn empty_trash(&self) -> Result<(), Error> {
        all_names(&self.part(Part::Trash))?.into_iter().try_for_each(|name| self.dispose(name))
    }

    fn dispose(&self, name: String) -> Result<(), Error> {
        let path = self.part(Part::Trash);
        let trash = File::open(&path).doing(|| format!("open `{}`", path.display()))?;
        // Of our own, since somebody else may be removing the same tree.
        let prefix = hidden_name()?;
        let mut made = 0u64;
        let mut waiting = vec![name];
        while let Some(next) = waiting.pop() {
            let mut move_up = |at: BorrowedFd<'_>, sub: &CStr| {
                made += 1;
                let up = format!("{prefix}.{made}");
                rustix::fs::renameat(at, sub, &trash, &up)?;
                waiting.push(up);
                Ok(())
            };
            let name = CString::new(next.as_bytes()).expect("no name in a directory holds a zero");
            gone_is_fine(remove(trash.as_fd(), &name, DEPTH_MAX, &mut move_up))
                .doing(|| format!("remove `{}`", path.join(&next).display()))?;
        }
        Ok(())
    }
}

/// Removes a file, or a directory and what is in it; of its directories, those below `depth` are
/// moved up.
fn remove(
    at: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
    move_up: &mut MoveUp<'_>,
) -> Result<(), Errno> {
    let directory = match open_directory(at, name.to_bytes()) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return rustix::fs::unlinkat(at, name, AtFlags::empty());
        }
        opened => opened?,
    };
    let mut entries = Dir::read_from(&directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let sub = entry.file_name();
        if matches!(sub.to_bytes(), b"." | b"..") {
            continue;
        }
        let removed = match entry.file_type() {
            FileType::Directory => Err(Errno::ISDIR),
            _ => rustix::fs::unlinkat(&directory, sub, AtFlags::empty()),
        };
        gone_is_fine(match removed {
            Err(Errno::ISDIR) => remove_directory(directory.as_fd(), sub, depth, move_up),
            removed => removed,
        })?;
    }
    rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
}

fn remove_directory(
    at: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
    move_up: &mut MoveUp<'_>,
) -> Result<(), Errno> {
    match rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) if depth == 0 => move_up(at, name),
        Err(Errno::NOTEMPTY) => remove(at, name, depth - 1, move_up),
        removed => removed,
    }
}

/// Two processes may empty the trash at the same time.
fn gone_is_fine(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}
