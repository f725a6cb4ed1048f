//! What webhooks are asked, and what they answer (`admission.k8s.io/v1`).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use objects::resource::Resource;
use serde_json::{Value, json};

use super::matching::Context;
use crate::cluster::Cluster;
use crate::cluster::{random, uid};
use crate::failure::Failure;
use crate::outbound::Hook;
use crate::request::Request;
use crate::target::Target;

/// How long a webhook is waited for that does not say.
const SECONDS: u64 = 10;

/// What a webhook has answered.
#[derive(Debug)]
pub(super) struct Verdict {
    /// What is to be changed.
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
    /// Why it refuses, if it does.
    pub(super) refusal: Option<Failure>,
}

/// A change that a webhook is asked about, in the version that it wants.
pub(super) struct Question<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) request: &'a Request,
    pub(super) target: &'a Target,
    pub(super) of: &'a Resource,
    pub(super) old: &'a Value,
    pub(super) object: &'a Value,
}

impl Question<'_> {
    /// Asks a webhook.
    pub(super) fn ask(&self, cluster: &Cluster, hook: &Value) -> Result<Verdict, String> {
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(SECONDS);
        let own = uid(&random::<16>());
        let version = hook["admissionReviewVersions"].as_array().into_iter().flatten();
        let version = version.filter_map(Value::as_str).find(|v| matches!(*v, "v1" | "v1beta1"));
        let api_version = format!("admission.k8s.io/{}", version.unwrap_or("v1"));
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": api_version, "request": self.request(&own),
        });
        let called = Hook::find(cluster, &hook["clientConfig"], seconds)
            .and_then(|hook| hook.post(&review, seconds));
        let answer = called.map_err(|why| format!("failed to call webhook: {why}"))?;
        let name = hook["name"].as_str().unwrap_or_default();
        read(name, &api_version, &own, &answer)
    }

    fn request(&self, uid: &str) -> Value {
        let (of, asked) = (self.of, &self.target.resource);
        let subresource = &self.target.subresource;
        let kind = |of: &Resource| {
            let (group, version, kind) = crate::discovery::kind_of(of, subresource);
            json!({"group": group, "version": version, "kind": kind})
        };
        let resource = |of: &Resource| json!({"group": of.group, "version": of.version, "resource": of.plural});
        let operation = self.context.operation;
        let mut options = json!({"apiVersion": "meta.k8s.io/v1"});
        options["kind"] = match (operation, self.request.method.as_str()) {
            ("CREATE", _) => "CreateOptions",
            ("DELETE", _) => "DeleteOptions",
            (_, "PATCH") => "PatchOptions",
            _ => "UpdateOptions",
        }
        .into();
        if operation == "CONNECT" {
            options = Value::Null;
        }
        for field in ["fieldManager", "fieldValidation"] {
            let is_change = options.is_object() && operation != "DELETE";
            if is_change && !self.request.parameter(field).is_empty() {
                options[field] = self.request.parameter(field).into();
            }
        }
        if self.context.is_dry_run {
            options["dryRun"] = json!(["All"]);
        }
        let mut request = json!({
            "uid": uid,
            "kind": kind(of),
            "resource": resource(of),
            "requestKind": kind(asked),
            "requestResource": resource(asked),
            "name": self.context.name(),
            "namespace": self.target.namespace,
            "operation": operation,
            "userInfo": self.context.user,
            "object": self.object,
            "oldObject": self.old,
            "dryRun": self.context.is_dry_run,
            "options": options,
        });
        if !subresource.is_empty() {
            request["subResource"] = subresource.clone().into();
            request["requestSubResource"] = subresource.clone().into();
        }
        request
    }
}

/// Reads an answer, which must be one to what was asked.
fn read(name: &str, api_version: &str, uid: &str, answer: &Value) -> Result<Verdict, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let response = &answer["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    if answer["apiVersion"] != api_version || answer["kind"] != "AdmissionReview" {
        let (version, kind) = (text(&answer["apiVersion"]), text(&answer["kind"]));
        return Err(format!(
            "expected webhook response of {api_version}, Kind=AdmissionReview, got {version}, \
             Kind={kind}"
        ));
    }
    // The older version did not demand it.
    if api_version.ends_with("/v1") && response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
    }
    let patch = match response["patch"].as_str().unwrap_or_default() {
        "" => None,
        _ if response["patchType"] != "JSONPatch" => {
            return Err(match response["patchType"].as_str() {
                None => "webhook returned response.patch but not response.patchType".to_owned(),
                Some(kind) => format!("webhook returned invalid response.patchType of {kind:?}"),
            });
        }
        encoded => {
            let bytes = BASE64_STANDARD.decode(encoded).map_err(|why| why.to_string())?;
            Some(serde_json::from_slice(&bytes).map_err(|why| why.to_string())?)
        }
    };
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Ok(Verdict {
        patch,
        warnings: warnings.map(text).collect(),
        annotations: annotations
            .map(|(key, value)| (format!("{name}/{key}"), text(value)))
            .collect(),
        refusal: (response["allowed"] != true).then(|| refusal(name, &response["status"])),
    })
}

fn refusal(name: &str, status: &Value) -> Failure {
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let why = match (text("message"), text("reason")) {
        ("", "") => " without explanation".to_owned(),
        ("", why) | (why, _) => format!(": {why}"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    Failure {
        code,
        reason: reason(text("reason")),
        message: format!("admission webhook {name:?} denied the request{why}"),
        details: status["details"].clone(),
    }
}

/// The reasons there are; another one is none.
fn reason(text: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "AlreadyExists",
        "BadRequest",
        "Conflict",
        "Expired",
        "Forbidden",
        "Gone",
        "InternalError",
        "Invalid",
        "MethodNotAllowed",
        "NotAcceptable",
        "NotFound",
        "RequestEntityTooLarge",
        "ServerTimeout",
        "ServiceUnavailable",
        "Timeout",
        "TooManyRequests",
        "Unauthorized",
        "UnsupportedMediaType",
    ];
    KNOWN.iter().find(|known| **known == text).copied().unwrap_or_default()
}
