//! What a node runs out of, and when that is too little (upstream's `--eviction-hard`).

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use objects::Quantity;

use crate::usage::NodeUse;

/// Upstream's own thresholds.
pub const EVICTION_HARD: &str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,\
    imagefs.available<15%,imagefs.inodesFree<5%";
/// How long a pressure is told of after it is over (`--eviction-pressure-transition-period`).
const LINGERS: Duration = Duration::from_secs(300);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Memory,
    Disk,
    Inodes,
    ImageDisk,
    ImageInodes,
    Pids,
}

const SIGNALS: [(&str, Signal); 6] = [
    ("memory.available", Signal::Memory),
    ("nodefs.available", Signal::Disk),
    ("nodefs.inodesFree", Signal::Inodes),
    ("imagefs.available", Signal::ImageDisk),
    ("imagefs.inodesFree", Signal::ImageInodes),
    ("pid.available", Signal::Pids),
];

impl Signal {
    /// As messages name what there is too little of.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk | Self::ImageDisk => "ephemeral-storage",
            Self::Inodes | Self::ImageInodes => "inodes",
            Self::Pids => "pids",
        }
    }
}

/// How little is too little.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Least {
    Amount(u64),
    /// A part of all there is, in hundredths.
    Percent(f64),
}

/// A signal, and what is to be left of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) signal: Signal,
    least: Least,
}

/// What is to be left of a host's resources, as kubelets take it:
/// `memory.available<100Mi,nodefs.available<10%`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thresholds(pub(crate) Vec<Threshold>);

impl FromStr for Thresholds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(Threshold::read).collect::<Result<_, _>>().map(Self)
    }
}

impl Threshold {
    fn read(text: &str) -> Result<Self, String> {
        let (name, least) = text
            .split_once('<')
            .ok_or_else(|| format!("{text:?} is no threshold: SIGNAL<AMOUNT is one"))?;
        let found = SIGNALS.iter().find(|(known, _)| *known == name);
        let (_, signal) = found.ok_or_else(|| {
            let known = SIGNALS.map(|(name, _)| name).join(", ");
            format!("{name:?} is no signal: these are {known}")
        })?;
        let wrong = || format!("{least:?} is no amount: 100Mi and 10% are");
        let least = match least.strip_suffix('%') {
            Some(number) => {
                let part: f64 = number.parse().map_err(|_| wrong())?;
                (0.0..=100.0).contains(&part).then_some(Least::Percent(part)).ok_or_else(wrong)?
            }
            None => {
                let amount: Quantity = least.parse().map_err(|_| wrong())?;
                Least::Amount(u64::try_from(amount.value()).map_err(|_| wrong())?)
            }
        };
        Ok(Self { signal: *signal, least })
    }

    /// How much is to be left of so much.
    pub(crate) fn least(&self, all: u64) -> u64 {
        match self.least {
            Least::Amount(amount) => amount,
            Least::Percent(part) => (all as f64 * part / 100.0) as u64,
        }
    }
}

/// How much is left of something, and how much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) available: u64,
    pub(crate) all: u64,
}

/// What is left of a signal's resource; `None` if that cannot be told.
pub(crate) fn left(signal: Signal, pods: &Path, images: &Path) -> Option<Left> {
    let bytes = |place: &Path| {
        let disk = rustix::fs::statvfs(place).ok()?;
        Some(Left { available: disk.f_bavail * disk.f_frsize, all: disk.f_blocks * disk.f_frsize })
    };
    let inodes = |place: &Path| {
        let disk = rustix::fs::statvfs(place).ok()?;
        // Some file systems have no number of them.
        (disk.f_files > 0).then_some(Left { available: disk.f_favail, all: disk.f_files })
    };
    match signal {
        Signal::Memory => {
            let used = NodeUse::look();
            Some(Left { available: used.available_bytes(), all: used.total_bytes() })
        }
        Signal::Disk => bytes(pods),
        Signal::ImageDisk => bytes(images),
        Signal::Inodes => inodes(pods),
        Signal::ImageInodes => inodes(images),
        Signal::Pids => pids(),
    }
}

/// Numbers of processes that are free: `pid_max`, and the last word but one of proc_loadavg(5).
fn pids() -> Option<Left> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let all: u64 = read("/proc/sys/kernel/pid_max")?.trim().parse().ok()?;
    let load = read("/proc/loadavg")?;
    let (_, used) = load.split_whitespace().nth(3)?.split_once('/')?;
    Some(Left { available: all.saturating_sub(used.parse().ok()?), all })
}

/// What a node tells of: since when it has had too little.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pressures {
    memory: Option<Instant>,
    disk: Option<Instant>,
    pids: Option<Instant>,
}

impl Pressures {
    fn of(&mut self, signal: Signal) -> &mut Option<Instant> {
        match signal {
            Signal::Memory => &mut self.memory,
            Signal::Pids => &mut self.pids,
            _ => &mut self.disk,
        }
    }

    /// There is too little of something now.
    pub(crate) fn note(&mut self, signal: Signal, now: Instant) {
        *self.of(signal) = Some(now);
    }

    /// Which are told of: memory, disk, and numbers of processes.
    pub(crate) fn told(&self, now: Instant) -> [bool; 3] {
        [self.memory, self.disk, self.pids]
            .map(|last| last.is_some_and(|last| now.duration_since(last) < LINGERS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_kubelets_read_them() {
        let Thresholds(all) = EVICTION_HARD.parse().unwrap();
        assert_eq!(all.len(), 5);
        assert_eq!((all[0].signal, all[0].least(1 << 30)), (Signal::Memory, 100 << 20));
        assert_eq!((all[1].signal, all[1].least(1000)), (Signal::Disk, 100));
        assert!("".parse::<Thresholds>().unwrap().0.is_empty());
        for wrong in ["memory.available", "memory<1", "memory.available<x", "nodefs.available<101%"]
        {
            assert!(wrong.parse::<Thresholds>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pressure_lingers() {
        let (mut own, begun) = (Pressures::default(), Instant::now());
        own.note(Signal::Inodes, begun);
        assert_eq!(own.told(begun), [false, true, false]);
        assert_eq!(own.told(begun + LINGERS), [false; 3]);
    }
}
