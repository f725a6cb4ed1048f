//! Resources of containers that run: changed while they do, or by running them again where their policy
//! says so.

use std::sync::Arc;

use client::Object;
use engine::{Container, Limits, Update};
use objects::Quantity;
use serde_json::Value;

use crate::field::{items, text};
use crate::host::Host;
use crate::limits;
use crate::observe::View;
use crate::pod::{Part, amount, uid};
use crate::slot::{Slot, Work};
use crate::timer::now_ms;

/// How soon a change is tried again that could not be made (ms).
const AGAIN_MS: i64 = 3000;

/// Why a pod does not have yet what it asks for: a condition's type, its reason, and in words.
pub(crate) type Pending = (&'static str, &'static str, String);

/// Whether a container has the limits that it is to have.
pub(crate) fn has(own: &Limits, wanted: &Limits) -> bool {
    fn is<T: PartialEq>(own: Option<&T>, wanted: Option<&T>) -> bool {
        wanted.is_none() || own == wanted
    }
    is(own.memory.as_ref(), wanted.memory.as_ref())
        && is(own.cpu_shares.as_ref(), wanted.cpu_shares.as_ref())
        && is(own.cpu_quota_us.as_ref(), wanted.cpu_quota_us.as_ref())
}

/// What of limits can be changed.
fn update(wanted: &Limits) -> Update {
    let limits = Limits {
        memory: wanted.memory,
        memory_swap: wanted.memory_swap,
        cpu_shares: wanted.cpu_shares,
        cpu_period_us: wanted.cpu_period_us,
        cpu_quota_us: wanted.cpu_quota_us,
        ..Limits::default()
    };
    Update { limits, restart: None }
}

/// Whether a container is to run again for a change.
fn restarts(spec: &Value, own: &Limits, wanted: &Limits) -> bool {
    let is_changed = |resource: &str| match resource {
        "memory" => own.memory != wanted.memory,
        _ => (own.cpu_shares, own.cpu_quota_us) != (wanted.cpu_shares, wanted.cpu_quota_us),
    };
    items(spec, "resizePolicy").iter().any(|policy| {
        policy["restartPolicy"] == "RestartContainer" && is_changed(text(policy, &["resourceName"]))
    })
}

/// What a pod requests of a resource, in thousandths.
fn requested(pod: &Value, resource: &str) -> i64 {
    let spec = &pod["spec"];
    let sidecars =
        items(spec, "initContainers").iter().filter(|one| one["restartPolicy"] == "Always");
    let all = items(spec, "containers").iter().chain(sidecars);
    all.filter_map(|one| amount(one, "requests", resource)).map(Quantity::milli_value).sum()
}

impl Host {
    /// Gives containers that run what their pod asks for now; whether something was changed.
    pub(crate) fn resize(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        work: &mut Work,
        (pod, all, view): (&Object, &[Part<'_>], &View),
    ) -> bool {
        let memory = self.facts.memory_bytes;
        let wanted = |part: &Part<'_>| limits::of_container(pod, part.spec, memory);
        let changed: Vec<(&Part<'_>, &Container, Limits)> = all
            .iter()
            .enumerate()
            .filter(|(number, _)| view.observed.parts[*number].runs())
            .filter_map(|(number, part)| Some((part, view.last(number)?, wanted(part))))
            .filter(|(_, run, wanted)| !has(&run.record.settings.limits, wanted))
            .collect();
        let sandbox = view.sandbox.as_ref().filter(|sandbox| sandbox.is_running());
        let of_pod = limits::of_pod(pod);
        let sandbox = sandbox.filter(|own| !has(&own.record.settings.limits, &of_pod));
        if changed.is_empty() && sandbox.is_none() {
            if work.resize.take().is_some() {
                self.recorder.normal(pod, "", "ResizeCompleted", "Pod resize completed".to_owned());
            }
            return false;
        }
        if let Some(pending) = self.no_room(pod) {
            self.timer.at(now_ms() + AGAIN_MS, uid(pod));
            self.note(pod, work, pending);
            return false;
        }
        match self.give(slot, sandbox.map(|own| (own, &of_pod)), &changed) {
            Ok(is_done) => {
                let message = "Pod resize started".to_owned();
                self.note(pod, work, ("PodResizeInProgress", "", message));
                is_done
            }
            Err(why) => {
                self.timer.at(now_ms() + AGAIN_MS, uid(pod));
                self.note(pod, work, ("PodResizeInProgress", "Error", why));
                false
            }
        }
    }

    /// Notes why a pod does not have what it asks for, and tells of it if that is news.
    fn note(&self, pod: &Object, work: &mut Work, pending: Pending) {
        if work.resize.as_ref() == Some(&pending) {
            return;
        }
        let (_, reason, message) = &pending;
        match *reason {
            "Infeasible" => self.recorder.warn(pod, "", "ResizeInfeasible", message.clone()),
            "Deferred" => self.recorder.warn(pod, "", "ResizeDeferred", message.clone()),
            "Error" => self.recorder.warn(pod, "", "ResizeError", message.clone()),
            _ => self.recorder.normal(pod, "", "ResizeStarted", message.clone()),
        }
        work.resize = Some(pending);
    }

    /// Why this node does not have what a pod asks for, if so (upstream's `canResizePod`).
    fn no_room(&self, pod: &Value) -> Option<Pending> {
        let there = |resource: &str| match resource {
            "cpu" => i64::try_from(self.facts.processors).unwrap_or(i64::MAX).saturating_mul(1000),
            _ => i64::try_from(self.facts.memory_bytes).unwrap_or(i64::MAX).saturating_mul(1000),
        };
        // Processors are told in thousandths, memory in bytes.
        let shown =
            |resource: &str, milli: i64| if resource == "cpu" { milli } else { milli / 1000 };
        for resource in ["cpu", "memory"] {
            let (wanted, all) = (requested(pod, resource), there(resource));
            if wanted > all {
                let message = format!(
                    "Node didn't have enough capacity: {resource}, requested: {}, capacity: {}",
                    shown(resource, wanted),
                    shown(resource, all)
                );
                return Some(("PodResizePending", "Infeasible", message));
            }
            let others = self.cache.list("Pod", "").into_iter().filter(|other| {
                let phase = text(other, &["status", "phase"]);
                uid(other) != uid(pod) && !matches!(phase, "Succeeded" | "Failed")
            });
            let used: i64 = others.map(|other| requested(&other, resource)).sum();
            if wanted.saturating_add(used) > all {
                let message = format!(
                    "Node didn't have enough resource: {resource}, requested: {}, used: {}, \
                     capacity: {}",
                    shown(resource, wanted),
                    shown(resource, used),
                    shown(resource, all)
                );
                return Some(("PodResizePending", "Deferred", message));
            }
        }
        None
    }

    /// Changes limits: those of the pod first where they grow, and last where they shrink.
    fn give(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        sandbox: Option<(&Container, &Limits)>,
        changed: &[(&Part<'_>, &Container, Limits)],
    ) -> Result<bool, String> {
        let give_pod = |is_before: bool| -> Result<(), String> {
            let Some((own, wanted)) = sandbox else { return Ok(()) };
            let grows = wanted.memory > own.record.settings.limits.memory
                || wanted.cpu_quota_us > own.record.settings.limits.cpu_quota_us;
            match grows == is_before {
                true => self.change(own, wanted),
                false => Ok(()),
            }
        };
        give_pod(true)?;
        let mut is_done = sandbox.is_some();
        for (part, run, wanted) in changed {
            let own = &run.record.settings.limits;
            if restarts(part.spec, own, wanted) {
                // Once that is known, the plan ends it, and the next run has what is wanted.
                slot.learn(part.name, &run.record.id, |facts| {
                    is_done |= !std::mem::replace(&mut facts.must_end, true);
                });
            } else {
                self.change(run, wanted)?;
                is_done = true;
            }
        }
        give_pod(false)?;
        Ok(is_done)
    }

    fn change(&self, own: &Container, wanted: &Limits) -> Result<(), String> {
        let before = own.record.settings.limits.memory;
        let shrinks = wanted.memory.is_some_and(|bytes| before.is_none_or(|own| own > bytes));
        if shrinks
            && own.record.settings.pod.is_none()
            && let (Ok(usage), Some(bytes)) = (self.engine.usage(own), wanted.memory)
            && usage.memory_bytes > bytes.unsigned_abs()
        {
            return Err(format!(
                "attempting to set container memory limit ({bytes}) below current usage ({})",
                usage.memory_bytes
            ));
        }
        self.engine.update(own, &update(wanted)).map_err(|error| crate::image::chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_restarts_where_its_policy_says_so() {
        let spec = json!({"resizePolicy": [
            {"resourceName": "cpu", "restartPolicy": "NotRequired"},
            {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        ]});
        let own = Limits { memory: Some(1), cpu_shares: Some(2), ..Limits::default() };
        let faster = Limits { cpu_shares: Some(4), ..own.clone() };
        let larger = Limits { memory: Some(2), ..own.clone() };
        assert!(!has(&own, &faster) && !restarts(&spec, &own, &faster));
        assert!(!has(&own, &larger) && restarts(&spec, &own, &larger));
        assert!(has(&own, &own));
    }

    #[test]
    fn what_a_pod_requests_is_of_all_that_run_at_once() {
        let ask = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = ask("1");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {
            "containers": [ask("200m"), {}], "initContainers": [ask("4"), sidecar],
        }});
        assert_eq!(requested(&pod, "cpu"), 1200);
    }
}
