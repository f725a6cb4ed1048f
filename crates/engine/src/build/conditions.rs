//! Another machine, as far as a command or a copy can see one: what `build --verify` does each step
//! again under.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset, Spec};
use rustix::fs::Mode;

use super::step::{Site, Step};
use crate::Engine;
use crate::error::{Doing, Result};
use crate::file::create_dir;
use crate::settings::Settings;

/// The one processor that a command gets, unless it was told which.
const CPUS: &str = "0";
/// A day and some, in seconds: no clock of a machine that was started an hour ago shows that.
const UPTIME_OFFSET_S: i64 = 100_000;
/// An offset that no zone has; in POSIX's spelling, so that it needs no data of zones.
const ZONE: &str = "TZ=VERIFY-13:45";
const HOSTNAME: &str = "another-machine";
/// Of whoever builds: commands have one of their own.
const UMASK: u32 = 0o077;
/// A step's files lie in memory, whose directories have another order, if this many times what they
/// came to before is free.
const FREE_FACTOR: u64 = 4;
/// Bytes of memory for a step that left little.
const MEMORY_MIN: u64 = 64 << 20;
/// Where, below the directory of the step.
const MEMORY: &str = "memory";

/// What is different: see the constants above.
#[derive(Debug, Clone)]
pub(crate) struct Conditions;

impl Conditions {
    /// Changes what the process of a step has from whoever builds.
    pub(crate) fn enter(&self) {
        rustix::process::umask(Mode::from_raw_mode(UMASK));
    }

    /// Changes what a command is told.
    pub(crate) fn settings(&self, settings: &mut Settings, env: &mut Vec<String>) {
        HOSTNAME.clone_into(&mut settings.hostname);
        if settings.limits.cpuset_cpus.is_empty() {
            CPUS.clone_into(&mut settings.limits.cpuset_cpus);
        }
        if !env.iter().any(|variable| variable.starts_with("TZ=")) {
            env.push(ZONE.to_owned());
        }
    }

    /// Gives a command a time namespace: the clocks that count from the machine's start.
    pub(crate) fn clocks(&self, spec: &mut Spec) {
        let Some(linux) = spec.linux_mut() else { return };
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(LinuxNamespaceType::Time);
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.push(namespace);
        let mut offset = LinuxTimeOffset::default();
        offset.set_secs(Some(UPTIME_OFFSET_S));
        let clocks = ["monotonic", "boottime"].map(|clock| (clock.to_owned(), offset.clone()));
        linux.set_namespaces(Some(namespaces)).set_time_offsets(Some(HashMap::from(clocks)));
    }
}

/// Memory that can be had without taking it from others; none where that cannot be told.
fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}

/// Lets go of the memory of a step, if it had some.
pub(crate) fn release(site: &Path) {
    let path = site.join(MEMORY);
    if path.exists() {
        // It is gone with the process at the latest.
        let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Engine {
    /// Where a step's writable directory is made: in memory for one that is done again.
    pub(crate) fn workplace(&self, step: &Step<'_>, site: &Site<'_>) -> Result<PathBuf> {
        let Some(left) = step.left else { return Ok(site.path.clone()) };
        let bytes = left.saturating_mul(FREE_FACTOR).max(MEMORY_MIN);
        if bytes > available_bytes() {
            return Ok(site.path.clone());
        }
        let path = site.path.join(MEMORY);
        create_dir(&path)?;
        runtime::mount_memory(&path, bytes).doing(|| "do a step in memory".into())?;
        Ok(path)
    }
}
