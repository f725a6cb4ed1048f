//! What a controller sees, and what it wants done.

use std::collections::HashMap;
use std::time::Duration;

use client::{Cache, Deletion, Key, Object, Patch};
use jiff::Timestamp;
use objects::resource::Resource;
use serde_json::{Value, json};

use crate::object;
use crate::settings::Settings;

/// What a controller looks at: objects as they are known, the time, and what failed last.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// Objects of [`crate::KINDS`].
    pub cache: &'a Cache,
    /// The time.
    pub now: Timestamp,
    /// Why the last plan for something could not be carried out.
    pub failures: &'a HashMap<(&'static str, Key), String>,
    /// What plans wanted to be remembered.
    pub memories: &'a HashMap<(&'static str, Key), Value>,
    /// What else has to be asked for: metrics.
    pub metrics: &'a dyn Metrics,
    /// What is for whoever runs the cluster to decide.
    pub settings: &'a Settings,
}

impl World<'_> {
    /// What the last plan for something wanted to be remembered.
    pub(crate) fn memory(&self, controller: &'static str, key: &Key) -> Option<&Value> {
        self.memories.get(&(controller, key.clone()))
    }
}

/// Measurements, which are not in the cache since they change all the time.
pub trait Metrics: std::fmt::Debug {
    /// What is measured now: the document of a path of `metrics.k8s.io`, `custom.metrics.k8s.io` or
    /// `external.metrics.k8s.io`.
    ///
    /// # Errors
    /// In words.
    fn get(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Value, String>;
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make an object, in the name of another one that is told of it by an event.
    Create {
        /// What it is.
        of: &'static Resource,
        /// The object, with its namespace.
        object: Value,
        /// Whose it is.
        owner: Option<Object>,
    },
    /// Change an object, or its subresource.
    Patch {
        /// What it is.
        of: &'static Resource,
        /// Which one.
        key: Key,
        /// Empty for the object itself.
        subresource: &'static str,
        /// In which form.
        how: Patch,
        /// The change.
        patch: Value,
    },
    /// Put an object's status, or the object itself, in the place of the one with its
    /// `resourceVersion`.
    Replace {
        /// What it is.
        of: &'static Resource,
        /// Empty for the object itself.
        subresource: &'static str,
        /// The object.
        object: Value,
    },
    /// Remove an object.
    Delete {
        /// What it is.
        of: &'static Resource,
        /// Which one.
        object: Object,
        /// How.
        how: Deletion,
        /// Whose it was, who is told by an event.
        owner: Option<Object>,
    },
    /// Tell people.
    Event {
        /// What it is about.
        about: Object,
        /// Whether something is wrong.
        is_warning: bool,
        /// In a word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
}

/// What is to be done for one object, and when to look again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// After this time, even if nothing changes.
    pub again: Option<Duration>,
    /// What the next plan for the same object is to know, as long as this process lives.
    pub memory: Option<Value>,
}

impl Plan {
    /// Nothing is to be done.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Looks again after a time, or sooner if something else wants to.
    pub(crate) fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |own| own.min(after)));
    }

    pub(crate) fn create(&mut self, of: &'static Resource, object: Value, owner: &Object) {
        self.actions.push(Action::Create { of, object, owner: Some(owner.clone()) });
    }

    pub(crate) fn merge(&mut self, of: &'static Resource, object: &Value, patch: Value) {
        let key = Key::of(of.kind, object);
        self.actions.push(Action::Patch { of, key, subresource: "", how: Patch::Merge, patch });
    }

    /// Puts a status in the place of an object's own, if it is another.
    pub(crate) fn status(&mut self, of: &'static Resource, object: &Value, status: Value) {
        if object["status"] == status {
            return;
        }
        let mut changed = object.clone();
        changed["status"] = status;
        self.actions.push(Action::Replace { of, subresource: "status", object: changed });
    }

    /// Puts an object in the place of the one with its `resourceVersion`.
    pub(crate) fn replace(&mut self, of: &'static Resource, object: Value) {
        self.actions.push(Action::Replace { of, subresource: "", object });
    }

    /// Removes this very object, in the name of its owner.
    pub(crate) fn delete(
        &mut self,
        of: &'static Resource,
        object: &Object,
        owner: Option<&Object>,
        propagation: Option<&'static str>,
    ) {
        let uid = Some(object::uid(object).to_owned());
        let how = Deletion { uid, grace: None, propagation };
        let owner = owner.cloned();
        self.actions.push(Action::Delete { of, object: object.clone(), how, owner });
    }

    pub(crate) fn tell(&mut self, about: &Object, reason: &'static str, message: String) {
        self.event(about, false, reason, message);
    }

    pub(crate) fn warn(&mut self, about: &Object, reason: &'static str, message: String) {
        self.event(about, true, reason, message);
    }

    fn event(&mut self, about: &Object, is_warning: bool, reason: &'static str, message: String) {
        let about = about.clone();
        self.actions.push(Action::Event { about, is_warning, reason, message });
    }
}

/// What an event says of the object that it is about.
pub(crate) fn reference(object: &Value) -> Value {
    json!({
        "kind": object["kind"],
        "apiVersion": object["apiVersion"],
        "namespace": object::namespace(object),
        "name": object::name(object),
        "uid": object::uid(object),
        "resourceVersion": object["metadata"]["resourceVersion"],
    })
}
