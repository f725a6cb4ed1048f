//! Files that belong to the ids of a user namespace, without a change on disk: idmapped mounts
//! (mount_setattr(2), "ID-mapped mounts").

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::thread::{capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid};

use super::option::Bind;
use crate::error::{Doing, Error};
use crate::sys;

/// The ids of a container with a user namespace, as this process sees them.
#[derive(Debug)]
pub(crate) struct IdMap {
    namespace: OwnedFd,
    /// Who root of the container is.
    root: (Uid, Gid),
}

impl IdMap {
    /// That of the process `pid`, whose maps are written.
    ///
    /// # Errors
    /// When the process has gone, or its user namespace has no root.
    pub(crate) fn of(pid: i32) -> Result<IdMap, Error> {
        let path = format!("/proc/{pid}/ns/user");
        let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| "open the user namespace")?;
        let root = |file: &str| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))
                .doing(|| format!("read the {file}"))?;
            id_of_root(&text)
                .ok_or_else(|| Error::Spec(format!("the {file} of the user namespace lacks id 0")))
        };
        let root = (Uid::from_raw(root("uid_map")?), Gid::from_raw(root("gid_map")?));
        Ok(IdMap { namespace, root })
    }

    /// Who root of the container is, as this process sees it.
    pub(crate) fn root(&self) -> (Uid, Gid) {
        self.root
    }

    /// Maps the ids of a mount that was never attached; `path` is what it shows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the file system or this kernel maps no ids.
    pub(crate) fn apply(
        &self,
        mount: BorrowedFd<'_>,
        extent: Bind,
        path: &Path,
    ) -> Result<(), Error> {
        let recursive = extent == Bind::Recursive;
        sys::map_mount(mount, self.namespace.as_fd(), recursive).map_err(|error| {
            let path = path.display();
            match error.raw_os_error() {
                Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Error::Unsupported(
                    format!("a user namespace on the file system of `{path}`, which maps no ids,"),
                ),
                _ => Error::kernel(format!("map the ids of `{path}`"), error),
            }
        })
    }

    /// Makes files as root of the container would, and keeps every right of the real one: what
    /// makes a file needs an id that the file system has a number for.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn become_root(&self) -> Result<(), Error> {
        let doing = || "make files as root of the user namespace";
        let (uid, gid) = self.root;
        // Only the effective ids change, so that the permitted capabilities stay.
        set_thread_res_gid(Gid::ROOT, gid, Gid::ROOT).doing(doing)?;
        set_thread_res_uid(Uid::ROOT, uid, Uid::ROOT).doing(doing)?;
        let mut sets = capabilities(None).doing(doing)?;
        sets.effective = sets.permitted;
        set_capabilities(None, sets).doing(doing)
    }
}

/// The outer id of the inner id 0 in a map as user_namespaces(7) shows it.
fn id_of_root(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|&inner| inner == "0")?;
        words.next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_in_a_map() {
        let cases = [
            ("         0     100000      65536\n", Some(100_000)),
            ("         1          5          1\n         0         70          1\n", Some(70)),
            ("         1     100000      65536\n", None),
            ("", None),
        ];
        for (map, expected) in cases {
            assert_eq!(id_of_root(map), expected, "{map:?}");
        }
    }
}
