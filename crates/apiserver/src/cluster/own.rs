//! What the server itself reads and writes: objects that it decides by, and those it keeps.

use objects::resource::Resource;
use serde_json::{Value, json};

use super::{Cluster, write};
use crate::log::{LogError, Range, Revision};
use crate::target;

impl Cluster {
    /// The built-in resource of a group that has a name in paths. Which of its versions it is does not
    /// matter: all have the same objects.
    pub(crate) fn resource(group: &str, plural: &str) -> &'static Resource {
        let is = |of: &&Resource| of.group == group && of.plural == plural;
        let found = Resource::built_in().iter().find(is);
        found.expect("the server asks for resources that are built in")
    }

    /// Objects in a namespace, or all: those whose stored form contains a text.
    pub(crate) fn objects(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        containing: &str,
    ) -> Result<Vec<Value>, LogError> {
        let of = Self::resource(group, plural);
        let prefix = target::prefix(of, namespace);
        let page = self.log.range(Range { prefix: &prefix, ..Range::default() })?;
        let needle = containing.as_bytes();
        let has = |value: &[u8]| {
            needle.is_empty() || value.windows(needle.len()).any(|window| window == needle)
        };
        let found = page.entries.iter().filter(|entry| has(&entry.value));
        Ok(found.map(|entry| self.read(of, entry).object).collect())
    }

    /// An object, if it is there.
    pub(crate) fn object(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let of = Self::resource(group, plural);
        let (entry, _) = self.log.get(&target::key(of, namespace, name));
        entry.map(|entry| self.read(of, &entry).object)
    }

    /// Makes an object where there is none: whether there was none.
    pub(crate) fn ensure(
        &self,
        group: &str,
        plural: &str,
        mut object: Value,
    ) -> Result<bool, LogError> {
        let key = own_key(group, plural, &object);
        if self.log.get(&key).0.is_some() {
            return Ok(false);
        }
        write::give_identity(&mut object);
        match self.put(&key, None, &object) {
            // Another one was faster.
            Err(LogError::Conflict(_)) => Ok(false),
            done => done.map(|_| true),
        }
    }

    /// Puts an object in the place of the one that it was made of.
    pub(crate) fn overwrite(
        &self,
        group: &str,
        plural: &str,
        object: &Value,
    ) -> Result<(), LogError> {
        let known = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let expected: Revision = known.parse().unwrap_or_default();
        self.put(&own_key(group, plural, object), Some(expected), object).map(drop)
    }
}

impl Cluster {
    /// Writes an object that somebody has let go, or removes it if nobody holds it any more.
    pub(crate) fn let_go(&self, group: &str, plural: &str, object: &Value) -> Result<(), LogError> {
        let is_going = !object["metadata"]["deletionTimestamp"].is_null();
        if !is_going || !super::items(&object["metadata"]["finalizers"]).is_empty() {
            return self.overwrite(group, plural, object);
        }
        let known = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let key = own_key(group, plural, object);
        self.remove(&key, known.parse().unwrap_or_default())?;
        self.follow(object)
    }
}

fn own_key(group: &str, plural: &str, object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    target::key(Cluster::resource(group, plural), text("namespace"), text("name"))
}

/// A namespace that every cluster has.
pub(super) fn namespace(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}
