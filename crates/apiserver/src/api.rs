//! Requests to answers: the table of paths.

use objects::resource::Access;
use serde_json::{Value, json};

use crate::audit::Told;
use crate::cluster::{Changed, Cluster};
use crate::discovery;
use crate::failure::Failure;
use crate::form::{Include, Shown};
use crate::request::{Answer, Form, Request};
use crate::target::Target;
use crate::{admission, authentication, authorization, metrics, subresource};

impl Cluster {
    /// Answers a request, if whoever asks may ask it.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Answer {
        let received = self.audit.as_ref().and_then(|audit| Told::received(audit, request));
        let found = self.authorize(request).and_then(|()| self.find_answer(request));
        let mut answer = found.unwrap_or_else(Answer::from);
        if let Answer::Document { warnings, .. } = &mut answer {
            warnings.extend(request.notes.take_warnings());
        }
        if let Some(received) = received {
            received.answered(request, &mut answer);
        }
        answer
    }

    fn find_answer(&self, request: &Request) -> Result<Answer, Failure> {
        let parts: Vec<&str> = request.parts.iter().map(String::as_str).collect();
        let is_get = matches!(request.method.as_str(), "GET" | "HEAD");
        if let Some(document) = is_get.then(|| fixed(&parts)).flatten() {
            return Ok(document);
        }
        if let Some(document) = is_get.then(|| authentication::discovery(self, &parts)).flatten() {
            return Ok(Answer::document(200, document));
        }
        if let Some(document) = if is_get { self.binary_openapi(request, &parts)? } else { None } {
            return Ok(document);
        }
        if let Some(document) = if is_get { self.discover(request, &parts)? } else { None } {
            return Ok(Answer::document(200, document));
        }
        let Some(target) = self.target(&request.parts)? else {
            return Err(Failure::no_such_path());
        };
        match target.resource.access {
            Access::Stored => {}
            Access::Asked => return authorization::answer_review(self, request, &target),
            Access::Shown if is_get && target.resource.group == metrics::GROUP => {
                return metrics::answer(self, request, &target);
            }
            Access::Shown if is_get => {
                let shown = shown(request)?;
                let list =
                    shown.list(&target.resource, Vec::new(), &json!({"resourceVersion": ""}));
                return Ok(Answer::document(200, list));
            }
            Access::Shown => return Err(Failure::method_not_allowed()),
        }
        match target.subresource.as_str() {
            "" | "status" | "finalize" | "approval" | "ephemeralcontainers" | "resize" => {
                let answer = self.on_object(request, &target)?;
                if !is_get {
                    admission::settle(self, request, &target, &answer)?;
                }
                Ok(answer)
            }
            _ => subresource::answer(self, request, &target),
        }
    }

    fn on_object(&self, request: &Request, target: &Target) -> Result<Answer, Failure> {
        let is_all = target.name.is_empty();
        let shown = shown(request)?;
        let whole = |changed: Changed| changed_answer(target, shown, changed);
        match request.method.as_str() {
            "GET" if target.is_watch || request.is_set("watch") => {
                let watch = self.watch(request, target, shown)?;
                Ok(Answer::Watch(Box::new(watch)))
            }
            "GET" | "HEAD" if is_all => {
                self.list(request, target, shown).map(|list| Answer::document(200, list))
            }
            "GET" | "HEAD" => {
                let found = self.find(target)?;
                Ok(Answer::document(200, shown.one(&target.resource, &found.object)))
            }
            "POST" if is_all => self.create(request, target, request.object()?).map(whole),
            "PUT" if !is_all => self.replace(request, target, request.object()?).map(whole),
            "PATCH" if !is_all => self.patch(request, target).map(whole),
            "DELETE" if target.subresource.is_empty() => self.on_delete(request, target, shown),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn on_delete(
        &self,
        request: &Request,
        target: &Target,
        shown: Shown,
    ) -> Result<Answer, Failure> {
        use crate::cluster::delete::{Options, gone};
        let options = Options::of(request)?;
        if target.name.is_empty() {
            let gone = self.delete_all(request, target, &options)?;
            let list = shown.list(&target.resource, gone, &json!({"resourceVersion": ""}));
            return Ok(Answer::document(200, list));
        }
        let (object, is_gone) = self.delete(request, target, &options)?;
        let body = match is_gone && target.resource.kind != "Pod" {
            true => gone(target, &object),
            false => shown.one(&target.resource, &object),
        };
        Ok(Answer::document(200, body))
    }
}

fn changed_answer(target: &Target, shown: Shown, changed: Changed) -> Answer {
    Answer::Document {
        code: if changed.is_new { 201 } else { 200 },
        body: shown.one(&target.resource, &changed.object),
        warnings: changed.warnings,
    }
}

pub(crate) fn shown(request: &Request) -> Result<Shown, Failure> {
    let form = request.form()?;
    let include = match request.parameter("includeObject") {
        "None" => Include::None,
        "Object" => Include::Object,
        _ => Include::Metadata,
    };
    Ok(Shown { form, include })
}

/// Paths with answers that do not depend on objects.
fn fixed(parts: &[&str]) -> Option<Answer> {
    let found = |document: Value| Some(Answer::document(200, document));
    match parts {
        ["healthz" | "livez" | "readyz", ..] => Some(Answer::Text(200, "ok".to_owned())),
        ["version"] => found(discovery::version()),
        _ => None,
    }
}

/// Which version of the document of all groups a client prefers to one by one.
pub(crate) fn aggregated_version(accept: &str) -> Option<&'static str> {
    for range in accept.split(',') {
        if range.contains("as=APIGroupDiscoveryList") {
            let is_beta = range.contains("v=v2beta1");
            return Some(if is_beta { "v2beta1" } else { "v2" });
        }
        if range.trim() == "application/json" {
            return None;
        }
    }
    None
}

/// The media type of an answer: clients of the aggregated discovery look for it.
pub(crate) fn media_type(request: &Request, body: &Value) -> String {
    if body["kind"] == "APIGroupDiscoveryList" {
        let version = body["apiVersion"].as_str().unwrap_or_default();
        let version = version.rsplit('/').next().unwrap_or("v2");
        return format!(
            "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        );
    }
    match request.form() {
        Ok(Form::Table) if body["kind"] == "Table" => {
            "application/json;as=Table;g=meta.k8s.io;v=v1".to_owned()
        }
        _ => "application/json".to_owned(),
    }
}
