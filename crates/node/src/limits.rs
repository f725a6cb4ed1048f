//! What a pod asks of the machine, as limits of control groups.

use engine::Limits;
use objects::Quantity;
use serde_json::Value;

use crate::field::{items, text};
use crate::pod::{Quality, amount, quality};

/// The period of a quota, in microseconds.
const PERIOD_US: u64 = 100_000;
/// The shortest quota that the kernel takes, in microseconds.
const QUOTA_US_MIN: i64 = 1000;
/// The weight of one processor, and the least that there is.
const SHARES_PER_CPU: i64 = 1024;
const SHARES_MIN: u64 = 2;
/// Preference of the OOM killer for what must not die, and what may.
const OOM_GUARANTEED: i32 = -997;
const OOM_BEST_EFFORT: i32 = 1000;
/// From this priority on, a pod is critical (`system-cluster-critical`).
const CRITICAL: i64 = 2_000_000_000;

/// The weight of so many thousandths of a processor.
fn shares(milli: i64) -> u64 {
    let shares = milli.saturating_mul(SHARES_PER_CPU) / 1000;
    u64::try_from(shares).unwrap_or(0).clamp(SHARES_MIN, 262_144)
}

/// The quota of so many thousandths of a processor, in microseconds.
fn quota_us(milli: i64) -> i64 {
    (milli.saturating_mul(100)).max(QUOTA_US_MIN)
}

/// The limits of a container. `memory_bytes` is what the machine has.
pub(crate) fn of_container(pod: &Value, container: &Value, memory_bytes: u64) -> Limits {
    let cpu_limit = amount(container, "limits", "cpu").map(Quantity::milli_value);
    let cpu_request = amount(container, "requests", "cpu").map(Quantity::milli_value);
    let memory = amount(container, "limits", "memory").map(Quantity::value).filter(|b| *b > 0);
    Limits {
        memory,
        // No swap beyond it.
        memory_swap: memory,
        cpu_shares: Some(shares(cpu_request.or(cpu_limit).unwrap_or(0))),
        cpu_period_us: cpu_limit.map(|_| PERIOD_US),
        cpu_quota_us: cpu_limit.filter(|milli| *milli > 0).map(quota_us),
        oom_score_adj: Some(oom_score(pod, container, memory_bytes)),
        ..Limits::default()
    }
}

/// The limits of a pod's own group, which its containers share.
pub(crate) fn of_pod(pod: &Value) -> Limits {
    let containers = items(&pod["spec"], "containers");
    let sum = |of: &str, resource: &str, value: fn(Quantity) -> i64| {
        containers.iter().filter_map(|one| amount(one, of, resource)).map(value).sum::<i64>()
    };
    let all_have = |resource: &str| {
        let limited = |one: &&Value| amount(one, "limits", resource).is_some();
        // What runs beside or before the others may take more than they do.
        items(&pod["spec"], "initContainers").is_empty()
            && containers.iter().filter(limited).count() == containers.len()
    };
    let cpu = all_have("cpu").then(|| sum("limits", "cpu", Quantity::milli_value));
    let memory = all_have("memory").then(|| sum("limits", "memory", Quantity::value));
    let requests = sum("requests", "cpu", Quantity::milli_value);
    Limits {
        memory: memory.filter(|bytes| *bytes > 0),
        memory_swap: memory.filter(|bytes| *bytes > 0),
        cpu_shares: Some(shares(requests)),
        cpu_period_us: cpu.map(|_| PERIOD_US),
        cpu_quota_us: cpu.filter(|milli| *milli > 0).map(quota_us),
        ..Limits::default()
    }
}

/// How readily the kernel kills a container for want of memory (upstream's
/// `GetContainerOOMScoreAdjust`).
fn oom_score(pod: &Value, container: &Value, memory_bytes: u64) -> i32 {
    let priority = pod["spec"]["priority"].as_i64().unwrap_or(0);
    let is_mirror =
        !text(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_empty();
    if priority >= CRITICAL || is_mirror {
        return OOM_GUARANTEED;
    }
    match quality(pod) {
        Quality::Guaranteed => OOM_GUARANTEED,
        Quality::BestEffort => OOM_BEST_EFFORT,
        Quality::Burstable => {
            let request = amount(container, "requests", "memory").map_or(0, Quantity::value);
            let share = 1000 * i128::from(request) / i128::from(memory_bytes.max(1));
            let score = i32::try_from(1000 - share).unwrap_or(0);
            score.clamp(1000 + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_become_limits() {
        let container = json!({"name": "c", "resources": {
            "requests": {"cpu": "250m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        }});
        let pod = json!({"spec": {"containers": [container.clone()]}});
        let limits = of_container(&pod, &container, 1 << 30);
        assert_eq!((limits.cpu_shares, limits.cpu_quota_us), (Some(256), Some(50_000)));
        assert_eq!((limits.memory, limits.memory_swap), (Some(128 << 20), Some(128 << 20)));
        assert_eq!(limits.oom_score_adj, Some(938));
        assert_eq!(of_pod(&pod).memory, Some(128 << 20));
        let nothing = json!({"name": "c"});
        let pod = json!({"spec": {"containers": [nothing.clone()]}});
        let limits = of_container(&pod, &nothing, 1 << 30);
        assert_eq!((limits.cpu_shares, limits.cpu_quota_us, limits.memory), (Some(2), None, None));
        assert_eq!(limits.oom_score_adj, Some(1000));
        assert_eq!(of_pod(&pod).memory, None);
    }
}
