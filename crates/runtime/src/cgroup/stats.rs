//! What a control group has used.

mod block;
mod pressure;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

use super::file::{self, keyed};
use super::hierarchy::Version;

/// Usage of a control group and the groups below it. A part whose controller is not available is
/// zero or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block devices, each once.
    pub io: Vec<IoStats>,
    /// How long processes waited for block devices; version 2 only.
    pub io_pressure: Option<Pressure>,
    /// Huge pages, by size as in `2MB`.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// What the processes may run on.
    pub cpuset: CpusetStats,
}

/// Processor time, in nanoseconds since the group was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStats {
    /// User and kernel together.
    pub usage_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In kernel mode.
    pub system_ns: u64,
    /// Periods in which the group was runnable, if a quota is set.
    pub periods: u64,
    /// Of these, periods in which the quota was used up.
    pub throttled_periods: u64,
    /// For how long processes were held back.
    pub throttled_ns: u64,
    /// Periods in which more than the quota was used, from a burst.
    pub burst_periods: u64,
    /// How much more that was.
    pub burst_ns: u64,
    /// By processor: user and kernel together; version 1 only, as are the next two.
    pub by_processor_ns: Vec<u64>,
    /// By processor, in user mode.
    pub user_by_processor_ns: Vec<u64>,
    /// By processor, in kernel mode.
    pub system_by_processor_ns: Vec<u64>,
    /// How long processes waited for a processor; version 2 only.
    pub pressure: Option<Pressure>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage_bytes: u64,
    /// The limit; `None` if there is none.
    pub limit_bytes: Option<u64>,
    /// The most that was ever in use; `None` before Linux 5.19 on version 2.
    pub peak_bytes: Option<u64>,
    /// Page cache.
    pub cache_bytes: u64,
    /// Page cache not used lately. Docker shows usage without it.
    pub inactive_file_bytes: u64,
    /// Swap in use, without memory.
    pub swap_bytes: u64,
    /// How often the limit was reached and nothing could be reclaimed. Version 1 does not count
    /// this and shows `oom_kills`.
    pub oom_events: u64,
    /// Processes killed for it.
    pub oom_kills: u64,
    /// Memory, as version 1 tells it.
    pub total: MemoryEntry,
    /// Memory and swap together.
    pub with_swap: MemoryEntry,
    /// The kernel's memory on the group's behalf; version 1 only.
    pub kernel: MemoryEntry,
    /// Buffers of TCP; version 1 only.
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat` as it is.
    pub raw: BTreeMap<String, u64>,
    /// How long processes waited for memory; version 2 only.
    pub pressure: Option<Pressure>,
}

/// One kind of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryEntry {
    /// In use.
    pub usage_bytes: u64,
    /// The limit; `None` if there is none.
    pub limit_bytes: Option<u64>,
    /// The most that was ever in use; 0 where the kernel does not tell.
    pub peak_bytes: u64,
    /// How often the limit was reached; version 1 only.
    pub failures: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HugetlbStats {
    /// Reserved, or in use where the kernel does not count reservations (before Linux 5.7).
    pub usage_bytes: u64,
    /// The most that ever was; version 1 only.
    pub peak_bytes: u64,
    /// How often the limit was reached.
    pub failures: u64,
}

/// What processes may run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpusetStats {
    /// The processors; on version 2 those that are in effect.
    pub cpus: Vec<u16>,
    /// The nodes of memory; on version 2 those that are in effect.
    pub mems: Vec<u16>,
    /// The other files of version 1, by name without `cpuset.`: `memory_migrate`, …
    pub settings: BTreeMap<&'static str, i64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` if there is no limit.
    pub limit: Option<u64>,
}

/// Traffic with one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoStats {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub read_ops: u64,
    /// Write operations.
    pub write_ops: u64,
}

pub use pressure::{Pressure, Waiting};

/// A directory to read from, with its interface.
pub(super) type Place<'a> = (Version, BorrowedFd<'a>);

/// The files of one directory. A file that is missing reads as empty: its feature is.
struct Files<'a>(BorrowedFd<'a>);

impl Files<'_> {
    fn text(&self, name: &str) -> io::Result<String> {
        match file::read(self.0, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            // A file the kernel offers for reading where the feature behind it is switched off.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(String::new()),
            other => other,
        }
    }

    /// `None` for `max`, a missing file, and what version 1 shows for no limit.
    fn number(&self, name: &str) -> io::Result<Option<u64>> {
        /// Version 1 counts in pages in a long: no limit reads as the largest multiple of the page
        /// size (mm/page_counter.c).
        const UNLIMITED: u64 = i64::MAX as u64 - 0xffff;
        Ok(self.text(name)?.trim().parse().ok().filter(|n| *n < UNLIMITED))
    }
}

/// Times from `cpuacct` or version 2, throttling from `cpu`.
pub(super) fn cpu(time: Option<Place<'_>>, limit: Option<Place<'_>>) -> io::Result<CpuStats> {
    let mut stats = CpuStats::default();
    if let Some((version, dir)) = time {
        let files = Files(dir);
        if version == Version::V1 {
            stats.usage_ns = files.number("cpuacct.usage")?.unwrap_or(0);
            stats.user_ns = files.number("cpuacct.usage_user")?.unwrap_or(0);
            stats.system_ns = files.number("cpuacct.usage_sys")?.unwrap_or(0);
            stats.by_processor_ns = numbers(&files.text("cpuacct.usage_percpu")?);
            let both = files.text("cpuacct.usage_all")?;
            (stats.user_by_processor_ns, stats.system_by_processor_ns) = by_processor(&both);
        } else {
            let text = files.text("cpu.stat")?;
            let ns = |key: &str| keyed(&text, key).unwrap_or(0) * 1000;
            stats.usage_ns = ns("usage_usec");
            stats.user_ns = ns("user_usec");
            stats.system_ns = ns("system_usec");
            stats.pressure = pressure::read(&files.text("cpu.pressure")?);
        }
    }
    if let Some((version, dir)) = limit {
        let text = Files(dir).text("cpu.stat")?;
        let count = |key: &str| keyed(&text, key).unwrap_or(0);
        stats.periods = count("nr_periods");
        stats.throttled_periods = count("nr_throttled");
        stats.burst_periods = count("nr_bursts");
        (stats.throttled_ns, stats.burst_ns) = match version {
            Version::V1 => (count("throttled_time"), count("burst_time")),
            Version::V2 => (count("throttled_usec") * 1000, count("burst_usec") * 1000),
        };
    }
    Ok(stats)
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// User and kernel time of every processor, from lines such as `0 17 4` below a heading.
fn by_processor(text: &str) -> (Vec<u64>, Vec<u64>) {
    let times = text.lines().skip(1).map(numbers);
    times.filter_map(|times| Some((*times.get(1)?, *times.get(2)?))).unzip()
}

pub(super) fn memory((version, dir): Place<'_>) -> io::Result<MemoryStats> {
    let files = Files(dir);
    let text = files.text("memory.stat")?;
    let raw: BTreeMap<String, u64> = text.lines().filter_map(stat_line).collect();
    let stat = |key: &str| raw.get(key).copied().unwrap_or(0);
    let (oom_events, oom_kills) = oom_counts((version, dir))?;
    let mut stats = match version {
        Version::V1 => MemoryStats {
            cache_bytes: stat("total_cache"),
            inactive_file_bytes: stat("total_inactive_file"),
            swap_bytes: stat("total_swap"),
            total: entry_v1(&files, "memory")?,
            with_swap: entry_v1(&files, "memory.memsw")?,
            kernel: entry_v1(&files, "memory.kmem")?,
            kernel_tcp: entry_v1(&files, "memory.kmem.tcp")?,
            ..MemoryStats::default()
        },
        Version::V2 => {
            let (total, swap) = (entry_v2(&files, "memory")?, entry_v2(&files, "memory.swap")?);
            MemoryStats {
                cache_bytes: stat("file"),
                inactive_file_bytes: stat("inactive_file"),
                swap_bytes: swap.usage_bytes,
                with_swap: together(total, swap),
                total,
                pressure: pressure::read(&files.text("memory.pressure")?),
                ..MemoryStats::default()
            }
        }
    };
    stats.usage_bytes = stats.total.usage_bytes;
    stats.limit_bytes = stats.total.limit_bytes;
    stats.peak_bytes = Some(stats.total.peak_bytes).filter(|peak| *peak > 0);
    Ok(MemoryStats { oom_events, oom_kills, raw, ..stats })
}

fn stat_line(line: &str) -> Option<(String, u64)> {
    let (key, value) = line.split_once(' ')?;
    Some((key.to_owned(), value.trim().parse().ok()?))
}

fn entry_v1(files: &Files<'_>, prefix: &str) -> io::Result<MemoryEntry> {
    let number = |name: &str| files.number(&format!("{prefix}.{name}"));
    Ok(MemoryEntry {
        usage_bytes: number("usage_in_bytes")?.unwrap_or(0),
        limit_bytes: number("limit_in_bytes")?,
        peak_bytes: number("max_usage_in_bytes")?.unwrap_or(0),
        failures: number("failcnt")?.unwrap_or(0),
    })
}

fn entry_v2(files: &Files<'_>, prefix: &str) -> io::Result<MemoryEntry> {
    let number = |name: &str| files.number(&format!("{prefix}.{name}"));
    Ok(MemoryEntry {
        usage_bytes: number("current")?.unwrap_or(0),
        limit_bytes: number("max")?,
        peak_bytes: number("peak")?.unwrap_or(0),
        failures: 0,
    })
}

/// Version 2 counts memory and swap apart; two peaks do not add up.
fn together(memory: MemoryEntry, swap: MemoryEntry) -> MemoryEntry {
    MemoryEntry {
        usage_bytes: memory.usage_bytes + swap.usage_bytes,
        limit_bytes: memory.limit_bytes.zip(swap.limit_bytes).map(|(a, b)| a.saturating_add(b)),
        ..MemoryEntry::default()
    }
}

/// How often memory ran out, and how many processes were killed for it.
pub(super) fn oom_counts((version, dir): Place<'_>) -> io::Result<(u64, u64)> {
    let name = match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    let text = Files(dir).text(name)?;
    let kills = keyed(&text, "oom_kill").unwrap_or(0);
    Ok((keyed(&text, "oom").unwrap_or(kills), kills))
}

/// The most memory that was in use at once, in bytes (Linux 5.19 in version 2).
pub(super) fn memory_peak((version, dir): Place<'_>) -> io::Result<u64> {
    let name = match version {
        Version::V1 => "memory.max_usage_in_bytes",
        Version::V2 => "memory.peak",
    };
    Ok(Files(dir).number(name)?.unwrap_or(0))
}

pub(super) fn pids((_, dir): Place<'_>) -> io::Result<PidsStats> {
    let files = Files(dir);
    let current = files.number("pids.current")?.unwrap_or(0);
    Ok(PidsStats { current, limit: files.number("pids.max")? })
}

/// Traffic, and waiting for it.
pub(super) fn io((version, dir): Place<'_>) -> io::Result<(Vec<IoStats>, Option<Pressure>)> {
    let files = Files(dir);
    if version == Version::V2 {
        let traffic = block::traffic_v2(&files.text("io.stat")?);
        return Ok((traffic, pressure::read(&files.text("io.pressure")?)));
    }
    let bytes = files.text("blkio.throttle.io_service_bytes_recursive")?;
    let operations = files.text("blkio.throttle.io_serviced_recursive")?;
    Ok((block::traffic_v1(&bytes, &operations), None))
}

/// Huge pages of every size that this machine has.
pub(super) fn hugetlb((version, dir): Place<'_>) -> io::Result<BTreeMap<String, HugetlbStats>> {
    let files = Files(dir);
    let mut found = BTreeMap::new();
    for size in page_sizes() {
        let number = |name: &str| files.number(&format!("hugetlb.{size}.{name}"));
        let stats = match version {
            Version::V1 => {
                let reserved = number("rsvd.usage_in_bytes")?;
                let part = if reserved.is_some() { "rsvd." } else { "" };
                let of = |name: &str| number(&format!("{part}{name}"));
                let Some(usage_bytes) = of("usage_in_bytes")? else { continue };
                let peak_bytes = of("max_usage_in_bytes")?.unwrap_or(0);
                HugetlbStats { usage_bytes, peak_bytes, failures: of("failcnt")?.unwrap_or(0) }
            }
            Version::V2 => {
                let Some(usage_bytes) = number("rsvd.current")?.or(number("current")?) else {
                    continue;
                };
                let events = files.text(&format!("hugetlb.{size}.events"))?;
                let failures = keyed(&events, "max").unwrap_or(0);
                HugetlbStats { usage_bytes, peak_bytes: 0, failures }
            }
        };
        found.insert(size, stats);
    }
    Ok(found)
}

/// As in the names of control files, from `/sys/kernel/mm/hugepages/hugepages-2048kB`.
fn page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()
    });
    sizes.map(shown_size).collect()
}

/// As `mem_fmt` of mm/hugetlb_cgroup.c.
fn shown_size(kib: u64) -> String {
    const MIB: u64 = 1 << 10;
    const GIB: u64 = 1 << 20;
    match kib {
        GIB.. => format!("{}GB", kib / GIB),
        MIB.. => format!("{}MB", kib / MIB),
        _ => format!("{kib}KB"),
    }
}

pub(super) fn cpuset((version, dir): Place<'_>) -> io::Result<CpusetStats> {
    /// What runc shows of version 1.
    const SETTINGS: [&str; 9] = [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ];
    let files = Files(dir);
    let names = match version {
        Version::V1 => ["cpuset.cpus", "cpuset.mems"],
        Version::V2 => ["cpuset.cpus.effective", "cpuset.mems.effective"],
    };
    let [cpus, mems] = names.map(|name| files.text(name));
    let mut settings = BTreeMap::new();
    for name in SETTINGS.iter().filter(|_| version == Version::V1) {
        let text = files.text(&format!("cpuset.{name}"))?;
        settings.insert(*name, text.trim().parse().unwrap_or(0));
    }
    Ok(CpusetStats { cpus: list(cpus?.trim()), mems: list(mems?.trim()), settings })
}

/// The numbers of a list such as `0-2,7` (cpuset(7), "List format"); at most as many as a machine
/// can have.
fn list(text: &str) -> Vec<u16> {
    /// `NR_CPUS` is at most 8192.
    const COUNT_MAX: usize = 8192;
    let ranges = text.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    });
    ranges.flatten().take(COUNT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_sizes_are_read() {
        assert_eq!(list("0-2,7"), [0, 1, 2, 7]);
        assert!(list("").is_empty());
        assert_eq!([64, 2048, 1 << 20].map(shown_size), ["64KB", "2MB", "1GB"]);
        assert_eq!(by_processor("cpu user system\n0 17 4\n1 3 9\n"), (vec![17, 3], vec![4, 9]));
    }
}
