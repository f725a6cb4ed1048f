//! Resource limits as values for files.
//!
//! Pure: what is on the machine comes in as [`Host`], what to write comes out as [`Setting`]s in
//! the order in which the kernel accepts them.

mod cpu;
mod io;
mod memory;

use oci::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma, LinuxResources};

use super::Error;
use super::hierarchy::Version;

#[cfg(test)]
pub(super) use io::io_weight;
pub(super) use {cpu::weight_of_shares, memory::swap_alone};

/// One value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The limit as the runtime specification names it.
    pub limit: &'static str,
    pub controller: String,
    /// The file and what to write there; the first file that exists is taken.
    pub candidates: Vec<(String, String)>,
    /// What to do when no such file exists.
    pub remedy: &'static str,
    /// Whether the limit holds anyhow where no such file exists.
    pub optional: bool,
}

/// What limits depend on besides themselves.
pub(super) struct Host<'a> {
    /// The interface a controller has, if it is available.
    pub version: &'a dyn Fn(&str) -> Option<Version>,
    /// The present content of a file of a controller; `None` for a new control group.
    pub read: &'a dyn Fn(&str, &str) -> Option<String>,
    /// Whether the kernel can swap.
    pub swaps: &'a dyn Fn() -> bool,
}

const GENERIC: &str = "this kernel does not have it; run without this limit";

impl Setting {
    fn new(limit: &'static str, file: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            limit,
            controller: String::new(),
            candidates: vec![(file.into(), value.into())],
            remedy: GENERIC,
            optional: false,
        }
    }

    fn or(mut self, file: impl Into<String>, value: impl Into<String>) -> Self {
        self.candidates.push((file.into(), value.into()));
        self
    }

    fn remedy(mut self, remedy: &'static str) -> Self {
        self.remedy = remedy;
        self
    }

    fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    /// The value in the form the first file takes.
    pub(super) fn value(&self) -> &str {
        self.candidates.first().map_or("", |c| c.1.as_str())
    }
}

/// Everything to write for `resources`, devices apart.
pub(super) fn settings(resources: &LinuxResources, host: &Host<'_>) -> Result<Vec<Setting>, Error> {
    let mut all = Vec::new();
    if let Some(cpu) = resources.cpu() {
        all.extend(placed("cpu", host, |version| cpu::settings(cpu, version, host))?);
        all.extend(placed("cpuset", host, |_| Ok(cpu::cpuset(cpu)))?);
    }
    if let Some(memory) = resources.memory() {
        all.extend(placed("memory", host, |version| memory::settings(memory, version, host))?);
    }
    if let Some(pids) = resources.pids() {
        all.extend(placed("pids", host, |_| Ok(pids_settings(pids)))?);
    }
    if let Some(io) = resources.block_io() {
        let controller = if (host.version)("blkio").is_some() { "blkio" } else { "io" };
        all.extend(placed(controller, host, |version| io::settings(io, version))?);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        all.extend(placed("hugetlb", host, |version| hugepage_settings(limit, version))?);
    }
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| name.as_str());
    for (name, limit) in devices {
        let settings = rdma_settings(name, limit)?;
        all.extend(placed("rdma", host, |_| Ok(settings.clone()))?);
    }
    if let Some(network) = resources.network() {
        all.extend(network_settings(network, host)?);
    }
    all.extend(unified_settings(resources, host)?);
    Ok(all)
}

/// The settings of `controller` in the interface it has here. Without it, anything asked is an
/// error.
fn placed(
    controller: &str,
    host: &Host<'_>,
    make: impl Fn(Version) -> Result<Vec<Setting>, Error>,
) -> Result<Vec<Setting>, Error> {
    let version = (host.version)(controller);
    let mut made = make(version.unwrap_or(Version::V2))?;
    if version.is_none()
        && let Some(first) = made.first()
    {
        return Err(Error::Unsupported(format!(
            "limit {} = {}: the {controller} controller is not available: mount it, or boot the \
             kernel with it enabled, or run without this limit",
            first.limit,
            first.value(),
        )));
    }
    for setting in &mut made {
        controller.clone_into(&mut setting.controller);
    }
    Ok(made)
}

fn unsupported(limit: &str, value: impl std::fmt::Display, why: &str) -> Error {
    Error::Unsupported(format!("limit {limit} = {value}: {why}"))
}

/// Refuses what would lead to another file or line.
fn plain_name(limit: &str, name: &str) -> Result<(), Error> {
    let odd = |c: char| c == '/' || c.is_control() || c.is_whitespace();
    if name.is_empty() || name.contains(odd) {
        return Err(Error::Invalid(format!("limit {limit}: {name:?} is not a plain name")));
    }
    Ok(())
}

/// 0 lets nothing be forked, as 1 does; but a process that begins its life in a group counts, and
/// runc writes 1.
fn pids_settings(pids: &LinuxPids) -> Vec<Setting> {
    let value = match pids.limit() {
        ..0 => "max".to_owned(),
        limit => limit.max(1).to_string(),
    };
    vec![Setting::new("pids.limit", "pids.max", value)]
}

/// What is not given stays as it is.
fn rdma_settings(device: &str, limit: &LinuxRdma) -> Result<Vec<Setting>, Error> {
    plain_name("rdma", device)?;
    let counts = [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())];
    let given = counts.iter().filter_map(|(key, count)| Some(format!(" {key}={}", (*count)?)));
    let given: String = given.collect();
    if given.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Setting::new("rdma", "rdma.max", format!("{device}{given}"))])
}

fn hugepage_settings(limit: &LinuxHugepageLimit, version: Version) -> Result<Vec<Setting>, Error> {
    let size = limit.page_size();
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    if !number.is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n > 0) && !n.starts_with(['+', '0']))
    {
        return Err(Error::Invalid(format!(
            "limit hugepageLimits: page size {size:?} is not of the form 2MB"
        )));
    }
    let bytes = limit.limit();
    let (name, value) = match version {
        Version::V1 => ("limit_in_bytes", bytes.max(-1).to_string()),
        Version::V2 if bytes < 0 => ("max", "max".to_owned()),
        Version::V2 => ("max", bytes.to_string()),
    };
    let remedy = "this machine has no huge pages of that size: see /sys/kernel/mm/hugepages";
    let used = Setting::new("hugepageLimits", format!("hugetlb.{size}.{name}"), &value);
    // Reservations are limited since Linux 5.7; what is used is, everywhere.
    let reserved = Setting::new("hugepageLimits", format!("hugetlb.{size}.rsvd.{name}"), value);
    Ok(vec![used.remedy(remedy), reserved.optional(true)])
}

fn network_settings(network: &LinuxNetwork, host: &Host<'_>) -> Result<Vec<Setting>, Error> {
    const ELSEWHERE: &str = "only version 1 of control groups has it: mount its controller, or \
                             mark packets with a firewall rule instead";
    let v1 = |controller: &str| (host.version)(controller) == Some(Version::V1);
    let mut made = Vec::new();
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        if !v1("net_cls") {
            return Err(unsupported("network.classID", class, ELSEWHERE));
        }
        let setting =
            || Ok(vec![Setting::new("network.classID", "net_cls.classid", class.to_string())]);
        made.extend(placed("net_cls", host, |_| setting())?);
    }
    for entry in network.priorities().iter().flatten() {
        plain_name("network.priorities", entry.name())?;
        let value = format!("{} {}", entry.name(), entry.priority());
        if !v1("net_prio") {
            return Err(unsupported("network.priorities", value, ELSEWHERE));
        }
        let setting = || Ok(vec![Setting::new("network.priorities", "net_prio.ifpriomap", &value)]);
        made.extend(placed("net_prio", host, |_| setting())?);
    }
    Ok(made)
}

/// Files of version 2 by name, after every other limit so that they have the last word.
fn unified_settings(resources: &LinuxResources, host: &Host<'_>) -> Result<Vec<Setting>, Error> {
    /// The files of the core that limit something; the others move or kill processes.
    const CORE: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];
    let mut entries: Vec<_> = resources.unified().iter().flatten().collect();
    entries.sort();
    let mut made = Vec::new();
    for (file, value) in entries {
        plain_name("unified", file)?;
        let Some((controller, _)) = file.split_once('.') else {
            return Err(Error::Invalid(format!("limit unified: {file:?} names no controller")));
        };
        if controller == "cgroup" && !CORE.contains(&file.as_str()) {
            return Err(Error::Invalid(format!("limit unified: {file} is not a limit")));
        }
        if (host.version)(controller) != Some(Version::V2) {
            let why = format!(
                "invalid configuration: the {controller} controller is not bound to version 2 of \
                 control groups here: use the limit's own field, or boot with cgroup_no_v1=all"
            );
            return Err(unsupported(&format!("unified.{file}"), value, &why));
        }
        // The kernel reads one line per write.
        for line in value.lines().filter(|line| !line.trim().is_empty()) {
            let mut setting = Setting::new("unified", file, line);
            controller.clone_into(&mut setting.controller);
            made.push(setting);
        }
    }
    Ok(made)
}
