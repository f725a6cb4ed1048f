//! Objects on top of the log: made, changed, removed, listed.

mod admit;
mod collect;
pub(crate) mod delete;
mod list;
mod patch;
mod write;

use std::sync::{Arc, Mutex, OnceLock};

use objects::resource::Resource;
use objects::schema::TypeId;
use objects::{Schema, validate};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::log::{Entry, Log, LogError, Revision};
use crate::pods::Pods;
use crate::request::{Request, Validation};
use crate::target::{self, Target};

/// Objects that a cluster has from its beginning: group, version, kind, namespace, name.
const FROM_THE_BEGINNING: &[(&str, &str, &str)] = &[
    ("namespaces", "", "default"),
    ("namespaces", "", "kube-system"),
    ("namespaces", "", "kube-public"),
    ("namespaces", "", "kube-node-lease"),
    ("serviceaccounts", "default", "default"),
];

/// The cluster's objects.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) log: Arc<dyn Log>,
    /// Held while an address or a port is chosen for a service.
    allocation: Arc<Mutex<()>>,
    /// Who reaches into pods, once there is somebody.
    pods: Arc<OnceLock<Arc<dyn Pods>>>,
}

/// An object that was read, and when it was last changed.
pub(crate) struct Found {
    pub(crate) object: Value,
    pub(crate) revision: Revision,
}

/// A change that was made, or would have been: the object, and what a person should know.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
    /// Whether it is new.
    pub(crate) is_new: bool,
}

impl Cluster {
    /// A cluster that is kept in a log. What every cluster has is made.
    ///
    /// # Errors
    /// What keeps the log failed.
    pub fn new(log: Arc<dyn Log>) -> Result<Self, LogError> {
        let cluster = Self { log, allocation: Arc::default(), pods: Arc::default() };
        for (plural, namespace, name) in FROM_THE_BEGINNING {
            cluster.ensure(plural, namespace, name)?;
        }
        Ok(cluster)
    }

    /// Says who reaches into pods; the first one does.
    pub fn serve_pods(&self, pods: Arc<dyn Pods>) {
        let _ = self.pods.set(pods);
    }

    pub(crate) fn pods(&self) -> Option<&Arc<dyn Pods>> {
        self.pods.get()
    }

    /// Makes an object of the group without a name where it is not.
    fn ensure(&self, plural: &str, namespace: &str, name: &str) -> Result<(), LogError> {
        let is = |r: &&Resource| r.group.is_empty() && r.plural == plural;
        let Some(resource) = Resource::built_in().iter().find(is) else { return Ok(()) };
        let key = target::key(resource, namespace, name);
        if self.log.get(&key).0.is_some() {
            return Ok(());
        }
        let mut object = json!({"metadata": {"name": name}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        if plural == "namespaces" {
            object["metadata"]["labels"] = json!({"kubernetes.io/metadata.name": name});
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        write::give_identity(&mut object);
        match self.put(&key, None, &object) {
            // Another server was faster.
            Err(LogError::Conflict(_)) => Ok(()),
            done => done.map(drop),
        }
    }

    /// An object by its place.
    pub(crate) fn find(&self, target: &Target) -> Result<Found, Failure> {
        let (entry, _) = self.log.get(&target.key());
        let entry = entry.ok_or_else(|| Failure::not_found(target.resource, &target.name))?;
        Ok(self.read(target.resource, &entry))
    }

    #[expect(clippy::unused_self, reason = "how objects are stored is the cluster's matter")]
    fn read(&self, of: &Resource, entry: &Entry) -> Found {
        Found { object: crate::form::read(of, entry, entry.modified), revision: entry.modified }
    }

    /// Writes an object, which it then has the revision of.
    fn put(
        &self,
        key: &str,
        expected: Option<Revision>,
        object: &Value,
    ) -> Result<Revision, LogError> {
        let mut stored = object.clone();
        if let Some(metadata) = stored["metadata"].as_object_mut() {
            metadata.shift_remove("resourceVersion");
        }
        let value = stored.to_string().into_bytes();
        let write = crate::log::Write { key: key.into(), expected, value: Some(value.into()) };
        self.log.write(write)
    }

    fn remove(&self, key: &str, expected: Revision) -> Result<Revision, LogError> {
        let write = crate::log::Write { key: key.into(), expected: Some(expected), value: None };
        self.log.write(write)
    }
}

/// The type of a resource's objects.
fn type_of(of: &Resource) -> Option<TypeId> {
    Schema::built_in().kind(&of.api_version(), of.kind)
}

/// Brings a body into the form of its type: unknown fields are told or refused.
fn decode(
    of: &Resource,
    body: &mut Map<String, Value>,
    validation: Validation,
) -> Result<Vec<String>, Failure> {
    check_type(of, body)?;
    let Some(id) = type_of(of) else { return Ok(Vec::new()) };
    let cannot = |why: &str| {
        Failure::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            of.kind, of.version, of.kind
        ))
    };
    let unknown = objects::decode::normalize(Schema::built_in(), id, body);
    let unknown = unknown.map_err(|why| cannot(&why.to_string()))?;
    let words: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    match validation {
        Validation::Ignore => Ok(Vec::new()),
        Validation::Warn => Ok(words),
        Validation::Strict if words.is_empty() => Ok(words),
        Validation::Strict => Err(cannot(&format!("strict decoding error: {}", words.join(", ")))),
    }
}

/// A body that says what it is must be that.
fn check_type(of: &Resource, body: &Map<String, Value>) -> Result<(), Failure> {
    let own = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (own("apiVersion"), own("kind"));
    if !api_version.is_empty() && api_version != of.api_version() {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            of.api_version()
        )));
    }
    if !kind.is_empty() && kind != of.kind {
        return Err(Failure::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            of.kind
        )));
    }
    Ok(())
}

fn check(of: &Resource, object: &Value) -> Result<(), Failure> {
    let found = validate::check(of.group, of.kind, of.is_namespaced, object);
    refuse(of, object, &found)
}

fn refuse(of: &Resource, object: &Value, found: &[validate::Invalid]) -> Result<(), Failure> {
    match found {
        [] => Ok(()),
        found => {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            Err(Failure::invalid(of, name, found))
        }
    }
}

/// Whose fields a request changes.
fn manager<'a>(
    request: &'a Request,
    target: &'a Target,
    api_version: &'a str,
    time: &'a str,
) -> objects::apply::Manager<'a> {
    objects::apply::Manager {
        name: request.manager(),
        api_version,
        subresource: &target.subresource,
        time,
    }
}

pub(crate) use write::random;

fn now() -> String {
    objects::time::seconds(jiff::Timestamp::now().as_second())
}
