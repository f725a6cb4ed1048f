//! CronJobs: jobs at times.

use std::time::Duration;

use client::{Cache, Change, Key, Object, kind};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::control::Controller;
use crate::cron::Schedule;
use crate::object::{
    controller, created, is_ending, is_true, name, namespace, number, owner_reference, stamp, time,
    uid, without_nulls,
};
use crate::plan::{Plan, World};

pub(crate) const CONTROLLER: Controller = Controller { name: "cronjob-controller", concerns, plan };

/// When a job was to begin.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More times than this are not made up for, and are told.
const MISSED_MAX: usize = 100;

fn concerns(_cache: &Cache, change: &Change) -> Vec<Key> {
    match change.key.kind {
        "CronJob" => vec![change.key.clone()],
        "Job" => {
            let job = change.now.as_ref().or(change.before.as_ref());
            let owner = job.and_then(|job| controller(job)).filter(|own| own["kind"] == "CronJob");
            let name = owner.and_then(|owner| owner["name"].as_str());
            name.map(|name| Key::new("CronJob", &change.key.namespace, name)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn is_over(job: &Value) -> bool {
    is_true(job, "Complete") || is_true(job, "Failed")
}

fn plan(world: &World<'_>, key: &Key) -> Plan {
    let mut plan = Plan::nothing();
    let Some(cron) = world.cache.get(key).filter(|cron| !is_ending(cron)) else { return plan };
    let jobs = world.cache.owned("Job", uid(&cron));
    let mut status = cron["status"].clone();
    if status.is_null() {
        status = json!({});
    }
    note_ends(&cron, &jobs, &mut status, &mut plan);
    clean_up(&cron, &jobs, &mut plan);
    if cron["spec"]["suspend"] != true {
        schedule(world, &cron, &jobs, &mut status, &mut plan);
    }
    plan.status(kind("CronJob"), &cron, without_nulls(status));
    plan
}

/// Which of its jobs are running, and what became of those that did.
fn note_ends(cron: &Object, jobs: &[Object], status: &mut Value, plan: &mut Plan) {
    for known in crate::object::items(&cron["status"]["active"]) {
        let job = jobs.iter().find(|job| uid(job) == known["uid"]);
        match job {
            Some(job) if is_over(job) => {
                let end = if is_true(job, "Complete") { "Complete" } else { "Failed" };
                let message = format!("Saw completed job: {}, condition: {end}", name(job));
                plan.tell(cron, "SawCompletedJob", message);
            }
            Some(_) => {}
            None => {
                let gone = known["name"].as_str().unwrap_or_default();
                plan.tell(cron, "MissingJob", format!("Active job went missing: {gone}"));
            }
        }
    }
    let active: Vec<Value> =
        jobs.iter().filter(|job| !is_over(job)).map(|job| reference(job)).collect();
    status["active"] = if active.is_empty() { Value::Null } else { active.into() };
    let done = jobs.iter().filter(|job| is_true(job, "Complete"));
    if let Some(last) = done.filter_map(|job| time(&job["status"]["completionTime"])).max() {
        let known = time(&status["lastSuccessfulTime"]);
        if known.is_none_or(|known| known < last) {
            status["lastSuccessfulTime"] = stamp(last).into();
        }
    }
}

fn reference(job: &Value) -> Value {
    json!({
        "kind": "Job",
        "apiVersion": "batch/v1",
        "namespace": namespace(job),
        "name": name(job),
        "uid": uid(job),
        "resourceVersion": job["metadata"]["resourceVersion"],
    })
}

/// Removes the oldest jobs that are over.
fn clean_up(cron: &Object, jobs: &[Object], plan: &mut Plan) {
    for (end, limit, otherwise) in [
        ("Complete", "/spec/successfulJobsHistoryLimit", 3),
        ("Failed", "/spec/failedJobsHistoryLimit", 1),
    ] {
        let kept = usize::try_from(number(cron, limit, otherwise)).unwrap_or(0);
        let mut over: Vec<&Object> =
            jobs.iter().filter(|job| is_true(job, end) && !is_ending(job)).collect();
        over.sort_by_key(|job| (created(job), name(job).to_owned()));
        for job in &over[..over.len().saturating_sub(kept)] {
            plan.delete(kind("Job"), job, Some(cron), Some("Background"));
        }
    }
}

/// Makes the job whose time has come.
fn schedule(
    world: &World<'_>,
    cron: &Object,
    jobs: &[Object],
    status: &mut Value,
    plan: &mut Plan,
) {
    let text = cron["spec"]["schedule"].as_str().unwrap_or_default();
    let times = match Schedule::parse(text, cron["spec"]["timeZone"].as_str()) {
        Ok(times) => times,
        Err(why) => {
            plan.warn(
                cron,
                "UnparseableSchedule",
                format!("unparseable schedule: {text:?}: {why}"),
            );
            return;
        }
    };
    if let Some(next) = times.next(world.now) {
        let rest = Duration::try_from(next.duration_since(world.now)).unwrap_or_default();
        // The clock of the queue may be a little ahead of the schedule's.
        plan.look_again(rest + Duration::from_millis(10));
    }
    let (due, missed) = due(world.now, cron, &times);
    if missed > MISSED_MAX {
        let message = format!(
            "too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check \
             clock skew"
        );
        plan.warn(cron, "TooManyMissedTimes", message);
    }
    let Some(due) = due else { return };
    if let Some(deadline) = cron["spec"]["startingDeadlineSeconds"].as_u64() {
        let late = Duration::try_from(world.now.duration_since(due)).unwrap_or_default();
        if late > Duration::from_secs(deadline) {
            let message = format!("Missed scheduled time to start a job: {}", stamp(due));
            plan.warn(cron, "MissSchedule", message);
            return;
        }
    }
    let own = format!("{}-{}", name(cron), due.as_second() / 60);
    if world.cache.get(&Key::new("Job", namespace(cron), &own)).is_some() {
        status["lastScheduleTime"] = stamp(due).into();
        return;
    }
    let running: Vec<&Object> =
        jobs.iter().filter(|job| !is_over(job) && !is_ending(job)).collect();
    match cron["spec"]["concurrencyPolicy"].as_str() {
        Some("Forbid") if !running.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.tell(cron, "JobAlreadyActive", message.to_owned());
            return;
        }
        Some("Replace") => {
            for job in running {
                plan.delete(kind("Job"), job, Some(cron), Some("Background"));
            }
        }
        _ => {}
    }
    plan.create(kind("Job"), job(cron, &own, due), cron);
    status["lastScheduleTime"] = stamp(due).into();
}

/// The last time that has come since the last job, and how many there were.
fn due(now: Timestamp, cron: &Value, times: &Schedule) -> (Option<Timestamp>, usize) {
    let last = time(&cron["status"]["lastScheduleTime"]).or_else(|| created(cron)).unwrap_or(now);
    let deadline = cron["spec"]["startingDeadlineSeconds"].as_i64();
    let oldest =
        deadline.and_then(|seconds| now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok());
    let mut from = oldest.map_or(last, |oldest| oldest.max(last));
    let (mut found, mut count) = (None, 0);
    while let Some(next) = times.next(from).filter(|next| *next <= now) {
        found = Some(next);
        count += 1;
        from = next;
        if count > 10 * MISSED_MAX {
            // Far behind: only the last one matters, and it is not far from now.
            let near = now.checked_sub(jiff::SignedDuration::from_hours(1)).unwrap_or(from);
            from = from.max(near);
        }
    }
    (found, count)
}

fn job(cron: &Object, name: &str, due: Timestamp) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let metadata = &template["metadata"];
    let mut annotations = metadata["annotations"].clone();
    let local = match cron["spec"]["timeZone"].as_str() {
        Some(zone) => {
            due.in_tz(zone).map(|zoned| zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
        }
        None => Ok(stamp(due)),
    };
    annotations[SCHEDULED] = local.unwrap_or_else(|_| stamp(due)).into();
    without_nulls(json!({
        "metadata": without_nulls(json!({
            "name": name,
            "namespace": namespace(cron),
            "labels": metadata["labels"],
            "annotations": annotations,
            "ownerReferences": [owner_reference(cron)],
        })),
        "spec": template["spec"],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_of_missed_times_is_made_up_for() {
        let cron = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:30Z"}});
        let times = Schedule::parse("* * * * *", Some("UTC")).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (found, count) = due(at("2026-01-01T00:03:10Z"), &cron, &times);
        assert_eq!((found, count), (Some(at("2026-01-01T00:03:00Z")), 3));
        let (found, _) = due(at("2026-01-03T00:03:10Z"), &cron, &times);
        assert_eq!(found, Some(at("2026-01-03T00:03:00Z")));
        let late = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"startingDeadlineSeconds": 5}});
        assert_eq!(due(at("2026-01-01T00:03:10Z"), &late, &times), (None, 0));
    }

    #[test]
    fn a_job_says_for_which_time_it_is() {
        let cron = std::sync::Arc::new(json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "c", "namespace": "a", "uid": "u"},
            "spec": {"timeZone": "Europe/Lisbon", "jobTemplate": {"spec": {"template": {}}}},
        }));
        let made = job(&cron, "c-1", "2026-07-01T12:00:00Z".parse().unwrap());
        let scheduled = crate::object::annotation(&made, SCHEDULED);
        assert_eq!(scheduled, Some("2026-07-01T13:00:00+01:00"));
        assert_eq!(made["metadata"]["ownerReferences"][0]["name"], "c");
    }
}
