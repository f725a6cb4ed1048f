//! Objects as this process knows them.
//!
//! What it has written itself it knows at once, before the watch tells it: an older event does not
//! undo that. So nobody acts twice because its own deed has not come back yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objects::resource::Resource;
use serde_json::Value;

use crate::call::Object;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: &'static str,
    /// Empty for what is in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object of a kind.
    #[must_use]
    pub fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(kind: &'static str, object: &Value) -> Self {
        let metadata = &object["metadata"];
        let word = |field: &str| metadata[field].as_str().unwrap_or_default();
        Self::new(kind, word("namespace"), word("name"))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.is_empty() {
            true => write!(f, "{} {}", self.kind, self.name),
            false => write!(f, "{} {}/{}", self.kind, self.namespace, self.name),
        }
    }
}

/// What became of an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which one.
    pub key: Key,
    /// As it was known before.
    pub before: Option<Object>,
    /// As it is known now.
    pub now: Option<Object>,
}

/// The objects of some kinds.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    kinds: HashMap<&'static str, BTreeMap<(String, String), Object>>,
    /// By the uid of their controller; empty without one.
    owned: HashMap<String, HashSet<Key>>,
    /// Uids of what this process has removed, until a watch says so.
    removed: HashSet<String>,
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Object> {
        let state = self.state();
        let place = (key.namespace.clone(), key.name.clone());
        state.kinds.get(key.kind)?.get(&place).cloned()
    }

    /// The objects of a kind in a namespace, or in all if it is empty, in the order of their names.
    #[must_use]
    pub fn list(&self, kind: &str, namespace: &str) -> Vec<Object> {
        let state = self.state();
        let Some(all) = state.kinds.get(kind) else { return Vec::new() };
        match namespace {
            "" => all.values().cloned().collect(),
            namespace => {
                let from = (namespace.to_owned(), String::new());
                let here = all.range(from..).take_while(|((own, _), _)| own == namespace);
                here.map(|(_, object)| object.clone()).collect()
            }
        }
    }

    /// The objects of a kind whose controller has a uid, or that have none if it is empty, in the order
    /// of their names.
    #[must_use]
    pub fn owned(&self, kind: &str, uid: &str) -> Vec<Object> {
        let state = self.state();
        let Some(keys) = state.owned.get(uid) else { return Vec::new() };
        let mut keys: Vec<&Key> = keys.iter().filter(|key| key.kind == kind).collect();
        keys.sort();
        let place = |key: &Key| (key.namespace.clone(), key.name.clone());
        let get = |key: &Key| state.kinds.get(key.kind)?.get(&place(key)).cloned();
        keys.into_iter().filter_map(get).collect()
    }

    /// Takes an object that a watch told, or a write answered. None if something newer is known.
    pub fn put(&self, of: &'static Resource, object: Value) -> Option<Change> {
        self.state().put(Key::of(of.kind, &object), object)
    }

    /// Takes the word of a watch that an object is gone.
    pub fn remove(&self, of: &'static Resource, object: &Value) -> Option<Change> {
        self.state().remove(&Key::of(of.kind, object), uid(object))
    }

    /// Notes that this process removed an object, which may take a while to end.
    pub fn forget(&self, key: &Key, uid: &str) -> Option<Change> {
        let mut state = self.state();
        let change = state.remove(key, uid)?;
        state.removed.insert(uid.to_owned());
        Some(change)
    }

    /// Takes a whole list in the place of what is known of a kind.
    pub fn replace(&self, of: &'static Resource, items: Vec<Value>) -> Vec<Change> {
        let mut state = self.state();
        let uids: HashSet<String> = items.iter().map(|item| uid(item).to_owned()).collect();
        let known = state.kinds.get(of.kind).into_iter().flatten();
        let gone: Vec<(Key, String)> = known
            .filter(|(_, object)| !uids.contains(uid(object)))
            .map(|(_, object)| (Key::of(of.kind, object), uid(object).to_owned()))
            .collect();
        let mut changes: Vec<Change> =
            gone.iter().filter_map(|(key, uid)| state.remove(key, uid)).collect();
        changes
            .extend(items.into_iter().filter_map(|item| state.put(Key::of(of.kind, &item), item)));
        changes
    }
}

impl State {
    fn put(&mut self, key: Key, object: Value) -> Option<Change> {
        if self.removed.contains(uid(&object)) {
            return None;
        }
        let place = (key.namespace.clone(), key.name.clone());
        let all = self.kinds.entry(key.kind).or_default();
        let before = all.get(&place).cloned();
        let is_newer =
            |known: &Object| uid(known) != uid(&object) || revision(known) < revision(&object);
        if !before.as_ref().is_none_or(is_newer) {
            return None;
        }
        let now = Arc::new(object);
        all.insert(place, now.clone());
        if let Some(before) = &before {
            self.disown(before, &key);
        }
        self.owned.entry(controller(&now)).or_default().insert(key.clone());
        Some(Change { key, before, now: Some(now) })
    }

    fn remove(&mut self, key: &Key, gone: &str) -> Option<Change> {
        self.removed.remove(gone);
        let place = (key.namespace.clone(), key.name.clone());
        let all = self.kinds.get_mut(key.kind)?;
        // Another one may have got its name meanwhile.
        if uid(all.get(&place)?) != gone {
            return None;
        }
        let before = all.remove(&place)?;
        self.disown(&before, key);
        Some(Change { key: key.clone(), before: Some(before), now: None })
    }

    fn disown(&mut self, object: &Value, key: &Key) {
        let owner = controller(object);
        if let Some(owned) = self.owned.get_mut(&owner) {
            owned.remove(key);
            if owned.is_empty() {
                self.owned.remove(&owner);
            }
        }
    }
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Revisions are compared, which clients of upstream must not do: here they are numbers that grow
/// (Kubernetes 1.35 promises the same).
fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    text.parse().unwrap_or_default()
}

/// The uid of the owner that controls an object; empty without one.
fn controller(object: &Value) -> String {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let own = owners.into_iter().find(|owner| owner["controller"] == true);
    own.and_then(|owner| owner["uid"].as_str()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::kind;

    fn pod(name: &str, uid: &str, revision: u64) -> Value {
        json!({"metadata": {
            "name": name, "namespace": "a", "uid": uid, "resourceVersion": revision.to_string(),
            "ownerReferences": [{"uid": "owner", "controller": true}],
        }})
    }

    #[test]
    fn older_news_do_not_undo_what_is_known() {
        let cache = Cache::default();
        let of = kind("Pod");
        assert!(cache.put(of, pod("x", "1", 5)).is_some_and(|change| change.before.is_none()));
        assert!(cache.put(of, pod("x", "1", 4)).is_none());
        assert!(cache.put(of, pod("x", "1", 5)).is_none());
        assert!(cache.put(of, pod("x", "1", 6)).is_some_and(|change| change.before.is_some()));
        assert_eq!(cache.owned("Pod", "owner").len(), 1);
        // What was removed by this process does not come back by an event on its way.
        assert!(cache.forget(&Key::new("Pod", "a", "x"), "1").is_some());
        assert!(cache.put(of, pod("x", "1", 7)).is_none());
        assert!(cache.owned("Pod", "owner").is_empty());
        // Another one of its name does, and the old one's end is not its own.
        assert!(cache.put(of, pod("x", "2", 9)).is_some());
        assert!(cache.remove(of, &pod("x", "1", 8)).is_none());
        assert_eq!(cache.list("Pod", "a").len(), 1);
    }

    #[test]
    fn a_list_takes_the_place_of_everything() {
        let cache = Cache::default();
        let of = kind("Pod");
        cache.put(of, pod("x", "1", 1));
        cache.put(of, pod("y", "2", 2));
        let changes = cache.replace(of, vec![pod("y", "2", 2), pod("z", "3", 3)]);
        let told: Vec<(String, bool)> =
            changes.iter().map(|change| (change.key.name.clone(), change.now.is_some())).collect();
        assert_eq!(told, [("x".to_owned(), false), ("z".to_owned(), true)]);
        assert_eq!(cache.list("Pod", "").len(), 2);
        assert!(cache.list("Pod", "b").is_empty());
    }
}
