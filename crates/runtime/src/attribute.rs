//! How a process is scheduled and where its memory comes from: what execve(2) keeps
//! (runtime-spec, config.md, "Linux Process"; config-linux.md, "Memory Policy", "Personality").

use oci::runtime::{
    ExecCPUAffinity, IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonality,
    LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, Process, Scheduler,
};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Doing, Error};
use crate::sys;
use crate::sys::attribute::{SchedulerAttr, set_memory_policy, set_scheduler};

/// `PER_LINUX32` of personality(2): uname(2) tells of a 32-bit machine.
const PER_LINUX32: libc::c_ulong = 0x8;

/// The largest number of a memory node that a list may name: `MAX_NUMNODES` of the kernels that
/// have the most.
const NODE_MAX: usize = 1023;

/// Everything of the kind, read before a process is cloned.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) scheduling: Scheduling,
    /// Class and level (ioprio_set(2)).
    io_priority: Option<(u16, u16)>,
    /// Mode with flags, and the nodes.
    memory: Option<(i32, Vec<u64>)>,
    personality: Option<libc::c_ulong>,
}

/// How a process is scheduled. A process that is cloned need not inherit it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Scheduling {
    scheduler: Option<SchedulerAttr>,
    /// Whether the cgroup says on which processors.
    confined: bool,
}

impl Scheduling {
    /// Schedules the process `pid`, or with 0 this one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn apply(self, pid: i32) -> Result<(), Error> {
        let Some(attr) = self.scheduler else { return Ok(()) };
        set_scheduler(pid, attr).doing(|| match self.confined {
            true => "set the scheduler (process scheduler can't be used together with AllowedCPUs)",
            false => "set the scheduler",
        })
    }
}

impl Attributes {
    /// Reads the specification: the process', and the container's that hold for all its processes.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn read(process: &Process, linux: Option<&Linux>) -> Result<Attributes, Error> {
        let io_priority = process.io_priority().as_ref().map(|priority| {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            let level = u16::try_from(priority.priority()).ok().filter(|level| *level < 8);
            let wrong = || format!("invalid ioPriority.Priority: {}", priority.priority());
            level.map(|level| (class, level)).ok_or_else(|| Error::Spec(wrong()))
        });
        let cpus =
            linux.and_then(|linux| linux.resources().as_ref()?.cpu().as_ref()?.cpus().as_deref());
        Ok(Attributes {
            scheduling: Scheduling {
                scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
                confined: cpus.is_some_and(|cpus| !cpus.is_empty()),
            },
            io_priority: io_priority.transpose()?,
            memory: linux.and_then(|l| l.memory_policy().as_ref()).map(memory).transpose()?,
            personality: linux.and_then(|l| l.personality().as_ref()).map(domain).transpose()?,
        })
    }

    /// Gives them to this process, and to those that it clones; all but the scheduling.
    ///
    /// # Errors
    /// Names the attribute that the kernel refused.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        if let Some((class, level)) = self.io_priority {
            sys::set_io_priority(class, level).doing(|| "set the I/O priority")?;
        }
        if let Some(domain) = self.personality {
            sys::personality(domain).doing(|| "set the personality")?;
        }
        match &self.memory {
            Some((mode, nodes)) => {
                set_memory_policy(*mode, nodes).doing(|| "set the memory policy")
            }
            None => Ok(()),
        }
    }
}

fn scheduler(scheduler: &Scheduler) -> Result<SchedulerAttr, Error> {
    use LinuxSchedulerPolicy as Policy;
    let policy = *scheduler.policy();
    let number = match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let wrong = |text: String| Err(Error::Spec(text));
    let nice = scheduler.nice().unwrap_or(0);
    let plain = matches!(policy, Policy::SchedOther | Policy::SchedBatch);
    if plain && !(-20..=19).contains(&nice) {
        return wrong(format!("invalid scheduler.nice: {nice} when scheduler.policy is {policy}"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    if priority != 0 && !matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        let text = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy";
        return wrong(text.into());
    }
    let Ok(priority) = u32::try_from(priority) else {
        return wrong(format!("invalid scheduler.priority: {priority}"));
    };
    let times = [*scheduler.runtime(), *scheduler.deadline(), *scheduler.period()];
    let [runtime, deadline, period] = times.map(|time| time.unwrap_or(0));
    if policy != Policy::SchedDeadline && (runtime | deadline | period) != 0 {
        let text =
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
        return wrong(text.into());
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |all, flag| all | scheduler_flag(*flag));
    Ok(SchedulerAttr { policy: number, flags, nice, priority, runtime, deadline, period })
}

/// `SCHED_FLAG_*` of <linux/sched.h>.
fn scheduler_flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// `MPOL_*` of <linux/mempolicy.h>.
fn memory(policy: &LinuxMemoryPolicy) -> Result<(i32, Vec<u64>), Error> {
    use MemoryPolicyModeType as Mode;
    let (mode, needs) = match policy.mode() {
        Mode::MpolDefault => (0, Some(false)),
        Mode::MpolPreferred => (1, None),
        Mode::MpolBind => (2, Some(true)),
        Mode::MpolInterleave => (3, Some(true)),
        Mode::MpolLocal => (4, Some(false)),
        Mode::MpolPreferredMany => (5, Some(true)),
        Mode::MpolWeightedInterleave => (6, Some(true)),
    };
    let list = policy.nodes().as_deref().unwrap_or_default();
    let nodes = numbers(list, NODE_MAX).ok_or_else(|| {
        Error::Spec(format!("invalid memory policy nodes `{list}`: a list like `0-3,7` is meant"))
    })?;
    match needs {
        Some(false) if !nodes.is_empty() => {
            let text = format!("memory policy mode requires 0 nodes but got {}", nodes.len());
            return Err(Error::Spec(text));
        }
        Some(true) if nodes.is_empty() => {
            let text = "memory policy mode requires at least one node but got 0";
            return Err(Error::Spec(text.into()));
        }
        _ => {}
    }
    let mut mask = vec![0; nodes.last().map_or(0, |last| last / u64::BITS as usize + 1)];
    for node in nodes {
        mask[node / u64::BITS as usize] |= 1_u64 << (node % u64::BITS as usize);
    }
    let flags = policy.flags().iter().flatten().fold(0, |all, flag| all | memory_flag(*flag));
    Ok((mode | flags, mask))
}

fn memory_flag(flag: MemoryPolicyFlagType) -> i32 {
    match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    }
}

fn domain(personality: &LinuxPersonality) -> Result<libc::c_ulong, Error> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::Unsupported(format!("the flag `{flag}` of linux.personality.flags")));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    })
}

/// The numbers of a list as `0-3,7`, sorted; `None` for another text or a number above `max`.
fn numbers(list: &str, max: usize) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for part in list.split(',').map(str::trim).filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > max {
            return None;
        }
        found.extend(first..=last);
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// On which processors a further process runs: while it joins the container, and inside.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl Affinity {
    /// Reads the specification.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn read(affinity: Option<&ExecCPUAffinity>) -> Result<Affinity, Error> {
        let Some(affinity) = affinity else { return Ok(Affinity::default()) };
        let set = |list: Option<&str>, field: &str| {
            let list = list.filter(|list| !list.is_empty());
            list.map(|list| processors(list, field)).transpose()
        };
        Ok(Affinity {
            initial: set(affinity.initial().as_deref(), "initial")?,
            last: set(affinity.cpu_affinity_final().as_deref(), "final")?,
        })
    }

    /// Lets this process, and what it clones, run where a further process runs first; gives where
    /// it ran before.
    ///
    /// # Errors
    /// Those of sched_setaffinity(2).
    pub(crate) fn begin(&self) -> Result<Option<CpuSet>, Error> {
        let Some(initial) = &self.initial else { return Ok(None) };
        let doing = || "set execCPUAffinity.initial";
        let before = sched_getaffinity(None).doing(doing)?;
        sched_setaffinity(None, initial).doing(doing)?;
        Ok(Some(before))
    }

    /// Lets this process run where it belongs, once it is in its cgroup: without any word, wherever
    /// the cgroup lets it, and not only where the caller was allowed to.
    ///
    /// # Errors
    /// Those of sched_setaffinity(2).
    pub(crate) fn settle(&self) -> Result<(), Error> {
        if let Some(last) = &self.last {
            return sched_setaffinity(None, last).doing(|| "set execCPUAffinity.final");
        }
        if self.initial.is_none() {
            run_anywhere();
        }
        Ok(())
    }
}

/// Lets this process run on every processor that its cgroup has.
pub(crate) fn run_anywhere() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|number| all.set(number));
    // What cannot be widened is as the caller had it.
    let _ = sched_setaffinity(None, &all);
}

/// Returns to where this process ran.
///
/// # Errors
/// Those of sched_setaffinity(2).
pub(crate) fn run_as_before(before: Option<CpuSet>) -> Result<(), Error> {
    before.map_or(Ok(()), |before| sched_setaffinity(None, &before)).doing(|| "reset the affinity")
}

fn processors(list: &str, field: &str) -> Result<CpuSet, Error> {
    let wrong = || Error::kernel(format!("read execCPUAffinity.{field} `{list}`"), Errno::INVAL);
    let found = numbers(list, CpuSet::MAX_CPU - 1).ok_or_else(wrong)?;
    let mut set = CpuSet::new();
    found.into_iter().for_each(|number| set.set(number));
    Ok(set)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn read(process: &Value, linux: Value) -> Result<Attributes, String> {
        let mut own = json!({"cwd": "/", "user": {}});
        own.as_object_mut().unwrap().extend(process.as_object().unwrap().clone());
        let linux: Linux = from_value(linux).unwrap();
        Attributes::read(&from_value(own).unwrap(), Some(&linux)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_scheduler_becomes_numbers() {
        let text = json!({"scheduler": {
            "policy": "SCHED_DEADLINE", "nice": 19, "flags": ["SCHED_RESET_ON_FORK"],
            "runtime": 42000, "deadline": 100_000, "period": 1_000_000,
        }});
        let expected = SchedulerAttr {
            policy: 6,
            flags: 1,
            nice: 19,
            priority: 0,
            runtime: 42000,
            deadline: 100_000,
            period: 1_000_000,
        };
        assert_eq!(read(&text, json!({})).unwrap().scheduling.scheduler, Some(expected));
        let wrong = [
            (json!({"policy": "SCHED_OTHER", "nice": 20}), "scheduler.nice"),
            (json!({"policy": "SCHED_BATCH", "priority": 1}), "scheduler.priority"),
            (json!({"policy": "SCHED_FIFO", "priority": -1}), "scheduler.priority"),
            (json!({"policy": "SCHED_RR", "period": 1}), "SchedDeadline"),
        ];
        for (scheduler, expected) in wrong {
            let complaint = read(&json!({"scheduler": scheduler}), json!({})).unwrap_err();
            assert!(complaint.contains(expected), "{complaint}");
        }
    }

    #[test]
    fn a_memory_policy_becomes_a_mask() {
        let policy = |mode: &str, nodes: Option<&str>, flags: &[&str]| {
            let policy = json!({"mode": mode, "nodes": nodes, "flags": flags});
            read(&json!({}), json!({"memoryPolicy": policy})).map(|read| read.memory.unwrap())
        };
        let flags = ["MPOL_F_STATIC_NODES"];
        assert_eq!(policy("MPOL_BIND", Some("0-1,65"), &flags).unwrap(), (0x8002, vec![3, 2]));
        assert_eq!(policy("MPOL_DEFAULT", None, &[]).unwrap(), (0, vec![]));
        assert_eq!(policy("MPOL_PREFERRED", Some(""), &[]).unwrap(), (1, vec![]));
        let wrong = [
            ("MPOL_DEFAULT", Some("0-7"), "requires 0 nodes but got 8"),
            ("MPOL_INTERLEAVE", None, "at least one node"),
            ("MPOL_BIND", Some("0-9876543210"), "invalid memory policy node"),
            ("MPOL_BIND", Some("3-1"), "invalid memory policy node"),
            ("MPOL_BIND", Some("1,"), "invalid memory policy node"),
        ];
        for (mode, nodes, expected) in wrong {
            let complaint = policy(mode, nodes, &[]).unwrap_err();
            assert!(complaint.contains(expected), "{complaint}");
        }
    }

    #[test]
    fn flags_of_a_personality_are_refused() {
        let linux = json!({"personality": {"domain": "LINUX32", "flags": []}});
        assert_eq!(read(&json!({}), linux).unwrap().personality, Some(PER_LINUX32));
        let linux = json!({"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}});
        assert!(read(&json!({}), linux).unwrap_err().contains("linux.personality.flags"));
    }
}
