//! Control groups, of version 1, version 2 and both at once.
//!
//! A [`Cgroup`] is one absolute path below every mounted hierarchy. Which hierarchies there are is
//! read once per process from `/proc/self/mountinfo`; a controller is used through whichever
//! interface it is bound to, so the three layouts are one case. Paths are resolved below open
//! directories and never through symbolic links.
//!
//! A limit that was asked for and cannot be applied is an error; nothing is skipped silently.

mod apply;
mod bpf;
mod device;
mod entry;
mod file;
mod freezer;
mod hierarchy;
mod limit;
mod stats;
mod subgroup;
mod support;
mod systemd;
#[cfg(test)]
mod tests;
mod tree;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci::runtime::LinuxResources;
use rustix::process::{Pid, Signal};

use apply::{Plan, Undo};
pub(crate) use entry::{Count, Entry};
use hierarchy::{Hierarchy, Layout, Version};

pub use stats::{
    CpuStats, CpusetStats, HugetlbStats, IoStats, MemoryEntry, MemoryStats, PidsStats, Pressure,
    Stats, Waiting,
};
pub use subgroup::Subgroup;
pub use support::{Support, support};
pub use systemd::Unit;

/// How often [`Cgroup::kill`] looks for processes that were forked meanwhile.
const KILL_ROUNDS_MAX: usize = 64;

/// What can go wrong with a control group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path cannot name a control group.
    #[error("control group path {0:?} is not absolute and free of `.` and `..`")]
    Path(PathBuf),
    /// The group does not exist.
    #[error("control group {0:?} does not exist")]
    NotFound(PathBuf),
    /// A limit contradicts itself or another.
    #[error("{0}")]
    Invalid(String),
    /// This machine cannot do what was asked.
    #[error("{0}")]
    Unsupported(String),
    /// Something still uses the group, or more than a new limit.
    #[error("{0}")]
    Busy(String),
    /// The kernel refused a limit.
    #[error("limit {limit} = {value}: write {}: {remedy}", file.display())]
    Limit {
        /// The limit as the runtime specification names it.
        limit: String,
        /// The value as written.
        value: String,
        /// The file written to.
        file: PathBuf,
        /// What to do about it.
        remedy: String,
        /// Why it was refused.
        source: io::Error,
    },
    /// systemd did not do what was asked, or could not be reached.
    #[error("{action}")]
    Systemd {
        /// What was being done.
        action: String,
        /// Its answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else the kernel refused.
    #[error("{action}")]
    Io {
        /// What was being done.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// A control group: the same path below every hierarchy that says anything about a container.
#[derive(Debug)]
pub struct Cgroup {
    layout: Arc<Layout>,
    /// Relative to the root of each hierarchy.
    path: PathBuf,
    nodes: Vec<Node>,
    /// What of systemd's way to make a group is not done yet.
    pending: Mutex<Option<systemd::Pending>>,
    /// The unit, where the user's systemd made the group: such a user may not move processes
    /// between groups of the machine's, so nothing can be born in it.
    of_user: Option<Unit>,
}

/// The caller's own group in version 2's hierarchy (proc_pid_cgroup(5)); `None` without one.
#[must_use]
pub fn own() -> Option<PathBuf> {
    let text = crate::procfs::read("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// Whether version 2 is all that this host uses, whatever hierarchies of version 1 its kernel has
/// besides.
pub(crate) fn version_2_alone() -> bool {
    Layout::of_host()
        .is_ok_and(|layout| layout.hierarchies.iter().all(|h| h.version == Version::V2))
}

/// Whether this kernel can limit swap per group; a limit on it is an error where it cannot.
#[must_use]
pub fn accounts_swap() -> bool {
    let Ok(layout) = Layout::of_host() else { return false };
    match layout.of("memory") {
        Some(memory) if memory.version == Version::V1 => {
            file::read(memory.root.as_fd(), "memory.memsw.limit_in_bytes").is_ok()
        }
        // The root of version 2 has no limits to look for; its files come with swap itself.
        Some(_) => Path::new("/proc/swaps").exists(),
        None => false,
    }
}

/// The group's directory in one hierarchy, by its index in the layout.
#[derive(Debug)]
struct Node {
    hierarchy: usize,
    dir: OwnedFd,
}

impl Cgroup {
    /// Makes the group at `path` (absolute, below each hierarchy's root) and applies `resources`.
    ///
    /// A group that exists is taken over if it is empty. On failure everything made is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Path`]; [`Error::Busy`] if the group exists with processes in it or frozen;
    /// [`Error::Invalid`], [`Error::Unsupported`] and [`Error::Limit`] for a limit;
    /// [`Error::Io`] otherwise.
    pub fn create(path: &Path, resources: Option<&LinuxResources>) -> Result<Self, Error> {
        Self::create_in(Layout::of_host()?, (path, &[]), resources)
    }

    /// As [`create`](Self::create), but a group without limits is only where it counts or confines
    /// something: of version 1, not in hierarchies that do nothing without a limit of theirs, or
    /// nothing that version 2 does not do, where this process is at their top.
    /// [`update`](Self::update) joins them when it needs them.
    ///
    /// For processes that cannot mount a hierarchy: in one that they have not joined they would find
    /// the host's groups.
    ///
    /// # Errors
    ///
    /// As of [`create`](Self::create).
    pub fn create_sparing(path: &Path, resources: Option<&LinuxResources>) -> Result<Self, Error> {
        let own = crate::procfs::read("/proc/self/cgroup");
        let own = own.map_err(Error::io("read /proc/self/cgroup"))?;
        let layout = Layout::of_host()?;
        let spared = layout.dispensable(&own);
        Self::create_in(layout, (path, &spared), resources)
    }

    fn create_in(
        layout: Arc<Layout>,
        (path, spared): (&Path, &[String]),
        resources: Option<&LinuxResources>,
    ) -> Result<Self, Error> {
        let path = hierarchy::relative(path)?;
        let none = LinuxResources::default();
        let resources = resources.unwrap_or(&none);
        // Whatever is wrong with the request shows before anything is touched.
        let plan = Plan::of(resources, &layout, &|_, _| None)?;
        // Programs that look for their limits look for all controllers.
        let spared = if plan.has_limits() { &[] } else { spared };
        let mut undo = Undo { layout: layout.clone(), made: Vec::new() };
        let mut group =
            Self { layout, path, nodes: Vec::new(), pending: Mutex::new(None), of_user: None };
        group.make(&plan, spared, (&mut undo, None))?;
        group.apply(&plan)?;
        undo.made.clear();
        Ok(group)
    }

    /// Takes over the group at `path`, where only `holder` is in.
    fn adopt(layout: Arc<Layout>, path: &Path, plan: &Plan, holder: i32) -> Result<Self, Error> {
        let path = hierarchy::relative(path)?;
        let mut undo = Undo { layout: layout.clone(), made: Vec::new() };
        let mut group =
            Self { layout, path, nodes: Vec::new(), pending: Mutex::new(None), of_user: None };
        group.make(plan, &[], (&mut undo, Some(holder)))?;
        group.apply(plan)?;
        undo.made.clear();
        Ok(group)
    }

    fn with(self, pending: systemd::Pending) -> Self {
        Self { pending: Mutex::new(Some(pending)), ..self }
    }

    /// Says which unit of systemd's the group is.
    #[must_use]
    pub fn of_unit(self, unit: &Unit) -> Self {
        Self { of_user: unit.is_of_user().then(|| unit.clone()), ..self }
    }

    /// Has systemd move process `pid` into the group, where this process may not; whether that was
    /// so.
    ///
    /// # Errors
    ///
    /// [`Error::Systemd`].
    pub(crate) fn admit(&self, pid: i32) -> Result<bool, Error> {
        match &self.of_user {
            Some(unit) => unit.attach(pid).map(|()| true),
            None => Ok(false),
        }
    }

    /// Finishes a group of systemd's, once the container's first process is in it. Others are
    /// finished.
    ///
    /// # Errors
    ///
    /// As for [`update`](Self::update).
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        pending.map_or(Ok(()), |pending| pending.settle(self))
    }

    /// Its path below the root of every hierarchy.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// Opens the group at `path` in every hierarchy where it exists.
    ///
    /// # Errors
    ///
    /// [`Error::Path`], [`Error::NotFound`] if no hierarchy has it, [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_in(Layout::of_host()?, path)
    }

    fn open_in(layout: Arc<Layout>, path: &Path) -> Result<Self, Error> {
        let relative = hierarchy::relative(path)?;
        let mut nodes = Vec::new();
        for (index, hierarchy) in layout.hierarchies.iter().enumerate() {
            match file::open_dir(hierarchy.root.as_fd(), &relative) {
                Ok(dir) => nodes.push(Node { hierarchy: index, dir }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(format!("open control group {path:?}"))(error)),
            }
        }
        if nodes.is_empty() {
            return Err(Error::NotFound(path.to_path_buf()));
        }
        Ok(Self { layout, path: relative, nodes, pending: Mutex::new(None), of_user: None })
    }

    /// The directory in version 2's hierarchy, for `clone3(CLONE_INTO_CGROUP)`; `None` where there
    /// is none, or nothing may be born in it.
    #[must_use]
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().filter(|_| self.of_user.is_none()).map(|node| node.dir.as_fd())
    }

    /// Moves process `pid` into the group; into version 2's only if it was not cloned into it.
    ///
    /// The first write costs an RCU grace period (about 7.5 ms) and those right behind it next to
    /// nothing, so they are made back to back. A child of ours joins by itself, without that.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], with `ESRCH` if the process has ended.
    pub fn attach(&self, pid: i32, cloned_into_v2: bool) -> Result<(), Error> {
        let done = |node: &&Node| cloned_into_v2 && self.at(node).version == Version::V2;
        self.move_into(self.nodes.iter().filter(|node| !done(node)), pid)
    }

    /// Moves process `pid` into the group in these hierarchies.
    fn move_into<'a>(
        &'a self,
        nodes: impl IntoIterator<Item = &'a Node>,
        pid: i32,
    ) -> Result<(), Error> {
        let text = pid.to_string();
        let failed = |node: &Node| {
            let shown = self.at(node).display(&self.path, "cgroup.procs");
            Error::io(format!("move process {pid} into {}", shown.display()))
        };
        let mut files = Vec::with_capacity(self.nodes.len());
        for node in nodes {
            let procs = file::open_write(&node.dir, "cgroup.procs").map_err(failed(node))?;
            files.push((node, procs));
        }
        for (node, procs) in files {
            file::write_fd(&procs, &text).map_err(failed(node))?;
        }
        Ok(())
    }

    /// Applies the limits that `resources` gives and leaves the others.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create). Limits before the failing one stay applied.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let read =
            |controller: &str, name: &str| file::read(&self.node_of(controller)?.dir, name).ok();
        let plan = Plan::of(resources, &self.layout, &read)?;
        self.join_missing(&plan)?.as_ref().unwrap_or(self).apply(&plan)
    }

    /// The group in every hierarchy, also in those that it was spared: its processes join them. For
    /// somebody who comes to it and can mount one.
    ///
    /// # Errors
    ///
    /// As for [`freeze`](Self::freeze).
    pub fn join_all(self) -> Result<Self, Error> {
        Ok(self.join(&|_| true)?.unwrap_or(self))
    }

    /// Stops every process of the group, and waits until all have.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if some do not within 5 s (the group is then thawed again),
    /// [`Error::Unsupported`] without any freezer, [`Error::Io`].
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)
    }

    /// Lets every process of the group go on.
    ///
    /// # Errors
    ///
    /// As for [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    /// Whether the group was frozen by [`freeze`](Self::freeze), or by someone else the same way; one
    /// that was removed meanwhile is not.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] without any freezer, [`Error::Io`].
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let (version, node) = self.freezer()?;
        let name = freezer::file_of(version);
        let text = match file::read(&node.dir, name) {
            Err(error) if tree::is_gone(&error) => return Ok(false),
            other => other.map_err(self.failed(node, "read", name))?,
        };
        Ok(freezer::is_frozen(&text))
    }

    /// Sends `SIGKILL` to every process of the group and of groups inside it.
    ///
    /// Does not wait until they have ended.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if new processes keep appearing (version 1, or before Linux 5.14);
    /// [`Error::Io`].
    pub fn kill(&self) -> Result<(), Error> {
        if let Some(node) = self.v2() {
            match file::write(&node.dir, "cgroup.kill", "1") {
                // Without the file, or without the group.
                Err(error) if tree::is_gone(&error) => {}
                other => return other.map_err(self.failed(node, "write", "cgroup.kill")),
            }
        }
        let mut killed = Vec::new();
        for _ in 0..KILL_ROUNDS_MAX {
            // Without a freezer, rounds alone must catch up with what forks.
            let frozen = self.freeze().is_ok();
            let fresh: Vec<i32> =
                self.pids()?.into_iter().filter(|pid| !killed.contains(pid)).collect();
            for pid in fresh.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                // One that ended meanwhile is what was wanted.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            if frozen {
                self.thaw()?;
            }
            if fresh.is_empty() {
                return Ok(());
            }
            killed.extend(fresh);
        }
        Err(Error::Busy(format!("control group {:?} forks faster than it is killed", self.path)))
    }

    /// The processes of the group and of groups inside it, ascending.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let Some(node) = self.v2().or_else(|| self.nodes.first()) else { return Ok(Vec::new()) };
        match tree::pids(&node.dir) {
            // systemd removes a group as soon as nobody is in it.
            Err(error) if tree::is_gone(&error) => Ok(Vec::new()),
            other => other.map_err(self.failed(node, "read", "cgroup.procs")),
        }
    }

    /// What the group has used so far.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the group is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        let time =
            self.place("cpuacct").or_else(|| self.v2().map(|n| (Version::V2, n.dir.as_fd())));
        let io = self.place("blkio").or_else(|| self.place("io"));
        let read = || -> io::Result<Stats> {
            let (io, io_pressure) = io.map_or(Ok(Default::default()), stats::io)?;
            Ok(Stats {
                cpu: stats::cpu(time, self.place("cpu"))?,
                memory: self.place("memory").map_or(Ok(Default::default()), stats::memory)?,
                pids: self.place("pids").map_or(Ok(Default::default()), stats::pids)?,
                io,
                io_pressure,
                hugetlb: self.place("hugetlb").map_or(Ok(Default::default()), stats::hugetlb)?,
                cpuset: self.place("cpuset").map_or(Ok(Default::default()), stats::cpuset)?,
            })
        };
        read().map_err(Error::io(format!("read usage of control group {:?}", self.path)))
    }

    /// How many processes were killed because memory ran out. One small read; 0 if unknown.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.place("memory").and_then(|place| stats::oom_counts(place).ok()).map_or(0, |c| c.1)
    }

    /// The most memory that was in use at once, in bytes. One small read; 0 if unknown.
    #[must_use]
    pub fn memory_peak_bytes(&self) -> u64 {
        self.place("memory").and_then(|place| stats::memory_peak(place).ok()).unwrap_or(0)
    }

    /// Removes the group and groups inside it from every hierarchy, and its parents if they are
    /// ours and empty.
    ///
    /// Waits up to 2 s for the kernel to finish with ended processes. What cannot be removed in
    /// one hierarchy does not keep the others; the first error is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if processes are left, [`Error::Io`].
    pub fn delete(self) -> Result<(), Error> {
        self.remove_everywhere()
    }
}

/// Places in the layout.
impl Cgroup {
    fn at(&self, node: &Node) -> &Hierarchy {
        &self.layout.hierarchies[node.hierarchy]
    }

    fn v2(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| self.at(node).version == Version::V2)
    }

    /// Whether it is in the hierarchy of version 1 with these controllers, as `/proc/PID/cgroup`
    /// writes them.
    pub(crate) fn is_in_hierarchy(&self, controllers: &str) -> bool {
        let has = |node: &Node| controllers.split(',').any(|name| self.at(node).has(name));
        self.nodes.iter().any(|node| self.at(node).version == Version::V1 && has(node))
    }

    fn node_of(&self, controller: &str) -> Option<&Node> {
        match controller {
            "cgroup" => self.v2(),
            _ => self.nodes.iter().find(|node| self.at(node).has(controller)),
        }
    }

    fn place(&self, controller: &str) -> Option<stats::Place<'_>> {
        self.node_of(controller).map(|node| (self.at(node).version, node.dir.as_fd()))
    }

    fn failed(&self, node: &Node, verb: &str, name: &str) -> impl FnOnce(io::Error) -> Error {
        let shown = self.at(node).display(&self.path, name);
        Error::io(format!("{verb} {}", shown.display()))
    }
}
