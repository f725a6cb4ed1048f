//! Jobs whose pods have numbers, each of which has to succeed once.

use std::collections::{BTreeMap, BTreeSet};

use client::Object;
use serde_json::{Value, json};

use super::count::{Tally, indexes};
use super::{End, INDEX, index_of, policy};
use crate::object::{items, name, number};
use crate::pod;

/// Which indexes are done.
#[derive(Debug)]
pub(super) struct Indexes {
    completed: BTreeSet<i64>,
    failed: BTreeSet<i64>,
}

impl Indexes {
    pub(super) fn of(job: &Value, pods: &[Object], _tally: &Tally) -> Option<Self> {
        if job["spec"]["completionMode"] != "Indexed" {
            return None;
        }
        let completions = number(job, "/spec/completions", 0);
        let in_range = |index: &i64| (0..completions).contains(index);
        let known = |field: &str| parse(job["status"][field].as_str().unwrap_or_default());
        let mut completed = known("completedIndexes");
        completed.extend(indexes(pods, "Succeeded"));
        completed.retain(in_range);
        let mut failed = known("failedIndexes");
        if let Some(limit) = job["spec"]["backoffLimitPerIndex"].as_i64() {
            let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
            for own in pods.iter().filter(|own| pod::phase(own) == "Failed") {
                let Some(index) = index_of(own) else { continue };
                if policy::fails_index(job, own) {
                    failed.insert(index);
                } else if !policy::is_ignored(job, own) {
                    *counts.entry(index).or_default() += 1;
                }
            }
            failed.extend(
                counts.into_iter().filter(|(_, count)| *count > limit).map(|(index, _)| index),
            );
        }
        failed.retain(|index| in_range(index) && !completed.contains(index));
        Some(Self { completed, failed })
    }

    pub(super) fn succeeded(&self) -> i64 {
        i64::try_from(self.completed.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn completed(&self) -> Value {
        match self.completed.is_empty() {
            true => Value::Null,
            false => print(&self.completed).into(),
        }
    }

    pub(super) fn failed(&self, job: &Value) -> Value {
        match job["spec"]["backoffLimitPerIndex"].is_null() {
            true => Value::Null,
            false => print(&self.failed).into(),
        }
    }

    /// Why a job with these indexes has failed.
    pub(super) fn failure(&self, job: &Value) -> Option<End> {
        let count = i64::try_from(self.failed.len()).unwrap_or(i64::MAX);
        if let Some(most) = job["spec"]["maxFailedIndexes"].as_i64()
            && count > most
        {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(End::failure("MaxFailedIndexesExceeded", message));
        }
        let all = count + self.succeeded();
        let is_over = count > 0 && all >= number(job, "/spec/completions", 0);
        is_over.then(|| End::failure("FailedIndexes", "Job has failed indexes"))
    }

    /// Whether a rule of the job says that this is enough.
    pub(super) fn success(&self, job: &Value) -> Option<End> {
        let rules = items(&job["spec"]["successPolicy"]["rules"]);
        rules.iter().enumerate().find_map(|(at, rule)| {
            let wanted = rule["succeededIndexes"].as_str().map(parse);
            let done = match &wanted {
                Some(wanted) => wanted.intersection(&self.completed).count(),
                None => self.completed.len(),
            };
            let count =
                rule["succeededCount"].as_u64().and_then(|count| usize::try_from(count).ok());
            let enough = count.or_else(|| wanted.as_ref().map(BTreeSet::len))?;
            let message = format!("Matched rules at index {at}");
            (done >= enough).then(|| End::success("SuccessPolicy", &message))
        })
    }

    /// The indexes that need a pod, the lowest first.
    pub(super) fn missing(&self, job: &Value, active: &[Object]) -> Vec<i64> {
        let taken: BTreeSet<i64> = active.iter().filter_map(|own| index_of(own)).collect();
        let is_free = |index: &i64| {
            !taken.contains(index)
                && !self.completed.contains(index)
                && !self.failed.contains(index)
        };
        (0..number(job, "/spec/completions", 0)).filter(is_free).collect()
    }
}

/// Makes a pod the one of an index.
pub(super) fn mark(mut made: Value, job: &Value, index: i64) -> Value {
    let text = index.to_string();
    let metadata = &mut made["metadata"];
    metadata["generateName"] = format!("{}-{index}-", name(job)).into();
    metadata["annotations"][INDEX] = text.as_str().into();
    metadata["labels"][INDEX] = text.as_str().into();
    let field = format!("metadata.labels['{INDEX}']");
    let variable = json!({"name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}});
    let spec = &mut made["spec"];
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let mut env = items(&container["env"]).to_vec();
            if env.iter().all(|own| own["name"] != "JOB_COMPLETION_INDEX") {
                env.push(variable.clone());
                container["env"] = env.into();
            }
        }
    }
    spec["hostname"] = format!("{}-{index}", name(job)).into();
    made
}

/// Reads `0,2-4`.
fn parse(text: &str) -> BTreeSet<i64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<i64>().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Writes `0,2-4`.
fn print(indexes: &BTreeSet<i64>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let word = |(first, last): &(i64, i64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(word).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_ranges() {
        for text in ["", "0", "0-1", "0,2-4,7", "1-3,5"] {
            assert_eq!(print(&parse(text)), text);
        }
    }
}
