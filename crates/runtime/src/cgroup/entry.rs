//! How a process joins the groups of version 1 by itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::hierarchy::Version;
use super::{Cgroup, Error, file};
use crate::weak::weakened;

/// The `tasks` files of one group, one for each hierarchy of version 1.
///
/// Moving a process by its number takes a lock that forks and exits of the whole machine share,
/// which costs an RCU grace period (7.5 ms and more). A thread that moves itself needs no lock
/// (`cgroup_procs_write_start` of the kernel, since Linux 5.5): 0.03 ms. On version 2 this holds
/// only for threaded groups; there a process is born in its group, by `clone3(CLONE_INTO_CGROUP)`.
#[derive(Debug)]
pub(crate) struct Entry {
    files: Vec<(OwnedFd, PathBuf)>,
    /// The hierarchy that counts processes, if it does nothing else.
    count: Option<(OwnedFd, PathBuf)>,
    waits: bool,
}

impl Entry {
    /// Whether the parent lets the process into version 2's group ([`Cgroup::admit`]).
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Moves the calling thread, which must be the only one of its process, into the group.
    ///
    /// The rights are those of whoever opened the files.
    ///
    /// # Errors
    /// [`Error::Io`] names the hierarchy that refused.
    pub(crate) fn enter(self) -> Result<(), Error> {
        self.enter_uncounted()?.map_or(Ok(()), Count::enter)
    }

    /// As [`Self::enter`], but without being counted among the group's processes: for a process
    /// that only clones another, which is to find room where there is room for one.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub(crate) fn enter_uncounted(self) -> Result<Option<Count>, Error> {
        if weakened("cgroup-not-entered") {
            return Ok(None);
        }
        self.files.iter().try_for_each(join)?;
        Ok(self.count.map(Count))
    }
}

/// What is left of an [`Entry`]: to be counted.
#[derive(Debug)]
pub(crate) struct Count((OwnedFd, PathBuf));

impl Count {
    /// Counts the calling thread among the group's processes.
    ///
    /// # Errors
    /// As [`Entry::enter`].
    pub(crate) fn enter(self) -> Result<(), Error> {
        join(&self.0)
    }
}

impl AsFd for Count {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

fn join((tasks, path): &(OwnedFd, PathBuf)) -> Result<(), Error> {
    let refused = |error| Error::io(format!("join control group {}", path.display()))(error);
    file::write_fd(tasks, "0").map_err(refused)
}

impl Cgroup {
    /// Opens the way in for a process that is born in version 2's group and has a single thread.
    ///
    /// # Errors
    /// [`Error::Io`] if the group is gone or not this user's.
    pub(crate) fn entry(&self) -> Result<Entry, Error> {
        let mut entry = Entry { files: Vec::new(), count: None, waits: self.of_user.is_some() };
        for node in self.nodes.iter().filter(|node| self.at(node).version == Version::V1) {
            let path = self.at(node).display(&self.path, "tasks");
            let tasks = file::open_write(&node.dir, "tasks");
            let tasks = tasks.map_err(Error::io(format!("open {}", path.display())))?;
            if self.at(node).controllers == ["pids"] {
                entry.count = Some((tasks, path));
            } else {
                entry.files.push((tasks, path));
            }
        }
        Ok(entry)
    }
}
