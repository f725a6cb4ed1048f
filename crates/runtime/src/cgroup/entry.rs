//! How a process joins the groups of version 1 by itself.

use std::os::fd::OwnedFd;
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
}

impl Entry {
    /// Moves the calling thread, which must be the only one of its process, into the group.
    ///
    /// The rights are those of whoever opened the files.
    ///
    /// # Errors
    /// [`Error::Io`] names the hierarchy that refused.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        if weakened("cgroup-not-entered") {
            return Ok(());
        }
        self.files.iter().try_for_each(|(tasks, path)| {
            let refused =
                |error| Error::io(format!("join control group {}", path.display()))(error);
            file::write_fd(tasks, "0").map_err(refused)
        })
    }
}

impl Cgroup {
    /// Opens the way in for a process that is born in version 2's group and has a single thread.
    ///
    /// # Errors
    /// [`Error::Io`] if the group is gone or not this user's.
    pub(crate) fn entry(&self) -> Result<Entry, Error> {
        let v1 = self.nodes.iter().filter(|node| self.at(node).version == Version::V1);
        let open = |node| {
            let path = self.at(node).display(&self.path, "tasks");
            let tasks = file::open_write(&node.dir, "tasks");
            let tasks = tasks.map_err(Error::io(format!("open {}", path.display())))?;
            Ok((tasks, path))
        };
        Ok(Entry { files: v1.map(open).collect::<Result<_, Error>>()? })
    }
}
