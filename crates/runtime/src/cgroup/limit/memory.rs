//! Limits on memory and swap.

use oci::runtime::LinuxMemory;

use super::{Host, Setting, unsupported};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Version;

const SWAP_REMEDY: &str = "the kernel does not count swap: boot it with swapaccount=1 (and \
                           CONFIG_SWAP), or run without a swap limit";

pub(super) fn settings(
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
        let setting = Setting::new("memory.swap", "memory.swap.max", text(alone));
        // Unlimited is what it is without the file, and nothing where nothing swaps.
        let holds = alone < 0 || (alone == 0 && !(host.swaps)());
        made.push(setting.remedy(SWAP_REMEDY).optional(holds));
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
pub(in crate::cgroup) fn swap_alone(total: i64, memory: Option<i64>) -> Result<i64, Error> {
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
