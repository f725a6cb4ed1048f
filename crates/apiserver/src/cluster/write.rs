//! Objects that are made, and that take the place of others.

use objects::resource::Resource;
use objects::{Schema, apply, defaults, validate};
use serde_json::{Map, Value, json};

use super::{Changed, Cluster, Found, check, decode, kept, manager, narrow, now, refuse, types_of};
use crate::admission::{self, Charge};
use crate::failure::Failure;
use crate::log::LogError;
use crate::request::{Request, Validation};
use crate::target::Target;

/// Letters of random ends of names: none that make words, and none that look like others.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a random end.
const SUFFIX_LENGTH: usize = 5;
/// Characters that are kept of what a random end is added to.
const GENERATED_MAX: usize = 63 - SUFFIX_LENGTH;

impl Cluster {
    /// Makes an object.
    pub(crate) fn create(
        &self,
        request: &Request,
        target: &Target,
        mut body: Map<String, Value>,
    ) -> Result<Changed, Failure> {
        let of = &*target.resource;
        Self::need_definition(of)?;
        let warnings = decode(of, &mut body, request.validation()?)?;
        let mut object = Value::Object(body);
        place(of, target, &mut object)?;
        let metadata = &object["metadata"];
        if !metadata["resourceVersion"].as_str().unwrap_or_default().is_empty() {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Failure::bad_request(why));
        }
        let object = self.prepare(request, target, object)?;
        let object = self.insert(request, target, object)?;
        Ok(Changed { object, warnings, is_new: true })
    }

    /// Makes an object of which somebody has said what it shall be: who owns its fields is known.
    pub(super) fn create_applied(
        &self,
        request: &Request,
        target: &Target,
        object: Value,
    ) -> Result<Value, Failure> {
        let owners = object["metadata"]["managedFields"].clone();
        let mut object = self.prepare(request, target, object)?;
        object["metadata"]["managedFields"] = owners;
        self.insert(request, target, object)
    }

    /// Completes and checks a new object.
    fn prepare(
        &self,
        request: &Request,
        target: &Target,
        mut object: Value,
    ) -> Result<Value, Failure> {
        let of = &*target.resource;
        generate_name(&mut object);
        give_identity(&mut object);
        if of.subresources.contains(&"status") {
            if let Some(fields) = object.as_object_mut() {
                fields.shift_remove("status");
            }
            if let Some(status) = first_status(of) {
                object["status"] = status;
            }
        }
        let has_generation = !object["spec"].is_null() || of.definition.is_some();
        if has_generation && of.kind != "Namespace" {
            object["metadata"]["generation"] = 1.into();
        }
        complete(of, &mut object);
        admission::create(self, request, target, &mut object)?;
        self.settle_definition(of, &mut object)?;
        self.admit(of, &mut object)?;
        check(of, &object, None)?;
        self.enforce(request, target, &Value::Null, &object)?;
        let managed = self.managed(request, target, &json!({}), &object)?;
        Ok(managed)
    }

    fn insert(
        &self,
        request: &Request,
        target: &Target,
        mut object: Value,
    ) -> Result<Value, Failure> {
        let of = &*target.resource;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let key = crate::target::key(of, namespace, &name);
        if request.is_dry_run()? {
            Charge::check(self, target, &object)?;
            return match self.log.get(&key).0 {
                Some(_) => Err(Failure::already_exists(of, &name)),
                None => Ok(object),
            };
        }
        let charge = Charge::of(self, target, None, &object)?;
        match charge.settled(self, self.put(&key, None, &object)) {
            Ok(revision) => {
                self.check_owners(target, &object)?;
                object["metadata"]["resourceVersion"] = revision.to_string().into();
                Ok(object)
            }
            Err(LogError::Conflict(_)) => Err(Failure::already_exists(of, &name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts an object in the place of the one that is there.
    pub(crate) fn replace(
        &self,
        request: &Request,
        target: &Target,
        mut body: Map<String, Value>,
    ) -> Result<Changed, Failure> {
        let of = &*target.resource;
        let warnings = decode(of, &mut body, request.validation()?)?;
        let mut object = Value::Object(body);
        place(of, target, &mut object)?;
        if object["metadata"]["name"].is_null() {
            object["metadata"]["name"] = target.name.clone().into();
        }
        if object["metadata"]["name"] != *target.name {
            let message = format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                object["metadata"]["name"].as_str().unwrap_or_default(),
                target.name
            );
            return Err(Failure::bad_request(message));
        }
        let found = self.find(target)?;
        check_revision(of, &target.name, &object, &found)?;
        let object = self.change(request, target, &found, object, true)?;
        Ok(Changed { object, warnings, is_new: false })
    }

    /// Gives a pod a node, once.
    pub(crate) fn bind(
        &self,
        request: &Request,
        target: &Target,
        (node, uid): (&str, &str),
    ) -> Result<(), Failure> {
        let found = self.find(target)?;
        let mut object = found.object.clone();
        if !uid.is_empty() && object["metadata"]["uid"] != uid {
            let own = object["metadata"]["uid"].as_str().unwrap_or_default();
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
            );
            return Err(Failure::precondition(&target.resource, &target.name, &why));
        }
        let before = object["spec"]["nodeName"].as_str().unwrap_or_default();
        if !before.is_empty() {
            let why = format!("pod {} is already assigned to node {before:?}", target.name);
            return Err(Failure::precondition(&target.resource, &target.name, &why));
        }
        object["spec"]["nodeName"] = node.into();
        note_place(&mut object["status"]);
        self.store(request, target, &found, object).map(drop)
    }

    /// Makes an object that is there into another one.
    pub(super) fn change(
        &self,
        request: &Request,
        target: &Target,
        found: &Found,
        mut object: Value,
        tracks_fields: bool,
    ) -> Result<Value, Failure> {
        let of = &*target.resource;
        let old = &found.object;
        keep(of, &target.subresource, old, &mut object);
        complete(of, &mut object);
        admission::update(self, request, target, old, &mut object)?;
        self.settle_definition(of, &mut object)?;
        if of.kind == "Service" && of.group.is_empty() {
            self.give_addresses(of, &mut object, Some(old))?;
        }
        let changes_spec = part(of, old) != part(of, &object);
        if changes_spec && !old["metadata"]["generation"].is_null() {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = (generation + 1).into();
        }
        check(of, &object, Some(old))?;
        let ((group, before), (_, after)) = (kept(of, old), kept(of, &object));
        let found_wrong = match narrow::is_part(&target.subresource) {
            true => narrow::check(&target.subresource, old, &object),
            false => validate::check_update(&group, of.kind, &before, &after),
        };
        refuse(of, &object, &found_wrong)?;
        self.enforce(request, target, old, &object)?;
        if tracks_fields {
            object = self.managed(request, target, old, &object)?;
        }
        self.store(request, target, found, object)
    }

    /// Writes what an object has become, unless it is the same; removes it if nothing holds it any more.
    fn store(
        &self,
        request: &Request,
        target: &Target,
        found: &Found,
        mut object: Value,
    ) -> Result<Value, Failure> {
        let is_dry_run = request.is_dry_run()?;
        let version = found.revision.to_string();
        object["metadata"]["resourceVersion"] = version.into();
        if is_dry_run || object == found.object {
            return Ok(object);
        }
        let key = target.key();
        let is_going = !object["metadata"]["deletionTimestamp"].is_null();
        let is_held = !super::list::items(&object["metadata"]["finalizers"]).is_empty();
        // A pod that has time left goes on ending.
        let has_time = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
        let is_namespace = target.resource.kind == "Namespace";
        let is_gone = is_going && !is_held && !has_time && !is_namespace;
        let written = match is_gone {
            true => self
                .remove(&key, found.revision)
                .and_then(|revision| self.release_definition(&target.resource).map(|()| revision)),
            false => {
                let charge = Charge::of(self, target, Some(&found.object), &object)?;
                charge.settled(self, self.put(&key, Some(found.revision), &object))
            }
        };
        match written {
            Ok(revision) => {
                if is_gone {
                    self.follow(&object)?;
                } else if is_going && is_namespace {
                    self.finish_namespace(&target.name)?;
                }
                object["metadata"]["resourceVersion"] = revision.to_string().into();
                Ok(object)
            }
            Err(LogError::Conflict(_)) => Err(Failure::conflict(&target.resource, &target.name)),
            Err(error) => Err(error.into()),
        }
    }

    /// A definition of a kind is told what becomes of it.
    fn settle_definition(&self, of: &Resource, object: &mut Value) -> Result<(), Failure> {
        match crate::custom::is_definition(of) {
            true => Ok(self.settle(object, &now())?),
            false => Ok(()),
        }
    }

    /// Notes who changed which fields.
    #[expect(clippy::unused_self, reason = "one of the steps of a change")]
    fn managed(
        &self,
        request: &Request,
        target: &Target,
        old: &Value,
        new: &Value,
    ) -> Result<Value, Failure> {
        let of = &*target.resource;
        let (api_version, time) = (of.api_version(), now());
        let manager = manager(request, target, &api_version, &time);
        let (schema, id) = types_of(of);
        let managed = apply::update(schema, id, old, new, manager);
        managed.map_err(|why| Failure::internal(why.to_string()))
    }
}

/// Brings an object that somebody else has made of `given` into the form of its type: what a client
/// cannot change, nobody else can on its way.
pub(crate) fn resettle(
    target: &Target,
    old: Option<&Value>,
    given: &Value,
    object: &mut Value,
) -> Result<(), Failure> {
    let of = &*target.resource;
    let (settled, _) = redecode(of, object.take(), Validation::Ignore)?;
    *object = settled;
    place(of, target, object)?;
    keep(of, &target.subresource, old.unwrap_or(given), object);
    complete(of, object);
    Ok(())
}

/// Defaults of the type.
fn complete(of: &Resource, object: &mut Value) {
    if let (Some(definition), Some(fields)) = (&of.definition, object.as_object_mut()) {
        definition.complete(fields);
        return;
    }
    // What is absent means the same in all versions.
    let own = of.api_version();
    let kept = objects::convert::kept(&own, of.kind);
    objects::convert::keep(object);
    let id = Schema::built_in().kind(kept, of.kind);
    if let (Some(id), Some(fields)) = (id, object.as_object_mut()) {
        defaults::set(Schema::built_in(), id, fields);
    }
    objects::convert::show(object, &own);
}

/// A pod that has a node is told so, and waits for no other.
fn note_place(status: &mut Value) {
    let mut conditions = super::items(&status["conditions"]).to_vec();
    conditions.retain(|own| own["type"] != "PodScheduled");
    conditions.push(json!({"type": "PodScheduled", "status": "True",
        "lastProbeTime": null, "lastTransitionTime": now()}));
    status["conditions"] = conditions.into();
    if let Some(status) = status.as_object_mut() {
        status.shift_remove("nominatedNodeName");
    }
}

/// Puts an object into the namespace of its path.
pub(super) fn place(of: &Resource, target: &Target, object: &mut Value) -> Result<(), Failure> {
    let fields = object.as_object_mut().ok_or_else(|| Failure::bad_request("no object"))?;
    fields.insert("kind".to_owned(), of.kind.into());
    fields.insert("apiVersion".to_owned(), of.api_version().into());
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let own = metadata["namespace"].as_str().unwrap_or_default();
    if !own.is_empty() && own != target.namespace {
        let why =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(why));
    }
    if of.is_namespaced {
        metadata["namespace"] = target.namespace.clone().into();
    }
    Ok(())
}

/// What is said to have been changed last must be what is there.
pub(super) fn check_revision(
    of: &Resource,
    name: &str,
    object: &Value,
    found: &Found,
) -> Result<(), Failure> {
    let known = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if !known.is_empty() && known != found.revision.to_string() {
        return Err(Failure::conflict(of, name));
    }
    let (known, own) = (&object["metadata"]["uid"], &found.object["metadata"]["uid"]);
    if known.is_string() && known != own {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            known.as_str().unwrap_or_default(),
            own.as_str().unwrap_or_default()
        );
        return Err(Failure::precondition(of, name, &why));
    }
    Ok(())
}

/// What a client cannot change stays: the other half of an object with a status, and what the server
/// keeps in its metadata.
fn keep(of: &Resource, subresource: &str, old: &Value, new: &mut Value) {
    if narrow::is_part(subresource) {
        narrow::keep(subresource, old, new);
    } else if of.subresources.contains(&"status") {
        if matches!(subresource, "status" | "approval") {
            let (status, managed) =
                (new["status"].clone(), new["metadata"]["managedFields"].clone());
            *new = old.clone();
            new["status"] = status;
            if managed.is_array() {
                new["metadata"]["managedFields"] = managed;
            }
        } else if let Some(fields) = new.as_object_mut() {
            match &old["status"] {
                Value::Null => {
                    fields.shift_remove("status");
                }
                status => {
                    fields.insert("status".to_owned(), status.clone());
                }
            }
        }
    }
    if of.kind == "Service" && of.group.is_empty() {
        super::admit::keep_addresses(old, new);
    }
    let (old, new) = (&old["metadata"], &mut new["metadata"]);
    let kept = [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ];
    if let Some(fields) = new.as_object_mut() {
        for field in kept {
            match &old[field] {
                Value::Null => {
                    fields.shift_remove(field);
                }
                value => {
                    fields.insert(field.to_owned(), value.clone());
                }
            }
        }
    }
}

/// What of an object has a generation: everything but metadata and status.
fn part(of: &Resource, object: &Value) -> Map<String, Value> {
    let mut part = object.as_object().cloned().unwrap_or_default();
    for field in ["metadata", "kind", "apiVersion"] {
        part.shift_remove(field);
    }
    // A custom resource's status is like any other field where it is not changed apart.
    if of.definition.is_none() || of.subresources.contains(&"status") {
        part.shift_remove("status");
    }
    part
}

/// What a new object's status is.
fn first_status(of: &Resource) -> Option<Value> {
    match (of.group, of.kind) {
        ("", "Namespace") => Some(json!({"phase": "Active"})),
        ("", "Pod" | "PersistentVolume" | "PersistentVolumeClaim") => {
            Some(json!({"phase": "Pending"}))
        }
        ("", "Service") => Some(json!({"loadBalancer": {}})),
        ("", "ReplicationController") | ("apps", "ReplicaSet" | "StatefulSet") => {
            Some(json!({"replicas": 0}))
        }
        ("apps", "DaemonSet") => Some(json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0,
        })),
        ("networking.k8s.io", "Ingress") => Some(json!({"loadBalancer": {}})),
        ("apps" | "batch", _) => Some(json!({})),
        _ => None,
    }
}

/// A name with a random end, where only a beginning is given.
fn generate_name(object: &mut Value) {
    let metadata = &mut object["metadata"];
    let beginning = metadata["generateName"].as_str().unwrap_or_default();
    if !metadata["name"].as_str().unwrap_or_default().is_empty() || beginning.is_empty() {
        return;
    }
    let kept: String = beginning.chars().take(GENERATED_MAX).collect();
    let end = suffix(&random::<SUFFIX_LENGTH>());
    metadata["name"] = format!("{kept}{end}").into();
}

/// Letters for random bytes.
pub(crate) fn suffix(random: &[u8]) -> String {
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    random.iter().map(letter).collect()
}

/// Gives a new object what nobody else has: an id, and a time.
pub(super) fn give_identity(object: &mut Value) {
    let uid = uid(&random::<16>());
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.shift_remove(field);
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), now().into());
}

/// An id (RFC 9562, version 4) of random bytes.
pub(crate) fn uid(random: &[u8; 16]) -> String {
    let mut bytes = *random;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let got =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        // It fails only before the machine has gathered any, and is asked again then.
        filled += got.unwrap_or(0);
    }
    bytes
}

/// The decoded form of a patched object: its unknown fields are told by the same rules.
pub(super) fn redecode(
    of: &Resource,
    object: Value,
    validation: Validation,
) -> Result<(Value, Vec<String>), Failure> {
    let mut fields = crate::request::object(object)?;
    let warnings = decode(of, &mut fields, validation)?;
    Ok((Value::Object(fields), warnings))
}
