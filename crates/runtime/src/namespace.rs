//! The namespaces of a specification: which are new, which are joined, in which order.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Doing, Error};

/// The namespaces of a container, decided before it is cloned.
#[derive(Debug)]
pub(crate) struct Plan {
    new: Vec<LinuxNamespaceType>,
    joined: Vec<(LinuxNamespaceType, OwnedFd)>,
}

impl Plan {
    /// Reads the specification and opens what is to be joined.
    ///
    /// # Errors
    /// For a namespace named twice, for one whose path cannot be opened, and for combinations
    /// that are not supported.
    pub(crate) fn new(spec: &Spec) -> Result<Plan, Error> {
        let linux = spec.linux().as_ref();
        let mut plan = Plan { new: Vec::new(), joined: Vec::new() };
        for namespace in linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten() {
            let kind = namespace.typ();
            if plan.has(kind) {
                return Err(Error::Spec(format!("the {kind:?} namespace is named twice")));
            }
            match namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) => plan.joined.push((kind, open(path)?)),
                None => plan.new.push(kind),
            }
        }
        plan.check(linux)?;
        Ok(plan)
    }

    fn check(&self, linux: Option<&Linux>) -> Result<(), Error> {
        use LinuxNamespaceType::{Mount, Pid, User};
        let maps = linux.is_some_and(|linux| !maps(linux.uid_mappings()).is_empty());
        if !self.is_new(Mount) {
            return Err(Error::Unsupported(
                "a container without a mount namespace of its own".into(),
            ));
        }
        if self.joined(User).is_some() && self.joined(Pid).is_none() {
            let what = "joining a user namespace without joining its process namespace";
            return Err(Error::Unsupported(what.into()));
        }
        if maps && !self.is_new(User) {
            return Err(Error::Spec("id mappings need a user namespace".into()));
        }
        if !maps && self.is_new(User) {
            return Err(Error::Spec("a user namespace needs id mappings".into()));
        }
        Ok(())
    }

    fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.is_new(kind) || self.joined(kind).is_some()
    }

    /// Whether the container gets a new namespace of this kind.
    pub(crate) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.new.contains(&kind)
    }

    /// The namespace of this kind that is joined.
    pub(crate) fn joined(&self, kind: LinuxNamespaceType) -> Option<&OwnedFd> {
        self.joined.iter().find(|(other, _)| *other == kind).map(|(_, fd)| fd)
    }

    /// Whether the container's ids are not the caller's.
    pub(crate) fn maps_ids(&self) -> bool {
        self.has(LinuxNamespaceType::User)
    }

    /// The `CLONE_NEW*` flags for clone3(2).
    ///
    /// The cgroup namespace is missing: its root is the cgroup at the moment of its making, so it
    /// comes after the attachment. The time namespace is missing as well: its offsets must be set
    /// before anybody is inside. With a joined user namespace nothing is made here, because what is
    /// new must belong to that one.
    pub(crate) fn clone_flags(&self) -> u64 {
        use LinuxNamespaceType::{Cgroup, Time, User};
        if self.joined(User).is_some() {
            return 0;
        }
        let made = self.new.iter().filter(|kind| !matches!(kind, Cgroup | Time));
        made.fold(0, |flags, &kind| flags | kind as u64)
    }

    /// Joins, in the child, what is to be joined: the user namespace first, since it gives the
    /// right to join the others; then makes what is to belong to it.
    ///
    /// # Errors
    /// Names the namespace that refused.
    pub(crate) fn join(&self) -> Result<(), Error> {
        use LinuxNamespaceType::{Cgroup, Pid, Time, User};
        if let Some(user) = self.joined(User) {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .doing(|| "join the User namespace")?;
            let made = self.new.iter().filter(|kind| !matches!(kind, Cgroup | Time));
            let flags = made.fold(0, |flags, &kind| flags | kind as i32);
            crate::sys::unshare(flags).doing(|| "make the namespaces")?;
        }
        for (kind, namespace) in self.joined.iter().filter(|(kind, _)| !matches!(kind, User | Pid))
        {
            move_into_link_name_space(namespace.as_fd(), None)
                .doing(|| format!("join the {kind:?} namespace"))?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open the namespace `{}`", path.display()))
}

/// Children of this process go into another process namespace while this value lives.
#[derive(Debug)]
pub(crate) struct ChildrenElsewhere {
    own: OwnedFd,
}

impl ChildrenElsewhere {
    /// `enter` is what moves the children: setns(2) with `CLONE_NEWPID`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn new(enter: impl FnOnce() -> rustix::io::Result<()>) -> Result<Self, Error> {
        let own = open(Path::new("/proc/self/ns/pid"))?;
        enter().doing(|| "join the process namespace")?;
        Ok(ChildrenElsewhere { own })
    }
}

impl Drop for ChildrenElsewhere {
    fn drop(&mut self) {
        let back = move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::ProcessID));
        debug_assert!(back.is_ok(), "a process may always return to its own process namespace");
    }
}

fn maps(maps: &Option<Vec<LinuxIdMapping>>) -> &[LinuxIdMapping] {
    maps.as_deref().unwrap_or_default()
}

/// Writes the id maps of the child's user namespace (user_namespaces(7)).
///
/// # Errors
/// When the kernel refuses them.
pub(crate) fn write_id_maps(pid: i32, linux: &Linux) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        // Without privilege the group map is accepted only when groups cannot be dropped.
        write(pid, "setgroups", "deny")?;
    }
    write(pid, "uid_map", &format_map(maps(linux.uid_mappings())))?;
    write(pid, "gid_map", &format_map(maps(linux.gid_mappings())))
}

fn format_map(maps: &[LinuxIdMapping]) -> String {
    let line =
        |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
    maps.iter().map(line).collect()
}

fn write(pid: i32, file: &str, text: &str) -> Result<(), Error> {
    std::fs::write(format!("/proc/{pid}/{file}"), text).doing(|| format!("write the {file}"))
}

/// The namespaces of a container that is being made, for the caller's own work in them.
#[derive(Debug)]
pub struct Namespaces<'a> {
    /// The first process of the container, in the caller's process namespace.
    pub pid: i32,
    pub(crate) plan: &'a Plan,
}

impl Namespaces<'_> {
    /// The network namespace: the new one, the joined one, or the caller's own.
    ///
    /// # Errors
    /// Those of open(2); `ENOENT` when the child has died.
    pub fn net(&self) -> io::Result<OwnedFd> {
        match self.plan.joined(LinuxNamespaceType::Network) {
            Some(joined) => joined.try_clone(),
            None => self.open("net"),
        }
    }

    /// Any namespace of the child by its name below `/proc/<pid>/ns`.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let path = format!("/proc/{}/ns/{name}", self.pid);
        Ok(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}
