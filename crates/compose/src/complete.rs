//! What files leave out because it goes without saying.

use crate::node::{Map, Node, Value};

/// What is not said of a service, and means something all the same.
pub(crate) fn complete(node: &mut Node) {
    let place = node.place.clone();
    let mut implied: Vec<(String, bool)> = Vec::new();
    for link in node.words_of("links") {
        implied.push((link.split(':').next().unwrap_or_default().to_owned(), true));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(other) = node.word_of(key).and_then(|word| word.strip_prefix("service:")) {
            implied.push((other.to_owned(), true));
        }
    }
    for from in node.words_of("volumes_from") {
        let mut parts = from.split(':');
        let first = parts.next().unwrap_or_default();
        if first != "container" {
            implied.push((first.to_owned(), false));
        }
    }
    let has_mode = node.get("network_mode").is_some();
    let Some(map) = node.entries_mut() else { return };
    if !implied.is_empty() && map.get("depends_on").is_none() {
        map.set("depends_on", Node::map(Map::default(), &place));
    }
    for (name, restarts) in implied {
        let Some(all) = map.get_mut("depends_on").and_then(Node::entries_mut) else { continue };
        if all.get(&name).is_none() {
            let mut dependency = Map::default();
            dependency.set("condition", Node::text("service_started", &place));
            if restarts {
                dependency.set("restart", Node::bool(true, &place));
            }
            dependency.set("required", Node::bool(true, &place));
            all.set(&name, Node::map(dependency, &place));
        }
    }
    let none = map.get("networks").and_then(Node::entries).is_none_or(Map::is_empty);
    if none && !has_mode {
        let mut networks = Map::default();
        networks.set("default", Node::null(&place));
        map.set("networks", Node::map(networks, &place));
    }
    if map.get("pull_policy").and_then(Node::word) == Some("if_not_present") {
        map.set("pull_policy", Node::text("missing", &place));
    }
    if let Some(build) = map.get_mut("build").and_then(Node::entries_mut)
        && build.get("dockerfile").is_none()
        && build.get("dockerfile_inline").is_none()
    {
        build.set("dockerfile", Node::text("Dockerfile", &place));
    }
    for item in map.get_mut("secrets").map(|node| &mut node.value).into_iter() {
        let Value::List(items) = item else { continue };
        for item in items {
            let source = item.word_of("source").unwrap_or_default();
            let target = match item.word_of("target") {
                None => format!("/run/secrets/{source}"),
                Some(target) if target.starts_with('/') => continue,
                Some(target) => format!("/run/secrets/{target}"),
            };
            if let Some(map) = item.entries_mut() {
                map.set("target", Node::text(target, &place));
            }
        }
    }
}
