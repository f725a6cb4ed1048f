//! `update`.

use std::fs::File;
use std::io::Read;

use anyhow::{Context as _, Result, bail};
use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::flag::{Flag, Matches};
use super::{Args, Call, Verb};
use crate::command::create_options::value;

pub(super) const VERB: Verb = Verb {
    name: "update",
    about: "update container resource constraints",
    usage: "<container-id>",
    flags: &[
        Flag::value(
            "resources",
            "path to the file containing the resources to update or '-' to read from the standard input; all other options are ignored then",
        )
        .short('r'),
        Flag::value("blkio-weight", "specifies per cgroup weight, range is from 10 to 1000"),
        Flag::value("cpu-period", "CPU CFS period to be used for hardcapping (in usecs)"),
        Flag::value("cpu-quota", "CPU CFS hardcap limit (in usecs), allowed cpu time in a given period"),
        Flag::value("cpu-burst", "CPU CFS hardcap burst limit (in usecs)"),
        Flag::value("cpu-share", "CPU shares (relative weight vs. other containers)"),
        Flag::value("cpu-rt-period", "CPU realtime period to be used for hardcapping (in usecs)"),
        Flag::value("cpu-rt-runtime", "CPU realtime hardcap limit (in usecs)"),
        Flag::value("cpuset-cpus", "CPU(s) to use"),
        Flag::value("cpuset-mems", "memory node(s) to use"),
        Flag::value("kernel-memory", "(obsoleted; do not use)"),
        Flag::value("kernel-memory-tcp", "(obsoleted; do not use)"),
        Flag::value("memory", "memory limit (in bytes)"),
        Flag::value("cpu-idle", "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
        Flag::value("memory-reservation", "memory reservation or soft_limit (in bytes)"),
        Flag::value(
            "memory-swap",
            "total memory usage (memory + swap); set '-1' to enable unlimited swap",
        ),
        Flag::value("pids-limit", "maximum number of pids allowed in the container"),
        Flag::value("l3-cache-schema", "the string of Intel RDT/CAT L3 cache schema"),
        Flag::value("mem-bw-schema", "the string of Intel RDT/MBA memory bandwidth schema"),
    ],
    args: Args::Exactly(1),
    sealed: false,
    run,
};

/// The largest description of resources that is read, in bytes.
const RESOURCES_MAX: u64 = 1 << 20;

fn run(call: &Call<'_>) -> Result<i32> {
    let own = &call.own;
    if own.text("l3-cache-schema").is_some() {
        bail!("Intel RDT/CAT: l3 cache schema is not enabled");
    }
    if own.text("mem-bw-schema").is_some() {
        bail!("Intel RDT/MBA: memory bandwidth schema is not enabled");
    }
    if own.text("kernel-memory").or(own.text("kernel-memory-tcp")).is_some() {
        call.log.warn("Kernel memory settings are ignored and will be removed");
    }
    let mut resources = match own.text("resources") {
        Some("-") => read(std::io::stdin())?,
        Some(path) => read(File::open(path).with_context(|| format!("open {path}"))?)?,
        None => described(own)?,
    };
    // Devices are what the container was created with.
    resources.set_devices(None);
    runtime::container::update(call.root, call.id()?, &resources)?;
    Ok(0)
}

fn read(from: impl Read) -> Result<LinuxResources> {
    let mut bytes = Vec::new();
    from.take(RESOURCES_MAX).read_to_end(&mut bytes).context("read the resources")?;
    serde_json::from_slice(&bytes).context("read the resources")
}

fn described(own: &Matches) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_cpu(cpu(own)?).set_memory(memory(own)?);
    if let Some(weight) = own.number("blkio-weight")?.filter(|weight| *weight != 0) {
        let mut io = LinuxBlockIo::default();
        io.set_weight(Some(weight));
        resources.set_block_io(Some(io));
    }
    if let Some(limit) = own.number("pids-limit")? {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn cpu(own: &Matches) -> Result<Option<LinuxCpu>> {
    let mut cpu = LinuxCpu::default();
    let none = cpu.clone();
    let text = |name| own.text(name).map(str::to_owned);
    cpu.set_period(own.number("cpu-period")?)
        .set_quota(own.number("cpu-quota")?)
        .set_burst(own.number("cpu-burst")?)
        .set_shares(own.number("cpu-share")?)
        .set_realtime_period(own.number("cpu-rt-period")?)
        .set_realtime_runtime(own.number("cpu-rt-runtime")?)
        .set_cpus(text("cpuset-cpus"))
        .set_mems(text("cpuset-mems"))
        .set_idle(own.number("cpu-idle")?);
    Ok((cpu != none).then_some(cpu))
}

fn memory(own: &Matches) -> Result<Option<LinuxMemory>> {
    let bytes = |name: &str| -> Result<Option<i64>> {
        match own.text(name) {
            None => Ok(None),
            Some("-1") => Ok(Some(-1)),
            Some(text) => {
                let bytes = value::bytes(name, text);
                bytes.map(Some).with_context(|| format!("invalid value for {name}: {text}"))
            }
        }
    };
    let mut memory = LinuxMemory::default();
    let none = memory;
    memory
        .set_limit(bytes("memory")?)
        .set_reservation(bytes("memory-reservation")?)
        .set_swap(bytes("memory-swap")?);
    Ok((memory != none).then_some(memory))
}

#[cfg(test)]
mod tests {
    use super::super::flag;
    use super::*;

    #[test]
    fn flags_become_limits_and_what_is_not_given_stays() {
        let read = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            described(&flag::parse(VERB.flags, &args, None).unwrap())
        };
        let none = read("id").unwrap();
        assert!(none.cpu().is_none() && none.memory().is_none() && none.pids().is_none());
        let some = read("--memory 64m --memory-swap -1 --pids-limit 0 --cpu-quota -1 id").unwrap();
        let memory = some.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(-1)));
        assert_eq!(some.pids().unwrap().limit(), 0);
        assert_eq!(some.cpu().as_ref().unwrap().quota(), Some(-1));
        assert!(read("--memory x id").is_err());
        assert!(read("--cpu-share -1 id").is_err());
    }
}
