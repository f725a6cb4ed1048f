//! Jobs: pods that come to an end, so many of them.

mod count;
mod index;
mod policy;

use std::time::Duration;

use client::{Cache, Change, Key, Object, kind};
use serde_json::{Value, json};

use crate::claim::{claim, concerned};
use crate::control::Controller;
use crate::object::{
    annotation, is_ending, is_true, items, name, number, stamp, time, without_nulls,
};
use crate::plan::{Plan, World};
use crate::pod;
use crate::template;
use count::Tally;
use index::Indexes;

pub(crate) const CONTROLLER: Controller = Controller { name: "job-controller", concerns, plan };

/// Keeps a pod until its end has been counted.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The annotation and label of a pod of an indexed job.
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How long a job waits before it tries again; doubled with each further failure.
const DELAY: Duration = Duration::from_secs(10);
/// At most this long.
const DELAY_MAX: Duration = Duration::from_secs(600);
/// How many pods are made at once.
const BURST: usize = 500;

fn concerns(cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "Job" => vec![change.key.clone()],
        "Pod" => concerned(cache, "Job", change),
        _ => Vec::new(),
    }
}

/// Why a job ends, or has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    is_failure: bool,
    reason: String,
    message: String,
}

impl End {
    fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self { is_failure: true, reason: reason.to_owned(), message: message.into() }
    }

    fn success(reason: &str, message: &str) -> Self {
        Self { is_failure: false, reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// A job and its pods, as they are looked at.
struct Job<'a> {
    world: &'a World<'a>,
    job: &'a Object,
    pods: Vec<Object>,
    tally: Tally,
    indexes: Option<Indexes>,
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(job) = world.cache.get(key) else { return plan };
    if is_true(&job, "Complete") || is_true(&job, "Failed") {
        release(world, &job, &mut plan);
        expire(world, &job, &mut plan);
        return plan;
    }
    // Somebody else's, if it says so.
    let manager = job["spec"]["managedBy"].as_str().unwrap_or("kubernetes.io/job-controller");
    if is_ending(&job) || manager != "kubernetes.io/job-controller" {
        release(world, &job, &mut plan);
        return plan;
    }
    let pods = claim(world.cache, &job, "Pod", &mut plan);
    let tally = Tally::of(&job, &pods);
    let indexes = Indexes::of(&job, &pods, &tally);
    let job = Job { world, job: &job, pods, tally, indexes };
    job.go(&mut plan);
    plan
}

/// What is over needs no pod to be kept for counting.
fn release(world: &World<'_>, job: &Object, plan: &mut Plan) {
    for own in world.cache.owned("Pod", crate::object::uid(job)) {
        count::let_go(&own, plan);
        if pod::is_active(&own) && !is_ending(job) {
            plan.delete(kind("Pod"), &own, Some(job), None);
        }
    }
}

/// Removes what ended long enough ago.
fn expire(world: &World<'_>, job: &Object, plan: &mut Plan) {
    let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_u64() else { return };
    if is_ending(job) {
        return;
    }
    let ended = items(&job["status"]["conditions"])
        .iter()
        .filter(|own| {
            own["status"] == "True" && (own["type"] == "Complete" || own["type"] == "Failed")
        })
        .find_map(|own| time(&own["lastTransitionTime"]));
    let Some(ended) = ended else { return };
    let since = Duration::try_from(world.now.duration_since(ended)).unwrap_or_default();
    match Duration::from_secs(ttl).checked_sub(since) {
        None | Some(Duration::ZERO) => plan.delete(kind("Job"), job, None, Some("Background")),
        Some(rest) => plan.look_again(rest),
    }
}

impl Job<'_> {
    fn spec(&self) -> &Value {
        &self.job["spec"]
    }

    fn is_suspended(&self) -> bool {
        self.spec()["suspend"] == true
    }

    fn active(&self) -> Vec<Object> {
        self.pods.iter().filter(|own| pod::is_active(own)).cloned().collect()
    }

    fn go(&self, plan: &mut Plan) {
        self.tally.let_counted_go(&self.pods, plan);
        let mut conditions = items(&self.job["status"]["conditions"]).to_vec();
        let mut active = self.active();
        let end = self.end(&conditions, active.len(), plan);
        match &end {
            Some(_) => {
                for own in active.drain(..) {
                    plan.delete(kind("Pod"), &own, Some(self.job), None);
                }
            }
            None if self.is_suspended() => {
                for own in active.drain(..) {
                    plan.delete(kind("Pod"), &own, Some(self.job), None);
                }
            }
            None => self.manage(&active, plan),
        }
        self.conditions(&mut conditions, end.as_ref(), plan);
        self.report(&active, conditions, end.as_ref(), plan);
    }

    /// Whether it is time to end, and why.
    fn end(&self, conditions: &[Value], active: usize, plan: &mut Plan) -> Option<End> {
        let find = |kind: &str| {
            conditions.iter().find(|own| own["type"] == kind && own["status"] == "True")
        };
        let word = |own: &Value, field: &str| own[field].as_str().unwrap_or_default().to_owned();
        if let Some(own) = find("FailureTarget") {
            return Some(End::failure(&word(own, "reason"), word(own, "message")));
        }
        if let Some(own) = find("SuccessCriteriaMet") {
            return Some(End::success(&word(own, "reason"), &word(own, "message")));
        }
        self.failure(plan).or_else(|| self.success(active))
    }

    fn failure(&self, plan: &mut Plan) -> Option<End> {
        if let Some(message) = policy::failure(self.job, &self.pods) {
            return Some(End::failure("PodFailurePolicy", message));
        }
        let limit = number(self.job, "/spec/backoffLimit", 6);
        let has_index_limit = !self.spec()["backoffLimitPerIndex"].is_null();
        let is_over =
            self.tally.failed > limit || self.restarts() > limit.max(0) && self.restarts() > 0;
        if is_over && !(has_index_limit && self.spec()["backoffLimit"].is_null()) {
            let message = "Job has reached the specified backoff limit";
            return Some(End::failure("BackoffLimitExceeded", message));
        }
        if let Some(end) = self.indexes.as_ref().and_then(|own| own.failure(self.job)) {
            return Some(end);
        }
        let deadline = self.spec()["activeDeadlineSeconds"].as_u64()?;
        let started = time(&self.job["status"]["startTime"])?;
        if self.is_suspended() {
            return None;
        }
        let since = Duration::try_from(self.world.now.duration_since(started)).unwrap_or_default();
        match Duration::from_secs(deadline).checked_sub(since) {
            Some(rest) if !rest.is_zero() => {
                plan.look_again(rest);
                None
            }
            _ => {
                let message = "Job was active longer than specified deadline";
                Some(End::failure("DeadlineExceeded", message))
            }
        }
    }

    /// How often containers of pods that start them again were started again.
    fn restarts(&self) -> i64 {
        if self.spec()["template"]["spec"]["restartPolicy"] != "OnFailure" {
            return 0;
        }
        let of = |own: &Object| {
            let status = &own["status"];
            let all = items(&status["initContainerStatuses"]).iter();
            let all = all.chain(items(&status["containerStatuses"]));
            all.filter_map(|own| own["restartCount"].as_i64()).sum::<i64>()
        };
        self.pods
            .iter()
            .filter(|own| matches!(pod::phase(own), "Running" | "Pending"))
            .map(of)
            .sum()
    }

    fn success(&self, active: usize) -> Option<End> {
        const MESSAGE: &str = "Reached expected number of succeeded pods";
        if let Some(end) = self.indexes.as_ref().and_then(|own| own.success(self.job)) {
            return Some(end);
        }
        let succeeded = self.succeeded();
        let is_done = match self.spec()["completions"].as_i64() {
            Some(completions) => succeeded >= completions,
            None => succeeded > 0 && active == 0,
        };
        is_done.then(|| End::success("CompletionsReached", MESSAGE))
    }

    fn succeeded(&self) -> i64 {
        match &self.indexes {
            Some(indexes) => indexes.succeeded(),
            None => self.tally.succeeded,
        }
    }

    /// As many pods as there shall be now.
    fn manage(&self, active: &[Object], plan: &mut Plan) {
        let parallelism = number(self.job, "/spec/parallelism", 1);
        let wanted = match self.spec()["completions"].as_i64() {
            None if self.succeeded() > 0 => {
                i64::try_from(active.len()).unwrap_or(0).min(parallelism)
            }
            None => parallelism,
            Some(completions) => (completions - self.succeeded()).min(parallelism),
        };
        let wanted = usize::try_from(wanted).unwrap_or(0);
        if active.len() > wanted {
            let mut surplus = active.to_vec();
            pod::first_to_go(&mut surplus);
            for own in &surplus[..active.len() - wanted] {
                plan.delete(kind("Pod"), own, Some(self.job), None);
            }
            return;
        }
        let ending = match self.spec()["podReplacementPolicy"].as_str() {
            // Those that are going still take a place.
            Some("Failed") => {
                self.pods.iter().filter(|own| is_ending(own) && !pod::is_terminal(own)).count()
            }
            _ => 0,
        };
        let missing = (wanted - active.len()).saturating_sub(ending).min(BURST);
        if missing == 0 {
            return;
        }
        if let Some(rest) = self.delay() {
            plan.look_again(rest);
            return;
        }
        match &self.indexes {
            None => (0..missing).for_each(|_| plan.create(kind("Pod"), self.make(), self.job)),
            Some(indexes) => {
                for index in indexes.missing(self.job, active).into_iter().take(missing) {
                    plan.create(kind("Pod"), index::mark(self.make(), self.job, index), self.job);
                }
            }
        }
    }

    fn make(&self) -> Value {
        let mut made = template::pod(&self.spec()["template"], self.job);
        let mut finalizers = items(&made["metadata"]["finalizers"]).to_vec();
        finalizers.push(TRACKING.into());
        made["metadata"]["finalizers"] = finalizers.into();
        made
    }

    /// How long to wait after the last failures.
    fn delay(&self) -> Option<Duration> {
        let ends = |phase: &'static str| {
            self.pods
                .iter()
                .filter(move |own| pod::phase(own) == phase)
                .filter_map(|own| count::ended(own))
        };
        let last_success = ends("Succeeded").max();
        let failures =
            ends("Failed").filter(|end| last_success.is_none_or(|success| *end > success));
        let (count, last) =
            failures.fold((0_u32, None), |(count, last), end| (count + 1, last.max(Some(end))));
        let since = Duration::try_from(self.world.now.duration_since(last?)).unwrap_or_default();
        let delay = DELAY.saturating_mul(1 << (count - 1).min(10)).min(DELAY_MAX);
        delay.checked_sub(since).filter(|rest| !rest.is_zero())
    }

    /// Brings the conditions up to date, and tells people of what is new in them.
    fn conditions(&self, conditions: &mut Vec<Value>, end: Option<&End>, plan: &mut Plan) {
        let now = self.world.now;
        if let Some(end) = end {
            let cause = (end.reason.as_str(), end.message.as_str());
            let target = if end.is_failure { "FailureTarget" } else { "SuccessCriteriaMet" };
            set(conditions, target, "True", cause, now);
            // The last word is said when the last pod is gone and counted.
            if self.pods.iter().any(|own| !pod::is_terminal(own)) || self.tally.has_uncounted() {
                return;
            }
            match end.is_failure {
                true => {
                    set(conditions, "Failed", "True", cause, now);
                    let reason = self.event_reason(&end.reason);
                    plan.warn(self.job, reason, end.message.clone());
                }
                false => {
                    set(conditions, "Complete", "True", cause, now);
                    plan.tell(self.job, "Completed", "Job completed".to_owned());
                }
            }
            return;
        }
        let was =
            conditions.iter().any(|own| own["type"] == "Suspended" && own["status"] == "True");
        match (was, self.is_suspended()) {
            (false, true) => {
                set(conditions, "Suspended", "True", ("JobSuspended", "Job suspended"), now);
                plan.tell(self.job, "Suspended", "Job suspended".to_owned());
            }
            (true, false) => {
                set(conditions, "Suspended", "False", ("JobResumed", "Job resumed"), now);
                plan.tell(self.job, "Resumed", "Job resumed".to_owned());
            }
            _ => {}
        }
    }

    fn event_reason(&self, reason: &str) -> &'static str {
        match reason {
            "BackoffLimitExceeded" => "BackoffLimitExceeded",
            "DeadlineExceeded" => "DeadlineExceeded",
            "PodFailurePolicy" => "PodFailurePolicy",
            "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
            _ => "FailedIndexes",
        }
    }

    fn report(
        &self,
        active: &[Object],
        conditions: Vec<Value>,
        end: Option<&End>,
        plan: &mut Plan,
    ) {
        let known = &self.job["status"];
        let now = stamp(self.world.now);
        let ready = active.iter().filter(|own| pod::is_ready(own)).count();
        let going = self.pods.iter().filter(|own| is_ending(own) && !pod::is_terminal(own)).count();
        let started = match (self.is_suspended(), known["startTime"].as_str()) {
            (true, _) => Value::Null,
            (false, Some(known)) => known.into(),
            (false, None) => now.as_str().into(),
        };
        let is_complete = conditions.iter().any(|own| own["type"] == "Complete");
        let completed = match known["completionTime"].is_null() && is_complete {
            true => now.into(),
            false => known["completionTime"].clone(),
        };
        let some = |count: i64| if count == 0 { Value::Null } else { count.into() };
        let active = if end.is_some() { 0 } else { active.len() };
        let indexes = self.indexes.as_ref();
        let status = without_nulls(json!({
            "conditions": if conditions.is_empty() { Value::Null } else { conditions.into() },
            "startTime": started,
            "completionTime": completed,
            "active": some(i64::try_from(active).unwrap_or(0)),
            "succeeded": some(match indexes {
                Some(indexes) => indexes.succeeded(),
                None => self.tally.counted_succeeded,
            }),
            "failed": some(self.tally.counted_failed),
            "terminating": going,
            "completedIndexes": indexes.map_or(Value::Null, Indexes::completed),
            "failedIndexes": indexes.map_or(Value::Null, |own| own.failed(self.job)),
            "uncountedTerminatedPods": self.tally.uncounted(),
            "ready": ready,
        }));
        plan.status(kind("Job"), self.job, status);
    }
}

fn set(
    list: &mut Vec<Value>,
    kind: &str,
    status: &str,
    (reason, message): (&str, &str),
    now: jiff::Timestamp,
) {
    if list.iter().any(|own| own["type"] == kind && own["status"] == status) {
        return;
    }
    list.retain(|own| own["type"] != kind);
    list.push(json!({
        "type": kind,
        "status": status,
        "lastProbeTime": stamp(now),
        "lastTransitionTime": stamp(now),
        "reason": reason,
        "message": message,
    }));
}

/// The index of a pod of an indexed job.
fn index_of(pod: &Value) -> Option<i64> {
    annotation(pod, INDEX)?.parse().ok()
}

/// How the index of a pod is told in sentences.
fn place_of(pod: &Value) -> String {
    format!("{}/{}", crate::object::namespace(pod), name(pod))
}
