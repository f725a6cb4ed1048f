//! Making a group and applying limits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::runtime::LinuxResources;

use super::hierarchy::{Hierarchy, Layout, Version};
use super::limit::{self, Setting};
use super::{Cgroup, Error, Node, bpf, device, file, freezer};
use crate::weak::weakened;

/// What a request means on this machine.
pub(super) struct Plan {
    settings: Vec<Setting>,
    devices: Option<device::Rules>,
}

impl Plan {
    pub(super) fn of(
        resources: &LinuxResources,
        layout: &Layout,
        read: &dyn Fn(&str, &str) -> Option<String>,
    ) -> Result<Self, Error> {
        let version = |controller: &str| match controller {
            // The core of version 2 is no controller and always there.
            "cgroup" => layout.v2().map(|h| h.version),
            _ => layout.version(controller),
        };
        let swaps = || Path::new("/proc/swaps").exists();
        let host = limit::Host { version: &version, read, swaps: &swaps };
        let settings = limit::settings(resources, &host)?;
        let rules = resources.devices().as_deref().filter(|rules| !rules.is_empty());
        let devices = rules.map(device::Rules::read).transpose()?;
        Ok(Self { settings, devices })
    }

    /// Takes out the limit on processes, for later.
    pub(super) fn take_pids(&mut self) -> Vec<Setting> {
        self.settings.extract_if(.., |setting| setting.controller == "pids").collect()
    }

    /// Whether anything is limited but devices.
    pub(super) fn has_limits(&self) -> bool {
        !self.settings.is_empty()
    }

    fn controllers(&self) -> Vec<&str> {
        let mut needed: Vec<&str> = self.settings.iter().map(|s| s.controller.as_str()).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }
}

/// Removes what was made, unless all went well.
pub(super) struct Undo {
    pub layout: Arc<Layout>,
    pub made: Vec<(usize, PathBuf)>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        for (index, path) in self.made.iter().rev() {
            // A parent that someone else meanwhile uses stays.
            let _ = self.layout.hierarchies[*index].remove(path);
        }
    }
}

impl Cgroup {
    /// Makes the group in every hierarchy but those in `spared` that no limit needs; where it exists,
    /// only `holder` may be in it.
    pub(super) fn make(
        &mut self,
        plan: &Plan,
        spared: &[String],
        (undo, holder): (&mut Undo, Option<i32>),
    ) -> Result<(), Error> {
        let layout = self.layout.clone();
        let needed = plan.controllers();
        for (index, hierarchy) in layout.joined(&needed, spared) {
            self.make_in((index, hierarchy), (undo, holder))?;
            if hierarchy.version == Version::V2 {
                self.enable(hierarchy, &needed)?;
            }
        }
        Ok(())
    }

    fn make_in(
        &mut self,
        (index, hierarchy): (usize, &Hierarchy),
        (undo, holder): (&mut Undo, Option<i32>),
    ) -> Result<(), Error> {
        let failed = |what: &str| {
            let shown = hierarchy.mount.join(&self.path);
            Error::io(format!("{what} control group {}", shown.display()))
        };
        let mut made = Vec::new();
        let result = hierarchy.make(&self.path, &mut made);
        undo.made.extend(made.iter().map(|path| (index, path.clone())));
        let new = result.map_err(failed("make"))?;
        let dir = file::open_dir(hierarchy.root.as_fd(), &self.path).map_err(failed("open"))?;
        let node = Node { hierarchy: index, dir };
        if !new {
            self.refuse_used(&node, holder)?;
        }
        if hierarchy.version == Version::V1 && hierarchy.has("cpuset") {
            let inherited = hierarchy.inherit_cpuset(&self.path, &made);
            inherited.map_err(failed("prepare the cpuset of"))?;
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Joins what the group was spared and `plan` needs; see [`join`](Self::join).
    pub(super) fn join_missing(&self, plan: &Plan) -> Result<Option<Self>, Error> {
        let needed = plan.controllers();
        self.join(&|h| h.controllers.iter().any(|c| needed.contains(&c.as_str())))
    }

    /// Joins the hierarchies that the group was spared and `needs` names, with all its processes, and
    /// gives the wider group; `None` if nothing is missing. They stand still meanwhile, so that none
    /// is born outside.
    pub(super) fn join(&self, needs: &dyn Fn(&Hierarchy) -> bool) -> Result<Option<Self>, Error> {
        let is_in = |index| self.nodes.iter().any(|node| node.hierarchy == index);
        let hierarchies = self.layout.hierarchies.iter().enumerate();
        let missing =
            hierarchies.filter(|(index, h)| h.version == Version::V1 && needs(h) && !is_in(*index));
        let missing: Vec<(usize, &Hierarchy)> = missing.collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let mut undo = Undo { layout: self.layout.clone(), made: Vec::new() };
        let mut wider = Self::open_in(self.layout.clone(), &self.path())?;
        let known = wider.nodes.len();
        for place in missing {
            wider.make_in(place, (&mut undo, None))?;
        }
        let frozen = self.is_frozen()?;
        self.freeze()?;
        let moved = self.pids().and_then(|pids| {
            pids.into_iter().try_for_each(|pid| wider.move_into(&wider.nodes[known..], pid))
        });
        if !frozen {
            self.thaw()?;
        }
        moved?;
        undo.made.clear();
        Ok(Some(wider))
    }

    /// A group that exists may be taken over, but not joined.
    fn refuse_used(&self, node: &Node, holder: Option<i32>) -> Result<(), Error> {
        let shown = self.at(node).mount.join(&self.path);
        let procs = file::read(&node.dir, "cgroup.procs").map_err(self.failed(
            node,
            "read",
            "cgroup.procs",
        ))?;
        let holder = holder.map(|pid| pid.to_string());
        if let Some(pid) = procs.lines().find(|pid| Some(*pid) != holder.as_deref()) {
            return Err(Error::Busy(format!(
                "container's cgroup is not empty: {} is in use by process {pid}",
                shown.display()
            )));
        }
        // Whoever joins one that is frozen stops there, beyond the reach of any signal.
        let state = file::read(&node.dir, freezer::file_of(self.at(node).version));
        if state.is_ok_and(|text| freezer::is_frozen(&text)) {
            return Err(Error::Busy(format!(
                "container's cgroup unexpectedly frozen: {}",
                shown.display()
            )));
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

    pub(super) fn apply(&self, plan: &Plan) -> Result<(), Error> {
        for setting in &plan.settings {
            self.set(setting)?;
        }
        plan.devices.as_ref().map_or(Ok(()), |rules| self.set_devices(rules))
    }

    pub(super) fn set(&self, setting: &Setting) -> Result<(), Error> {
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
            Some(_) if setting.optional => Ok(()),
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
        if weakened("devices-unfiltered") {
            return Ok(());
        }
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
            let mut open: Option<(&str, OwnedFd)> = None;
            for (name, line) in rules.lines(&list)? {
                let fd = match open.take() {
                    Some((last, fd)) if last == name => Ok(fd),
                    _ => file::open_write(&node.dir, name),
                };
                let written = fd.and_then(|fd| file::write_fd(&fd, &line).map(|()| fd));
                open = Some((name, written.map_err(|e| refused(node, name, &line, e))?));
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
        bpf::attach_device_program(node.dir.as_fd(), rules.program()?.as_deref())
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
