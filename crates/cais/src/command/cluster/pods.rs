//! The pods that somebody means: by their own names, or by those of what they belong to.

use serde_json::Value;

use super::select::{Item, Selectors};
use super::{Cluster, Outcome, Trouble, describe, list, name, note, word};

/// The annotation that names the container which is meant without a name.
const DEFAULT_CONTAINER: &str = "/metadata/annotations/kubectl.kubernetes.io~1default-container";

/// The one pod that a word names: `x`, `pod/x`, or one of those of `deploy/web`.
pub(crate) fn one(cluster: &Cluster, word: &str) -> Outcome<Value> {
    let mut found = of(cluster, word)?;
    if found.len() > 1 {
        found.sort_by_key(|pod| !is_ready(pod));
    }
    match found.into_iter().next() {
        Some(pod) => Ok(pod),
        None => Err(Trouble::local(format!("no pods are found for {word}"))),
    }
}

/// All pods that a word names.
pub(crate) fn of(cluster: &Cluster, word: &str) -> Outcome<Vec<Value>> {
    let words = match word.contains('/') {
        true => vec![word.to_owned()],
        false => vec!["pod".to_owned(), word.to_owned()],
    };
    let items = super::select::words(cluster, &words)?;
    let Some(item) = items.first() else {
        return Err(Trouble::local("a pod is required"));
    };
    let named = item.name.as_deref().unwrap_or_default();
    let object = cluster.get(&item.kind, &item.namespace, named)?;
    match (item.kind.group.as_str(), item.kind.kind.as_str()) {
        ("", "Pod") => Ok(vec![object]),
        _ => owned(cluster, item, &object),
    }
}

/// The pods that a controller or a service selects.
fn owned(cluster: &Cluster, item: &Item, object: &Value) -> Outcome<Vec<Value>> {
    let selector = match item.kind.kind.as_str() {
        "CronJob" => String::new(),
        _ => describe::selector(&object["spec"]["selector"]),
    };
    if selector.is_empty() {
        let what = item.reference();
        return Err(Trouble::local(format!("no pods can be found for {what}: it has no selector")));
    }
    let pods = cluster.kind("pods")?;
    cluster.list(&pods, &item.namespace, &vec![("labelSelector", selector)])
}

/// The pods that selectors select.
pub(crate) fn selected(cluster: &Cluster, selectors: &Selectors) -> Outcome<Vec<Value>> {
    let pods = cluster.kind("pods")?;
    cluster.list(&pods, &cluster.namespace, &selectors.query())
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    list(pod, "/status/conditions").any(|own| own["type"] == "Ready" && own["status"] == "True")
}

/// The names of all containers of a pod: those that come first, its own, and those of debuggers.
pub(crate) fn containers(pod: &Value) -> Vec<&str> {
    ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"]
        .iter()
        .flat_map(|place| list(pod, place))
        .map(|container| word(container, "/name"))
        .collect()
}

/// The container of a pod that is meant; which one that is, is said if nobody has named it.
pub(crate) fn container(pod: &Value, asked: Option<&str>) -> Outcome<String> {
    if let Some(asked) = asked {
        return match containers(pod).contains(&asked) {
            true => Ok(asked.to_owned()),
            false => {
                Err(Trouble::local(format!("container {asked} not found in pod {}", name(pod))))
            }
        };
    }
    let named = word(pod, DEFAULT_CONTAINER);
    if !named.is_empty() && containers(pod).contains(&named) {
        return Ok(named.to_owned());
    }
    let own: Vec<&str> = list(pod, "/spec/containers").map(|own| word(own, "/name")).collect();
    let first = own.first().copied().unwrap_or_default();
    let others = [("/spec/ephemeralContainers", " (ephem)"), ("/spec/initContainers", " (init)")];
    let mut all: Vec<String> = own.iter().map(|name| (*name).to_owned()).collect();
    for (place, what) in others {
        all.extend(list(pod, place).map(|own| format!("{}{what}", word(own, "/name"))));
    }
    if all.len() > 1 {
        note(&format!("Defaulted container \"{first}\" out of: {}", all.join(", ")));
    }
    Ok(first.to_owned())
}
