//! Groups inside groups: finding processes, removing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::freezer::{Pause, wait_event};
use super::hierarchy::{Hierarchy, Version};
use super::{Cgroup, Error, Node, file};

/// How long removal waits for the kernel to finish with processes that have ended.
const DELETE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How deep groups may be nested inside a container's.
const DEPTH_MAX: usize = 64;
/// A parent directory is removed with its last container if it is one of ours, by its name.
const OWN_PARENT_PREFIX: &str = "cais";

/// The names of the directories in `dir`.
fn children(dir: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == rustix::fs::FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory right inside `dir`.
fn open_child(dir: &OwnedFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    file::open_dir(dir.as_fd(), Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

/// Whether a group was removed while it was looked at.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn is_used(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}

impl Cgroup {
    /// What [`Cgroup::delete`] does.
    pub(super) fn remove_everywhere(&self) -> Result<(), Error> {
        let deadline = Instant::now() + DELETE_WAIT_MAX;
        let mut result = Ok(());
        for node in &self.nodes {
            let removed = self.remove(node, deadline);
            result = result.and(removed);
            self.remove_parents(self.at(node));
        }
        result
    }

    fn remove(&self, node: &Node, deadline: Instant) -> Result<(), Error> {
        let hierarchy = self.at(node);
        let shown = hierarchy.mount.join(&self.path);
        let failed = || Error::io(format!("remove control group {}", shown.display()));
        let mut pause = Pause::default();
        loop {
            match hierarchy.remove(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if !is_used(&error) => return Err(failed()(error)),
                Err(_) => {}
            }
            match remove_children(&node.dir, DEPTH_MAX) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Err(failed()(error)),
            }
            if hierarchy.version == Version::V2 {
                wait_event(&node.dir, "populated", 0, deadline).map_err(failed())?;
            }
            if !pause.until(deadline) {
                let pids = self.pids().unwrap_or_default();
                return Err(Error::Busy(format!(
                    "control group {} still holds processes: {pids:?}",
                    shown.display()
                )));
            }
        }
    }

    /// Removes empty parents that are ours, nearest first.
    fn remove_parents(&self, hierarchy: &Hierarchy) {
        let own = self.path.components().next().is_some_and(|first| {
            first.as_os_str().as_encoded_bytes().starts_with(OWN_PARENT_PREFIX.as_bytes())
        });
        let parents = self.path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
        for parent in parents.take_while(|_| own) {
            // Another container's presence is the usual reason for failure.
            if hierarchy.remove(parent).is_err() {
                return;
            }
        }
    }
}

/// Removes the groups inside `dir`; whether there were any and all are gone.
fn remove_children(dir: &OwnedFd, depth: usize) -> io::Result<bool> {
    let names = children(dir)?;
    let mut all = !names.is_empty();
    for name in names {
        let removed = remove_child(dir, &name, depth);
        match removed {
            Err(error) if is_gone(&error) => {}
            Err(error) if is_used(&error) => all = false,
            other => other?,
        }
    }
    Ok(all)
}

fn remove_child(dir: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> io::Result<()> {
    let remove = || Ok(rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::REMOVEDIR)?);
    match remove() {
        Err(error) if is_used(&error) && depth > 0 => {
            remove_children(&open_child(dir, name)?, depth - 1)?;
            remove()
        }
        other => other,
    }
}
/// The processes of `dir` and of groups inside it, ascending.
pub(super) fn pids(dir: &OwnedFd) -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    collect_pids(dir, &mut pids, DEPTH_MAX)?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn collect_pids(dir: &OwnedFd, pids: &mut Vec<i32>, depth: usize) -> io::Result<()> {
    let procs = match file::read(dir, "cgroup.procs") {
        // A threaded group's processes are listed by the group above it.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        other => other?,
    };
    pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth == 0 {
        return Ok(());
    }
    for name in children(dir)? {
        match open_child(dir, &name).and_then(|child| collect_pids(&child, pids, depth - 1)) {
            Err(error) if is_gone(&error) => {}
            other => other?,
        }
    }
    Ok(())
}
