//! What is reported of a pod, from what there is of it.

use std::collections::BTreeMap;

use client::{Patch, kind};
use engine::{Container, LogItem, LogQuery};
use serde_json::{Map, Value, json};

use crate::field::{items, millis, text, time};
use crate::host::Host;
use crate::observe::{LABEL_NUMBER, View, end_of, ended_ms, started_ms};
use crate::plan::{Desired, Phase, Wanted, phase};
use crate::pod::{Kind, Part, name, namespace, parts, quality, uid};
use crate::slot::{Slot, Work};
use crate::timer::now_ms;

/// The longest message of a container that has ended; upstream's.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// Lines of its log that stand for it, and their bytes; upstream's.
const LOG_LINES: usize = 80;
const LOG_BYTES_MAX: usize = 2048;

/// What is known of a container for its status.
struct Report<'a> {
    part: &'a Part<'a>,
    runs: &'a [Container],
    is_started: bool,
    is_ready: bool,
    waiting: Option<(String, String)>,
    image_id: String,
    /// What it has of what it asks for, once it runs.
    resources: Value,
    messages: BTreeMap<String, String>,
}

impl Host {
    /// Tells the API how a pod is, if that has changed.
    pub(crate) fn report(&self, slot: &Slot, work: &mut Work) {
        let Some(object) = work.object.clone() else { return };
        if work.is_gone {
            return;
        }
        let all = parts(&object);
        let view = self.observe(slot, work, &all);
        let status = self.status(slot, work, (&object, &all, &view));
        if work.reported == status {
            return;
        }
        let patch = json!({"metadata": {"uid": slot.uid}, "status": status});
        let place = (namespace(&object), name(&object));
        let how = Patch::Strategic;
        match self.client.patch(kind("Pod"), place, "status", how, &patch) {
            Ok(changed) => {
                work.reported = status;
                self.cache.put(kind("Pod"), changed);
            }
            Err(failure) if failure.is_not_found() => {}
            // The server may be busy, or have found something wrong: it is told again.
            Err(_) => self.timer.at(now_ms() + 1000, &slot.uid),
        }
    }

    fn status(
        &self,
        slot: &Slot,
        work: &Work,
        (pod, all, view): (&Value, &[Part<'_>], &View),
    ) -> Value {
        let reports: Vec<Report<'_>> = all
            .iter()
            .enumerate()
            .map(|(number, part)| self.facts_of(slot, work, pod, part, &view.runs[number]))
            .collect();
        let wanted = |part: &Part<'_>| Wanted { kind: part.kind, restart: part.restart };
        let runs = view.observed.parts.iter().any(crate::plan::Seen::runs);
        let is_deleted = !text(pod, &["metadata", "deletionTimestamp"]).is_empty();
        let is_over = work.ended.is_some() || is_deleted && !runs;
        let desired = Desired {
            ends: is_over.then_some(0),
            is_deleted,
            parts: all.iter().map(wanted).collect(),
        };
        let mut phase = phase(&view.observed, &desired);
        if work.ended.is_some() || is_over && !phase.is_final() {
            // What this host has ended has failed, and so has what never began.
            phase = Phase::Failed;
        }
        let mut status = json!({
            "phase": phase.word(),
            "qosClass": quality(pod).word(),
            "observedGeneration": pod["metadata"]["generation"],
            "startTime": start_time(pod, work),
            "hostIP": self.facts.address,
            "hostIPs": [{"ip": self.facts.address}],
        });
        if let Some((reason, message)) = &work.ended {
            status["reason"] = json!(reason);
            status["message"] = json!(message);
        }
        let addresses = view.addresses(&self.facts.address);
        if let Some(first) = addresses.first() {
            let all: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
            status["podIP"] = json!(first);
            status["podIPs"] = all.into();
        }
        let has_init = !items(&pod["spec"], "initContainers").is_empty();
        let of = |kinds: &[Kind]| -> Value {
            let own = reports.iter().filter(|report| kinds.contains(&report.part.kind));
            own.map(|report| report.status(has_init)).collect::<Vec<_>>().into()
        };
        for (field, kinds) in [
            ("initContainerStatuses", &[Kind::Init, Kind::Sidecar][..]),
            ("containerStatuses", &[Kind::Regular][..]),
            ("ephemeralContainerStatuses", &[Kind::Ephemeral][..]),
        ] {
            let all = of(kinds);
            if all.as_array().is_some_and(|all| !all.is_empty()) {
                status[field] = all;
            }
        }
        let has_sandbox =
            !addresses.is_empty() || view.sandbox.as_ref().is_some_and(Container::is_running);
        let mut conditions = conditions(pod, &reports, phase, has_sandbox);
        conditions.extend(resize_conditions(pod, work));
        conditions.extend(disruption(pod, work));
        status["conditions"] = conditions.into();
        status
    }

    fn facts_of<'a>(
        &self,
        slot: &Slot,
        work: &Work,
        pod: &Value,
        part: &'a Part<'a>,
        runs: &'a [Container],
    ) -> Report<'a> {
        let mut report = Report {
            part,
            runs,
            is_started: false,
            is_ready: false,
            waiting: work.parts.get(part.name).and_then(|own| own.waiting.clone()),
            image_id: String::new(),
            resources: Value::Null,
            messages: BTreeMap::new(),
        };
        if let Some(last) = runs.last() {
            slot.learn(part.name, &last.record.id, |facts| {
                (report.is_started, report.is_ready) = (facts.is_started, facts.is_ready);
            });
            report.image_id = last.record.image_id.to_string();
            report.resources = self.resources(pod, part, last);
            let own = work.parts.get(part.name);
            let wait = own.map_or(0, |own| own.not_before);
            let ended = end_of(last).is_some_and(|code| {
                Wanted { kind: part.kind, restart: part.restart }.runs_again(code)
            });
            if ended && report.waiting.is_none() && wait > now_ms() {
                let seconds = (wait - ended_ms(last)) / 1000;
                let back_off = if seconds >= 60 {
                    format!("{}m{}s", seconds / 60, seconds % 60)
                } else {
                    format!("{seconds}s")
                };
                let message = format!(
                    "back-off {back_off} restarting failed container={} pod={}_{}({})",
                    part.name,
                    name(pod),
                    namespace(pod),
                    uid(pod)
                );
                report.waiting = Some(("CrashLoopBackOff".to_owned(), message));
            }
        }
        for run in runs.iter().filter(|run| end_of(run).is_some()) {
            let message = self.message(pod, part, run);
            report.messages.insert(run.record.id.clone(), message);
        }
        report
    }

    /// What a run has: what it asks for, or, while that is waited for, what was told last.
    fn resources(&self, pod: &Value, part: &Part<'_>, run: &Container) -> Value {
        let wanted = crate::limits::of_container(pod, part.spec, self.facts.memory_bytes);
        if crate::resize::has(&run.record.settings.limits, &wanted) {
            return part.spec["resources"].clone();
        }
        let said = ["containerStatuses", "initContainerStatuses"];
        let mut said = said.into_iter().flat_map(|field| items(&pod["status"], field));
        said.find(|one| one["name"] == part.name)
            .map_or(Value::Null, |one| one["resources"].clone())
    }

    /// Why a container has ended, as it says itself.
    fn message(&self, pod: &Value, part: &Part<'_>, run: &Container) -> String {
        use std::io::Read as _;
        if !run.state.error.is_empty() {
            return run.state.error.clone();
        }
        let path = self.message_file(uid(pod), part.name, number(run));
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path);
        let read = file.and_then(|file| file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes));
        if read.is_ok() && !bytes.is_empty() {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        let policy = text(part.spec, &["terminationMessagePolicy"]);
        if policy != "FallbackToLogsOnError" || end_of(run) == Some(0) {
            return String::new();
        }
        let mut lines = Vec::new();
        let query = LogQuery { tail: Some(LOG_LINES), ..LogQuery::default() };
        let _ = self.engine.logs(run, &query, &mut |item| {
            if let LogItem::Line(line) = item {
                lines.extend(line.text);
            }
            Ok(())
        });
        let from = lines.len().saturating_sub(LOG_BYTES_MAX);
        String::from_utf8_lossy(&lines[from..]).into_owned()
    }
}

/// The number of a run.
fn number(run: &Container) -> u32 {
    run.record.config.labels.get(LABEL_NUMBER).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn start_time(pod: &Value, work: &Work) -> Value {
    [&work.reported["startTime"], &pod["status"]["startTime"]]
        .into_iter()
        .find(|time| time.is_string())
        .cloned()
        .unwrap_or_else(|| json!(time(now_ms())))
}

impl Report<'_> {
    /// How it is, as the API has it.
    fn status(&self, has_init: bool) -> Value {
        let last = self.runs.last();
        let number = last.map_or(0, number);
        let runs = last.is_some_and(|run| end_of(run).is_none());
        let mut status = json!({
            "name": self.part.name,
            "image": text(self.part.spec, &["image"]),
            "imageID": self.image_id,
            "restartCount": number,
            "started": runs && self.is_started,
            "ready": self.is_ready(),
            "state": self.state(has_init),
            "lastState": {},
        });
        if runs && self.part.kind != Kind::Ephemeral {
            let has = |value: &Value| value.as_object().is_some_and(|fields| !fields.is_empty());
            status["resources"] = match has(&self.resources) {
                true => self.resources.clone(),
                false => json!({}),
            };
            if has(&self.resources["requests"]) {
                status["allocatedResources"] = self.resources["requests"].clone();
            }
        }
        if let Some(last) = last {
            status["containerID"] = json!(format!("cais://{}", last.record.id));
        }
        let is_waiting = status["state"]["waiting"].is_object();
        let before = match is_waiting {
            true => self.runs.last(),
            false => self.runs.iter().rev().nth(1),
        };
        if let Some(before) = before.filter(|run| end_of(run).is_some()) {
            status["lastState"] = json!({"terminated": self.terminated(before)});
        }
        status
    }

    fn is_ready(&self) -> bool {
        let Some(last) = self.runs.last() else { return false };
        match (self.part.kind, end_of(last)) {
            (Kind::Init, Some(code)) => code == 0,
            (Kind::Init | Kind::Ephemeral, _) | (_, Some(_)) => false,
            (_, None) => self.is_started && self.is_ready,
        }
    }

    fn state(&self, has_init: bool) -> Value {
        if let Some((reason, message)) = &self.waiting {
            return json!({"waiting": {"reason": reason, "message": message}});
        }
        let Some(last) = self.runs.last() else {
            let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
            return json!({"waiting": {"reason": reason}});
        };
        match end_of(last) {
            None => json!({"running": {"startedAt": time(started_ms(last))}}),
            Some(_) => json!({"terminated": self.terminated(last)}),
        }
    }

    fn terminated(&self, run: &Container) -> Value {
        let code = end_of(run).unwrap_or(0);
        let reason = match code {
            _ if run.state.oom_killed => "OOMKilled",
            _ if run.state.status == engine::Status::Created => "StartError",
            0 => "Completed",
            _ => "Error",
        };
        let mut ended = json!({
            "exitCode": code,
            "reason": reason,
            "startedAt": time(started_ms(run)),
            "finishedAt": time(ended_ms(run)),
            "containerID": format!("cais://{}", run.record.id),
        });
        if let Some(message) = self.messages.get(&run.record.id).filter(|text| !text.is_empty()) {
            ended["message"] = json!(message);
        }
        ended
    }
}

/// The conditions of a pod that its node knows.
fn conditions(pod: &Value, reports: &[Report<'_>], phase: Phase, has_sandbox: bool) -> Vec<Value> {
    let names = |kinds: &[Kind], is_bad: &dyn Fn(&Report<'_>) -> bool| -> Vec<String> {
        let own = reports.iter().filter(|report| kinds.contains(&report.part.kind));
        own.filter(|report| is_bad(report)).map(|report| report.part.name.to_owned()).collect()
    };
    let regular_began =
        reports.iter().any(|report| report.part.kind == Kind::Regular && !report.runs.is_empty());
    let not_initialized = match regular_began {
        true => Vec::new(),
        false => names(&[Kind::Init, Kind::Sidecar], &|report| match report.part.kind {
            Kind::Init => !report.is_ready(),
            _ => !report.is_started,
        }),
    };
    let not_ready = names(&[Kind::Regular, Kind::Sidecar], &|report| !report.is_ready());
    let listed = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| (what.to_owned(), format!("[{}]", names.join(" "))))
    };
    let initialized = listed("ContainersNotInitialized", &not_initialized)
        .map(|(reason, names)| (reason, format!("containers with incomplete status: {names}")));
    let ready = match phase {
        Phase::Succeeded => Some(("PodCompleted".to_owned(), String::new())),
        Phase::Failed => Some(("PodFailed".to_owned(), String::new())),
        _ => listed("ContainersNotReady", &not_ready)
            .map(|(reason, names)| (reason, format!("containers with unready status: {names}"))),
    };
    let is_gated = items(&pod["spec"], "readinessGates").iter().find(|gate| {
        let wanted = text(gate, &["conditionType"]);
        let all = items(&pod["status"], "conditions");
        !all.iter().any(|one| one["type"] == wanted && one["status"] == "True")
    });
    let gated = is_gated.map(|gate| {
        let gate = text(gate, &["conditionType"]);
        let message =
            format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.");
        ("ReadinessGatesNotReady".to_owned(), message)
    });
    let all_ready = ready.clone().or(gated);
    let sandbox = (!has_sandbox).then(Default::default);
    let one = |kind: &str, bad: &Option<(String, String)>| condition(pod, kind, bad.as_ref());
    vec![
        one("PodReadyToStartContainers", &sandbox),
        one("Initialized", &if phase == Phase::Succeeded { None } else { initialized }),
        one("Ready", &all_ready),
        one("ContainersReady", &ready),
        condition(pod, "PodScheduled", None),
    ]
}

/// That this host has ended it for want of something.
fn disruption(pod: &Value, work: &Work) -> Option<Value> {
    let (_, message) = work.ended.as_ref().filter(|(reason, _)| reason == "Evicted")?;
    let mut one = condition(pod, "DisruptionTarget", None);
    (one["reason"], one["message"]) = (json!("TerminationByKubelet"), json!(message));
    Some(one)
}

/// That resources are waited for; that they are no more, takes the condition away.
fn resize_conditions(pod: &Value, work: &Work) -> Vec<Value> {
    let said = items(&pod["status"], "conditions");
    let one = |kind: &'static str| {
        let before = said.iter().find(|one| one["type"] == kind);
        match work.resize.as_ref().filter(|pending| pending.0 == kind) {
            Some((_, reason, message)) => {
                let since = before.map(|one| one["lastTransitionTime"].clone());
                let mut made = json!({
                    "type": kind, "status": "True", "lastProbeTime": null,
                    "lastTransitionTime": since.unwrap_or_else(|| json!(time(now_ms()))),
                    "observedGeneration": pod["metadata"]["generation"],
                });
                if !reason.is_empty() {
                    (made["reason"], made["message"]) = (json!(reason), json!(message));
                }
                Some(made)
            }
            None => before.map(|_| json!({"$patch": "delete", "type": kind})),
        }
    };
    ["PodResizePending", "PodResizeInProgress"].into_iter().filter_map(one).collect()
}

fn condition(pod: &Value, kind: &str, bad: Option<&(String, String)>) -> Value {
    let status = if bad.is_none() { "True" } else { "False" };
    let before = items(&pod["status"], "conditions");
    let before = before.iter().find(|one| one["type"] == kind && one["status"] == status);
    let since = before.map(|one| one["lastTransitionTime"].clone());
    let since = since.filter(|time| time.as_str().and_then(millis).is_some());
    let mut made = Map::new();
    made.insert("type".to_owned(), kind.into());
    made.insert("status".to_owned(), status.into());
    made.insert("lastProbeTime".to_owned(), Value::Null);
    let since = since.unwrap_or_else(|| json!(time(now_ms())));
    made.insert("lastTransitionTime".to_owned(), since);
    let (reason, message) = bad.cloned().unwrap_or_default();
    for (field, text) in [("reason", reason), ("message", message)] {
        // Null takes away what was said before.
        let value = if text.is_empty() { Value::Null } else { text.into() };
        made.insert(field.to_owned(), value);
    }
    Value::Object(made)
}
