//! The container's view of its cgroup.

use std::os::fd::AsFd;
use std::path::Path;

use oci::runtime::Mount;
use rustix::fs::symlinkat;

use super::filesystem::{Description, attach, change};
use super::option::Options;
use super::{absolute, kind_of, mounts_of};
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::launch::Launch;
use crate::procfs;
use crate::sys::MountAttr;

/// Attributes that every view of a cgroup has.
const SAFE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// The v1 hierarchies of this host, each as the controllers it holds, as `/proc/self/cgroup`
/// writes them (cgroups(7)); empty when v2 is alone. Read only when a mount asks for it.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn hierarchies(launch: &Launch<'_>) -> Result<Vec<String>, Error> {
    let asked = |mount: &Mount| matches!(kind_of(mount), "cgroup" | "cgroup2");
    if !mounts_of(launch.spec).iter().any(asked) {
        return Ok(Vec::new());
    }
    let text = procfs::read("/proc/self/cgroup").doing(|| "read `/proc/self/cgroup`")?;
    Ok(controllers(&text))
}

fn controllers(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split(':').nth(1));
    lines.filter(|controllers| !controllers.is_empty()).map(String::from).collect()
}

/// Places a `cgroup` mount: the v2 hierarchy where it is the only one, else a small tmpfs with
/// one directory for each v1 hierarchy, and links for those with several controllers.
///
/// The mounts show the cgroup namespace of this process, whose root is the container's cgroup.
///
/// # Errors
/// Names the hierarchy that failed.
pub(super) fn place(
    root: &Root,
    mount: &Mount,
    options: &Options,
    hierarchies: &[String],
) -> Result<(), Error> {
    let destination = absolute(mount.destination())?;
    let target = root.mount_point(&destination, true)?;
    let doing = || format!("mount the cgroup on `{}`", destination.display());
    if hierarchies.is_empty() {
        let fd = Description::new("cgroup2")?.mount(SAFE)?;
        change(fd.as_fd(), options.attr, false).doing(doing)?;
        return attach(fd.as_fd(), target.as_fd()).doing(doing);
    }
    let tmpfs = Description::new("tmpfs")?;
    tmpfs.set("mode", Some("755"))?;
    let tmpfs = tmpfs.mount(SAFE)?;
    attach(tmpfs.as_fd(), target.as_fd()).doing(doing)?;
    let directory = Root::new(tmpfs);
    for hierarchy in hierarchies {
        place_hierarchy(&directory, hierarchy, options)?;
    }
    let read_only =
        MountAttr { set: options.attr.set & libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    change(directory.as_fd(), read_only, false).doing(doing)
}

fn place_hierarchy(directory: &Root, hierarchy: &str, options: &Options) -> Result<(), Error> {
    let doing = || format!("mount the cgroup hierarchy `{hierarchy}`");
    let description = Description::new("cgroup")?;
    for controller in hierarchy.split(',') {
        match controller.split_once('=') {
            // A hierarchy with a name and without controllers, as systemd's.
            Some((key, name)) => {
                description.set("none", None)?;
                description.set(key, Some(name))?;
            }
            None => description.set(controller, None)?,
        }
    }
    let fd = description.mount(SAFE)?;
    change(fd.as_fd(), options.attr, false).doing(doing)?;
    let name = hierarchy.strip_prefix("name=").unwrap_or(hierarchy);
    let target = directory.mount_point(Path::new(name), true)?;
    attach(fd.as_fd(), target.as_fd()).doing(doing)?;
    for controller in name.split(',').filter(|controller| *controller != name) {
        symlinkat(name, directory, controller).doing(doing)?;
    }
    Ok(())
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
}
