//! Compose files: each service that is built is a target, as with buildx, and `x-bake` of its `build`
//! says what Compose has no words for.

use compose::{Map as Entries, Node, Project, Service};
use engine::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use crate::command::compose::project_of;

/// Keys of `build` that are lists of words, and the attributes that they are.
const LISTS: [(&str, &str); 6] = [
    ("tags", "tags"),
    ("cache_from", "cache-from"),
    ("cache_to", "cache-to"),
    ("platforms", "platforms"),
    ("no_cache_filter", "no-cache-filter"),
    ("entitlements", "entitlements"),
];
/// Keys that are single words.
const WORDS: [(&str, &str); 5] = [
    ("dockerfile", "dockerfile"),
    ("dockerfile_inline", "dockerfile-inline"),
    ("target", "target"),
    ("network", "network"),
    ("shm_size", "shm-size"),
];
/// Keys that are yes or no.
const TRUTHS: [(&str, &str); 2] = [("pull", "pull"), ("no_cache", "no-cache")];
/// Keys that no attribute says.
const UNKNOWN: [&str; 5] = ["ssh", "provenance", "sbom", "isolation", "privileged"];

/// Whether a file is one of Compose.
pub(super) fn is_compose(file: &str) -> bool {
    file.ends_with(".yaml") || file.ends_with(".yml")
}

/// What the files say, as a file of `bake` in JSON says it.
pub(super) fn read(files: &[String]) -> Result<Value> {
    let project = project_of(files)?;
    let mut targets = Map::new();
    for service in project.services.values() {
        if let Some(build) = service.build() {
            targets.insert(name(&service.name), Value::Object(target(&project, service, build)?));
        }
    }
    let names: Vec<&String> = targets.keys().collect();
    Ok(json!({"group": {"default": {"targets": names}}, "target": targets}))
}

/// Targets have no dots in their names.
fn name(service: &str) -> String {
    service.replace('.', "_")
}

fn target(project: &Project, service: &Service, build: &Node) -> Result<Map<String, Value>> {
    if let Some(key) = UNKNOWN.iter().find(|key| build.get(key).is_some()) {
        let place = build.get(key).map_or(&build.place, |node| &node.place);
        let message =
            format!("{place}: services.{}.build.{key} is not supported by bake", service.name);
        return Err(Error::new(Kind::Unsupported, message).hint("--set says it for a target"));
    }
    let mut target = Map::new();
    target.insert("context".into(), json!(build.word_of("context").unwrap_or(".")));
    for (key, attribute) in WORDS {
        if let Some(word) = build.word_of(key) {
            target.insert(attribute.into(), json!(word));
        }
    }
    for (key, attribute) in LISTS {
        add(&mut target, attribute, build.words_of(key));
    }
    if let Some(image) = service.node.word_of("image") {
        let tags = target.entry("tags").or_insert_with(|| json!([]));
        if let Some(tags) = tags.as_array_mut() {
            tags.insert(0, json!(image));
        }
    }
    if let (Some(platform), false) =
        (service.node.word_of("platform"), target.contains_key("platforms"))
    {
        target.insert("platforms".into(), json!([platform]));
    }
    for (key, attribute) in TRUTHS {
        if build.is(key) {
            target.insert(attribute.into(), json!(true));
        }
    }
    maps(project, build, &mut target);
    add(&mut target, "secret", secrets(project, build));
    add(&mut target, "ulimits", ulimits(build));
    extend(&mut target, build);
    Ok(target)
}

fn maps(project: &Project, build: &Node, target: &mut Map<String, Value>) {
    let mut set = |attribute: &str, entries: Map<String, Value>| {
        if !entries.is_empty() {
            target.insert(attribute.to_owned(), Value::Object(entries));
        }
    };
    let args = build.pairs_of("args").into_iter().filter_map(|(name, value)| {
        // Without a value it is the variable of its name.
        let value = value.or_else(|| project.environment.get(name).map(String::as_str))?;
        Some((name.to_owned(), json!(value)))
    });
    set("args", args.collect());
    let labels = build.pairs_of("labels").into_iter();
    set(
        "labels",
        labels.map(|(key, value)| (key.to_owned(), json!(value.unwrap_or("")))).collect(),
    );
    let contexts = build.pairs_of("additional_contexts").into_iter().map(|(key, place)| {
        let place = place.unwrap_or_default();
        let place = match place.strip_prefix("service:") {
            Some(service) => format!("target:{}", name(service)),
            None => place.to_owned(),
        };
        (key.to_owned(), json!(place))
    });
    set("contexts", contexts.collect());
    let hosts = build.words_of("extra_hosts").into_iter();
    let hosts = hosts.filter_map(|host| host.split_once('='));
    set("extra-hosts", hosts.map(|(host, address)| (host.to_owned(), json!(address))).collect());
}

fn secrets(project: &Project, build: &Node) -> Vec<String> {
    let given = build.get("secrets").map(Node::items).unwrap_or_default();
    let secret = |item: &Node| {
        let source = item.word_of("source")?;
        let own = &project.secrets.get(source)?.node;
        let target = item.word_of("target").and_then(|target| target.rsplit('/').next());
        let id = target.unwrap_or(source);
        let file = own.word_of("file").map(|file| format!("id={id},src={file}"));
        file.or_else(|| Some(format!("id={id},env={}", own.word_of("environment")?)))
    };
    given.iter().filter_map(secret).collect()
}

fn ulimits(build: &Node) -> Vec<String> {
    let limits = build.get("ulimits").and_then(Node::entries);
    let limit = |(name, limit): (&str, &Node)| {
        let word = |key: &str| limit.word_of(key).unwrap_or_default();
        match limit.word() {
            Some(both) => format!("{name}={both}"),
            None => format!("{name}={}:{}", word("soft"), word("hard")),
        }
    };
    limits.into_iter().flat_map(Entries::iter).map(limit).collect()
}

/// What `x-bake` adds: to lists, what they do not have yet; else what it says counts.
fn extend(target: &mut Map<String, Value>, build: &Node) {
    let own = build.get("x-bake").and_then(Node::entries);
    for (key, node) in own.into_iter().flat_map(Entries::iter) {
        let key = if key == "secret" || key == "secrets" { "secret" } else { key };
        let said = ::compose::json(node);
        match (target.get_mut(key).and_then(Value::as_array_mut), said) {
            (Some(list), Value::Array(more)) => {
                more.into_iter().for_each(|item| {
                    if !list.contains(&item) {
                        list.push(item);
                    }
                });
            }
            // One word is a list of one where a list is meant.
            (_, Value::String(word)) if super::target::is_list(key) => {
                add(target, key, vec![word]);
            }
            (_, said) => drop(target.insert(key.to_owned(), said)),
        }
    }
}

fn add<T: Into<String>>(target: &mut Map<String, Value>, attribute: &str, words: Vec<T>) {
    if words.is_empty() {
        return;
    }
    let list = target.entry(attribute).or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.extend(words.into_iter().map(|word| Value::String(word.into())));
    }
}
