//! Waiting for what becomes of an object.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::kind::Kind;
use super::{Cluster, Outcome, Query, get, list, word};

/// What a wait is told: what has happened, and the object unless it is not there.
pub(crate) type Seen<'a> = &'a mut dyn FnMut(&str, Option<&Value>) -> Outcome<bool>;

/// Waits until what is said of an object is so, at most until a time; whether it is.
pub(crate) fn watched(
    cluster: &Cluster,
    kind: &Kind,
    (namespace, name): (&str, &str),
    until: Option<Instant>,
    is_so: Seen<'_>,
) -> Outcome<bool> {
    loop {
        let mut query: Query = vec![("fieldSelector", format!("metadata.name={name}"))];
        let page = cluster.ask(&get(kind.path(namespace, &[], &query), "application/json"))?;
        let found = list(&page, "/items").next().map(|item| kind.complete(item.clone()));
        if is_so("", found.as_ref())? {
            return Ok(true);
        }
        let revision = word(&page, "/metadata/resourceVersion").to_owned();
        query.extend([("watch", "true".to_owned()), ("resourceVersion", revision)]);
        let path = kind.path(namespace, &[], &query);
        let mut events = cluster.https.watch_as(&get(path, "application/json"))?;
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            let Some(told) = events.next(left.unwrap_or(Duration::from_secs(3600))) else { break };
            for event in &told {
                let what = event["type"].as_str().unwrap_or_default();
                let object = Some(&event["object"]).filter(|_| what != "DELETED");
                if what != "ERROR" && is_so(what, object)? {
                    return Ok(true);
                }
            }
            if told.iter().any(|event| event["type"] == "ERROR") {
                break;
            }
        }
    }
}
