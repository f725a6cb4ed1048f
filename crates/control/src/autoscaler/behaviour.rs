//! How fast the number of pods may change (`spec.behavior`), and between which bounds
//! (kube-controller-manager, `normalizeDesiredReplicasWithBehaviors`).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{items, number, stamp, time};

/// How long the highest of what was wanted lately counts before there are fewer pods, in seconds.
const STABILIZATION_DOWN: i64 = 300;
/// The most entries of a history: one each second for the longest window there may be.
const HISTORY_MAX: usize = 3600;

/// What became of what was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i64,
    /// The condition `ScalingLimited`.
    pub(super) is: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
    /// What the condition `AbleToScale` tells.
    pub(super) able: (&'static str, &'static str),
}

/// A number at a time.
type Entry = (Timestamp, i64);

/// What was wanted and done lately: it outlives a look, and not the process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    wanted: Vec<Entry>,
    added: Vec<Entry>,
    removed: Vec<Entry>,
}

impl Memory {
    pub(super) fn read(document: Option<&Value>) -> Self {
        let list = |field: &str| {
            let entries = document.map_or(&[][..], |document| items(&document[field]));
            let entry = |entry: &Value| Some((time(&entry[0])?, entry[1].as_i64()?));
            entries.iter().filter_map(entry).collect()
        };
        Self { wanted: list("wanted"), added: list("added"), removed: list("removed") }
    }

    pub(super) fn write(&self) -> Value {
        let list = |entries: &[Entry]| -> Value {
            entries.iter().map(|(time, number)| json!([stamp(*time), number])).collect()
        };
        json!({"wanted": list(&self.wanted), "added": list(&self.added), "removed": list(&self.removed)})
    }

    /// Notes that there are other many pods now, and forgets what no rule asks for any more.
    pub(super) fn note(&mut self, now: Timestamp, own: &Value, from: i64, to: i64) {
        match to.cmp(&from) {
            std::cmp::Ordering::Greater => self.added.push((now, to - from)),
            std::cmp::Ordering::Less => self.removed.push((now, from - to)),
            std::cmp::Ordering::Equal => {}
        }
        let (up, down) = Rules::both(own);
        let longest =
            up.stabilization.max(down.stabilization).max(up.longest()).max(down.longest());
        for list in [&mut self.wanted, &mut self.added, &mut self.removed] {
            list.retain(|(time, _)| is_within(now, *time, longest));
            let surplus = list.len().saturating_sub(HISTORY_MAX);
            list.drain(..surplus);
        }
    }
}

fn is_within(now: Timestamp, then: Timestamp, seconds: i64) -> bool {
    let since = Duration::try_from(now.duration_since(then)).unwrap_or_default();
    since < Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn sum(now: Timestamp, entries: &[Entry], seconds: i64) -> i64 {
    entries.iter().filter(|(time, _)| is_within(now, *time, seconds)).map(|(_, count)| count).sum()
}

/// The rules of a direction.
struct Rules {
    is_disabled: bool,
    takes_least: bool,
    policies: Vec<Policy>,
    stabilization: i64,
}

/// So many pods, or per cent of them, in so many seconds.
#[derive(Debug, Clone, Copy)]
struct Policy {
    is_share: bool,
    value: i64,
    seconds: i64,
}

impl Rules {
    fn both(own: &Value) -> (Self, Self) {
        let behavior = &own["spec"]["behavior"];
        let pods = Policy { is_share: false, value: 4, seconds: 15 };
        let share = Policy { is_share: true, value: 100, seconds: 15 };
        let up = Self::read(&behavior["scaleUp"], &[pods, share], 0);
        let down = Self::read(&behavior["scaleDown"], &[share], STABILIZATION_DOWN);
        (up, down)
    }

    fn read(rules: &Value, otherwise: &[Policy], stabilization: i64) -> Self {
        let read = |policy: &Value| Policy {
            is_share: policy["type"] == "Percent",
            value: number(policy, "/value", 0),
            seconds: number(policy, "/periodSeconds", 15),
        };
        let policies: Vec<Policy> = items(&rules["policies"]).iter().map(read).collect();
        Self {
            is_disabled: rules["selectPolicy"] == "Disabled",
            takes_least: rules["selectPolicy"] == "Min",
            policies: if policies.is_empty() { otherwise.to_vec() } else { policies },
            stabilization: number(rules, "/stabilizationWindowSeconds", stabilization),
        }
    }

    fn longest(&self) -> i64 {
        self.policies.iter().map(|policy| policy.seconds).max().unwrap_or(0)
    }

    /// The most pods there may be, or the fewest when it goes down.
    fn rate(&self, now: Timestamp, current: i64, memory: &Memory, is_up: bool) -> i64 {
        if self.is_disabled {
            return current;
        }
        let proposed = self.policies.iter().map(|policy| {
            let added = sum(now, &memory.added, policy.seconds);
            let removed = sum(now, &memory.removed, policy.seconds);
            let before = current - added + removed;
            match (policy.is_share, is_up) {
                (false, true) => before + policy.value,
                (false, false) => before - policy.value,
                // Rounded away from what there was.
                (true, true) => (before * (100 + policy.value) + 99).div_euclid(100),
                (true, false) => (before * (100 - policy.value)).div_euclid(100),
            }
        });
        let widest = self.takes_least != is_up;
        let chosen = if widest { proposed.max() } else { proposed.min() };
        let chosen = chosen.unwrap_or(current);
        if is_up { chosen.max(current) } else { chosen.min(current) }
    }
}

/// Keeps what is wanted within what is allowed now.
pub(super) fn limit(
    now: Timestamp,
    own: &Value,
    current: i64,
    desired: i64,
    memory: &mut Memory,
) -> Limited {
    let (up, down) = Rules::both(own);
    let lately = |seconds: i64| {
        memory
            .wanted
            .iter()
            .filter(move |(time, _)| is_within(now, *time, seconds))
            .map(|(_, own)| *own)
    };
    let lowest = lately(up.stabilization).fold(desired, i64::min);
    let highest = lately(down.stabilization).fold(desired, i64::max);
    memory.wanted.push((now, desired));
    let stable = current.max(lowest).min(highest);
    let able = match stable.cmp(&desired) {
        std::cmp::Ordering::Less => {
            let words = "recent recommendations were lower than current one, applying the lowest recent \
                         recommendation";
            ("ScaleUpStabilized", words)
        }
        std::cmp::Ordering::Greater => {
            let words = "recent recommendations were higher than current one, applying the highest recent \
                         recommendation";
            ("ScaleDownStabilized", words)
        }
        std::cmp::Ordering::Equal => ("ReadyForNewScale", "recommended size matches current size"),
    };
    let least = number(own, "/spec/minReplicas", 1);
    let most = number(own, "/spec/maxReplicas", stable);
    let (replicas, is, reason, message) = if stable > current {
        upwards(stable, most, up.rate(now, current, memory, true))
    } else if stable < current {
        downwards(stable, least, down.rate(now, current, memory, false))
    } else {
        (stable, "False", "DesiredWithinRange", WITHIN)
    };
    Limited { replicas, is, reason, message, able }
}

const WITHIN: &str = "the desired count is within the acceptable range";

type Verdict = (i64, &'static str, &'static str, &'static str);

fn upwards(stable: i64, most: i64, rate: i64) -> Verdict {
    if stable <= most.min(rate) {
        return (stable, "False", "DesiredWithinRange", WITHIN);
    }
    match most > rate {
        true => {
            let words =
                "the desired replica count is increasing faster than the maximum scale rate";
            (rate, "True", "ScaleUpLimit", words)
        }
        false => {
            let words = "the desired replica count is more than the maximum replica count";
            (most, "True", "TooManyReplicas", words)
        }
    }
}

fn downwards(stable: i64, least: i64, rate: i64) -> Verdict {
    if stable >= least.max(rate) {
        return (stable, "False", "DesiredWithinRange", WITHIN);
    }
    match least < rate {
        true => {
            let words =
                "the desired replica count is decreasing faster than the maximum scale rate";
            (rate, "True", "ScaleDownLimit", words)
        }
        false => {
            let words = "the desired replica count is less than the minimum replica count";
            (least, "True", "TooFewReplicas", words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn own(behavior: &Value) -> Value {
        json!({"spec": {"minReplicas": 2, "maxReplicas": 50, "behavior": behavior}})
    }

    #[test]
    fn it_grows_no_faster_than_allowed() {
        let (own, mut memory) = (own(&Value::Null), Memory::default());
        let limited = limit(at(0), &own, 3, 40, &mut memory);
        assert_eq!((limited.replicas, limited.reason), (7, "ScaleUpLimit"));
        memory.note(at(0), &own, 3, 7);
        // What was added in the last 15 seconds counts.
        assert_eq!(limit(at(1), &own, 7, 40, &mut memory).replicas, 7);
        assert_eq!(limit(at(15), &own, 7, 40, &mut memory).replicas, 14);
        let limited = limit(at(100), &own, 40, 90, &mut memory);
        assert_eq!((limited.replicas, limited.reason), (50, "TooManyReplicas"));
    }

    #[test]
    fn it_shrinks_to_the_highest_of_what_was_wanted_lately() {
        let (own, mut memory) = (own(&Value::Null), Memory::default());
        assert_eq!(limit(at(0), &own, 10, 9, &mut memory).replicas, 9);
        let limited = limit(at(100), &own, 9, 3, &mut memory);
        assert_eq!((limited.replicas, limited.able.0), (9, "ScaleDownStabilized"));
        assert_eq!(limit(at(300), &own, 9, 1, &mut memory).replicas, 3);
        let limited = limit(at(700), &own, 3, 1, &mut memory);
        assert_eq!((limited.replicas, limited.reason), (2, "TooFewReplicas"));
    }

    #[test]
    fn a_direction_can_be_forbidden_and_slowed() {
        let rules = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min",
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60},
                {"type": "Percent", "value": 50, "periodSeconds": 60}]},
            "scaleUp": {"selectPolicy": "Disabled"}});
        let (own, mut memory) = (own(&rules), Memory::default());
        assert_eq!(limit(at(0), &own, 10, 2, &mut memory).replicas, 9);
        assert_eq!(limit(at(0), &own, 10, 20, &mut memory).replicas, 10);
    }

    #[test]
    fn a_memory_is_read_as_it_was_written() {
        let mut memory = Memory { wanted: vec![(at(1), 5)], ..Memory::default() };
        memory.note(at(2), &own(&Value::Null), 1, 3);
        let again = Memory::read(Some(&memory.write()));
        assert_eq!((again.wanted, again.added), (memory.wanted, vec![(at(2), 2)]));
    }
}
