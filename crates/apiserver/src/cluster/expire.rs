//! Events are forgotten after a while (apiserver, `--event-ttl`).

use std::sync::atomic::Ordering;

use serde_json::Value;

use super::Cluster;
use crate::log::{LogError, Range};

/// How long an event is kept since it was last told, in seconds.
const KEPT: i64 = 60 * 60;
/// How often it is looked for old ones, in seconds.
const LOOK_EVERY: i64 = 60;
/// All events, of either version.
const EVENTS: &str = "/core/events/";

impl Cluster {
    /// Looks for events that are old, if that was not done a moment ago.
    pub(crate) fn expire_events(&self) -> Result<(), LogError> {
        self.expire_events_at(jiff::Timestamp::now().as_second())
    }

    fn expire_events_at(&self, now: i64) -> Result<(), LogError> {
        let last = self.looked_for_events.load(Ordering::Relaxed);
        let set = |last| {
            let order = Ordering::Relaxed;
            self.looked_for_events.compare_exchange(last, now, order, order).is_ok()
        };
        if now < last + LOOK_EVERY || !set(last) {
            return Ok(());
        }
        for entry in self.log.range(Range { prefix: EVENTS, ..Range::default() })?.entries {
            let event: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
            if told_at(&event).is_none_or(|told| told + KEPT > now) {
                continue;
            }
            match self.remove(&entry.key, entry.modified) {
                // Whoever was faster has told it again, or removed it.
                Ok(_) | Err(LogError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// When an event was told last.
fn told_at(event: &Value) -> Option<i64> {
    let times = [
        &event["metadata"]["creationTimestamp"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["series"]["lastObservedTime"],
    ];
    let read = |time: &Value| time.as_str()?.parse::<jiff::Timestamp>().ok();
    times.into_iter().filter_map(read).map(jiff::Timestamp::as_second).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::asking::{cluster, make};

    #[test]
    fn old_events_are_forgotten_and_others_are_not() {
        let cluster = cluster();
        let now = jiff::Timestamp::now().as_second();
        let later = objects::time::seconds(now + KEPT);
        let path = "/api/v1/namespaces/default/events";
        for (name, last) in [("old", Value::Null), ("new", json!(later))] {
            let event = json!({"metadata": {"name": name}, "lastTimestamp": last,
                "involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"}});
            make(&cluster, path, &event);
        }
        let names = || -> Vec<String> {
            let page = cluster.log.range(Range { prefix: EVENTS, ..Range::default() }).unwrap();
            page.entries
                .iter()
                .map(|entry| entry.key.replace("/core/events/default/", ""))
                .collect()
        };
        assert_eq!(names(), ["new", "old"]);
        cluster.expire_events_at(now + KEPT + 10).unwrap();
        assert_eq!(names(), ["new"]);
        // It was looked for a moment ago.
        cluster.expire_events_at(now + KEPT + 11).unwrap();
        cluster.expire_events_at(now + 3 * KEPT).unwrap();
        assert_eq!(names(), Vec::<String>::new());
    }
}
