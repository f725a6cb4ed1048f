//! The namespaces of a specification: which are new, which are joined, in which order.

mod id_map;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use oci::runtime::{Linux, LinuxNamespaceType, Spec};
use rustix::fs::{CWD, Mode, OFlags, fstat};
use rustix::process::{
    DumpableBehavior, PidfdFlags, dumpable_behavior, pidfd_open, set_dumpable_behavior,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Doing, Error};
use crate::process::Process;
use crate::sync::Sync as Socket;
use crate::sys;
use crate::sys::attribute::namespace_kind;

use id_map::maps;
pub(crate) use id_map::{write_id_maps, write_maps};

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
                Some(path) => plan.joined.push((kind, open_as(kind, path)?)),
                None => plan.new.push(kind),
            }
        }
        plan.check(linux)?;
        Ok(plan)
    }

    fn check(&self, linux: Option<&Linux>) -> Result<(), Error> {
        use LinuxNamespaceType::{Time, User};
        let wrong = |text: &str| Err(Error::Spec(text.into()));
        let Some(linux) = linux else { return Ok(()) };
        let offsets = linux.time_offsets().as_ref();
        if offsets.is_some_and(|offsets| !offsets.is_empty()) && !self.is_new(Time) {
            return wrong("linux.timeOffsets: time offsets need a new time namespace");
        }
        let halves =
            [linux.uid_mappings(), linux.gid_mappings()].map(|half| !maps(half).is_empty());
        match (halves, self.is_new(User)) {
            ([true, true], true) | ([false, false], false) => Ok(()),
            ([false, false], true) => wrong("a user namespace needs id mappings, or a path"),
            (_, true) => wrong("linux.uidMappings and linux.gidMappings must be given together"),
            (_, false) => wrong("id mappings need a new user namespace"),
        }
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

    /// Whether what belongs to a namespace of this kind is the container's own: not where the
    /// caller's is only named again by its path.
    pub(crate) fn is_apart(&self, kind: LinuxNamespaceType) -> bool {
        let own = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).ok();
        let name = match kind {
            LinuxNamespaceType::Network => "net",
            LinuxNamespaceType::Ipc => "ipc",
            LinuxNamespaceType::Uts => "uts",
            LinuxNamespaceType::User => "user",
            _ => return self.has(kind),
        };
        let same = |joined: &OwnedFd| {
            let (Ok(joined), Some(own)) = (fstat(joined), own(name)) else { return false };
            (joined.st_dev, joined.st_ino) == (own.dev(), own.ino())
        };
        self.is_new(kind) || self.joined(kind).is_some_and(|joined| !same(joined))
    }

    /// Whether the container has no mount namespace but the caller's.
    pub(crate) fn shares_mounts(&self) -> bool {
        !self.has(LinuxNamespaceType::Mount)
    }

    /// Whether the container's ids are not the caller's.
    pub(crate) fn maps_ids(&self) -> bool {
        self.has(LinuxNamespaceType::User)
    }

    /// The `CLONE_NEW*` flags for clone3(2).
    ///
    /// The cgroup namespace is missing: its root is the cgroup at the moment of its making, so it
    /// comes after the attachment. The time namespace is missing as well: its offsets must be set
    /// before anybody is inside.
    fn clone_flags(&self) -> u64 {
        use LinuxNamespaceType::{Cgroup, Time};
        let made = self.new.iter().filter(|kind| !matches!(kind, Cgroup | Time));
        made.fold(0, |flags, &kind| flags | kind as u64)
    }

    /// Clones the first process into its namespaces.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn clone(
        &self,
        cgroup: Option<BorrowedFd<'_>>,
        child: impl FnOnce() -> i32,
    ) -> Result<Process, Error> {
        let birth = Birth { flags: self.clone_flags(), cgroup };
        if self.joins_first() {
            return birth.beyond(child, || self.join_all());
        }
        match self.joined(LinuxNamespaceType::Pid) {
            Some(pid) => birth.elsewhere(child, || {
                move_into_link_name_space(pid.as_fd(), Some(LinkNameSpaceType::ProcessID))
            }),
            None => birth.here(child),
        }
    }

    /// Whether what is joined has to be joined before the first process is cloned: root of another
    /// user namespace may not join what belongs to others.
    fn joins_first(&self) -> bool {
        self.maps_ids() && !self.joined.is_empty()
    }

    /// Joins everything: root a user namespace last, because its rights reach into each; without
    /// privilege only those inside a user namespace count.
    fn join_all(&self) -> rustix::io::Result<()> {
        let first = rustix::process::geteuid().is_root();
        let user = |kind| (kind == LinuxNamespaceType::User) == first;
        let mut joined: Vec<_> = self.joined.iter().collect();
        joined.sort_by_key(|(kind, _)| user(*kind));
        joined.iter().try_for_each(|(_, fd)| move_into_link_name_space(fd.as_fd(), None))
    }

    /// Joins, in the child, what is still to be joined.
    ///
    /// # Errors
    /// Names the namespace that refused.
    pub(crate) fn join(&self) -> Result<(), Error> {
        if self.joins_first() {
            return Ok(());
        }
        let others = self.joined.iter().filter(|(kind, _)| *kind != LinuxNamespaceType::Pid);
        for (kind, namespace) in others {
            move_into_link_name_space(namespace.as_fd(), None)
                .doing(|| format!("join the {kind:?} namespace"))?;
        }
        Ok(())
    }
}

/// How a process comes into being.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    /// `CLONE_NEW*` flags.
    pub(crate) flags: u64,
    /// The directory of the v2 cgroup to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

impl Birth<'_> {
    /// As an ordinary child.
    ///
    /// # Errors
    /// Those of clone3(2).
    pub(crate) fn here(self, child: impl FnOnce() -> i32) -> Result<Process, Error> {
        let (pid, pidfd) =
            sys::clone3(self.flags, self.cgroup, child).doing(|| "clone the process")?;
        Ok(Process::new(pid, pidfd))
    }

    /// As a child in another process namespace, which `enter` chooses for the children of this
    /// process; afterwards they are born here again.
    ///
    /// # Errors
    /// Those of setns(2) and clone3(2).
    pub(crate) fn elsewhere(
        self,
        child: impl FnOnce() -> i32,
        enter: impl FnOnce() -> rustix::io::Result<()>,
    ) -> Result<Process, Error> {
        let own = open(Path::new("/proc/self/ns/pid"))?;
        enter().doing(|| "join the process namespace")?;
        // The child is visible there at once, and inherits that nobody may look into it.
        let visible = dumpable_behavior().doing(|| "hide the memory")?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the memory")?;
        let born = self.here(child);
        set_dumpable_behavior(visible).doing(|| "show the memory")?;
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .doing(|| "return to the own process namespace")?;
        born
    }

    /// As a child in other namespaces, which `enter` joins. From a user namespace nobody returns, so
    /// a process in between goes, and clones a sibling of itself: what is new belongs to that user
    /// namespace, and still the result is a child of this process.
    ///
    /// # Errors
    /// Those of setns(2) and clone3(2).
    pub(crate) fn beyond(
        self,
        child: impl FnOnce() -> i32,
        enter: impl FnOnce() -> rustix::io::Result<()>,
    ) -> Result<Process, Error> {
        let (ours, theirs) = Socket::pair()?;
        let (flags, cgroup) = (self.flags | sys::CLONE_PARENT, self.cgroup);
        let between = Birth { flags: 0, cgroup: None }.here(|| {
            ours.close_in_child();
            let born = enter().doing(|| "join the namespaces").and_then(|()| {
                sys::clone3(flags, cgroup, || {
                    theirs.close_in_child();
                    child()
                })
                .doing(|| "clone the process")
            });
            match born {
                Ok((pid, _)) => theirs.tell_pid(pid),
                Err(error) => theirs.fail(&error),
            }
            0
        })?;
        drop(theirs);
        let pid = ours.hear_pid();
        between.wait().doing(|| "wait for the process in between")?;
        let pid = pid?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing(|| "open the new process")?;
        Ok(Process::new(pid.as_raw_pid(), pidfd))
    }
}

/// Opens a namespace that must be of this kind.
fn open_as(kind: LinuxNamespaceType, path: &Path) -> Result<OwnedFd, Error> {
    let namespace = open(path)?;
    match namespace_kind(namespace.as_fd()) {
        Ok(found) if found == kind as u64 => Ok(namespace),
        _ => Err(Error::Spec(format!("`{}` is no {kind:?} namespace", path.display()))),
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open the namespace `{}`", path.display()))
}

/// Makes a time namespace with these offsets and enters it (time_namespaces(7)). They can be set
/// only between the two.
///
/// # Errors
/// When the kernel refuses; for an offset of a clock that has none.
pub(crate) fn enter_time_namespace(linux: &Linux) -> Result<(), Error> {
    sys::unshare(libc::CLONE_NEWTIME).doing(|| "make the Time namespace")?;
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        std::fs::write("/proc/self/timens_offsets", format!("{clock} {secs} {nanosecs}\n"))
            .doing(|| format!("set the offset of the clock `{clock}`"))?;
    }
    let namespace = open(Path::new("/proc/self/ns/time_for_children"))?;
    move_into_link_name_space(namespace.as_fd(), None).doing(|| "enter the Time namespace")
}

/// The namespaces of a container that is being made, for the caller's own work in them.
#[derive(Debug)]
pub struct Namespaces<'a> {
    /// The first process of the container, in the caller's process namespace.
    pub pid: i32,
    pub(crate) plan: &'a Plan,
    /// The network namespace, where it had to be opened early.
    pub(crate) net: Option<OwnedFd>,
}

impl Namespaces<'_> {
    /// The network namespace: the new one, the joined one, or the caller's own.
    ///
    /// # Errors
    /// Those of open(2); `ENOENT` when the child has died.
    pub fn net(&self) -> io::Result<OwnedFd> {
        match (self.plan.joined(LinuxNamespaceType::Network), &self.net) {
            (Some(open), _) | (None, Some(open)) => open.try_clone(),
            (None, None) => self.open("net"),
        }
    }

    /// Any namespace of the child by its name below `/proc/<pid>/ns`.
    ///
    /// # Errors
    /// Those of open(2); without privilege `EACCES`, since the child hides.
    pub fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let path = format!("/proc/{}/ns/{name}", self.pid);
        Ok(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}
