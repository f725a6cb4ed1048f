//! Removal of directory trees of any size and depth.
//!
//! A tree disappears by one rename into `trash/`; its files are removed afterwards, without any
//! lock, and by whoever comes first if that is interrupted. Images and containers may hold trees
//! deeper than any stack or table of open files, so directories are not descended into: each one
//! found is moved up into the trash and becomes work of its own.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use crate::disk::{Part, Store, all_names, hidden_name};
use crate::error::{Doing as _, Error};
use crate::walk::open_directory;

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
            let mut move_up = |at: BorrowedFd<'_>, sub: &std::ffi::CStr| {
                made += 1;
                let up = format!("{prefix}.{made}");
                rustix::fs::renameat(at, sub, &trash, &up)?;
                waiting.push(up);
                Ok(())
            };
            gone_is_fine(remove_one(trash.as_fd(), &next, &mut move_up))
                .doing(|| format!("remove `{}`", path.join(&next).display()))?;
        }
        Ok(())
    }
}

/// Removes a file, or a directory whose directories were moved elsewhere.
fn remove_one(
    trash: BorrowedFd<'_>,
    name: &str,
    move_up: &mut dyn FnMut(BorrowedFd<'_>, &std::ffi::CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let directory = match open_directory(trash, name.as_bytes()) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return rustix::fs::unlinkat(trash, name, AtFlags::empty());
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
            Err(Errno::ISDIR) => match rustix::fs::unlinkat(&directory, sub, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY) => move_up(directory.as_fd(), sub),
                removed => removed,
            },
            removed => removed,
        })?;
    }
    rustix::fs::unlinkat(trash, name, AtFlags::REMOVEDIR)
}

/// Two processes may empty the trash at the same time.
fn gone_is_fine(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}
