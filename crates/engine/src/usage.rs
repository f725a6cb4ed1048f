//! What a running container uses now.

use std::collections::BTreeMap;
use std::fs;

use runtime::cgroup::{Cgroup, Stats};

use crate::Engine;
use crate::container::Container;
use crate::error::{Doing, Result};
use crate::image::from_cgroup;
use crate::stop;

/// Amounts since the container was started, and what it holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory without the page cache that was not used lately, as Docker counts it.
    pub memory_bytes: u64,
    /// The most memory it may use; the machine's where it has no limit.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Read from block devices.
    pub read_bytes: u64,
    /// Written to block devices.
    pub written_bytes: u64,
    /// All that its control group says.
    pub groups: Stats,
    /// Its network interfaces, by name, the loopback one left out.
    pub interfaces: BTreeMap<String, Traffic>,
    /// Received over its network interfaces, the loopback one left out.
    pub received_bytes: u64,
    /// Sent over them.
    pub sent_bytes: u64,
}

/// What has come and gone over a network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Received: bytes, packets, errors, and packets that were dropped.
    pub received: [u64; 4],
    /// Sent, as `received`.
    pub sent: [u64; 4],
}

impl Engine {
    /// The processes of a running container, by their ids on this machine.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run.
    ///
    /// [`Kind::Conflict`]: crate::Kind::Conflict
    pub fn pids(&self, container: &Container) -> Result<Vec<i32>> {
        stop::running(container)?;
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        cgroup.pids().map_err(from_cgroup)
    }

    /// What a running container uses.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run.
    ///
    /// [`Kind::Conflict`]: crate::Kind::Conflict
    pub fn usage(&self, container: &Container) -> Result<Usage> {
        // Held, so that its number is not another's when its network is looked at.
        let _process = stop::running(container)?;
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        let stats = cgroup.stats().map_err(from_cgroup)?;
        let machine = machine_memory_bytes();
        let devices = format!("/proc/{}/net/dev", container.state.pid);
        let devices = fs::read_to_string(&devices).doing(|| format!("read {devices}"))?;
        let interfaces = traffic(&devices);
        let sum = |of: fn(&Traffic) -> u64| interfaces.values().map(of).sum();
        let received_bytes = sum(|traffic| traffic.received[0]);
        let sent_bytes = sum(|traffic| traffic.sent[0]);
        Ok(Usage {
            cpu_ns: stats.cpu.usage_ns,
            memory_bytes: stats.memory.usage_bytes.saturating_sub(stats.memory.inactive_file_bytes),
            memory_limit_bytes: stats.memory.limit_bytes.unwrap_or(machine).min(machine),
            pids: stats.pids.current,
            read_bytes: stats.io.iter().map(|device| device.read_bytes).sum(),
            written_bytes: stats.io.iter().map(|device| device.write_bytes).sum(),
            received_bytes,
            sent_bytes,
            groups: stats,
            interfaces,
        })
    }
}

/// What a file as /proc/net/dev says (proc_pid_net(5)).
fn traffic(text: &str) -> BTreeMap<String, Traffic> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let all: Vec<u64> =
            numbers.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect();
        let four = |from: usize| all.get(from..from + 4)?.try_into().ok();
        let traffic = Traffic { received: four(0)?, sent: four(8)? };
        (name.trim() != "lo").then(|| (name.trim().to_owned(), traffic))
    };
    text.lines().filter_map(line).collect()
}

fn machine_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_of_all_interfaces_but_the_loopback_is_read() {
        let text = "Inter-|   Receive  | Transmit\n face |bytes packets\n\
                    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n\
                    eth0: 100 2 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n\
                    eth1:    5 2 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        let found = traffic(text);
        let bytes: Vec<(&str, u64, u64)> =
            found.iter().map(|(name, t)| (name.as_str(), t.received[0], t.sent[0])).collect();
        assert_eq!(bytes, [("eth0", 100, 30), ("eth1", 5, 6)]);
    }
}
