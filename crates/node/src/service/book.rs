//! What is known of services and their endpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use client::{Change, Object};
use serde_json::Value;

use crate::field::text;

/// A service's namespace and name.
pub(crate) type Name = (String, String);

/// The label of a slice that says whose it is.
const SERVICE: &str = "kubernetes.io/service-name";

/// What is known of one service; slices may come before it.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Object>,
    slices: BTreeMap<String, Object>,
}

/// Services with their slices, and which of them have changed.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: HashMap<Name, Entry>,
    changed: BTreeSet<Name>,
    /// The kinds that have been read whole.
    read: BTreeSet<&'static str>,
}

impl Book {
    /// Writes down what has become of a service or a slice.
    pub(crate) fn take(&mut self, change: &Change) {
        let namespace = &change.key.namespace;
        if change.key.kind == "Service" {
            let name = (namespace.clone(), change.key.name.clone());
            self.entries.entry(name.clone()).or_default().service.clone_from(&change.now);
            return self.touch(name);
        }
        if let Some(before) = &change.before {
            let name = (namespace.clone(), owner(before).to_owned());
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.slices.remove(&change.key.name);
            }
            self.touch(name);
        }
        if let Some(now) = &change.now {
            let name = (namespace.clone(), owner(now).to_owned());
            let entry = self.entries.entry(name.clone()).or_default();
            entry.slices.insert(change.key.name.clone(), now.clone());
            self.touch(name);
        }
    }

    fn touch(&mut self, name: Name) {
        let is_empty = |entry: &Entry| entry.service.is_none() && entry.slices.is_empty();
        if self.entries.get(&name).is_some_and(is_empty) {
            self.entries.remove(&name);
        }
        self.changed.insert(name);
    }

    /// A kind has been read whole.
    pub(crate) fn is_read(&mut self, of: &'static str) {
        self.read.insert(of);
    }

    /// The services that have changed since the last call; none before both kinds have been read.
    pub(crate) fn changed(&mut self) -> Option<Vec<Name>> {
        if self.read.len() < 2 || self.changed.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.changed).into_iter().collect())
    }

    /// A service and its slices.
    pub(crate) fn service(&self, name: &Name) -> (Option<Object>, Vec<Object>) {
        let Some(entry) = self.entries.get(name) else { return (None, Vec::new()) };
        (entry.service.clone(), entry.slices.values().cloned().collect())
    }

    /// All services and their slices.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Name, &Object, Vec<&Object>)> {
        self.entries.iter().filter_map(|(name, entry)| {
            Some((name, entry.service.as_ref()?, entry.slices.values().collect()))
        })
    }

    /// Whether there is a service in the namespace.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.entries.keys().any(|(own, _)| own == namespace)
    }
}

fn owner(slice: &Value) -> &str {
    text(slice, &["metadata", "labels", SERVICE])
}
