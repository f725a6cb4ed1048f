//! Pods, and what runs them without a group of its own.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, Printer, age, column, containers, count, labels, list, or_none, since, text, wide,
};

const POD: &[Column] = &[
    column("Ready"),
    column("Status"),
    column("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Pod" => Printer::new(POD, cells),
        "PodTemplate" => {
            const COLUMNS: &[Column] =
                &[column("Containers"), column("Images"), column("Pod Labels")];
            Printer::new(COLUMNS, |object, _| {
                let template = &object["template"];
                let [names, images] = containers(&template["spec"]);
                vec![names, images, or_none(&labels(&template["metadata"]["labels"]))]
            })
        }
        _ => return None,
    })
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let state = State::of(pod);
    let gates = list(&spec["readinessGates"]);
    let is_met = |gate: &&Value| {
        let named = |c: &&Value| c["type"] == gate["conditionType"];
        list(&status["conditions"]).iter().find(named).is_some_and(|c| c["status"] == "True")
    };
    let met = gates.iter().filter(is_met).count();
    let restarts = match (state.restarts, &state.last_restart) {
        (0, _) | (_, None) => state.restarts.to_string(),
        (restarts, Some(time)) => {
            format!("{restarts} ({} ago)", since(&Value::String(time.clone()), now))
        }
    };
    vec![
        format!("{}/{}", state.ready, state.containers).into(),
        state.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(text(&status["podIP"])),
        or_none(text(&spec["nodeName"])),
        or_none(text(&status["nominatedNodeName"])),
        if gates.is_empty() { "<none>".into() } else { format!("{met}/{}", gates.len()).into() },
    ]
}

/// What a pod's containers together are.
struct State {
    containers: usize,
    ready: usize,
    restarts: i64,
    last_restart: Option<String>,
    reason: String,
}

impl State {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let own = text(&status["reason"]);
        let phase = text(&status["phase"]);
        let mut state = Self {
            containers: list(&spec["containers"]).len(),
            ready: 0,
            restarts: 0,
            last_restart: None,
            reason: (if own.is_empty() { phase } else { own }).to_owned(),
        };
        if state.reason.is_empty() {
            state.reason = "Unknown".to_owned();
        }
        let gated = |c: &&Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
        if list(&status["conditions"]).iter().any(|c| gated(&c)) {
            state.reason = "SchedulingGated".to_owned();
        }
        let is_initializing = state.look_at_init_containers(pod);
        if !is_initializing {
            state.look_at_containers(pod);
        }
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            let lost = text(&status["reason"]) == "NodeLost";
            let is_over = phase == "Succeeded" || phase == "Failed";
            if lost {
                state.reason = "Unknown".to_owned();
            } else if !is_over {
                state.reason = "Terminating".to_owned();
            }
        }
        state
    }

    /// Whether one is not done; then it is what the pod does.
    fn look_at_init_containers(&mut self, pod: &Value) -> bool {
        let specified = list(&pod["spec"]["initContainers"]);
        let is_sidecar = |status: &Value| {
            let own = |c: &&Value| c["name"] == status["name"];
            specified.iter().find(own).is_some_and(|c| c["restartPolicy"] == "Always")
        };
        self.containers += specified.iter().filter(|c| c["restartPolicy"] == "Always").count();
        for (place, status) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
            self.count_restarts(status);
            let state = &status["state"];
            if is_sidecar(status) && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            self.reason = if !state["terminated"].is_null() {
                match count(&state["terminated"]["exitCode"]) {
                    0 => continue,
                    _ => format!("Init:{}", ended(&state["terminated"])),
                }
            } else {
                match text(&state["waiting"]["reason"]) {
                    "" | "PodInitializing" => format!("Init:{place}/{}", specified.len()),
                    reason => format!("Init:{reason}"),
                }
            };
            return true;
        }
        false
    }

    fn look_at_containers(&mut self, pod: &Value) {
        let mut is_running = false;
        for status in list(&pod["status"]["containerStatuses"]).iter().rev() {
            self.count_restarts(status);
            let (waiting, terminated) =
                (&status["state"]["waiting"], &status["state"]["terminated"]);
            if !text(&waiting["reason"]).is_empty() {
                text(&waiting["reason"]).clone_into(&mut self.reason);
            } else if !terminated.is_null() {
                self.reason = ended(terminated);
            } else if status["ready"] == true && !status["state"]["running"].is_null() {
                is_running = true;
                self.ready += 1;
            }
        }
        // One is done and another runs.
        if self.reason == "Completed" && is_running {
            let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            let is_ready = list(&pod["status"]["conditions"]).iter().any(ready);
            self.reason = (if is_ready { "Running" } else { "NotReady" }).to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += count(&status["restartCount"]);
        let ended = status["lastState"]["terminated"]["finishedAt"].as_str().map(str::to_owned);
        self.last_restart = self.last_restart.take().max(ended);
    }
}

fn ended(terminated: &Value) -> String {
    match (text(&terminated["reason"]), count(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", count(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
