//! Autoscalers: the first version knows one metric, and keeps the others in annotations; the first
//! beta of the second wrote targets as fields of their own.

use serde_json::{Value, json};

use super::{rename, take};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub(super) fn from_1(object: &mut Value) {
    let stored = |object: &mut Value, name: &str| {
        let text = take(object.pointer_mut("/metadata/annotations")?, name)?;
        serde_json::from_str::<Value>(text.as_str()?).ok()
    };
    let mut metrics = Vec::new();
    if let Some(percent) = take(&mut object["spec"], "targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    let others = stored(object, METRICS);
    metrics.extend(others.into_iter().flat_map(list).map(|metric| changed(metric, from_beta)));
    if !metrics.is_empty() {
        object["spec"]["metrics"] = metrics.into();
    }
    if let Some(behavior) = stored(object, BEHAVIOR) {
        object["spec"]["behavior"] = behavior;
    }
    let mut current = Vec::new();
    let percent = object.get_mut("status").and_then(|s| take(s, "currentCPUUtilizationPercentage"));
    if let Some(percent) = percent {
        let now = json!({"averageUtilization": percent});
        current.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": now}}));
    }
    current.extend(stored(object, CURRENT).into_iter().flat_map(list));
    if !current.is_empty() {
        object["status"]["currentMetrics"] = current.into();
    }
    if let Some(conditions) = stored(object, CONDITIONS) {
        object["status"]["conditions"] = conditions;
    }
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    if annotations.is_some_and(serde_json::Map::is_empty) {
        let _ = take(&mut object["metadata"], "annotations");
    }
}

pub(super) fn to_1(object: &mut Value) {
    let mut kept = Vec::new();
    let mut metrics = take(&mut object["spec"], "metrics").map(list).unwrap_or_default();
    let is_percent = |metric: &Value| {
        metric["resource"]["name"] == "cpu" && metric["resource"]["target"]["type"] == "Utilization"
    };
    if let Some(place) = metrics.iter().position(is_percent) {
        let metric = metrics.remove(place);
        object["spec"]["targetCPUUtilizationPercentage"] =
            metric["resource"]["target"]["averageUtilization"].clone();
    }
    if !metrics.is_empty() {
        let others: Vec<Value> = metrics.into_iter().map(|one| changed(one, to_beta)).collect();
        kept.push((METRICS, others.into()));
    }
    kept.extend(take(&mut object["spec"], "behavior").map(|behavior| (BEHAVIOR, behavior)));
    if let Some(status) = object.get_mut("status") {
        let mut current = take(status, "currentMetrics").map(list).unwrap_or_default();
        let is_percent = |metric: &Value| {
            metric["resource"]["name"] == "cpu"
                && !metric["resource"]["current"]["averageUtilization"].is_null()
        };
        if let Some(place) = current.iter().position(is_percent) {
            let metric = current.remove(place);
            status["currentCPUUtilizationPercentage"] =
                metric["resource"]["current"]["averageUtilization"].clone();
        }
        if !current.is_empty() {
            kept.push((CURRENT, current.into()));
        }
        kept.extend(take(status, "conditions").map(|conditions| (CONDITIONS, conditions)));
    }
    for (name, value) in kept {
        object["metadata"]["annotations"][name] = value.to_string().into();
    }
}

pub(super) fn from_2_beta_1(object: &mut Value) {
    each_metric(object, from_beta);
}

pub(super) fn to_2_beta_1(object: &mut Value) {
    each_metric(object, to_beta);
}

fn each_metric(object: &mut Value, change: fn(&str, &mut Value)) {
    for place in ["/spec/metrics", "/status/currentMetrics"] {
        let metrics = object.pointer_mut(place).and_then(Value::as_array_mut);
        for metric in metrics.into_iter().flatten() {
            *metric = changed(metric.take(), change);
        }
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// A metric with its source changed, which is a field with the name of its kind.
fn changed(mut metric: Value, change: fn(&str, &mut Value)) -> Value {
    for kind in ["object", "pods", "resource", "containerResource", "external"] {
        if let Some(source) = metric.get_mut(kind) {
            change(kind, source);
        }
    }
    metric
}

/// From `targetAverageValue` and its like to a target, or what is measured now.
fn from_beta(kind: &str, source: &mut Value) {
    if source.get("target").is_some_and(|target| target.get("kind").is_some()) {
        rename(source, "target", "describedObject");
    }
    for (field, prefix) in [("target", "target"), ("current", "current")] {
        let mut found = json!({});
        for (old, new, word) in [
            ("AverageUtilization", "averageUtilization", "Utilization"),
            ("AverageValue", "averageValue", "AverageValue"),
            ("Value", "value", "Value"),
        ] {
            if let Some(value) = take(source, &format!("{prefix}{old}")) {
                if field == "target" && found["type"].is_null() {
                    found["type"] = word.into();
                }
                found[new] = value;
            }
        }
        if kind == "object"
            && field == "target"
            && let Some(value) = take(source, "averageValue")
        {
            found = json!({"type": "AverageValue", "averageValue": value});
        }
        if found.as_object().is_some_and(|fields| !fields.is_empty()) {
            source[field] = found;
        }
    }
    if let Some(name) = take(source, "metricName") {
        source["metric"] = json!({"name": name});
        let selector = take(source, "metricSelector").or_else(|| take(source, "selector"));
        if let Some(selector) = selector {
            source["metric"]["selector"] = selector;
        }
    }
}

/// The other way.
fn to_beta(kind: &str, source: &mut Value) {
    for field in ["target", "current"] {
        let Some(mut values) = take(source, field) else { continue };
        for (old, new) in [
            ("AverageUtilization", "averageUtilization"),
            ("AverageValue", "averageValue"),
            ("Value", "value"),
        ] {
            let Some(value) = take(&mut values, new) else { continue };
            match (kind, new) {
                ("object", "averageValue") => {
                    source["averageValue"] = value;
                    source["targetValue"] = "0".into();
                }
                _ => source[format!("{field}{old}")] = value,
            }
        }
    }
    rename(source, "describedObject", "target");
    if let Some(mut metric) = take(source, "metric") {
        source["metricName"] = metric["name"].take();
        if let Some(selector) = take(&mut metric, "selector") {
            let field = if kind == "external" { "metricSelector" } else { "selector" };
            source[field] = selector;
        }
    }
}
