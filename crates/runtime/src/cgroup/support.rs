//! Which limits this machine grants.

use super::hierarchy::{Layout, Version};
use super::{Error, accounts_swap, file};
use std::os::fd::AsFd as _;

/// Whether limits of each kind can be applied here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Support {
    /// 2 where every controller is version 2's; 1 where any is of the first.
    pub version: u8,
    /// `--memory`.
    pub memory: bool,
    /// `--memory-swap`.
    pub swap: bool,
    /// `--oom-kill-disable`, which only version 1 has.
    pub oom_kill_disable: bool,
    /// `--cpu-shares`.
    pub cpu_shares: bool,
    /// `--cpus`, `--cpu-quota` and `--cpu-period`.
    pub cpu_quota: bool,
    /// `--cpuset-cpus` and `--cpuset-mems`.
    pub cpuset: bool,
    /// `--pids-limit`.
    pub pids: bool,
    /// `--blkio-weight` and its like.
    pub blkio: bool,
}

/// Which limits can be applied on this machine.
///
/// # Errors
/// If no hierarchy is mounted, or it cannot be looked at.
pub fn support() -> Result<Support, Error> {
    let layout = Layout::of_host()?;
    let has = |controller: &str| layout.of(controller).is_some();
    let memory = layout.version("memory");
    let first = layout.hierarchies.iter().any(|hierarchy| {
        hierarchy.version == Version::V1
            && hierarchy.controllers.iter().any(|name| !name.starts_with("name="))
    });
    // A kernel without CONFIG_CFS_BANDWIDTH has shares only; version 2 shows the file below its root.
    let quota = layout.of("cpu").is_some_and(|cpu| {
        cpu.version == Version::V2 || file::read(cpu.root.as_fd(), "cpu.cfs_quota_us").is_ok()
    });
    Ok(Support {
        version: if first { 1 } else { 2 },
        memory: memory.is_some(),
        swap: accounts_swap(),
        oom_kill_disable: memory == Some(Version::V1),
        cpu_shares: has("cpu"),
        cpu_quota: quota,
        cpuset: has("cpuset"),
        pids: has("pids"),
        blkio: has("blkio") || has("io"),
    })
}
