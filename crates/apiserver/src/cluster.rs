//! Objects on top of the log: made, changed, removed, listed.

mod admit;
mod begin;
mod collect;
pub(crate) mod delete;
mod expire;
mod list;
mod narrow;
mod own;
mod owners;
mod patch;
mod write;

use std::borrow::Cow;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use objects::resource::Resource;
use objects::schema::TypeId;
use objects::{Schema, validate};
use serde_json::{Map, Value};

use crate::audit::Audit;
use crate::authentication::Trust;
use crate::authorization;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::log::{Entry, Log, LogError, Revision};
use crate::pods::Pods;
use crate::request::{Request, Validation};
use crate::target::Target;

/// The cluster's objects.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) log: Arc<dyn Log>,
    /// Held while an address or a port is chosen for a service.
    allocation: Arc<Mutex<()>>,
    /// Held by whoever writes what quotas count; whoever counts everything holds it alone.
    pub(crate) counting: Arc<RwLock<()>>,
    /// Whom it believes.
    pub(crate) trust: Trust,
    /// What roles allow.
    pub(crate) policies: Arc<authorization::Cache>,
    /// Who is told of requests, if somebody is.
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) customs: Arc<crate::custom::Customs>,
    owners: Arc<owners::Owners>,
    /// When it was last looked for old events, in seconds since 1970.
    looked_for_events: Arc<AtomicI64>,
    /// By what it believes those whom it asks.
    pub(crate) believed: Arc<crate::outbound::Believed>,
    /// Who reaches into pods, once there is somebody.
    pods: Arc<OnceLock<(String, Arc<dyn Pods>)>>,
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
    /// A cluster that is kept in a log, and believes nobody from outside: who asks, and as whom, is
    /// said by whoever calls [`Cluster::answer`]. What every cluster has is made.
    ///
    /// # Errors
    /// What keeps the log failed.
    pub fn new(log: Arc<dyn Log>) -> Result<Self, LogError> {
        let unusable = |why: String| LogError::Storage(why.into());
        let trust = Trust::of_nobody().map_err(unusable)?;
        Self::with_trust(log, trust)
    }

    /// A cluster that believes whom an identity does.
    ///
    /// # Errors
    /// What keeps the log failed.
    pub fn open(log: Arc<dyn Log>, identity: &Identity) -> Result<Self, LogError> {
        Self::with_trust(log, identity.trust())
    }

    fn with_trust(log: Arc<dyn Log>, trust: Trust) -> Result<Self, LogError> {
        let cluster = Self {
            log,
            allocation: Arc::default(),
            counting: Arc::default(),
            trust,
            policies: Arc::default(),
            audit: None,
            customs: Arc::default(),
            owners: Arc::default(),
            looked_for_events: Arc::default(),
            believed: Arc::default(),
            pods: Arc::default(),
        };
        cluster.begin()?;
        Ok(cluster)
    }

    /// The same cluster, whose requests somebody is told of.
    #[must_use]
    pub fn audited(self, audit: Audit) -> Self {
        Self { audit: Some(Arc::new(audit)), ..self }
    }

    /// Says who reaches into the pods of the node of this process; the first one does.
    pub fn serve_pods(&self, node: &str, pods: Arc<dyn Pods>) {
        let _ = self.pods.set((node.to_owned(), pods));
    }

    pub(crate) fn pods(&self) -> Option<&Arc<dyn Pods>> {
        self.pods.get().map(|(_, pods)| pods)
    }

    /// The node of this process.
    pub(crate) fn node(&self) -> Option<&str> {
        self.pods.get().map(|(node, _)| node.as_str())
    }

    /// An object by its place.
    pub(crate) fn find(&self, target: &Target) -> Result<Found, Failure> {
        let (entry, _) = self.log.get(&target.key());
        let entry = entry.ok_or_else(|| Failure::not_found(&target.resource, &target.name))?;
        let mut found = self.read(&target.resource, &entry);
        self.convert(&target.resource, std::slice::from_mut(&mut found.object))?;
        Ok(found)
    }

    /// An entry as an object that was read.
    pub(crate) fn found(&self, of: &Resource, entry: &Entry) -> Found {
        self.read(of, entry)
    }

    #[expect(clippy::unused_self, reason = "how objects are stored is the cluster's matter")]
    fn read(&self, of: &Resource, entry: &Entry) -> Found {
        Found { object: crate::form::read(of, entry, entry.modified), revision: entry.modified }
    }

    /// Writes an object, which it then has the revision of.
    pub(crate) fn put(
        &self,
        key: &str,
        expected: Option<Revision>,
        object: &Value,
    ) -> Result<Revision, LogError> {
        let mut stored = self.in_kept_version(object)?.into_owned();
        objects::convert::keep(&mut stored);
        if let Some(metadata) = stored["metadata"].as_object_mut() {
            metadata.shift_remove("resourceVersion");
        }
        let value = stored.to_string().into_bytes();
        let write = crate::log::Write { key: key.into(), expected, value: Some(value.into()) };
        self.log.write(write)
    }

    pub(crate) fn remove(&self, key: &str, expected: Revision) -> Result<Revision, LogError> {
        let write = crate::log::Write { key: key.into(), expected: Some(expected), value: None };
        let charge = crate::admission::Charge::of_removal(self, key);
        charge.settled(self, self.log.write(write))
    }
}

/// The type of a resource's objects, if it is built in.
fn type_of(of: &Resource) -> Option<TypeId> {
    match of.definition {
        Some(_) => None,
        None => Schema::built_in().kind(&of.api_version(), of.kind),
    }
}

/// The types by which a resource's objects are merged, and theirs.
fn types_of(of: &Resource) -> (&Schema, Option<TypeId>) {
    match &of.definition {
        Some(definition) => {
            let (schema, id) = definition.types();
            (schema, Some(id))
        }
        None => (Schema::built_in(), type_of(of)),
    }
}

/// Brings a body into the form of its type: unknown fields are told or refused.
fn decode(
    of: &Resource,
    body: &mut Map<String, Value>,
    validation: Validation,
) -> Result<Vec<String>, Failure> {
    check_type(of, body)?;
    let cannot = |why: &str| {
        Failure::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            of.kind, of.version, of.kind
        ))
    };
    let mut unknown = match (&of.definition, type_of(of)) {
        (Some(definition), _) => {
            let unknown = normalize_metadata(body).map_err(|why| cannot(&why.to_string()))?;
            [unknown, definition.prune(body)].concat()
        }
        (None, Some(id)) => {
            let unknown = objects::decode::normalize(Schema::built_in(), id, body);
            unknown.map_err(|why| cannot(&why.to_string()))?
        }
        (None, None) => Vec::new(),
    };
    if crate::custom::is_definition(of) {
        unknown.extend(objects::custom::forget_unknown(body));
    }
    let deprecated = match &of.definition {
        Some(definition) => definition.warning.clone(),
        None => objects::convert::warning(&of.api_version(), of.kind),
    };
    let words: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    match validation {
        Validation::Ignore => Ok(deprecated.into_iter().collect()),
        Validation::Warn => Ok(deprecated.into_iter().chain(words).collect()),
        Validation::Strict if words.is_empty() => Ok(deprecated.into_iter().collect()),
        Validation::Strict => Err(cannot(&format!("strict decoding error: {}", words.join(", ")))),
    }
}

/// The metadata of a custom resource, which is what it is everywhere.
fn normalize_metadata(
    body: &mut Map<String, Value>,
) -> Result<Vec<objects::decode::Unknown>, objects::decode::DecodeError> {
    let schema = Schema::built_in();
    let Some(id) = schema.kind("meta/v1", "PartialObjectMetadata") else { return Ok(Vec::new()) };
    let mut only = Map::new();
    only.extend(body.remove_entry("metadata"));
    let unknown = objects::decode::normalize(schema, id, &mut only)?;
    // At its place among the first, where people look for it.
    body.extend(only);
    Ok(unknown)
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

/// Whether an object may be so; `old` is what it was before, if it is not new.
fn check(of: &Resource, object: &Value, old: Option<&Value>) -> Result<(), Failure> {
    let (group, kept) = kept(of, object);
    let mut found = validate::check(&group, of.kind, of.is_namespaced, &kept);
    if let Some(definition) = &of.definition {
        found.extend(definition.check(object));
    }
    // Rules are about objects that are what their schema says.
    if found.is_empty() {
        found = crate::custom::check_rules(of, object, old);
    }
    refuse(of, object, &found)
}

/// An object in the version that rules are written for, and the group of that.
pub(crate) fn kept<'a>(of: &Resource, object: &'a Value) -> (String, Cow<'a, Value>) {
    let own = of.api_version();
    let kept = objects::convert::kept(&own, of.kind);
    let group = kept.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
    if kept == own {
        return (group, Cow::Borrowed(object));
    }
    let mut object = object.clone();
    objects::convert::keep(&mut object);
    (group, Cow::Owned(object))
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

pub(crate) use list::items;
pub(crate) use write::{random, resettle, suffix, uid};

pub(crate) fn now() -> String {
    objects::time::seconds(jiff::Timestamp::now().as_second())
}
