//! Objects as rows of a table, with upstream's columns: what `kubectl get` prints (`meta/v1`, `Table`).

mod cluster;
mod network;
mod pod;
mod workload;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A column, and how wide a table must be wanted for it: 0 always, 1 with `-o wide`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub kind: &'static str,
    /// 0, or 1 for a column of wide tables.
    pub priority: u8,
}

/// How the objects of a kind become rows.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// The columns after the name, in order.
    pub columns: &'static [Column],
    /// The cells of an object, without its name.
    cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// Whether the name is a column in front. Events have it at the end.
    has_name: bool,
}

const fn column(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 0 }
}

const fn number(name: &'static str) -> Column {
    Column { name, kind: "integer", priority: 0 }
}

const fn wide(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 1 }
}

const AGE: Column = column("Age");

impl Printer {
    const fn new(columns: &'static [Column], cells: fn(&Value, Timestamp) -> Vec<Value>) -> Self {
        Self { columns, cells, has_name: true }
    }

    /// The printer of a kind; kinds that have none of their own show their name and when they were
    /// made.
    #[must_use]
    pub fn of(group: &str, kind: &str) -> Self {
        let own = match group {
            "" => {
                pod::printer(kind).or_else(|| cluster::core(kind)).or_else(|| network::core(kind))
            }
            "apps" | "batch" | "autoscaling" | "policy" => workload::printer(kind),
            _ => network::printer(group, kind).or_else(|| cluster::printer(group, kind)),
        };
        own.or_else(|| workload::core(group, kind)).unwrap_or(Self::new(
            const { &[Column { name: "Created At", kind: "date", priority: 0 }] },
            |object, _| vec![object["metadata"]["creationTimestamp"].clone()],
        ))
    }

    /// `columnDefinitions` of a table.
    #[must_use]
    pub fn definitions(&self) -> Value {
        let definition = |column: &Column, format: &str| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": format,
                "description": "",
                "priority": column.priority,
            })
        };
        let name = self.has_name.then(|| definition(&column("Name"), "name"));
        name.into_iter().chain(self.columns.iter().map(|column| definition(column, ""))).collect()
    }

    /// The cells of an object.
    #[must_use]
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = self.has_name.then(|| object["metadata"]["name"].clone());
        name.into_iter().chain((self.cells)(object, now)).collect()
    }
}

/// A whole table of objects of one kind; each row has the object's `metadata`.
#[must_use]
pub fn table(
    group: &str,
    kind: &str,
    objects: &[&Value],
    metadata: &Value,
    now: Timestamp,
) -> Value {
    let printer = Printer::of(group, kind);
    let row = |object: &&Value| {
        json!({
            "cells": printer.cells(object, now),
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            },
        })
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": printer.definitions(),
        "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

/// A table of custom resources: their definition says the columns.
#[must_use]
pub fn custom(
    of: &crate::custom::Definition,
    objects: &[Value],
    metadata: &Value,
    now: Timestamp,
) -> Value {
    let mut columns = vec![json!({
        "name": "Name", "type": "string", "format": "name", "description": "", "priority": 0,
    })];
    columns.extend(of.columns.iter().map(|column| {
        json!({
            "name": column.name, "type": column.kind, "format": column.format,
            "description": column.description, "priority": column.priority,
        })
    }));
    if of.columns.is_empty() {
        columns.push(json!({
            "name": "Age", "type": "date", "format": "", "description": "", "priority": 0,
        }));
    }
    let row = |object: &Value| {
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend(of.columns.iter().map(|column| cell(column, object, now)));
        if of.columns.is_empty() {
            cells.push(age(object, now));
        }
        json!({
            "cells": cells,
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            },
        })
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

/// What a column shows of an object; null is shown as nothing.
fn cell(column: &crate::custom::Column, object: &Value, now: Timestamp) -> Value {
    let found = column.path.all(object);
    let Some(first) = found.first() else { return Value::Null };
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (column.kind.as_str(), first) {
        ("integer", value) if value.is_number() => {
            value.as_i64().map_or_else(|| (*value).clone(), Value::from)
        }
        ("number" | "boolean", value) if value.is_number() || value.is_boolean() => {
            (*value).clone()
        }
        ("date", Value::String(_)) => since(first, now).into(),
        ("string", Value::Null) => Value::Null,
        ("string", _) => {
            let words: Vec<String> = found.iter().map(|value| word(value)).collect();
            words.join(",").into()
        }
        _ => Value::Null,
    }
}

/// How long ago an object was made.
fn age(object: &Value, now: Timestamp) -> Value {
    since(&object["metadata"]["creationTimestamp"], now).into()
}

/// How long ago a time was, as `kubectl` says it.
fn since(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => human(now.as_second() - time.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// Seconds as people say them (apimachinery, `duration.HumanDuration`).
#[must_use]
pub fn human(seconds: i64) -> String {
    let both = |large: i64, one: char, small: i64, other: char| match small {
        0 => format!("{large}{one}"),
        small => format!("{large}{one}{small}{other}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => both(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => both(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => both(days, 'd', hours % 24, 'h'),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => both(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn size(value: &Value) -> usize {
    value.as_object().map_or(0, Map::len)
}

fn joined<'a>(words: impl Iterator<Item = &'a str>, between: &str) -> String {
    words.collect::<Vec<_>>().join(between)
}

/// `a=b,c=d`, sorted by key.
fn labels(map: &Value) -> String {
    let mut pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// A `LabelSelector` in a line (`metav1.FormatLabelSelector`).
fn selector(selector: &Value) -> String {
    let mut parts = labels(&selector["matchLabels"]);
    for expression in list(&selector["matchExpressions"]) {
        let key = text(&expression["key"]);
        let values = joined(list(&expression["values"]).iter().map(text), ",");
        let part = match text(&expression["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        parts += if parts.is_empty() { "" } else { "," };
        parts += &part;
    }
    if parts.is_empty() { "<none>".to_owned() } else { parts }
}

/// Names and images of a template's containers.
fn containers(spec: &Value) -> [Value; 2] {
    let all = list(&spec["containers"]);
    ["name", "image"].map(|field| joined(all.iter().map(|one| text(&one[field])), ",").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Resource;

    fn now() -> Timestamp {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    fn cells(group: &str, kind: &str, object: &Value) -> Vec<String> {
        let plain = |cell: Value| match cell {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Printer::of(group, kind).cells(object, now()).into_iter().map(plain).collect()
    }

    #[test]
    fn ages_are_said_as_kubectl_says_them() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (400_000_000, "12y"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn every_kind_has_as_many_cells_as_columns() {
        for resource in Resource::built_in() {
            let printer = Printer::of(resource.group, resource.kind);
            let cells = printer.cells(&json!({}), now());
            let columns = printer.definitions().as_array().unwrap().len();
            assert_eq!(cells.len(), columns, "{}", resource.kind);
        }
    }

    #[test]
    fn pods_show_how_they_are() {
        let mut pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T23:59:00Z"},
            "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
                {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
                {"name": "b", "ready": false, "restartCount": 3,
                 "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"finishedAt": "2026-01-01T23:59:30Z"}}},
            ]},
        });
        let row = cells("", "Pod", &pod);
        let expected = [
            "p",
            "1/2",
            "CrashLoopBackOff",
            "3 (30s ago)",
            "60s",
            "10.0.0.1",
            "n",
            "<none>",
            "<none>",
        ];
        assert_eq!(row, expected);
        pod["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
        assert_eq!(cells("", "Pod", &pod)[2], "Terminating");
        let waiting = json!({
            "spec": {"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "state": {"running": {}}},
            ]},
        });
        assert_eq!(cells("", "Pod", &waiting)[1..3], ["0/1", "Init:1/2"]);
        let failed = json!({"spec": {"containers": [{}]}, "status": {"phase": "Failed",
            "containerStatuses": [{"state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}});
        assert_eq!(cells("", "Pod", &failed)[2], "Error");
        let done = json!({"spec": {"containers": [{}]}, "status": {"phase": "Succeeded",
            "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}});
        assert_eq!(cells("", "Pod", &done)[2], "Completed");
    }

    #[test]
    fn workloads_show_how_far_they_are() {
        let deployment = json!({
            "metadata": {"name": "d", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
        });
        let expected = ["d", "2/3", "3", "2", "24h", "c", "i", "a=b"];
        assert_eq!(cells("apps", "Deployment", &deployment), expected);
        let job = json!({
            "metadata": {"name": "j", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"completions": 4},
            "status": {"succeeded": 4, "startTime": "2026-01-01T00:00:00Z",
                "completionTime": "2026-01-01T00:00:09Z", "conditions": [{"type": "Complete", "status": "True"}]},
        });
        assert_eq!(cells("batch", "Job", &job)[..5], ["j", "Complete", "4/4", "9s", "24h"]);
        let hpa = json!({
            "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 80}}}]},
            "status": {"currentReplicas": 2},
        });
        let row = cells("autoscaling", "HorizontalPodAutoscaler", &hpa);
        assert_eq!(row[1..6], ["Deployment/d", "cpu: <unknown>/80%", "1", "5", "2"]);
    }

    #[test]
    fn services_and_volumes_show_where_they_are() {
        let service = json!({
            "metadata": {"name": "s"},
            "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"a": "b"},
                "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]},
        });
        let expected =
            ["s", "NodePort", "10.0.0.1", "<none>", "80:30000/TCP,53/UDP", "<unknown>", "a=b"];
        assert_eq!(cells("", "Service", &service), expected);
        let claim = json!({
            "metadata": {"name": "c"}, "spec": {"volumeName": "v", "storageClassName": "fast"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]},
        });
        let row = cells("", "PersistentVolumeClaim", &claim);
        assert_eq!(row[..6], ["c", "Bound", "v", "1Gi", "RWO,ROX", "fast"]);
    }

    #[test]
    fn a_table_has_rows_with_metadata() {
        let namespace = json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}});
        let table = table("", "Namespace", &[&namespace], &json!({"resourceVersion": "7"}), now());
        assert_eq!(table["rows"][0]["cells"], json!(["n", "Active", "<unknown>"]));
        assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "n");
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        let other = super::table("example.com", "Thing", &[], &json!({}), now());
        assert_eq!(other["columnDefinitions"][1]["name"], "Created At");
    }
}
