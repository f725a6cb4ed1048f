//! `GET /events`

use engine::{Event, Subject};
use oci::Reference;
use serde_json::{Map, Value, json};

use crate::filter::{Filters, has_label};

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// An event as Docker's API sends it; `status`, `id` and `from` are of its first versions, for
/// containers and images only.
#[must_use]
pub fn event(event: &Event) -> Value {
    let mut object = Map::new();
    let early = matches!(event.subject, Subject::Container | Subject::Image);
    if early {
        object.insert("status".into(), event.action.clone().into());
        if !event.id.is_empty() {
            object.insert("id".into(), event.id.clone().into());
        }
    }
    if let Some(image) = event.attributes.get("image").filter(|_| early) {
        object.insert("from".into(), image.clone().into());
    }
    object.insert("Type".into(), event.subject.word().into());
    object.insert("Action".into(), event.action.clone().into());
    object.insert("Actor".into(), json!({ "ID": event.id, "Attributes": event.attributes }));
    object.insert("scope".into(), "local".into());
    object.insert("time".into(), event.time_ns.div_euclid(SECOND).into());
    object.insert("timeNano".into(), event.time_ns.into());
    Value::Object(object)
}

/// The keys of filters of events.
pub const EVENT_FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Whether the filters leave an event, by Docker's rules: conditions of one key are alternatives, of several must all hold.
#[must_use]
pub fn event_matches(event: &Event, filters: &Filters) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let kind = event.subject.word();
    // By id or name, or the beginning of either.
    let is_one = |subject: Subject| {
        filters.any(subject.word(), |wanted| {
            let known = [event.id.as_str(), attribute("name")];
            event.subject == subject && known.iter().any(|known| known.starts_with(wanted))
        })
    };
    let image = match event.subject {
        Subject::Container => attribute("image"),
        _ => attribute("name"),
    };
    let action = |wanted: &str| {
        let before = event.action.split_once(':').map_or("", |(before, _)| before);
        event.action == wanted || before == wanted
    };
    filters.any("event", action)
        && filters.any("type", |wanted| kind == wanted)
        && filters.any("scope", |wanted| wanted == "local")
        && filters.any("image", |wanted| {
            event.id == wanted || image == wanted || familiar_name(image) == wanted
        })
        && is_one(Subject::Container)
        && is_one(Subject::Volume)
        && is_one(Subject::Network)
        && filters.all("label", |wanted| has_label(&event.attributes, wanted))
        // Nothing here is of these kinds.
        && ["config", "daemon", "node", "plugin", "secret", "service"].iter().all(|k| !filters.has(k))
}

/// An image's name without its tag.
fn familiar_name(name: &str) -> String {
    name.parse().map_or_else(|_| String::new(), |name: Reference| name.familiar_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let attributes = [("image", "busybox:1"), ("name", "web"), ("tier", "front")];
        Event {
            time_ns: 1_000_000_000_000_000_001,
            subject: Subject::Container,
            action: "exec_create: sh -c x".into(),
            id: "abc".into(),
            attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        }
    }

    fn check(filters: &[&str], expected: bool) {
        let own: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        let filters = Filters::parse(&own, EVENT_FILTERS).unwrap();
        assert_eq!(event_matches(&event(), &filters), expected, "{own:?}");
    }

    #[test]
    fn filters_are_docker_s() {
        for filters in [
            &[][..],
            &["event=exec_create"],
            &["event=exec_create: sh -c x"],
            &["event=start", "event=exec_create"],
            &["container=we"],
            &["container=ab"],
            &["image=busybox"],
            &["image=busybox:1", "type=container", "label=tier=front", "label=name"],
        ] {
            check(filters, true);
        }
        for filters in [
            &["event=exec"][..],
            &["container=eb"],
            &["image=busy"],
            &["volume=web"],
            &["network=web"],
            &["type=image"],
            &["label=tier=back"],
            &["daemon=x"],
            &["event=exec_create", "type=network"],
        ] {
            check(filters, false);
        }
    }
}
