//! Controllers of pods, described.

use jiff::Timestamp;
use serde_json::Value;

use super::super::{Outcome, list, word};
use super::page::{Page, number, owner, scalar, time, truth};
use super::template::template;
use super::{Subject, selector};

/// The columns of conditions.
const REASONS: &[(&str, &str)] = &[("Type", "/type"), ("Status", "/status"), ("Reason", "/reason")];

pub(super) fn deployment(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.field(0, "CreationTimestamp", time(word(of, "/metadata/creationTimestamp")));
    page.labels_of(of);
    page.field(0, "Selector", selector(&of["spec"]["selector"]));
    let count = |field: &str| number(of, field);
    page.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            count("/spec/replicas"),
            count("/status/updatedReplicas"),
            count("/status/replicas"),
            count("/status/availableReplicas"),
            count("/status/unavailableReplicas")
        ),
    );
    page.field(0, "StrategyType", word(of, "/spec/strategy/type"));
    page.field(0, "MinReadySeconds", count("/spec/minReadySeconds"));
    let rolling = &of["spec"]["strategy"]["rollingUpdate"];
    if !rolling.is_null() {
        let (down, up) = (scalar(rolling, "/maxUnavailable", ""), scalar(rolling, "/maxSurge", ""));
        page.field(0, "RollingUpdateStrategy", format!("{down} max unavailable, {up} max surge"));
    }
    template(page, &of["spec"]["template"]);
    page.conditions(of, REASONS, " ");
    let (old, new) = sets(subject)?;
    page.field(0, "OldReplicaSets", created(&old));
    page.field(0, "NewReplicaSet", created(&new));
    Ok(())
}

/// The sets of a deployment: those of before, and the present one.
fn sets(subject: &Subject<'_>) -> Outcome<(Vec<Value>, Vec<Value>)> {
    let of = subject.object;
    let uid = word(of, "/metadata/uid");
    let query = vec![("labelSelector", selector(&of["spec"]["selector"]))];
    let mut all: Vec<Value> = subject.list("replicasets.apps", &query)?;
    all.retain(|set| owner(set).is_some_and(|own| own["uid"] == uid));
    all.sort_by(|a, b| {
        let time = |set: &Value| word(set, "/metadata/creationTimestamp").to_owned();
        time(a).cmp(&time(b)).then_with(|| super::name(a).cmp(super::name(b)))
    });
    let hash = |template: &Value| {
        let mut template = template.clone();
        if let Some(labels) =
            template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut)
        {
            labels.remove("pod-template-hash");
        }
        template
    };
    let wanted = hash(&of["spec"]["template"]);
    let at = all.iter().position(|set| same(&hash(&set["spec"]["template"]), &wanted));
    let new = at.map(|at| all.remove(at)).into_iter().collect();
    Ok((all, new))
}

/// Whether two templates say the same; what is empty says nothing.
fn same(a: &Value, b: &Value) -> bool {
    super::super::output::compact(&bare(a)) == super::super::output::compact(&bare(b))
}

fn bare(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(key, value)| (key.clone(), bare(value)));
            let is_said = |(_, value): &(String, Value)| {
                !(value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty))
            };
            Value::Object(kept.filter(is_said).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(bare).collect()),
        value => value.clone(),
    }
}

fn created(sets: &[Value]) -> String {
    let one = |set: &Value| {
        let (have, want) = (number(set, "/status/replicas"), number(set, "/spec/replicas"));
        format!("{} ({have}/{want} replicas created)", super::name(set))
    };
    match sets {
        [] => "<none>".to_owned(),
        sets => sets.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// `1 Running / 0 Waiting / 0 Succeeded / 0 Failed`
fn pods(subject: &Subject<'_>) -> Outcome<String> {
    let pods = subject.own_pods()?;
    let count = |phase: &str| pods.iter().filter(|pod| word(pod, "/status/phase") == phase).count();
    Ok(format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        count("Running"),
        count("Pending"),
        count("Succeeded"),
        count("Failed")
    ))
}

pub(super) fn replica_set(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.field(0, "Selector", selector(&of["spec"]["selector"]));
    page.labels_of(of);
    page.controller(of);
    let (have, want) = (number(of, "/status/replicas"), number(of, "/spec/replicas"));
    page.field(0, "Replicas", format!("{have} current / {want} desired"));
    page.field(0, "Pods Status", pods(subject)?);
    template(page, &of["spec"]["template"]);
    page.conditions(of, REASONS, " ");
    Ok(())
}

pub(super) fn stateful_set(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.field(0, "CreationTimestamp", time(word(of, "/metadata/creationTimestamp")));
    page.field(0, "Selector", selector(&of["spec"]["selector"]));
    page.labels_of(of);
    page.field(0, "Service Name", word(of, "/spec/serviceName"));
    page.field(0, "Pod Management Policy", word(of, "/spec/podManagementPolicy"));
    let (want, have) = (number(of, "/spec/replicas"), number(of, "/status/replicas"));
    page.field(0, "Replicas", format!("{want} desired | {have} total"));
    page.field(0, "Update Strategy", word(of, "/spec/updateStrategy/type"));
    let rolling = &of["spec"]["updateStrategy"]["rollingUpdate"];
    if let Some(partition) = rolling["partition"].as_i64() {
        page.field(1, "Partition", partition);
        if !rolling["maxUnavailable"].is_null() {
            page.field(1, "MaxUnavailable", scalar(rolling, "/maxUnavailable", ""));
        }
    }
    let retention = &of["spec"]["persistentVolumeClaimRetentionPolicy"];
    if !retention.is_null() {
        page.line(0, "Persistent Volume Claim Retention Policy:");
        page.field(1, "WhenDeleted", word(retention, "/whenDeleted"));
        page.field(1, "WhenScaled", word(retention, "/whenScaled"));
    }
    page.field(0, "Pods Status", pods(subject)?);
    template(page, &of["spec"]["template"]);
    claims(page, of);
    Ok(())
}

fn claims(page: &mut Page, of: &Value) {
    let all: Vec<&Value> = list(of, "/spec/volumeClaimTemplates").collect();
    if all.is_empty() {
        return page.field(0, "Volume Claims", "<none>");
    }
    page.line(0, "Volume Claims:");
    for claim in all {
        page.field(1, "Name", super::name(claim));
        page.field(1, "StorageClass", word(claim, "/spec/storageClassName"));
        page.labels("  ", "Labels", &claim["metadata"]["labels"]);
        page.annotations("  ", &claim["metadata"]["annotations"]);
        let storage = scalar(claim, "/spec/resources/requests/storage", "<default>");
        page.field(1, "Capacity", storage);
        let modes: Vec<&str> = list(claim, "/spec/accessModes").filter_map(Value::as_str).collect();
        page.field(1, "Access Modes", format!("[{}]", modes.join(" ")));
    }
}

pub(super) fn daemon_set(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.field(0, "Name", super::name(of));
    page.field(0, "Namespace", super::namespace(of));
    page.field(0, "Selector", selector(&of["spec"]["selector"]));
    let nodes = super::super::table::pairs(&of["spec"]["template"]["spec"]["nodeSelector"], ",");
    page.field(0, "Node-Selector", nodes.unwrap_or_else(|| "<none>".to_owned()));
    page.labels_of(of);
    for (name, field) in [
        ("Desired Number of Nodes Scheduled", "/status/desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "/status/currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "/status/updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "/status/numberAvailable"),
        ("Number of Nodes Misscheduled", "/status/numberMisscheduled"),
    ] {
        page.line(0, &format!("{name}: {}", number(of, field)));
    }
    page.field(0, "Pods Status", pods(subject)?);
    template(page, &of["spec"]["template"]);
    Ok(())
}

pub(super) fn job(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.field(0, "Selector", selector(&of["spec"]["selector"]));
    page.labels_of(of);
    page.controller(of);
    let text = |field: &str| scalar(of, field, "<unset>");
    page.field(0, "Parallelism", text("/spec/parallelism"));
    page.field(0, "Completions", text("/spec/completions"));
    page.field_if(0, "Completion Mode", word(of, "/spec/completionMode"));
    page.field(0, "Suspend", truth(of, "/spec/suspend"));
    page.field(0, "Backoff Limit", text("/spec/backoffLimit"));
    if let Some(seconds) = of["spec"]["ttlSecondsAfterFinished"].as_i64() {
        page.field(0, "TTL Seconds After Finished", seconds);
    }
    let (start, end) = (word(of, "/status/startTime"), word(of, "/status/completionTime"));
    if !start.is_empty() {
        page.field(0, "Start Time", time(start));
    }
    if !end.is_empty() {
        page.field(0, "Completed At", time(end));
    }
    if let (Ok(start), Ok(end)) = (start.parse::<Timestamp>(), end.parse::<Timestamp>()) {
        page.field(0, "Duration", objects::table::human(end.as_second() - start.as_second()));
    }
    if let Some(seconds) = of["spec"]["activeDeadlineSeconds"].as_i64() {
        page.field(0, "Active Deadline Seconds", format!("{seconds}s"));
    }
    let count = |field: &str| number(of, field);
    let ready = match of["status"]["ready"].as_i64() {
        Some(ready) => format!(" ({ready} Ready)"),
        None => String::new(),
    };
    page.field(
        0,
        "Pods Statuses",
        format!(
            "{} Active{ready} / {} Succeeded / {} Failed",
            count("/status/active"),
            count("/status/succeeded"),
            count("/status/failed")
        ),
    );
    if word(of, "/spec/completionMode") == "Indexed" {
        page.field(0, "Completed Indexes", scalar(of, "/status/completedIndexes", "<none>"));
    }
    template(page, &of["spec"]["template"]);
    Ok(())
}

pub(super) fn cron_job(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.labels_of(of);
    page.field(0, "Schedule", word(of, "/spec/schedule"));
    page.field(0, "Concurrency Policy", word(of, "/spec/concurrencyPolicy"));
    page.field(
        0,
        "Suspend",
        scalar(of, "/spec/suspend", "<unset>").replace("true", "True").replace("false", "False"),
    );
    page.field(0, "Time Zone", scalar(of, "/spec/timeZone", "<unset>"));
    page.field(
        0,
        "Successful Job History Limit",
        scalar(of, "/spec/successfulJobsHistoryLimit", "<unset>"),
    );
    page.field(
        0,
        "Failed Job History Limit",
        scalar(of, "/spec/failedJobsHistoryLimit", "<unset>"),
    );
    let deadline = match of["spec"]["startingDeadlineSeconds"].as_i64() {
        Some(seconds) => format!("{seconds}s"),
        None => "<unset>".to_owned(),
    };
    page.field(0, "Starting Deadline Seconds", deadline);
    let spec = &of["spec"]["jobTemplate"]["spec"];
    page.field(
        0,
        "Selector",
        match selector(&spec["selector"]).as_str() {
            "" => "<unset>",
            own => own,
        },
    );
    page.field(0, "Parallelism", scalar(spec, "/parallelism", "<unset>"));
    page.field(0, "Completions", scalar(spec, "/completions", "<unset>"));
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        page.field(0, "Active Deadline Seconds", format!("{seconds}s"));
    }
    template(page, &spec["template"]);
    let last = word(of, "/status/lastScheduleTime");
    page.field(
        0,
        "Last Schedule Time",
        if last.is_empty() { "<unset>".to_owned() } else { time(last) },
    );
    let active: Vec<&str> = list(of, "/status/active").map(|own| word(own, "/name")).collect();
    page.field(
        0,
        "Active Jobs",
        if active.is_empty() { "<none>".to_owned() } else { active.join(", ") },
    );
    Ok(())
}

pub(super) fn autoscaler(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.labels_of(of);
    page.field(0, "CreationTimestamp", time(word(of, "/metadata/creationTimestamp")));
    let target = &of["spec"]["scaleTargetRef"];
    page.field(0, "Reference", format!("{}/{}", word(target, "/kind"), word(target, "/name")));
    page.line(0, "Metrics:\t( current / target )");
    for (at, metric) in list(of, "/spec/metrics").enumerate() {
        self::metric(page, metric, of["status"]["currentMetrics"].get(at));
    }
    page.field(0, "Min replicas", scalar(of, "/spec/minReplicas", "<unset>"));
    page.field(0, "Max replicas", number(of, "/spec/maxReplicas"));
    behaviour(page, &of["spec"]["behavior"]);
    let (have, want) =
        (number(of, "/status/currentReplicas"), number(of, "/status/desiredReplicas"));
    page.field(
        0,
        &format!("{} pods", word(target, "/kind")),
        format!("{have} current / {want} desired"),
    );
    let columns =
        [("Type", "/type"), ("Status", "/status"), ("Reason", "/reason"), ("Message", "/message")];
    page.conditions(of, &columns, "");
    Ok(())
}

fn metric(page: &mut Page, metric: &Value, current: Option<&Value>) {
    let null = Value::Null;
    let (kind, field) = match word(metric, "/type") {
        "Resource" => ("resource", "resource"),
        "ContainerResource" => ("resource", "containerResource"),
        "Pods" => ("pods", "pods"),
        "Object" => ("object", "object"),
        _ => ("external", "external"),
    };
    let own = &metric[field];
    let now = current.map_or(&null, |current| &current[field]["current"]);
    let name = word(own, if kind == "resource" { "/name" } else { "/metric/name" });
    let of_container = match word(own, "/container") {
        "" => String::new(),
        container => format!(" of container \"{container}\""),
    };
    if let Some(target) = own["target"]["averageUtilization"].as_i64() {
        let now = match now["averageUtilization"].as_i64() {
            Some(percent) => format!("{percent}% ({})", scalar(now, "/averageValue", "0")),
            None => "<unknown>".to_owned(),
        };
        let text = format!("resource {name}{of_container} on pods  (as a percentage of request)");
        return page.field(1, &text, format!("{now} / {target}%"));
    }
    let (target, now) = match word(own, "/target/averageValue") {
        "" => (word(own, "/target/value"), scalar(now, "/value", "<unknown>")),
        value => (value, scalar(now, "/averageValue", "<unknown>")),
    };
    let text = match kind {
        "resource" => format!("resource {name}{of_container} on pods"),
        "pods" => format!("\"{name}\" on pods"),
        "object" => format!(
            "\"{name}\" on {}/{}",
            word(own, "/describedObject/kind"),
            word(own, "/describedObject/name")
        ),
        _ => format!("\"{name}\" (target average value)"),
    };
    page.field(1, &text, format!("{now} / {target}"));
}

fn behaviour(page: &mut Page, behaviour: &Value) {
    if behaviour.is_null() {
        return;
    }
    page.line(0, "Behavior:");
    for (name, field) in [("Scale Up:", "scaleUp"), ("Scale Down:", "scaleDown")] {
        let rules = &behaviour[field];
        if rules.is_null() {
            continue;
        }
        page.line(1, name);
        if let Some(seconds) = rules["stabilizationWindowSeconds"].as_i64() {
            page.line(2, &format!("Stabilization Window: {seconds} seconds"));
        }
        if list(rules, "/policies").next().is_none() {
            continue;
        }
        page.line(2, &format!("Select Policy: {}", scalar(rules, "/selectPolicy", "Max")));
        page.line(2, "Policies:");
        for policy in list(rules, "/policies") {
            let (kind, value) = (word(policy, "/type"), number(policy, "/value"));
            page.line(
                3,
                &format!(
                    "- Type: {kind}\tValue: {value}\tPeriod: {} seconds",
                    number(policy, "/periodSeconds")
                ),
            );
        }
    }
}
