//! What keeps pods running: sets, deployments, jobs, and what scales and guards them.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, Printer, age, column, containers, count, human, labels, list, number, or_none,
    selector, since, text, wide,
};

const REPLICAS: &[Column] = &[
    number("Desired"),
    number("Current"),
    number("Ready"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn core(group: &str, kind: &str) -> Option<Printer> {
    (group.is_empty() && kind == "ReplicationController")
        .then_some(Printer::new(REPLICAS, |o, now| {
            replicas(o, now, labels(&o["spec"]["selector"]))
        }))
}

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "ReplicaSet" => {
            Printer::new(REPLICAS, |o, now| replicas(o, now, selector(&o["spec"]["selector"])))
        }
        "Deployment" => Printer::new(DEPLOYMENT, deployment),
        "StatefulSet" => Printer::new(
            const { &[column("Ready"), AGE, wide("Containers"), wide("Images")] },
            |o, now| {
                let [names, images] = containers(&o["spec"]["template"]["spec"]);
                vec![ready(o), age(o, now), names, images]
            },
        ),
        "DaemonSet" => Printer::new(DAEMON_SET, daemon_set),
        "ControllerRevision" => {
            Printer::new(const { &[column("Controller"), number("Revision"), AGE] }, |o, now| {
                vec![controller(o), count(&o["revision"]).into(), age(o, now)]
            })
        }
        "Job" => Printer::new(JOB, job),
        "CronJob" => Printer::new(CRON_JOB, cron_job),
        "HorizontalPodAutoscaler" => Printer::new(AUTOSCALER, autoscaler),
        "PodDisruptionBudget" => Printer::new(
            const {
                &[
                    column("Min Available"),
                    column("Max Unavailable"),
                    number("Allowed Disruptions"),
                    AGE,
                ]
            },
            |o, now| {
                let (min, max) = (&o["spec"]["minAvailable"], &o["spec"]["maxUnavailable"]);
                let allowed = count(&o["status"]["disruptionsAllowed"]);
                vec![
                    number_or_text(min, "N/A"),
                    number_or_text(max, "N/A"),
                    allowed.into(),
                    age(o, now),
                ]
            },
        ),
        _ => return None,
    })
}

fn replicas(object: &Value, now: Timestamp, selected: String) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = containers(&spec["template"]["spec"]);
    vec![
        count(&spec["replicas"]).into(),
        count(&status["replicas"]).into(),
        count(&status["readyReplicas"]).into(),
        age(object, now),
        names,
        images,
        selected.into(),
    ]
}

fn ready(object: &Value) -> Value {
    let (ready, wanted) = (&object["status"]["readyReplicas"], &object["spec"]["replicas"]);
    format!("{}/{}", count(ready), count(wanted)).into()
}

const DEPLOYMENT: &[Column] = &[
    column("Ready"),
    column("Up-to-date"),
    column("Available"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = &object["status"];
    let [names, images] = containers(&object["spec"]["template"]["spec"]);
    vec![
        ready(object),
        count(&status["updatedReplicas"]).into(),
        count(&status["availableReplicas"]).into(),
        age(object, now),
        names,
        images,
        selector(&object["spec"]["selector"]).into(),
    ]
}

const DAEMON_SET: &[Column] = &[
    number("Desired"),
    number("Current"),
    number("Ready"),
    number("Up-to-date"),
    number("Available"),
    column("Node Selector"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = containers(&spec["template"]["spec"]);
    vec![
        count(&status["desiredNumberScheduled"]).into(),
        count(&status["currentNumberScheduled"]).into(),
        count(&status["numberReady"]).into(),
        count(&status["updatedNumberScheduled"]).into(),
        count(&status["numberAvailable"]).into(),
        or_none(&labels(&spec["template"]["spec"]["nodeSelector"])),
        age(object, now),
        names,
        images,
        selector(&spec["selector"]).into(),
    ]
}

/// `deployment/web`: who made it.
fn controller(object: &Value) -> Value {
    let owner =
        list(&object["metadata"]["ownerReferences"]).iter().find(|o| o["controller"] == true);
    let Some(owner) = owner else { return "<none>".into() };
    let version = text(&owner["apiVersion"]);
    let group = version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
    format!("{}{group}/{}", text(&owner["kind"]).to_lowercase(), text(&owner["name"])).into()
}

const JOB: &[Column] = &[
    column("Status"),
    column("Completions"),
    column("Duration"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let is = |name: &str| {
        let holds = |c: &Value| c["type"] == name && c["status"] == "True";
        list(&status["conditions"]).iter().any(holds)
    };
    let state = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if !object["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let done = count(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), count(&spec["parallelism"])) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let at = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let duration = match (at(&status["startTime"]), at(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), end) => human(end.unwrap_or(now).as_second() - start.as_second()),
    };
    let [names, images] = containers(&spec["template"]["spec"]);
    vec![
        state.into(),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        selector(&spec["selector"]).into(),
    ]
}

const CRON_JOB: &[Column] = &[
    column("Schedule"),
    column("Timezone"),
    column("Suspend"),
    number("Active"),
    column("Last Schedule"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let last = match status["lastScheduleTime"].is_null() {
        true => "<none>".to_owned(),
        false => since(&status["lastScheduleTime"], now),
    };
    let suspended = if spec["suspend"] == true { "True" } else { "False" };
    let job = &spec["jobTemplate"]["spec"];
    let [names, images] = containers(&job["template"]["spec"]);
    vec![
        text(&spec["schedule"]).into(),
        or_none(text(&spec["timeZone"])),
        suspended.into(),
        list(&status["active"]).len().into(),
        last.into(),
        age(object, now),
        names,
        images,
        selector(&job["selector"]).into(),
    ]
}

const AUTOSCALER: &[Column] = &[
    column("Reference"),
    column("Targets"),
    column("MinPods"),
    column("MaxPods"),
    number("Replicas"),
    AGE,
];

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let target = &spec["scaleTargetRef"];
    let current = list(&status["currentMetrics"]);
    let metrics: Vec<String> = list(&spec["metrics"])
        .iter()
        .enumerate()
        .map(|(place, metric)| shown_metric(metric, current.get(place)))
        .collect();
    let targets = match metrics.len() {
        0 => "<none>".to_owned(),
        // Upstream shows two and says how many more there are.
        many @ 3.. => format!("{} + {} more...", metrics[..2].join(", "), many - 2),
        _ => metrics.join(", "),
    };
    vec![
        format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
        targets.into(),
        number_or_text(&spec["minReplicas"], "<unset>"),
        number_or_text(&spec["maxReplicas"], "0"),
        count(&status["currentReplicas"]).into(),
        age(object, now),
    ]
}

/// `cpu: 20%/80%`: what a metric is and shall be.
fn shown_metric(metric: &Value, current: Option<&Value>) -> String {
    let (source, is_resource) = match text(&metric["type"]) {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        _ => return "<unknown type>".to_owned(),
    };
    let target = &metric[source]["target"];
    let now = current.map_or(&Value::Null, |current| &current[source]["current"]);
    let shown = |value: &Value| match value {
        Value::Null => "<unknown>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let pair = match (&target["averageUtilization"], &target["averageValue"]) {
        (Value::Number(wanted), _) => {
            let is = &now["averageUtilization"];
            let is = if is.is_null() { "<unknown>".to_owned() } else { format!("{is}%") };
            format!("{is}/{wanted}%")
        }
        (_, Value::String(wanted)) if is_resource || source == "pods" => {
            format!("{}/{wanted}", shown(&now["averageValue"]))
        }
        (_, Value::String(wanted)) => format!("{}/{wanted} (avg)", shown(&now["averageValue"])),
        _ => format!("{}/{}", shown(&now["value"]), shown(&target["value"])),
    };
    match is_resource {
        true => format!("{}: {pair}", text(&metric[source]["name"])),
        false => pair,
    }
}

fn number_or_text(value: &Value, absent: &str) -> Value {
    match value {
        Value::Null => absent.into(),
        Value::String(text) => text.clone().into(),
        number => number.to_string().into(),
    }
}
