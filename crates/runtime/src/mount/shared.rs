//! A root file system in the host's mount namespace, for a container without one of its own.
//!
//! What is mounted there does not end with the container's last process; whoever deletes the
//! container has to take it away again.

use std::path::{Path, PathBuf};

use oci::Rootfs;
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{Doing, Error};
use crate::procfs;

/// How many mounts are stacked on `path`, an absolute path without links.
///
/// # Errors
/// When procfs does not tell.
pub fn mounts_on(path: &Path) -> Result<usize, Error> {
    let text = procfs::read("/proc/self/mountinfo").doing(|| "look at the mounts")?;
    Ok(count(&text, path))
}

/// Takes the mounts on `path` away, with what is below them, until `kept` are left: as many as
/// [`mounts_on`] told before the container was created.
///
/// # Errors
/// When the kernel refuses.
pub fn release_root(path: &Path, kept: usize) -> Result<(), Error> {
    for _ in kept..mounts_on(path)?.max(kept) {
        unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .doing(|| format!("take the root file system away from `{}`", path.display()))?;
    }
    Ok(())
}

/// The root of a container that shares the host's mounts; taken away again unless it is kept.
#[derive(Debug)]
pub(crate) struct OnHost {
    path: PathBuf,
    /// How many mounts were there before.
    below: usize,
}

impl OnHost {
    /// Looks at the place of a root before it is attached there.
    ///
    /// # Errors
    /// When procfs does not tell.
    pub(crate) fn before(rootfs: &Rootfs) -> Result<Option<OnHost>, Error> {
        let Rootfs::Dir(path) = rootfs else { return Ok(None) };
        Ok(Some(OnHost { path: path.clone(), below: mounts_on(path)? }))
    }

    /// Leaves it to [`release_root`].
    pub(crate) fn keep(mut self) {
        self.below = usize::MAX;
    }
}

impl Drop for OnHost {
    fn drop(&mut self) {
        if self.below < usize::MAX {
            let _ = release_root(&self.path, self.below);
        }
    }
}

fn count(mountinfo: &str, path: &Path) -> usize {
    use std::os::unix::ffi::OsStrExt as _;
    let escaped: Vec<u8> = path.as_os_str().as_bytes().iter().copied().flat_map(escape).collect();
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.as_bytes() == escaped).count()
}

/// As mountinfo (proc(5)) writes a byte of a path.
fn escape(byte: u8) -> Vec<u8> {
    match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        _ => vec![byte],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_on_a_path_are_counted() {
        let text = "21 1 8:1 / / rw - ext4 a rw\n\
                    22 21 0:5 / /a\\040b rw shared:1 - tmpfs t rw\n\
                    23 22 0:6 / /a\\040b rw - tmpfs t rw\n\
                    24 21 0:7 / /a rw - tmpfs t rw\n";
        for (path, expected) in [("/a b", 2), ("/a", 1), ("/b", 0), ("/", 1)] {
            assert_eq!(count(text, Path::new(path)), expected, "{path}");
        }
    }
}
