//! Walks a directory tree that others filled, one component at a time and never through a symbolic
//! link, so that no name in it can lead outside.
//!
//! Links are resolved here, against the tree's own root. That is safe because nobody else changes
//! the trees that the store walks for writing: they are not published yet.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags, fstat, mkdirat, openat, readlinkat, statat, unlinkat};
use rustix::io::Errno;

use crate::overlay::{is_whiteout, set_opaque};

/// Symbolic links followed in one resolution; the kernel's own limit.
pub(crate) const LINKS_MAX: u32 = 40;
/// Directories kept open; deeper ones are opened again each time.
const TRAIL_MAX: usize = 64;
/// Mode of directories that are needed but not described.
const IMPLIED_MODE: u32 = 0o755;

/// What to do about a directory on the way that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

/// A tree, with the directories that led to the last place kept open.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Rc<OwnedFd>,
    trail: Vec<Step>,
}

/// A directory on the way.
#[derive(Debug)]
struct Step {
    name: Vec<u8>,
    fd: Rc<OwnedFd>,
    /// Symbolic links that may still be followed from here on.
    links: u32,
}

impl Tree {
    pub(crate) fn new(root: Rc<OwnedFd>) -> Self {
        Self { root, trail: Vec::new() }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Forgets what is open, after a directory was replaced.
    pub(crate) fn forget(&mut self) {
        self.trail.clear();
    }

    /// The directory at `path`, components below the root without `.` and `..`. As in the kernel,
    /// there is one limit for the links of the whole path.
    pub(crate) fn directory(
        &mut self,
        path: &[&[u8]],
        missing: Missing,
    ) -> Result<Rc<OwnedFd>, Errno> {
        let known = self.trail.iter().zip(path).take_while(|(a, b)| a.name == **b).count();
        self.trail.truncate(known);
        let (mut at, mut links) = match self.trail.last() {
            Some(step) => (step.fd.clone(), step.links),
            None => (self.root.clone(), LINKS_MAX),
        };
        for name in &path[known..] {
            at = self.step(&at, name, missing, &mut links)?;
            if self.trail.len() < TRAIL_MAX {
                self.trail.push(Step { name: name.to_vec(), fd: at.clone(), links });
            }
        }
        // Beyond the limit the trail ends early, and stays a prefix of the path.
        Ok(at)
    }

    /// Where `target`, a link's text found in `from`, leads.
    pub(crate) fn follow(
        &self,
        from: &Rc<OwnedFd>,
        target: &[u8],
        missing: Missing,
        links: &mut u32,
    ) -> Result<Rc<OwnedFd>, Errno> {
        *links = links.checked_sub(1).ok_or(Errno::LOOP)?;
        let mut at = if target.starts_with(b"/") { &self.root } else { from }.clone();
        for name in target.split(|&b| b == b'/') {
            at = match name {
                b"" | b"." => continue,
                b".." => self.up(&at)?,
                name => self.step(&at, name, missing, links)?,
            };
        }
        Ok(at)
    }

    /// The parent; the root is its own.
    fn up(&self, at: &Rc<OwnedFd>) -> Result<Rc<OwnedFd>, Errno> {
        let (here, root) = (fstat(at)?, fstat(&self.root)?);
        if (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino) {
            return Ok(self.root.clone());
        }
        enter(at.as_fd(), b"..").map(Rc::new)
    }

    fn step(
        &self,
        at: &Rc<OwnedFd>,
        name: &[u8],
        missing: Missing,
        links: &mut u32,
    ) -> Result<Rc<OwnedFd>, Errno> {
        match enter(at.as_fd(), name) {
            Err(Errno::NOENT) if missing == Missing::Create => {
                make_directory(at.as_fd(), name, IMPLIED_MODE)?;
                enter(at.as_fd(), name).map(Rc::new)
            }
            Err(Errno::NOTDIR | Errno::LOOP) => match readlinkat(at, name, Vec::new()) {
                Ok(target) => self.follow(at, target.as_bytes(), missing, links),
                Err(Errno::INVAL) if missing == Missing::Create => unhide(at.as_fd(), name),
                Err(Errno::INVAL) => Err(Errno::NOTDIR),
                Err(e) => Err(e),
            },
            entered => entered.map(Rc::new),
        }
    }
}

/// Puts a directory where a whiteout is. What was hidden there stays so.
fn unhide(at: BorrowedFd<'_>, name: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
    if !is_whiteout(&statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?) {
        return Err(Errno::NOTDIR);
    }
    unlinkat(at, name, AtFlags::empty())?;
    make_directory(at, name, IMPLIED_MODE)?;
    set_opaque(open_directory(at, name)?.as_fd())?;
    enter(at, name).map(Rc::new)
}

/// Opens a directory for use as a starting point; a symbolic link is not one.
fn enter(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Opens a directory for listing and changing; a symbolic link is not one.
pub(crate) fn open_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Creates a directory with exactly this mode, whatever the process' umask.
pub(crate) fn make_directory(at: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    mkdirat(at, name, mode.into())?;
    let made = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if made.st_mode & 0o777 == mode & 0o777 {
        return Ok(());
    }
    rustix::fs::fchmod(open_directory(at, name)?, mode.into())
}

/// A name below an open directory, for calls that take only paths.
pub(crate) fn through_proc(parent: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name));
    path
}
