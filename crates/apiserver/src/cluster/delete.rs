//! Objects that go.

use std::time::Duration;

use serde_json::{Value, json};

use super::list::items;
use super::{Cluster, Found};
use crate::failure::Failure;
use crate::log::{LogError, Range};
use crate::request::{self, Request};
use crate::select::Select;
use crate::target::Target;

/// How often it is tried again when somebody changes the object meanwhile.
const TRIES: usize = 5;
/// Finalizers that say what shall become of an object's dependents.
const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// What a client wants with the removal of an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    grace: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    propagation: String,
    uid: Option<String>,
    revision: Option<String>,
    /// Whether it is only tried.
    pub(crate) is_dry_run: bool,
}

impl Options {
    /// Reads the body, and what stands in the query instead.
    pub(crate) fn of(request: &Request) -> Result<Self, Failure> {
        let body = match request.body.is_empty() {
            true => Value::Null,
            false if request.content_type == "application/vnd.kubernetes.protobuf" => {
                Value::Object(request.object()?)
            }
            false => request::json(&request.body)?,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let query = |name: &str| {
            let value = request.parameter(name);
            (!value.is_empty()).then(|| value.to_owned())
        };
        let grace = match query("gracePeriodSeconds") {
            Some(text) => {
                let wrong = |_| Failure::bad_request("invalid gracePeriodSeconds");
                Some(text.parse().map_err(wrong)?)
            }
            None => body["gracePeriodSeconds"].as_i64(),
        };
        let orphans = body["orphanDependents"] == true;
        let propagation = text(&body["propagationPolicy"]).or_else(|| query("propagationPolicy"));
        let propagation = propagation
            .unwrap_or_else(|| (if orphans { "Orphan" } else { "Background" }).to_owned());
        if !["Background", "Foreground", "Orphan"].contains(&propagation.as_str()) {
            let message = format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \
                 {propagation:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
            );
            return Err(Failure { code: 422, reason: "Invalid", ..Failure::bad_request(message) });
        }
        let conditions = &body["preconditions"];
        let tries = body["dryRun"].as_array().into_iter().flatten();
        let is_dry_run = tries.into_iter().any(|how| how == "All") || request.is_dry_run()?;
        Ok(Self {
            is_dry_run,
            grace,
            propagation,
            uid: text(&conditions["uid"]),
            revision: text(&conditions["resourceVersion"]),
        })
    }

    fn check(&self, target: &Target, found: &Found) -> Result<(), Failure> {
        let own = found.object["metadata"]["uid"].as_str().unwrap_or_default();
        let version = found.revision.to_string();
        let differs =
            |wanted: &Option<String>, own: &str| wanted.as_ref().is_some_and(|w| w != own);
        let why = if differs(&self.uid, own) {
            format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {own}",
                self.uid.as_deref().unwrap_or_default()
            )
        } else if differs(&self.revision, &version) {
            format!(
                "Precondition failed: ResourceVersion in precondition: {}, ResourceVersion in object \
                 meta: {version}",
                self.revision.as_deref().unwrap_or_default()
            )
        } else {
            return Ok(());
        };
        Err(Failure::precondition(&target.resource, &target.name, &why))
    }
}

impl Cluster {
    /// Removes an object, or begins to: the object as it was or is, and whether it is gone.
    pub(crate) fn delete(
        &self,
        request: &Request,
        target: &Target,
        options: &Options,
    ) -> Result<(Value, bool), Failure> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let found = self.find(target)?;
            options.check(target, &found)?;
            crate::admission::delete(self, request, target, &found.object)?;
            self.enforce(request, target, &found.object, &Value::Null)?;
            if options.is_dry_run {
                return Ok((found.object, true));
            }
            match self.delete_once(target, options, &found) {
                Err(LogError::Conflict(_)) if tries > 0 => {}
                Err(LogError::Conflict(_)) => {
                    return Err(Failure::conflict(&target.resource, &target.name));
                }
                done => return Ok(done?),
            }
        }
    }

    pub(crate) fn delete_once(
        &self,
        target: &Target,
        options: &Options,
        found: &Found,
    ) -> Result<(Value, bool), LogError> {
        let of = &*target.resource;
        if of.kind == "Namespace" && of.group.is_empty() {
            return self.empty_namespace(target, found);
        }
        let mut object = found.object.clone();
        let grace = grace(target, &object, options.grace);
        crate::admission::release(self, target, &mut object)?;
        let finalizers = items(&object["metadata"]["finalizers"]);
        let others: Vec<&Value> =
            finalizers.iter().filter(|f| **f != ORPHAN && **f != FOREGROUND).collect();
        if crate::custom::is_definition(of) && !self.remove_objects_of(&object)? {
            Self::hold_definition(&mut object, &super::now());
            let revision = self.put(&target.key(), Some(found.revision), &object)?;
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            return Ok((object, false));
        }
        if others.is_empty() && grace == 0 {
            return self.remove_with_dependents(target, options, found);
        }
        let is_going = !object["metadata"]["deletionTimestamp"].is_null();
        let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        if is_going && before.is_some_and(|before| before <= grace) {
            return Ok((object, false));
        }
        mark(&mut object, grace);
        let revision = self.put(&target.key(), Some(found.revision), &object)?;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        Ok((object, false))
    }

    fn remove_with_dependents(
        &self,
        target: &Target,
        options: &Options,
        found: &Found,
    ) -> Result<(Value, bool), LogError> {
        let mut object = found.object.clone();
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let mut expected = found.revision;
        match options.propagation.as_str() {
            "Orphan" => self.orphan(&uid)?,
            "Foreground" => {
                // It waits, so that a server that is killed meanwhile finds it waiting.
                object["metadata"]["finalizers"] = json!([FOREGROUND]);
                mark(&mut object, 0);
                expected = self.put(&target.key(), Some(expected), &object)?;
                if !self.end_dependents(&uid)? {
                    object["metadata"]["resourceVersion"] = expected.to_string().into();
                    return Ok((object, false));
                }
            }
            _ => {}
        }
        let revision = match self.remove(&target.key(), expected) {
            // The last of its dependents has taken it along.
            Err(LogError::Conflict(None)) if expected != found.revision => expected,
            done => done?,
        };
        self.release_definition(&target.resource)?;
        if crate::custom::is_definition(&target.resource) {
            self.settle_waiting()?;
        }
        self.follow(&object)?;
        object = found.object.clone();
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        Ok((object, true))
    }

    /// A namespace goes with everything in it, as soon as that is gone.
    fn empty_namespace(&self, target: &Target, found: &Found) -> Result<(Value, bool), LogError> {
        let mut object = found.object.clone();
        object["status"]["phase"] = "Terminating".into();
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = super::now().into();
        }
        let revision = self.put(&target.key(), Some(found.revision), &object)?;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        self.empty(&target.name)?;
        self.finish_namespace(&target.name)?;
        Ok((object, false))
    }

    /// Removes all objects that a request selects.
    pub(crate) fn delete_all(
        &self,
        request: &Request,
        target: &Target,
        options: &Options,
    ) -> Result<Vec<Value>, Failure> {
        let select = Select::of(request, &target.resource)?;
        let prefix = target.prefix();
        let page = self.log.range(Range { prefix: &prefix, ..Range::default() })?;
        let mut gone = Vec::new();
        for entry in &page.entries {
            let object = self.read(&target.resource, entry).object;
            if !select.matches(&object) {
                continue;
            }
            let text =
                |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let one = Target { namespace: text("namespace"), name: text("name"), ..target.clone() };
            match self.delete(request, &one, options) {
                Ok((object, _)) => gone.push(object),
                Err(failure) if failure.code == 404 => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(gone)
    }
}

/// Marks an object as one that is to end in so many seconds.
pub(super) fn mark(object: &mut Value, grace: i64) {
    let end = jiff::Timestamp::now() + Duration::from_secs(grace.unsigned_abs());
    object["metadata"]["deletionTimestamp"] = objects::time::seconds(end.as_second()).into();
    object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
}

/// Seconds that an object gets to end: only pods that somebody runs get any.
pub(super) fn grace(target: &Target, object: &Value, wanted: Option<i64>) -> i64 {
    let is_pod = target.resource.kind == "Pod" && target.resource.group.is_empty();
    let runs = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if !is_pod || !runs || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    wanted.unwrap_or(own).max(0)
}

/// What a client is told of an object that is gone.
pub(crate) fn gone(target: &Target, object: &Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": object["metadata"]["name"],
            "group": target.resource.group,
            "kind": target.resource.plural,
            "uid": object["metadata"]["uid"],
        },
    })
}
