//! Resource limits as values for files.
//!
//! Pure: what is on the machine comes in as [`Host`], what to write comes out as [`Setting`]s in
//! the order in which the kernel accepts them.

use oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids,
    LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::Error;
use super::hierarchy::Version;

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
}

/// What limits depend on besides themselves.
pub(super) struct Host<'a> {
    /// The interface a controller has, if it is available.
    pub version: &'a dyn Fn(&str) -> Option<Version>,
    /// The present content of a file of a controller; `None` for a new control group.
    pub read: &'a dyn Fn(&str, &str) -> Option<String>,
}

const GENERIC: &str = "this kernel does not have it; run without this limit";

impl Setting {
    fn new(limit: &'static str, file: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            limit,
            controller: String::new(),
            candidates: vec![(file.into(), value.into())],
            remedy: GENERIC,
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

    /// The value in the form the first file takes.
    pub(super) fn value(&self) -> &str {
        self.candidates.first().map_or("", |c| c.1.as_str())
    }
}

/// Everything to write for `resources`, devices apart.
pub(super) fn settings(resources: &LinuxResources, host: &Host<'_>) -> Result<Vec<Setting>, Error> {
    let mut all = Vec::new();
    if let Some(cpu) = resources.cpu() {
        all.extend(placed("cpu", host, |version| cpu_settings(cpu, version, host))?);
        all.extend(placed("cpuset", host, |_| Ok(cpuset_settings(cpu)))?);
    }
    if let Some(memory) = resources.memory() {
        all.extend(placed("memory", host, |version| memory_settings(memory, version, host))?);
    }
    if let Some(pids) = resources.pids() {
        all.extend(placed("pids", host, |_| Ok(pids_settings(pids)))?);
    }
    if let Some(io) = resources.block_io() {
        let controller = if (host.version)("blkio").is_some() { "blkio" } else { "io" };
        all.extend(placed(controller, host, |version| io_settings(io, version))?);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        all.extend(placed("hugetlb", host, |version| hugepage_settings(limit, version))?);
    }
    if let Some(rdma) = resources.rdma() {
        let mut devices: Vec<_> = rdma.iter().collect();
        devices.sort_by_key(|(name, _)| name.as_str());
        for (name, limit) in devices {
            plain_name("rdma", name)?;
            let count = |n: Option<u32>| n.map_or("max".to_owned(), |n| n.to_string());
            let (handles, objects) = (count(limit.hca_handles()), count(limit.hca_objects()));
            let value = format!("{name} hca_handle={handles} hca_object={objects}");
            all.extend(placed("rdma", host, |_| {
                Ok(vec![Setting::new("rdma", "rdma.max", &value)])
            })?);
        }
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

/// `cpu.weight` (1–10000, default 100) for `cpu.shares` (2–262144, default 1024): through both
/// ends and the default, as runc and crun convert since 2025 (opencontainers/cgroups 0.0.5).
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // Rounded up, but not for the noise of the last bits: 1024 is 100.
            (10_f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// `io.weight` (1–10000) for `blkio.weight` (10–1000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

fn cpu_settings(cpu: &LinuxCpu, version: Version, host: &Host<'_>) -> Result<Vec<Setting>, Error> {
    let mut made = Vec::new();
    let idle = cpu.idle().map(|idle| {
        Setting::new("cpu.idle", "cpu.idle", idle.to_string())
            .remedy("cpu.idle needs Linux 5.15 or later")
    });
    // An idle group refuses a weight, so idleness ends before and begins after.
    let ends = cpu.idle() == Some(0);
    made.extend(idle.clone().filter(|_| ends));
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        made.push(match version {
            Version::V1 => Setting::new("cpu.shares", "cpu.shares", shares.to_string()),
            Version::V2 => {
                Setting::new("cpu.shares", "cpu.weight", weight_of_shares(shares).to_string())
            }
        });
    }
    made.extend(idle.filter(|_| !ends));
    made.extend(match version {
        Version::V1 => bandwidth_v1(cpu, host),
        Version::V2 => bandwidth_v2(cpu, host),
    });
    let realtime = [
        ("cpu.realtimePeriod", "cpu.rt_period_us", cpu.realtime_period().map(|p| p.to_string())),
        ("cpu.realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime().map(|r| r.to_string())),
    ];
    for (limit, file, value) in realtime {
        let Some(value) = value.filter(|value| value != "0") else { continue };
        if version == Version::V2 {
            return Err(unsupported(limit, value, "version 2 of control groups has no such limit"));
        }
        let remedy = "the kernel needs CONFIG_RT_GROUP_SCHED";
        made.push(Setting::new(limit, file, value).remedy(remedy));
    }
    Ok(made)
}

/// No period leaves the kernel's 100 ms; no quota means no limit.
fn asked_bandwidth(cpu: &LinuxCpu) -> (Option<i64>, Option<u64>) {
    (cpu.quota().filter(|quota| *quota != 0), cpu.period().filter(|period| *period != 0))
}

const BURST_REMEDY: &str = "a burst needs Linux 5.14 or later";

/// A burst may not exceed the quota, nor quota/period the parent's share, at any moment: lift
/// first, then set.
fn bandwidth_v1(cpu: &LinuxCpu, host: &Host<'_>) -> Vec<Setting> {
    let present = |file: &str| (host.read)("cpu", file).map(|text| text.trim().to_owned());
    let (quota, period) = asked_bandwidth(cpu);
    let mut made = Vec::new();
    if cpu.burst().is_some() && present("cpu.cfs_burst_us").is_some_and(|burst| burst != "0") {
        made.push(Setting::new("cpu.burst", "cpu.cfs_burst_us", "0"));
    }
    let limited = present("cpu.cfs_quota_us").filter(|quota| quota != "-1");
    if let Some(period) = period {
        if limited.is_some() {
            made.push(Setting::new("cpu.quota", "cpu.cfs_quota_us", "-1"));
        }
        made.push(Setting::new("cpu.period", "cpu.cfs_period_us", period.to_string()));
    }
    let quota = quota.map(|quota| quota.max(-1).to_string());
    // A new period alone keeps the quota that was lifted for it.
    if let Some(quota) = quota.or(limited.filter(|_| period.is_some())) {
        made.push(Setting::new("cpu.quota", "cpu.cfs_quota_us", quota));
    }
    if let Some(burst) = cpu.burst() {
        made.push(
            Setting::new("cpu.burst", "cpu.cfs_burst_us", burst.to_string()).remedy(BURST_REMEDY),
        );
    }
    made
}

fn bandwidth_v2(cpu: &LinuxCpu, host: &Host<'_>) -> Vec<Setting> {
    let present = |file: &str| (host.read)("cpu", file).map(|text| text.trim().to_owned());
    let mut made = Vec::new();
    if cpu.burst().is_some() && present("cpu.max.burst").is_some_and(|burst| burst != "0") {
        made.push(Setting::new("cpu.burst", "cpu.max.burst", "0"));
    }
    let (quota, period) = asked_bandwidth(cpu);
    let text = |quota: i64| if quota < 0 { "max".to_owned() } else { quota.to_string() };
    match (quota.map(text), period) {
        (Some(quota), Some(period)) => {
            made.push(Setting::new("cpu.quota", "cpu.max", format!("{quota} {period}")));
        }
        (Some(quota), None) => made.push(Setting::new("cpu.quota", "cpu.max", quota)),
        (None, Some(period)) => {
            let max = present("cpu.max").unwrap_or_default();
            let quota = max.split(' ').next().filter(|quota| !quota.is_empty()).unwrap_or("max");
            made.push(Setting::new("cpu.period", "cpu.max", format!("{quota} {period}")));
        }
        (None, None) => {}
    }
    if let Some(burst) = cpu.burst() {
        made.push(
            Setting::new("cpu.burst", "cpu.max.burst", burst.to_string()).remedy(BURST_REMEDY),
        );
    }
    made
}

fn cpuset_settings(cpu: &LinuxCpu) -> Vec<Setting> {
    let asked = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    let cpus = asked(cpu.cpus()).map(|cpus| Setting::new("cpu.cpus", "cpuset.cpus", cpus));
    let mems = asked(cpu.mems()).map(|mems| Setting::new("cpu.mems", "cpuset.mems", mems));
    cpus.into_iter().chain(mems).collect()
}

const SWAP_REMEDY: &str = "the kernel does not count swap: boot it with swapaccount=1 (and \
                           CONFIG_SWAP), or run without a swap limit";

fn memory_settings(
    memory: &LinuxMemory,
    version: Version,
    host: &Host<'_>,
) -> Result<Vec<Setting>, Error> {
    let asked = |value: Option<i64>| value.filter(|value| *value != 0);
    let (limit, swap) = (asked(memory.limit()), asked(memory.swap()));
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap > 0
        && (limit < 0 || swap < limit)
    {
        let limit = if limit < 0 { "unlimited".to_owned() } else { limit.to_string() };
        return Err(Error::Invalid(format!(
            "limit memory.swap = {swap} is memory and swap together, and less than \
             memory.limit = {limit}: raise it, or give -1 for unlimited swap"
        )));
    }
    match version {
        Version::V1 => Ok(memory_v1(memory, limit, swap, host)),
        Version::V2 => memory_v2(memory, limit, swap, host),
    }
}

/// The kernel refuses memory above memory+swap at any moment, so whichever moves away goes first.
fn memory_v1(
    memory: &LinuxMemory,
    limit: Option<i64>,
    swap: Option<i64>,
    host: &Host<'_>,
) -> Vec<Setting> {
    let mut made = Vec::new();
    // Unlimited memory under a limit on both together is not unlimited.
    let lifted = limit.is_some_and(|limit| limit < 0) && swap.is_none();
    let present = (host.read)("memory", "memory.memsw.limit_in_bytes");
    let swap = swap.or(if lifted && present.is_some() { Some(-1) } else { None });
    let limit =
        limit.map(|v| Setting::new("memory.limit", "memory.limit_in_bytes", v.max(-1).to_string()));
    let total = swap.map(|v| {
        Setting::new("memory.swap", "memory.memsw.limit_in_bytes", v.max(-1).to_string())
            .remedy(SWAP_REMEDY)
    });
    let now = (host.read)("memory", "memory.limit_in_bytes")
        .and_then(|text| text.trim().parse::<i64>().ok())
        .unwrap_or(i64::MAX);
    if swap.is_some_and(|swap| swap < 0 || swap >= now) {
        made.extend(total.into_iter().chain(limit));
    } else {
        made.extend(limit.into_iter().chain(total));
    }
    if let Some(reservation) = memory.reservation().filter(|v| *v != 0) {
        let file = "memory.soft_limit_in_bytes";
        made.push(Setting::new("memory.reservation", file, reservation.max(-1).to_string()));
    }
    if let Some(tcp) = memory.kernel_tcp().filter(|v| *v != 0) {
        let file = "memory.kmem.tcp.limit_in_bytes";
        made.push(Setting::new("memory.kernelTCP", file, tcp.max(-1).to_string()));
    }
    if let Some(swappiness) = memory.swappiness() {
        made.push(Setting::new("memory.swappiness", "memory.swappiness", swappiness.to_string()));
    }
    if let Some(disable) = memory.disable_oom_killer() {
        let value = u8::from(disable).to_string();
        // Writing the default is refused on some kernels and says nothing on a new group.
        if disable || (host.read)("memory", "memory.oom_control").is_some() {
            made.push(Setting::new("memory.disableOOMKiller", "memory.oom_control", value));
        }
    }
    made
}

fn memory_v2(
    memory: &LinuxMemory,
    limit: Option<i64>,
    swap: Option<i64>,
    host: &Host<'_>,
) -> Result<Vec<Setting>, Error> {
    const NOT_IN_V2: &str = "version 2 of control groups has no such limit";
    if let Some(swappiness) = memory.swappiness() {
        return Err(unsupported("memory.swappiness", swappiness, NOT_IN_V2));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(unsupported("memory.disableOOMKiller", true, NOT_IN_V2));
    }
    if let Some(tcp) = memory.kernel_tcp().filter(|v| *v > 0) {
        return Err(unsupported("memory.kernelTCP", tcp, NOT_IN_V2));
    }
    let number =
        |file: &str| (host.read)("memory", file).and_then(|text| text.trim().parse::<i64>().ok());
    if let Some(limit) = limit.filter(|v| *v > 0)
        && memory.check_before_update() == Some(true)
        && let Some(used) = number("memory.current").filter(|used| *used > limit)
    {
        return Err(Error::Busy(format!(
            "limit memory.limit = {limit}: {used} bytes are in use and checkBeforeUpdate is set"
        )));
    }
    let text = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    let mut made = Vec::new();
    if let Some(swap) = swap {
        let alone = swap_alone(swap, limit.or_else(|| number("memory.max")))?;
        made.push(Setting::new("memory.swap", "memory.swap.max", text(alone)).remedy(SWAP_REMEDY));
    }
    if let Some(limit) = limit {
        made.push(Setting::new("memory.limit", "memory.max", text(limit)));
    }
    if let Some(reservation) = memory.reservation().filter(|v| *v != 0) {
        made.push(Setting::new("memory.reservation", "memory.low", text(reservation)));
    }
    Ok(made)
}

/// Swap alone (version 2) from memory and swap together (version 1 and the specification), with
/// the memory limit that holds; -1 is unlimited.
pub(super) fn swap_alone(total: i64, memory: Option<i64>) -> Result<i64, Error> {
    match memory {
        _ if total < 0 => Ok(-1),
        Some(memory) if (0..=total).contains(&memory) => Ok(total - memory),
        Some(memory) if memory >= 0 => Err(Error::Invalid(format!(
            "limit memory.swap = {total} is memory and swap together, and less than the memory \
             limit {memory}: raise it, or give -1 for unlimited swap"
        ))),
        _ => Err(Error::Invalid(format!(
            "limit memory.swap = {total} is memory and swap together, and needs memory.limit"
        ))),
    }
}

fn pids_settings(pids: &LinuxPids) -> Vec<Setting> {
    let limit = pids.limit();
    let value = if limit <= 0 { "max".to_owned() } else { limit.to_string() };
    vec![Setting::new("pids.limit", "pids.max", value)]
}

const WEIGHT_REMEDY: &str = "no I/O scheduler here weighs groups: use the BFQ scheduler, or run \
                             without a weight";

fn io_settings(io: &LinuxBlockIo, version: Version) -> Result<Vec<Setting>, Error> {
    let v1 = version == Version::V1;
    let mut made = Vec::new();
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        made.push(weight_setting("blockIO.weight", "", weight, v1));
    }
    let leaf = io.leaf_weight().filter(|weight| *weight != 0);
    let device_leaf = io.weight_device().iter().flatten().find_map(LinuxWeightDevice::leaf_weight);
    if let Some(weight) = leaf.or(device_leaf.filter(|weight| *weight != 0)) {
        let why = "no kernel since Linux 5.0 has leaf weights; run without it";
        return Err(unsupported("blockIO.leafWeight", weight, why));
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let prefix = format!("{}:{} ", device.major(), device.minor());
            made.push(weight_setting("blockIO.weightDevice", &prefix, weight, v1));
        }
    }
    let throttles: [(&'static str, &Option<Vec<LinuxThrottleDevice>>, &str, &str); 4] = [
        ("blockIO.throttleReadBpsDevice", io.throttle_read_bps_device(), "read_bps", "rbps"),
        ("blockIO.throttleWriteBpsDevice", io.throttle_write_bps_device(), "write_bps", "wbps"),
        ("blockIO.throttleReadIOPSDevice", io.throttle_read_iops_device(), "read_iops", "riops"),
        ("blockIO.throttleWriteIOPSDevice", io.throttle_write_iops_device(), "write_iops", "wiops"),
    ];
    for (limit, devices, old, new) in throttles {
        for d in devices.iter().flatten() {
            made.push(throttle_setting(limit, d, old, new, v1));
        }
    }
    Ok(made)
}

fn weight_setting(limit: &'static str, device: &str, weight: u16, v1: bool) -> Setting {
    let suffix = if device.is_empty() { "" } else { "_device" };
    let plain = format!("{device}{weight}");
    let setting = if v1 {
        Setting::new(limit, format!("blkio.weight{suffix}"), &plain)
            .or(format!("blkio.bfq.weight{suffix}"), plain)
    } else {
        Setting::new(limit, "io.bfq.weight", plain)
            .or("io.weight", format!("{device}{}", io_weight(weight)))
    };
    setting.remedy(WEIGHT_REMEDY)
}

fn throttle_setting(
    limit: &'static str,
    device: &LinuxThrottleDevice,
    old: &str,
    new: &str,
    v1: bool,
) -> Setting {
    let (major, minor, rate) = (device.major(), device.minor(), device.rate());
    let remedy = "the kernel needs CONFIG_BLK_DEV_THROTTLING";
    if v1 {
        let file = format!("blkio.throttle.{old}_device");
        return Setting::new(limit, file, format!("{major}:{minor} {rate}")).remedy(remedy);
    }
    // Version 1 takes 0 for no limit.
    let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
    Setting::new(limit, "io.max", format!("{major}:{minor} {new}={rate}")).remedy(remedy)
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
    let file = format!("hugetlb.{size}.{name}");
    Ok(vec![Setting::new("hugepageLimits", file, value).remedy(remedy)])
}

fn network_settings(network: &LinuxNetwork, host: &Host<'_>) -> Result<Vec<Setting>, Error> {
    const ELSEWHERE: &str = "only version 1 of control groups has it: mount its controller, or \
                             mark packets with a firewall rule instead";
    let v1 = |controller: &str| (host.version)(controller) == Some(Version::V1);
    let mut made = Vec::new();
    if let Some(class) = network.class_id() {
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
                "the {controller} controller is not bound to version 2 of control groups here: \
                 use the limit's own field, or boot with cgroup_no_v1=all"
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
