//! Objects that are patched.

use objects::{Schema, apply, patch};
use serde_json::{Value, json};

use super::write::{check_revision, place, redecode};
use super::{Changed, Cluster, Found, decode, manager, now, type_of, types_of};
use crate::failure::Failure;
use crate::operations;
use crate::request::{self, Request};
use crate::target::Target;

/// How often a patch is tried again when somebody else was faster.
const TRIES: usize = 5;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

impl Cluster {
    /// Patches an object. An apply patch makes it where it is not.
    pub(crate) fn patch(&self, request: &Request, target: &Target) -> Result<Changed, Failure> {
        if request.content_type == APPLY {
            // What is JSON is read as such, in which a number may have more digits.
            let document =
                request::json(&request.body).or_else(|_| request::yaml(&request.body))?;
            return self.apply(request, target, document);
        }
        let document = request::json(&request.body)?;
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let found = self.find(target)?;
            let patched = self.patched(request, target, &found.object, &document)?;
            check_revision(&target.resource, &target.name, &patched, &found)?;
            let (patched, warnings) = redecode(&target.resource, patched, request.validation()?)?;
            let is_fixed = document["metadata"]["resourceVersion"].is_string();
            match self.change(request, target, &found, patched, true) {
                Err(failure) if failure.reason == "Conflict" && tries > 0 && !is_fixed => {}
                changed => return Ok(Changed { object: changed?, warnings, is_new: false }),
            }
        }
    }

    #[expect(clippy::unused_self, reason = "one of the steps of a patch")]
    fn patched(
        &self,
        request: &Request,
        target: &Target,
        object: &Value,
        document: &Value,
    ) -> Result<Value, Failure> {
        let mut patched = object.clone();
        match request.content_type.as_str() {
            JSON => operations::patch(&mut patched, document)?,
            MERGE => patch::merge(&mut patched, document.clone()),
            STRATEGIC => {
                let (Some(of), Some(fields)) = (type_of(&target.resource), patched.as_object_mut())
                else {
                    return Err(Failure::unsupported_media_type(STRATEGIC, &[JSON, MERGE, APPLY]));
                };
                let document = request::object(document.clone())?;
                patch::strategic_merge(Schema::built_in(), of, fields, document)
                    .map_err(|why| Failure::bad_request(why.to_string()))?;
            }
            other => {
                return Err(Failure::unsupported_media_type(
                    other,
                    &[JSON, MERGE, STRATEGIC, APPLY],
                ));
            }
        }
        Ok(patched)
    }

    /// Server-side apply.
    fn apply(
        &self,
        request: &Request,
        target: &Target,
        document: Value,
    ) -> Result<Changed, Failure> {
        let of = &*target.resource;
        if request.parameter("fieldManager").is_empty() {
            let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                       required for apply patch";
            return Err(Failure { code: 422, reason: "Invalid", ..Failure::bad_request(why) });
        }
        let mut config = request::object(document)?;
        let warnings = decode(of, &mut config, request.validation()?)?;
        let mut config = Value::Object(config);
        place(of, target, &mut config)?;
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let found = match self.find(target) {
                Ok(found) => Some(found),
                Err(failure) if failure.code == 404 && target.subresource.is_empty() => None,
                Err(failure) => return Err(failure),
            };
            match self.apply_once(request, target, &config, found) {
                Err(failure)
                    if tries > 0
                        && failure.details["causes"].is_null()
                        && matches!(failure.reason, "Conflict" | "AlreadyExists") => {}
                applied => {
                    let (object, is_new) = applied?;
                    return Ok(Changed { object, warnings, is_new });
                }
            }
        }
    }

    fn apply_once(
        &self,
        request: &Request,
        target: &Target,
        config: &Value,
        found: Option<Found>,
    ) -> Result<(Value, bool), Failure> {
        let of = &*target.resource;
        let (api_version, time) = (of.api_version(), now());
        let manager = manager(request, target, &api_version, &time);
        let nothing = json!({});
        let live = found.as_ref().map_or(&nothing, |found| &found.object);
        let force = request.is_set("force");
        let (schema, id) = types_of(of);
        let applied = apply::apply(schema, id, live, config, manager, force);
        let mut applied = applied.map_err(|why| match &why {
            apply::ApplyError::Conflict(conflicts) => Failure::owned(why.to_string(), conflicts),
            _ => Failure::bad_request(why.to_string()),
        })?;
        match found {
            Some(found) => {
                check_revision(of, &target.name, config, &found)?;
                self.change(request, target, &found, applied, false).map(|object| (object, false))
            }
            None => {
                self.authorize_creation(request)?;
                applied["metadata"]["name"] = target.name.clone().into();
                self.create_applied(request, target, applied).map(|object| (object, true))
            }
        }
    }
}
