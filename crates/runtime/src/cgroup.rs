//! Control groups, of version 1, version 2 and both at once.
//!
//! A [`Cgroup`] is one absolute path below every mounted hierarchy. Which hierarchies there are is
//! read once per process from `/proc/self/mountinfo`; a controller is used through whichever
//! interface it is bound to, so the three layouts are one case. Paths are resolved below open
//! directories and never through symbolic links.
//!
//! A limit that was asked for and cannot be applied is an error; nothing is skipped silently.

mod bpf;
mod device;
mod file;
mod hierarchy;
mod limit;
mod stats;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};

use hierarchy::{Hierarchy, Layout, Version};
use limit::Setting;

pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Stats};

/// How long [`Cgroup::delete`] waits for the kernel to finish with processes that have ended.
const DELETE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long [`Cgroup::freeze`] waits for processes to stop; one in uninterruptible sleep does not.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often [`Cgroup::kill`] looks for processes that were forked meanwhile.
const KILL_ROUNDS_MAX: usize = 64;
/// How deep groups may be nested inside a container's.
const DEPTH_MAX: usize = 64;
/// A parent directory is removed with its last container if it is one of ours, by its name.
const OWN_PARENT_PREFIX: &str = "cais";

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
        Self::create_in(Layout::of_host()?, path, resources)
    }

    fn create_in(
        layout: Arc<Layout>,
        path: &Path,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, Error> {
        let path = hierarchy::relative(path)?;
        let none = LinuxResources::default();
        let resources = resources.unwrap_or(&none);
        // Whatever is wrong with the request shows before anything is touched.
        let plan = Plan::of(resources, &layout, &|_, _| None)?;
        let mut undo = Undo { layout: layout.clone(), made: Vec::new() };
        let mut group = Self { layout, path, nodes: Vec::new() };
        group.make(&plan, &mut undo)?;
        group.apply(&plan)?;
        undo.made.clear();
        Ok(group)
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
        Ok(Self { layout, path: relative, nodes })
    }

    /// The directory in version 2's hierarchy, for `clone3(CLONE_INTO_CGROUP)`.
    #[must_use]
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(|node| node.dir.as_fd())
    }

    /// Moves process `pid` into the group; into version 2's only if it was not cloned into it.
    ///
    /// The first write costs an RCU grace period (about 7.5 ms) and those right behind it next to
    /// nothing, so they are made back to back.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], with `ESRCH` if the process has ended.
    pub fn attach(&self, pid: i32, cloned_into_v2: bool) -> Result<(), Error> {
        let text = pid.to_string();
        let done = |node: &&Node| cloned_into_v2 && self.at(node).version == Version::V2;
        let failed = |node: &Node| {
            let shown = self.at(node).display(&self.path, "cgroup.procs");
            Error::io(format!("move process {pid} into {}", shown.display()))
        };
        let mut files = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.iter().filter(|node| !done(node)) {
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
        self.apply(&Plan::of(resources, &self.layout, &read)?)
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

    /// Whether the group was frozen by [`freeze`](Self::freeze), or by someone else the same way.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] without any freezer, [`Error::Io`].
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let (version, node) = self.freezer()?;
        let name = freezer_file(version);
        let text = file::read(&node.dir, name).map_err(self.failed(node, "read", name))?;
        Ok(!matches!(text.trim(), "0" | "THAWED"))
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
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
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
        let mut pids = Vec::new();
        collect_pids(&node.dir, &mut pids, DEPTH_MAX).map_err(self.failed(
            node,
            "read",
            "cgroup.procs",
        ))?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
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
            Ok(Stats {
                cpu: stats::cpu(time, self.place("cpu"))?,
                memory: self.place("memory").map_or(Ok(Default::default()), stats::memory)?,
                pids: self.place("pids").map_or(Ok(Default::default()), stats::pids)?,
                io: io.map_or(Ok(Vec::new()), stats::io)?,
            })
        };
        read().map_err(Error::io(format!("read usage of control group {:?}", self.path)))
    }

    /// How many processes were killed because memory ran out. One small read; 0 if unknown.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.place("memory").and_then(|place| stats::oom_counts(place).ok()).map_or(0, |c| c.1)
    }

    /// Removes the group and groups inside it from every hierarchy, and its parents if they are
    /// ours and empty.
    ///
    /// Waits up to 5 s for the kernel to finish with ended processes. What cannot be removed in
    /// one hierarchy does not keep the others; the first error is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if processes are left, [`Error::Io`].
    pub fn delete(self) -> Result<(), Error> {
        let deadline = Instant::now() + DELETE_WAIT_MAX;
        let mut result = Ok(());
        for node in &self.nodes {
            let removed = self.remove(node, deadline);
            result = result.and(removed);
            self.remove_parents(self.at(node));
        }
        result
    }
}

/// What a request means on this machine.
struct Plan {
    settings: Vec<Setting>,
    devices: Option<device::Rules>,
}

impl Plan {
    fn of(
        resources: &LinuxResources,
        layout: &Layout,
        read: &dyn Fn(&str, &str) -> Option<String>,
    ) -> Result<Self, Error> {
        let version = |controller: &str| match controller {
            // The core of version 2 is no controller and always there.
            "cgroup" => layout.v2().map(|h| h.version),
            _ => layout.version(controller),
        };
        let settings = limit::settings(resources, &limit::Host { version: &version, read })?;
        let rules = resources.devices().as_deref().filter(|rules| !rules.is_empty());
        let devices = rules.map(device::Rules::read).transpose()?;
        Ok(Self { settings, devices })
    }

    fn controllers(&self) -> Vec<&str> {
        let mut needed: Vec<&str> = self.settings.iter().map(|s| s.controller.as_str()).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }
}

/// Removes what was made, unless all went well.
struct Undo {
    layout: Arc<Layout>,
    made: Vec<(usize, PathBuf)>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        for (index, path) in self.made.iter().rev() {
            // A parent that someone else meanwhile uses stays.
            let _ = self.layout.hierarchies[*index].remove(path);
        }
    }
}

/// Making and limiting.
impl Cgroup {
    fn make(&mut self, plan: &Plan, undo: &mut Undo) -> Result<(), Error> {
        let layout = self.layout.clone();
        let needed = plan.controllers();
        for (index, hierarchy) in layout.joined(&needed) {
            let failed = |what: &str| {
                let shown = hierarchy.mount.join(&self.path);
                Error::io(format!("{what} control group {}", shown.display()))
            };
            let mut made = Vec::new();
            let result = hierarchy.make(&self.path, &mut made);
            undo.made.extend(made.into_iter().map(|path| (index, path)));
            let new = result.map_err(failed("make"))?;
            let dir = file::open_dir(hierarchy.root.as_fd(), &self.path).map_err(failed("open"))?;
            let node = Node { hierarchy: index, dir };
            if !new {
                self.refuse_used(&node)?;
            }
            if hierarchy.version == Version::V1 && hierarchy.has("cpuset") {
                hierarchy.inherit_cpuset(&self.path).map_err(failed("prepare the cpuset of"))?;
            }
            if hierarchy.version == Version::V2 {
                self.enable(hierarchy, &needed)?;
            }
            self.nodes.push(node);
        }
        Ok(())
    }

    /// A group that exists may be taken over, but not joined.
    fn refuse_used(&self, node: &Node) -> Result<(), Error> {
        let shown = self.at(node).mount.join(&self.path);
        let procs = file::read(&node.dir, "cgroup.procs").map_err(self.failed(
            node,
            "read",
            "cgroup.procs",
        ))?;
        if let Some(pid) = procs.lines().next() {
            let shown = shown.display();
            return Err(Error::Busy(format!("control group {shown} is in use by process {pid}")));
        }
        let frozen = file::read(&node.dir, "cgroup.freeze").is_ok_and(|text| text.trim() == "1");
        if frozen {
            return Err(Error::Busy(format!("control group {} is frozen", shown.display())));
        }
        Ok(())
    }

    /// Enables in version 2 what limits need, and what usage is read from.
    fn enable(&self, hierarchy: &Hierarchy, needed: &[&str]) -> Result<(), Error> {
        const COUNTED: [&str; 4] = ["cpu", "memory", "pids", "io"];
        let also = needed.iter().filter(|c| !COUNTED.contains(c));
        let wanted: Vec<&str> =
            COUNTED.iter().chain(also).copied().filter(|c| hierarchy.has(c)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let failed = hierarchy.enable(&self.path, &wanted).into_iter();
        match failed.into_iter().find(|(controller, _)| needed.contains(&controller.as_str())) {
            Some((controller, source)) => Err(Error::Limit {
                limit: controller.clone(),
                value: format!("+{controller}"),
                file: hierarchy.display(Path::new(""), "cgroup.subtree_control"),
                remedy: "a group above holds processes itself, or does not delegate this \
                         controller: move them into a group of their own"
                    .into(),
                source,
            }),
            None => Ok(()),
        }
    }

    fn apply(&self, plan: &Plan) -> Result<(), Error> {
        for setting in &plan.settings {
            self.set(setting)?;
        }
        plan.devices.as_ref().map_or(Ok(()), |rules| self.set_devices(rules))
    }

    fn set(&self, setting: &Setting) -> Result<(), Error> {
        let Some(node) = self.node_of(&setting.controller) else {
            return Err(Error::Unsupported(format!(
                "limit {} = {}: the group does not belong to the {} controller: make it again \
                 with this limit",
                setting.limit,
                setting.value(),
                setting.controller
            )));
        };
        let mut missing = None;
        for (name, value) in &setting.candidates {
            match file::write(&node.dir, name, value) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing.get_or_insert((name, value, error));
                }
                Err(error) => return Err(self.refused(setting, node, name, (value, error))),
            }
        }
        match missing {
            Some((name, value, error)) => Err(self.refused(setting, node, name, (value, error))),
            None => Ok(()),
        }
    }

    fn refused(
        &self,
        setting: &Setting,
        node: &Node,
        name: &str,
        (value, source): (&str, io::Error),
    ) -> Error {
        Error::Limit {
            limit: setting.limit.to_owned(),
            value: value.to_owned(),
            file: self.at(node).display(&self.path, name),
            remedy: remedy(setting, &source),
            source,
        }
    }

    fn set_devices(&self, rules: &device::Rules) -> Result<(), Error> {
        let refused = |node: &Node, name: &str, value: &str, source: io::Error| Error::Limit {
            limit: "devices".into(),
            value: value.to_owned(),
            file: self.at(node).display(&self.path, name),
            remedy: match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => {
                    "confining devices needs CAP_SYS_ADMIN (and CAP_BPF) in the first user \
                     namespace: run as root, or without device rules"
                }
                Some(libc::EINVAL) if name == "devices.deny" => {
                    "groups inside this one exist: confine devices before making them"
                }
                _ => "the kernel needs CONFIG_CGROUP_DEVICE, or CONFIG_CGROUP_BPF on version 2",
            }
            .into(),
            source,
        };
        if let Some(node) = self.node_of("devices") {
            let list = file::read(&node.dir, "devices.list").map_err(self.failed(
                node,
                "read",
                "devices.list",
            ))?;
            for (name, line) in rules.lines(&list)? {
                file::write(&node.dir, name, &line).map_err(|e| refused(node, name, &line, e))?;
            }
            return Ok(());
        }
        let Some(node) = self.v2() else {
            return Err(Error::Unsupported(
                "limit devices: neither the devices controller nor version 2 of control groups \
                 is mounted: mount one, or run without device rules"
                    .into(),
            ));
        };
        bpf::attach_device_program(node.dir.as_fd(), &rules.program())
            .map_err(|error| refused(node, "", "a BPF program", error))
    }
}

/// What to do about a refused limit.
fn remedy(setting: &Setting, error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(libc::ENOENT) => setting.remedy,
        Some(libc::EPERM | libc::EACCES | libc::EROFS) => {
            "run as root, or in a group that was delegated to this user"
        }
        Some(libc::EBUSY) => "more than that is in use: free some, or choose a higher limit",
        Some(libc::ENODEV | libc::ENXIO) => "there is no such device",
        Some(libc::EINVAL | libc::ERANGE) => {
            "the kernel refuses the value: it may be out of range, or beyond what the group above \
             has"
        }
        Some(libc::EOPNOTSUPP) => setting.remedy,
        _ => "the kernel refuses it",
    };
    text.to_owned()
}

/// Places in the layout.
impl Cgroup {
    fn at(&self, node: &Node) -> &Hierarchy {
        &self.layout.hierarchies[node.hierarchy]
    }

    fn v2(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| self.at(node).version == Version::V2)
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

fn freezer_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "freezer.state",
        Version::V2 => "cgroup.freeze",
    }
}

/// Freezing.
impl Cgroup {
    /// Version 2's freezer is part of its core and there even when controllers are bound
    /// elsewhere, since Linux 5.2; before, version 1's.
    fn freezer(&self) -> Result<(Version, &Node), Error> {
        if let Some(node) = self.v2().filter(|n| file::open_read(&n.dir, "cgroup.freeze").is_ok()) {
            return Ok((Version::V2, node));
        }
        self.node_of("freezer").map(|node| (Version::V1, node)).ok_or_else(|| {
            Error::Unsupported(
                "neither version 2 of control groups nor the freezer controller is mounted: \
                 mount one to pause"
                    .into(),
            )
        })
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (version, node) = self.freezer()?;
        let deadline = Instant::now() + FREEZE_WAIT_MAX;
        let reached = match version {
            Version::V1 => freeze_v1(&node.dir, frozen, deadline),
            Version::V2 => freeze_v2(&node.dir, frozen, deadline),
        };
        let reached = reached.map_err(self.failed(node, "write", freezer_file(version)))?;
        if reached {
            return Ok(());
        }
        if frozen {
            self.set_frozen(false)?;
        }
        Err(Error::Busy(format!(
            "control group {:?} has a process that cannot be {}",
            self.path,
            if frozen { "frozen now" } else { "thawed" }
        )))
    }
}

/// Whether the state was reached before the deadline.
fn freeze_v2(dir: &OwnedFd, frozen: bool, deadline: Instant) -> io::Result<bool> {
    let number = if frozen { "1" } else { "0" };
    file::write(dir, "cgroup.freeze", number)?;
    wait_event(dir, "frozen", u64::from(frozen), deadline)
}

fn freeze_v1(dir: &OwnedFd, frozen: bool, deadline: Instant) -> io::Result<bool> {
    let state = if frozen { "FROZEN" } else { "THAWED" };
    let mut pause = Pause::default();
    loop {
        // Written again each time: the kernel tries those that could not stop before once more.
        file::write(dir, "freezer.state", state)?;
        if file::read(dir, "freezer.state")?.trim() == state {
            return Ok(true);
        }
        if !pause.until(deadline) {
            return Ok(false);
        }
    }
}

/// Waits until `key` in `cgroup.events` is `value`; the kernel announces every change.
fn wait_event(dir: &OwnedFd, key: &str, value: u64, deadline: Instant) -> io::Result<bool> {
    let events = file::open_read(dir, "cgroup.events")?;
    loop {
        if file::keyed(&file::read_fd(&events)?, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Growing pauses between attempts at what the kernel does not announce.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_micros(100))
    }
}

impl Pause {
    /// Pauses; `false` if the deadline has passed.
    fn until(&mut self, deadline: Instant) -> bool {
        const PAUSE_MAX: Duration = Duration::from_millis(20);
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(self.0);
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        true
    }
}

/// The names of the directories in `dir`.
fn children(dir: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == rustix::fs::FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory right inside `dir`.
fn open_child(dir: &OwnedFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    file::open_dir(dir.as_fd(), Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

fn collect_pids(dir: &OwnedFd, pids: &mut Vec<i32>, depth: usize) -> io::Result<()> {
    let procs = match file::read(dir, "cgroup.procs") {
        // A threaded group's processes are listed by the group above it.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        other => other?,
    };
    pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth == 0 {
        return Ok(());
    }
    for name in children(dir)? {
        match open_child(dir, &name).and_then(|child| collect_pids(&child, pids, depth - 1)) {
            Err(error) if is_gone(&error) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether a group was removed while it was looked at.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn is_used(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}

/// Removing.
impl Cgroup {
    fn remove(&self, node: &Node, deadline: Instant) -> Result<(), Error> {
        let hierarchy = self.at(node);
        let shown = hierarchy.mount.join(&self.path);
        let failed = || Error::io(format!("remove control group {}", shown.display()));
        let mut pause = Pause::default();
        loop {
            match hierarchy.remove(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if !is_used(&error) => return Err(failed()(error)),
                Err(_) => {}
            }
            match remove_children(&node.dir, DEPTH_MAX) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Err(failed()(error)),
            }
            if hierarchy.version == Version::V2 {
                wait_event(&node.dir, "populated", 0, deadline).map_err(failed())?;
            }
            if !pause.until(deadline) {
                let pids = self.pids().unwrap_or_default();
                return Err(Error::Busy(format!(
                    "control group {} still holds processes: {pids:?}",
                    shown.display()
                )));
            }
        }
    }

    /// Removes empty parents that are ours, nearest first.
    fn remove_parents(&self, hierarchy: &Hierarchy) {
        let own = self.path.components().next().is_some_and(|first| {
            first.as_os_str().as_encoded_bytes().starts_with(OWN_PARENT_PREFIX.as_bytes())
        });
        let parents = self.path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
        for parent in parents.take_while(|_| own) {
            // Another container's presence is the usual reason for failure.
            if hierarchy.remove(parent).is_err() {
                return;
            }
        }
    }
}

/// Removes the groups inside `dir`; whether there were any and all are gone.
fn remove_children(dir: &OwnedFd, depth: usize) -> io::Result<bool> {
    let names = children(dir)?;
    let mut all = !names.is_empty();
    for name in names {
        let removed = remove_child(dir, &name, depth);
        match removed {
            Err(error) if is_gone(&error) => {}
            Err(error) if is_used(&error) => all = false,
            other => other?,
        }
    }
    Ok(all)
}

fn remove_child(dir: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> io::Result<()> {
    let remove = || Ok(rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::REMOVEDIR)?);
    match remove() {
        Err(error) if is_used(&error) && depth > 0 => {
            remove_children(&open_child(dir, name)?, depth - 1)?;
            remove()
        }
        other => other,
    }
}
