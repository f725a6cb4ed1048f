//! Stub.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error};

/// A cgroup in every mounted hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
    v2: Option<OwnedFd>,
}

impl Cgroup {
    /// Creates.
    ///
    /// # Errors
    /// Of mkdir(2).
    pub fn create(
        path: &Path,
        _resources: Option<&oci::runtime::LinuxResources>,
    ) -> Result<Cgroup, Error> {
        let name = path.strip_prefix("/").unwrap_or(path);
        let base = Path::new("/sys/fs/cgroup");
        let mut directories = Vec::new();
        for controller in ["pids", "memory", "unified"] {
            let directory = base.join(controller).join(name);
            std::fs::create_dir_all(&directory).doing(|| "create a cgroup")?;
            directories.push(directory);
        }
        Self::with(directories)
    }

    /// Opens.
    ///
    /// # Errors
    /// Of open(2).
    pub fn open(path: &Path) -> Result<Cgroup, Error> {
        let name = path.strip_prefix("/").unwrap_or(path);
        let base = Path::new("/sys/fs/cgroup");
        Self::with(["pids", "memory", "unified"].map(|c| base.join(c).join(name)).into())
    }

    fn with(directories: Vec<PathBuf>) -> Result<Cgroup, Error> {
        let v2 = directories.iter().find(|d| d.starts_with("/sys/fs/cgroup/unified"));
        let v2 = v2.and_then(|d| std::fs::File::open(d).ok()).map(OwnedFd::from);
        Ok(Cgroup { directories, v2 })
    }

    /// The v2 directory.
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Attaches.
    ///
    /// # Errors
    /// Of write(2).
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        for directory in
            self.directories.iter().filter(|d| !d.starts_with("/sys/fs/cgroup/unified"))
        {
            std::fs::write(directory.join("cgroup.procs"), pid.to_string())
                .doing(|| "attach to a cgroup")?;
        }
        Ok(())
    }

    /// Deletes.
    ///
    /// # Errors
    /// None.
    pub fn delete(&self) -> Result<(), Error> {
        for directory in &self.directories {
            let _ = std::fs::remove_dir(directory);
        }
        Ok(())
    }
}
