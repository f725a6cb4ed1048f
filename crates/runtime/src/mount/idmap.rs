//! Files that belong to the ids of a user namespace, without a change on disk: idmapped mounts
//! (mount_setattr(2), "ID-mapped mounts").

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::thread::{capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid};

use oci::runtime::{LinuxIdMapping, Mount};

use super::option::{Bind, Options};
use super::{has_own_map, inside, mounts_of, words_of};
use crate::error::{Doing, Error};
use crate::launch::Launch;
use crate::namespace::{Birth, write_maps};
use crate::process::Unstarted;
use crate::sync::{Point, Sync as Socket};
use crate::sys;

/// The map that a mount brings along: `containerID` on disk is `hostID` outside of any user
/// namespace (runtime-spec, config.md, "POSIX-platform Mounts").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdMapping<'a> {
    users: &'a [LinuxIdMapping],
    groups: &'a [LinuxIdMapping],
}

impl<'a> IdMapping<'a> {
    /// That of `mount`, if it has one.
    ///
    /// # Errors
    /// When only one half of it is there.
    pub(crate) fn of_mount(mount: &'a Mount) -> Result<Option<IdMapping<'a>>, Error> {
        let half = |maps: &'a Option<Vec<LinuxIdMapping>>| maps.as_deref().unwrap_or_default();
        let map =
            IdMapping { users: half(mount.uid_mappings()), groups: half(mount.gid_mappings()) };
        match (map.users.is_empty(), map.groups.is_empty()) {
            (false, false) => Ok(Some(map)),
            (true, true) if mount.uid_mappings().is_none() && mount.gid_mappings().is_none() => {
                Ok(None)
            }
            _ => Err(Error::Spec(format!(
                "the id-mapped mount on `{}` must have both uid and gid mappings specified",
                mount.destination().display()
            ))),
        }
    }

    /// A user namespace with this map, held by its descriptor alone: the process that it was made
    /// with has ended.
    ///
    /// # Errors
    /// When the kernel refuses the map.
    pub(crate) fn make_namespace(self) -> Result<OwnedFd, Error> {
        let (ours, theirs) = Socket::pair()?;
        let birth = Birth { flags: libc::CLONE_NEWUSER as u64, cgroup: None };
        let holder = birth.here(|| {
            ours.close_in_child();
            // Until the other end is closed, or this process killed.
            let _ = theirs.hear(Point::Mapped);
            0
        })?;
        let holder = Unstarted::new(holder);
        let pid = holder.process().pid();
        write_maps(pid, (self.users, self.groups))?;
        open_namespace(pid)
    }
}

fn open_namespace(pid: i32) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open the user namespace")
}

/// Maps the ids of a mount that was never attached as `namespace` does; `path` is what it shows.
///
/// # Errors
/// [`Error::Unsupported`] when the file system or this kernel maps no ids.
pub(crate) fn apply(
    namespace: BorrowedFd<'_>,
    mount: BorrowedFd<'_>,
    (extent, path): (Bind, &Path),
) -> Result<(), Error> {
    sys::map_mount(mount, namespace, extent == Bind::Recursive).map_err(|error| {
        let path = path.display();
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Error::Unsupported(format!(
                "a user namespace on the file system of `{path}`, which maps no ids,"
            )),
            _ => Error::kernel(format!("map the ids of `{path}`"), error),
        }
    })
}

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
        let namespace = open_namespace(pid)?;
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
        apply(self.namespace.as_fd(), mount, (extent, path))
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

/// Maps ids for a container that shows what lies inside its root with other ids: root of its user
/// namespace may copy such a mount and not map it, so that whoever made the namespace does.
///
/// # Errors
/// When the other side sends no mount; as [`apply`].
pub(crate) fn map_for_child(launch: &Launch<'_>, pid: i32, socket: &Socket) -> Result<(), Error> {
    for mount in mounts_of(launch.spec) {
        let options = Options::parse(words_of(mount));
        let Some(path) = inside(launch, mount, &options).filter(|_| !options.remount) else {
            continue;
        };
        if !asks_for_map(mount, &options) {
            continue;
        }
        let tree = socket.expect(Point::Copied)?.ok_or(Errno::PROTO).doing(|| "take a mount")?;
        let extent = options.mapped.unwrap_or(Bind::Single);
        match IdMapping::of_mount(mount)? {
            Some(map) => apply(map.make_namespace()?.as_fd(), tree.as_fd(), (extent, &path))?,
            None => IdMap::of(pid)?.apply(tree.as_fd(), extent, &path)?,
        }
        socket.tell(Point::Mapped, None)?;
    }
    Ok(())
}

/// Whether what a mount shows is to have other ids.
pub(super) fn asks_for_map(mount: &Mount, options: &Options) -> bool {
    options.mapped.is_some() || has_own_map(mount)
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
