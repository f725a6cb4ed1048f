//! `--honest-proc`: what a container is told about the machine is what it may use of it.
//!
//! The files are made when they are read ([`ServedFile`]), of the control group and the container's
//! record as they are then, so that a changed limit shows at once and nothing is done meanwhile.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use runtime::ServedFile;
use runtime::cgroup::{Cgroup, Stats};
use rustix::event::{PollFd, PollFlags};

use crate::container::{Container, RECORD, Record};
use crate::error::Result;
use crate::image::from_runtime;
use crate::settings::Limits;

/// What is shown in the place of the kernel's own files.
pub(crate) const FILES: [&str; 6] = [MEMINFO, CPUINFO, STAT, UPTIME, LOADAVG, ONLINE];
const MEMINFO: &str = "/proc/meminfo";
const CPUINFO: &str = "/proc/cpuinfo";
const STAT: &str = "/proc/stat";
const UPTIME: &str = "/proc/uptime";
const LOADAVG: &str = "/proc/loadavg";
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Over which times the load is averaged (proc_loadavg(5)).
const LOAD_TIMES: [f64; 3] = [60.0, 300.0, 900.0];
/// A tick of /proc/stat (`USER_HZ`), in nanoseconds.
const TICK_NS: u64 = 10_000_000;
const BILLION: i64 = 1_000_000_000;

/// What answers a container's questions about the machine.
#[derive(Debug)]
pub(crate) struct Honest {
    files: Vec<(&'static str, ServedFile)>,
    subject: Subject,
}

/// What the answers are about.
#[derive(Debug)]
struct Subject {
    record: PathBuf,
    cgroup: PathBuf,
    started: Instant,
    load: Load,
}

impl Honest {
    /// What tells a container its limits, if it asked for it; its mounts go to those of others.
    pub(crate) fn of(
        container: &Container,
        mounts: &mut Vec<(PathBuf, OwnedFd)>,
    ) -> Result<Option<Self>> {
        if container.record.settings.honest_proc.is_none() {
            return Ok(None);
        }
        let (made, honest) = Self::make(container)?;
        mounts.extend(made);
        Ok(Some(honest))
    }

    /// Makes the files; their mounts, by where they belong.
    fn make(container: &Container) -> Result<(Vec<(PathBuf, OwnedFd)>, Self)> {
        let (mut mounts, mut files) = (Vec::new(), Vec::new());
        for path in FILES {
            let (mount, file) = ServedFile::make().map_err(from_runtime)?;
            mounts.push((PathBuf::from(path), mount));
            files.push((path, file));
        }
        let started = Instant::now();
        let subject = Subject {
            record: container.directory().join(RECORD),
            cgroup: container.cgroup_path(),
            started,
            load: Load { averages: [0.0; 3], at: started, used: Duration::ZERO },
        };
        Ok((mounts, Self { files, subject }))
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.files.iter().map(|(_, file)| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN))
    }

    /// Answers what was asked.
    pub(crate) fn answer(&mut self) {
        let Self { files, subject } = self;
        for (path, file) in files {
            file.answer(&mut || subject.content(path));
        }
    }
}

impl Subject {
    fn content(&mut self, path: &str) -> Vec<u8> {
        let host = || fs::read_to_string(path).unwrap_or_default();
        let stats = Cgroup::open(&self.cgroup).and_then(|cgroup| cgroup.stats());
        let Ok(stats) = stats else { return host().into_bytes() };
        let record: Option<Record> = crate::file::read_json(&self.record).ok();
        let limits = record.map(|record| record.settings.limits).unwrap_or_default();
        let count = count(&limits, online().len());
        let uptime = self.started.elapsed();
        let text = match path {
            MEMINFO => meminfo(&host(), &stats),
            CPUINFO => cpuinfo(&host(), count),
            STAT => stat(&host(), &stats, uptime, count),
            UPTIME => {
                let idle = idle(&stats, uptime, count);
                format!("{:.2} {:.2}\n", uptime.as_secs_f64(), idle.as_secs_f64())
            }
            LOADAVG => {
                self.load.update(Instant::now(), Duration::from_nanos(stats.cpu.usage_ns));
                let [one, five, fifteen] = self.load.averages;
                let pids = stats.pids.current;
                format!("{one:.2} {five:.2} {fifteen:.2} 1/{pids} {pids}\n")
            }
            _ if count == 1 => "0\n".to_owned(),
            _ => format!("0-{}\n", count - 1),
        };
        text.into_bytes()
    }
}

/// The load as an average of the processors in use, over what has passed since it was asked for
/// last: to sample it meanwhile, somebody would have to wake up.
#[derive(Debug)]
struct Load {
    averages: [f64; 3],
    at: Instant,
    used: Duration,
}

impl Load {
    fn update(&mut self, now: Instant, used: Duration) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let busy = used.saturating_sub(self.used).as_secs_f64() / passed;
        for (average, time) in self.averages.iter_mut().zip(LOAD_TIMES) {
            let old = (-passed / time).exp();
            *average = *average * old + busy * (1.0 - old);
        }
        (self.at, self.used) = (now, used);
    }
}

/// How many processors a container may use, of as many as there are.
fn count(limits: &Limits, there: usize) -> usize {
    let chosen = list(&limits.cpuset_cpus).len();
    let most = if chosen == 0 { there } else { chosen };
    let quota = match (limits.nano_cpus, limits.cpu_quota_us, limits.cpu_period_us) {
        (Some(nano), ..) if nano > 0 => Some(rounded_up(nano, BILLION)),
        (_, Some(quota), period) if quota > 0 => {
            let period = i64::try_from(period.filter(|period| *period > 0).unwrap_or(100_000));
            Some(rounded_up(quota, period.unwrap_or(i64::MAX)))
        }
        _ => None,
    };
    let quota = quota.and_then(|quota| usize::try_from(quota).ok()).unwrap_or(most);
    quota.min(most).max(1)
}

/// A positive number divided by another.
fn rounded_up(number: i64, by: i64) -> i64 {
    number / by + i64::from(number % by > 0)
}

/// The processors for a container that may use some of them by its quota: as many as that is worth,
/// from the `first` on, so that what counts them (sched_getaffinity(2)) finds the right number.
pub(crate) fn processors(limits: &Limits, first: u32) -> Option<String> {
    let online = online();
    let count = count(limits, online.len());
    let first = first as usize % online.len().max(1);
    let mut chosen: Vec<u32> = online.iter().cycle().skip(first).take(count).copied().collect();
    chosen.sort_unstable();
    let chosen: Vec<String> = chosen.iter().map(u32::to_string).collect();
    (!chosen.is_empty()).then(|| chosen.join(","))
}

/// The machine's processors.
fn online() -> Vec<u32> {
    list(fs::read_to_string(ONLINE).unwrap_or_default().trim())
}

/// A list as `0-2,5`.
fn list(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<u32>()) {
            all.extend(first..=last);
        }
    }
    all
}

/// A number of the kernel's memory.stat, by its name in either version of control groups.
fn of_memory(stats: &Stats, names: &[&str]) -> u64 {
    names.iter().find_map(|name| stats.memory.raw.get(*name)).copied().unwrap_or(0)
}

fn meminfo(host: &str, stats: &Stats) -> String {
    let of_host = |name: &str| {
        let line = host.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        kib.unwrap_or(0_u64) * 1024
    };
    let memory = &stats.memory;
    let machine = of_host("MemTotal");
    let total = memory.limit_bytes.unwrap_or(machine).min(machine);
    let free = total.saturating_sub(memory.usage_bytes).min(of_host("MemFree"));
    let file =
        |kind: &str| of_memory(stats, &[&format!("total_{kind}_file"), &format!("{kind}_file")]);
    let available = (free + file("inactive") + file("active")).min(total);
    let with_swap = memory.with_swap.limit_bytes.map(|bytes| bytes.saturating_sub(total));
    let swap = with_swap.unwrap_or(u64::MAX).min(of_host("SwapTotal"));
    let anon =
        |kind: &str| of_memory(stats, &[&format!("total_{kind}_anon"), &format!("{kind}_anon")]);
    let (active, inactive) = (anon("active") + file("active"), anon("inactive") + file("inactive"));
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", available),
        ("Buffers", 0),
        ("Cached", memory.cache_bytes),
        ("SwapCached", 0),
        ("Active", active),
        ("Inactive", inactive),
        ("Active(anon)", anon("active")),
        ("Inactive(anon)", anon("inactive")),
        ("Active(file)", file("active")),
        ("Inactive(file)", file("inactive")),
        ("Unevictable", of_memory(stats, &["total_unevictable", "unevictable"])),
        ("SwapTotal", swap),
        ("SwapFree", swap.saturating_sub(memory.swap_bytes)),
        ("Dirty", of_memory(stats, &["total_dirty", "file_dirty"])),
        ("Writeback", of_memory(stats, &["total_writeback", "file_writeback"])),
        ("AnonPages", of_memory(stats, &["total_rss", "anon"])),
        ("Mapped", of_memory(stats, &["total_mapped_file", "file_mapped"])),
        ("Shmem", of_memory(stats, &["total_shmem", "shmem"])),
        ("Slab", of_memory(stats, &["slab"])),
        ("SReclaimable", of_memory(stats, &["slab_reclaimable"])),
        ("SUnreclaim", of_memory(stats, &["slab_unreclaimable"])),
        ("KernelStack", of_memory(stats, &["kernel_stack"])),
        ("PageTables", of_memory(stats, &["pagetables"])),
    ];
    let mut text = String::new();
    for (name, bytes) in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<16}{:>8} kB", format!("{name}:"), bytes / 1024);
    }
    text
}

/// The first processors of the machine's, which are all alike as a rule.
fn cpuinfo(host: &str, count: usize) -> String {
    let processors = host.split_inclusive("\n\n").filter(|block| block.contains("processor"));
    processors.take(count).collect()
}

fn idle(stats: &Stats, uptime: Duration, count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    uptime.saturating_mul(count).saturating_sub(Duration::from_nanos(stats.cpu.usage_ns))
}

fn stat(host: &str, stats: &Stats, uptime: Duration, count: usize) -> String {
    let ticks = |ns: u64| ns / TICK_NS;
    let idle = u64::try_from(idle(stats, uptime, count).as_nanos()).unwrap_or(u64::MAX);
    let numbers = [ticks(stats.cpu.user_ns), 0, ticks(stats.cpu.system_ns), ticks(idle)];
    let line = |name: &str, share: u64| {
        let shown: Vec<String> =
            numbers.iter().map(|ticks| (ticks / share.max(1)).to_string()).collect();
        format!("{name} {} 0 0 0 0 0 0\n", shown.join(" "))
    };
    let mut text = line("cpu ", 1);
    for number in 0..count {
        text += &line(&format!("cpu{number}"), count as u64);
    }
    let of_host = |name: &str| {
        let line = host.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or("0").to_owned()
    };
    let now = jiff::Timestamp::now().as_second();
    let booted = now - i64::try_from(uptime.as_secs()).unwrap_or(0);
    let (pids, switches) = (stats.pids.current, of_host("ctxt"));
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "intr 0\nctxt {switches}\nbtime {booted}\nprocesses {pids}\nprocs_running 1\nprocs_blocked 0\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_as_they_may_be_used() {
        let of = |nano: i64, set: &str| Limits {
            nano_cpus: Some(nano),
            cpuset_cpus: set.into(),
            ..Limits::default()
        };
        assert_eq!(count(&Limits::default(), 8), 8);
        assert_eq!(count(&of(1_500_000_000, ""), 8), 2);
        assert_eq!(count(&of(100_000_000, ""), 8), 1);
        assert_eq!(count(&of(0, "0-2,7"), 8), 4);
        assert_eq!(count(&of(9_000_000_000, "0-2"), 8), 3);
        let quota = Limits { cpu_quota_us: Some(250_000), ..Limits::default() };
        assert_eq!(count(&quota, 8), 3);
        let all = online();
        let one = processors(&of(1_000_000_000, ""), 1).unwrap();
        assert_eq!(one, all[1 % all.len()].to_string());
        assert_eq!(list(&processors(&Limits::default(), 5).unwrap()), all);
    }

    #[test]
    fn the_load_decays_and_rises() {
        let start = Instant::now();
        let mut load = Load { averages: [0.0; 3], at: start, used: Duration::ZERO };
        load.update(start + Duration::from_secs(600), Duration::from_secs(600));
        assert!(load.averages[0] > 0.99 && load.averages[2] < 0.6, "{:?}", load.averages);
        load.update(start + Duration::from_secs(1200), Duration::from_secs(600));
        assert!(load.averages[0] < 0.01 && load.averages[2] > 0.1, "{:?}", load.averages);
    }

    #[test]
    fn memory_is_the_limit_s() {
        let host =
            "MemTotal:       1000000 kB\nMemFree:         900000 kB\nSwapTotal:           0 kB\n";
        let mut stats = Stats::default();
        stats.memory.usage_bytes = 10 << 20;
        let line = |text: &str, name: &str| {
            text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned())).unwrap()
        };
        assert_eq!(line(&meminfo(host, &stats), "MemTotal:"), "1000000 kB");
        stats.memory.limit_bytes = Some(64 << 20);
        let text = meminfo(host, &stats);
        assert_eq!(line(&text, "MemTotal:"), "65536 kB");
        assert_eq!(line(&text, "MemFree:"), "55296 kB");
        assert_eq!(line(&text, "SwapTotal:"), "0 kB");
    }
}
