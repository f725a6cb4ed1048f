//! The container's view of its cgroup.
//!
//! In a cgroup namespace a new mount shows the container's cgroup as the root. Without one it would
//! show the host's, so that what is shown is bound from the host's mounts: of version 1 the
//! container's own directories, of version 2 everything, as runc does.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxNamespaceType, Mount, Spec};
use rustix::fs::{Mode, mkdirat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};

use super::filesystem::{Description, attach, change, copy_tree};
use super::option::{Bind, Options};
use super::{describe, has_namespace, kind_of};
use crate::cgroup::version_2_alone;
use crate::error::{Doing, Error};
use crate::launch::Launch;
use crate::procfs;
use crate::sys::MountAttr;

/// Attributes that every view of a cgroup has.
const SAFE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// What one mount of the specification shows; made with the host's view.
#[derive(Debug)]
pub(super) enum View {
    /// The hierarchy of version 2; `None` is made when it is placed.
    Unified(Option<OwnedFd>),
    /// Those of version 1, each below its name.
    Hierarchies(Vec<Hierarchy>),
}

/// A hierarchy of version 1.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// Its directory: its controllers, separated by commas, or its name.
    name: String,
    tree: OwnedFd,
}

impl View {
    /// Makes what `mount` shows to this process, which is in its cgroup and cgroup namespace; what
    /// can wait only if it is to be made `early`.
    ///
    /// In a hierarchy that the container's cgroup is not in, this process is still where its caller
    /// is, which is nothing to show.
    ///
    /// # Errors
    /// Names the hierarchy that failed.
    pub(super) fn make(
        launch: &Launch<'_>,
        (mount, early): (&Mount, bool),
        options: &Options,
    ) -> Result<View, Error> {
        let unified = || early.then(|| make_unified(options)).transpose().map(View::Unified);
        if kind_of(mount) == "cgroup2" || version_2_alone() {
            return unified();
        }
        let own = procfs::read("/proc/self/cgroup").doing(|| "read `/proc/self/cgroup`")?;
        let hierarchies = controllers(&own);
        if hierarchies.is_empty() {
            return unified();
        }
        if let Some((key, _)) = options.parameters.first() {
            let on = mount.destination().display();
            return Err(Error::Unsupported(format!("`{key}` of the cgroup mount on `{on}`")));
        }
        if has_namespace(launch.spec, LinuxNamespaceType::Cgroup) {
            let joined = |controllers: &&String| {
                launch.cgroup.is_none_or(|cgroup| cgroup.is_in_hierarchy(controllers))
            };
            let made = hierarchies.iter().filter(joined).map(|one| make_hierarchy(one));
            return Ok(View::Hierarchies(made.collect::<Result<_, _>>()?));
        }
        let mounts = procfs::read("/proc/self/mountinfo").doing(|| "look for cgroups")?;
        let bound = own_directories(&own, &mounts)
            .into_iter()
            .map(|(name, path)| Ok(Hierarchy { name, tree: copy_tree(&path, Bind::Single)? }));
        Ok(View::Hierarchies(bound.collect::<Result<_, Error>>()?))
    }

    /// Attaches it to the descriptor of a directory.
    ///
    /// # Errors
    /// Names what failed.
    pub(super) fn place(self, target: &OwnedFd, options: &Options) -> Result<(), Error> {
        let doing = || "mount the cgroup";
        let mut attr = options.attr();
        attr.set |= SAFE;
        match self {
            View::Unified(made) => {
                let tree = made.map_or_else(|| make_unified(options), Ok)?;
                change(tree.as_fd(), attr, false).doing(doing)?;
                attach(tree.as_fd(), target.as_fd()).doing(doing)?;
                options.propagation.iter().try_for_each(|step| step.apply(tree.as_fd()))
            }
            View::Hierarchies(hierarchies) => {
                let tmpfs = Description::new("tmpfs")?;
                tmpfs.set("mode", Some("755"))?;
                let tmpfs = tmpfs.mount(SAFE)?;
                attach(tmpfs.as_fd(), target.as_fd()).doing(doing)?;
                hierarchies.into_iter().try_for_each(|hierarchy| hierarchy.place(&tmpfs))?;
                // A copy of a shared mount must not carry anything back to the host.
                let attr = MountAttr { propagation: libc::MS_SLAVE, ..attr };
                change(tmpfs.as_fd(), attr, true).doing(doing)?;
                options.propagation.iter().try_for_each(|step| step.apply(tmpfs.as_fd()))
            }
        }
        .doing(doing)
    }
}

impl Hierarchy {
    /// Attaches it in a new tmpfs, which has its attributes from whoever mounts it and which nobody
    /// else writes to.
    fn place(self, tmpfs: &OwnedFd) -> Result<(), Error> {
        let name = self.name.as_str();
        let doing = || format!("mount the cgroup hierarchy `{name}`");
        mkdirat(tmpfs, name, Mode::from_raw_mode(0o755)).doing(doing)?;
        let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&self.tree, "", tmpfs, name, from_descriptor).doing(doing)?;
        for controller in name.split(',').filter(|controller| *controller != name) {
            symlinkat(name, tmpfs, controller).doing(doing)?;
        }
        Ok(())
    }
}

/// The hierarchy of version 2; where a user namespace has no cgroup namespace to own one, the
/// host's.
fn make_unified(options: &Options) -> Result<OwnedFd, Error> {
    let description = Description::new("cgroup2")?;
    describe(&description, options)?;
    match description.mount(SAFE) {
        Err(Error::Kernel { source, .. })
            if matches!(Errno::from_io_error(&source), Some(Errno::PERM | Errno::BUSY)) =>
        {
            copy_tree(Path::new("/sys/fs/cgroup"), Bind::Single)
        }
        other => other,
    }
}

fn make_hierarchy(controllers: &str) -> Result<Hierarchy, Error> {
    let description = Description::new("cgroup")?;
    for controller in controllers.split(',') {
        match controller.split_once('=') {
            // A hierarchy with a name and without controllers, as systemd's.
            Some((key, name)) => {
                description.set("none", None)?;
                description.set(key, Some(name))?;
            }
            None => description.set(controller, None)?,
        }
    }
    let name = controllers.strip_prefix("name=").unwrap_or(controllers).into();
    Ok(Hierarchy { name, tree: description.mount(SAFE)? })
}

/// The v1 hierarchies of this host, each as the controllers it holds, as `/proc/self/cgroup`
/// writes them (cgroups(7)); empty when v2 is alone.
fn controllers(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split(':').nth(1));
    lines.filter(|controllers| !controllers.is_empty()).map(String::from).collect()
}

/// What a cgroup mount of this type shows of version 1 that is bound from the host's mounts: the
/// names in it, and the directories of the groups of the process `pid`.
///
/// # Errors
/// When that cannot be looked for.
pub(super) fn bound(spec: &Spec, kind: &str, pid: i32) -> Result<Vec<(String, PathBuf)>, Error> {
    if kind == "cgroup2" || has_namespace(spec, LinuxNamespaceType::Cgroup) || version_2_alone() {
        return Ok(Vec::new());
    }
    let own = procfs::read(&format!("/proc/{pid}/cgroup")).doing(|| "look for cgroups")?;
    let mounts = procfs::read("/proc/self/mountinfo").doing(|| "look for cgroups")?;
    Ok(own_directories(&own, &mounts))
}

/// The directories of this process' groups of version 1, below the host's mounts, with the name
/// that each has there.
fn own_directories(cgroup: &str, mountinfo: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((front, back)) = line.split_once(" - cgroup ") else { continue };
        let mut front = front.split(' ').skip(3);
        let (Some(root), Some(point)) = (front.next(), front.next()) else { continue };
        // Source and options, of which some are the controllers.
        let options: Vec<&str> = back.split([' ', ',']).collect();
        let own = cgroup.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let held = !controllers.is_empty()
                && controllers.split(',').all(|controller| options.contains(&controller));
            held.then_some(path)
        });
        let Some(below) = own.and_then(|path| Path::new(path).strip_prefix(root).ok()) else {
            continue;
        };
        let Some(name) = Path::new(point).file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if !found.iter().any(|(other, _)| other == name) {
            found.push((name.into(), Path::new(point).join(below)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_proc() {
        let text = "3:cpu,cpuacct:/x\n2:name=systemd:/\n1:pids:/a:b\n0::/\n";
        assert_eq!(controllers(text), ["cpu,cpuacct", "name=systemd", "pids"]);
        assert!(controllers("0::/user.slice\n").is_empty());
    }

    #[test]
    fn own_directories_are_found_below_the_mounts() {
        let cgroup = "3:cpu,cpuacct:/x\n2:name=systemd:/\n1:pids:/jail/a:b\n0::/\n";
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      32 25 0:28 /jail /sys/fs/cgroup/pids rw shared:5 - cgroup cgroup rw,pids\n\
                      33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      34 25 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
        let expected = [
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/x"),
            ("systemd", "/sys/fs/cgroup/systemd"),
            ("pids", "/sys/fs/cgroup/pids/a:b"),
        ];
        let expected = expected.map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
        assert_eq!(own_directories(cgroup, mounts), expected);
    }
}
