//! What pods are made of, for nodes on other hosts: such a node may read what its pods refer to, and
//! nothing else, so that it cannot watch all. Each object is asked for again after a while (upstream's
//! `configMapAndSecretChangeDetectionStrategy: Cache`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::kind;
use serde_json::Value;

use crate::field::text;
use crate::host::{Host, refers};

/// How soon a change is seen.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// An object: its kind, its namespace, its name.
type Place = (&'static str, String, String);

impl Host {
    /// Looks at pods again that are made of an object that has changed, for as long as the process
    /// lives.
    pub(crate) fn ask_for_data(self: &Arc<Self>) {
        let mut known: HashMap<Place, String> = HashMap::new();
        loop {
            std::thread::sleep(ASK_EVERY);
            let pods = self.cache.list("Pod", "");
            let mut places: Vec<Place> = pods.iter().flat_map(|pod| places(pod)).collect();
            places.sort();
            places.dedup();
            known.retain(|place, _| places.contains(place));
            for place in places {
                let (of, namespace, name) = &place;
                let revision = match self.client.get(kind(of), namespace, name) {
                    Ok(object) => text(&object, &["metadata", "resourceVersion"]).to_owned(),
                    Err(failure) if failure.is_not_found() => String::new(),
                    Err(_) => continue,
                };
                let before = known.insert(place.clone(), revision.clone());
                if before.is_some_and(|before| before != revision) {
                    self.refresh(place.0, &place.1, &place.2);
                }
            }
        }
    }
}

/// The objects that a pod is made of.
fn places(pod: &Value) -> Vec<Place> {
    let mut names = Vec::new();
    collect(&pod["spec"], &mut names);
    names.sort_unstable();
    names.dedup();
    let namespace = text(pod, &["metadata", "namespace"]);
    let kinds = ["ConfigMap", "Secret"];
    let all = names.into_iter().flat_map(|name| kinds.map(|of| (of, name)));
    let own = all.filter(|(of, name)| refers(pod, of, name));
    own.map(|(of, name)| (of, namespace.to_owned(), name.to_owned())).collect()
}

/// Everything that may be the name of an object.
fn collect<'a>(value: &'a Value, names: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(name) if key == "name" || key == "secretName" => names.push(name),
                    value => collect(value, names),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_names_what_it_is_made_of() {
        let pod = json!({"metadata": {"namespace": "a"}, "spec": {
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}],
            "volumes": [{"name": "v", "configMap": {"name": "m"}}],
        }});
        let place = |of, name: &str| (of, "a".to_owned(), name.to_owned());
        assert_eq!(places(&pod), [place("ConfigMap", "m"), place("Secret", "s")]);
    }
}
