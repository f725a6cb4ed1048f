//! What a control group has used.

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
}

/// Processor time, in nanoseconds since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        } else {
            let text = files.text("cpu.stat")?;
            let ns = |key: &str| keyed(&text, key).unwrap_or(0) * 1000;
            stats.usage_ns = ns("usage_usec");
            stats.user_ns = ns("user_usec");
            stats.system_ns = ns("system_usec");
        }
    }
    if let Some((version, dir)) = limit {
        let text = Files(dir).text("cpu.stat")?;
        let count = |key: &str| keyed(&text, key).unwrap_or(0);
        stats.periods = count("nr_periods");
        stats.throttled_periods = count("nr_throttled");
        stats.throttled_ns = match version {
            Version::V1 => count("throttled_time"),
            Version::V2 => count("throttled_usec") * 1000,
        };
    }
    Ok(stats)
}

pub(super) fn memory((version, dir): Place<'_>) -> io::Result<MemoryStats> {
    let files = Files(dir);
    let text = files.text("memory.stat")?;
    let stat = |key: &str| keyed(&text, key).unwrap_or(0);
    let (oom_events, oom_kills) = oom_counts((version, dir))?;
    let number = |name: &str| files.number(name);
    Ok(match version {
        Version::V1 => MemoryStats {
            usage_bytes: number("memory.usage_in_bytes")?.unwrap_or(0),
            limit_bytes: number("memory.limit_in_bytes")?,
            peak_bytes: number("memory.max_usage_in_bytes")?,
            cache_bytes: stat("total_cache"),
            inactive_file_bytes: stat("total_inactive_file"),
            swap_bytes: stat("total_swap"),
            oom_events,
            oom_kills,
        },
        Version::V2 => MemoryStats {
            usage_bytes: number("memory.current")?.unwrap_or(0),
            limit_bytes: number("memory.max")?,
            peak_bytes: number("memory.peak")?,
            cache_bytes: stat("file"),
            inactive_file_bytes: stat("inactive_file"),
            swap_bytes: number("memory.swap.current")?.unwrap_or(0),
            oom_events,
            oom_kills,
        },
    })
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

pub(super) fn pids((_, dir): Place<'_>) -> io::Result<PidsStats> {
    let files = Files(dir);
    let current = files.number("pids.current")?.unwrap_or(0);
    Ok(PidsStats { current, limit: files.number("pids.max")? })
}

pub(super) fn io((version, dir): Place<'_>) -> io::Result<Vec<IoStats>> {
    let files = Files(dir);
    if version == Version::V2 {
        return Ok(io_v2(&files.text("io.stat")?));
    }
    let bytes = files.text("blkio.throttle.io_service_bytes_recursive")?;
    let ops = files.text("blkio.throttle.io_serviced_recursive")?;
    Ok(io_v1(&bytes, &ops))
}

fn io_v2(text: &str) -> Vec<IoStats> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next().and_then(|device| entry(&mut found, device)) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.write_bytes = value,
                "rios" => device.read_ops = value,
                "wios" => device.write_ops = value,
                _ => {}
            }
        }
    }
    found
}

/// Lines such as `8:0 Read 4096`.
fn io_v1(bytes: &str, ops: &str) -> Vec<IoStats> {
    let mut found = Vec::new();
    let lines = bytes.lines().map(|l| (l, true)).chain(ops.lines().map(|l| (l, false)));
    for (line, is_bytes) in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [device, operation, value] = words[..] else { continue };
        let (Some(device), Ok(value)) = (entry(&mut found, device), value.parse()) else {
            continue;
        };
        match (operation, is_bytes) {
            ("Read", true) => device.read_bytes = value,
            ("Write", true) => device.write_bytes = value,
            ("Read", false) => device.read_ops = value,
            ("Write", false) => device.write_ops = value,
            _ => {}
        }
    }
    found
}

/// The entry of the device `8:0`, made if it is new.
fn entry<'a>(found: &'a mut Vec<IoStats>, device: &str) -> Option<&'a mut IoStats> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let at = found.iter().position(|d| (d.major, d.minor) == (major, minor));
    let at = at.unwrap_or_else(|| {
        found.push(IoStats { major, minor, ..IoStats::default() });
        found.len() - 1
    });
    found.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_from_both_interfaces() {
        let want = [
            IoStats {
                major: 8,
                read_bytes: 10,
                write_bytes: 20,
                read_ops: 1,
                write_ops: 2,
                ..IoStats::default()
            },
            IoStats { major: 253, minor: 1, write_bytes: 5, ..IoStats::default() },
        ];
        let v2 =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 wbytes=5\nnonsense\n";
        assert_eq!(io_v2(v2), want);
        let bytes = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n253:1 Write 5\nTotal 35\n";
        assert_eq!(io_v1(bytes, "8:0 Read 1\n8:0 Write 2\nTotal 3\n"), want);
        assert!(io_v1("", "").is_empty());
    }
}
