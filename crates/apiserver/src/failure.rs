//! What went wrong, as clients of Kubernetes know it: a `Status` (apimachinery, `api/errors`).

use objects::resource::Resource;
use objects::validate::Invalid;
use serde_json::{Value, json};

use crate::log::{LogError, VALUE_BYTES_MAX};

/// An answer that says no.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The status of HTTP.
    pub code: u16,
    /// `NotFound`, for example.
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// What it is about, and causes; null for nothing.
    pub details: Value,
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// With what it is about.
    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let mut details = json!({"kind": kind});
        if !name.is_empty() {
            details["name"] = name.into();
        }
        if !group.is_empty() {
            details["group"] = group.into();
        }
        self.details = details;
        self
    }

    /// The object is not there.
    #[must_use]
    pub fn not_found(of: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(of));
        Self::new(404, "NotFound", message).about(of.group, of.plural, name)
    }

    /// There is nothing at this path.
    #[must_use]
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: json!({}), ..Self::new(404, "NotFound", message) }
    }

    /// An object has this name already.
    #[must_use]
    pub fn already_exists(of: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(of));
        Self::new(409, "AlreadyExists", message).about(of.group, of.plural, name)
    }

    /// Somebody was faster.
    #[must_use]
    pub fn conflict(of: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::precondition(of, name, why)
    }

    /// What the client wants the object to be, it is not.
    #[must_use]
    pub fn precondition(of: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(of));
        Self::new(409, "Conflict", message).about(of.group, of.plural, name)
    }

    /// Fields belong to others.
    #[must_use]
    pub fn owned(message: String, conflicts: &[objects::apply::Conflict]) -> Self {
        let cause = |conflict: &objects::apply::Conflict| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", conflict.manager),
                "field": conflict.field,
            })
        };
        let causes: Vec<Value> = conflicts.iter().map(cause).collect();
        Self { details: json!({"causes": causes}), ..Self::new(409, "Conflict", message) }
    }

    /// Fields may not be as they are.
    #[must_use]
    pub fn invalid(of: &Resource, name: &str, found: &[Invalid]) -> Self {
        let kind = match of.group {
            "" => of.kind.to_owned(),
            group => format!("{}.{group}", of.kind),
        };
        let mut words: Vec<String> = found.iter().map(ToString::to_string).collect();
        words.dedup();
        let words = match &words[..] {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let cause = |one: &Invalid| {
            json!({
                "reason": one.problem.reason(),
                "message": one.problem.to_string(),
                "field": one.field,
            })
        };
        let message = format!("{kind} {name:?} is invalid: {words}");
        let mut failure = Self::new(422, "Invalid", message).about(of.group, of.kind, name);
        failure.details["causes"] = found.iter().map(cause).collect();
        failure
    }

    /// The request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The method is none of this resource.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: json!({}), ..Self::new(405, "MethodNotAllowed", message) }
    }

    /// Nobody knows who asks.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// It is known who asks, and may not.
    #[must_use]
    pub fn forbidden(of: &Resource, name: &str, why: &str) -> Self {
        Self::forbidden_by_name(of.group, of.plural, name, why)
    }

    /// The same of whatever a path names, which need be no resource; a name that is empty is none.
    pub(crate) fn forbidden_by_name(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let resource = match group {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        let message = match (plural, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            (_, name) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        let failure = Self::new(403, "Forbidden", message);
        match plural {
            "" => Self { details: json!({}), ..failure },
            plural => failure.about(group, plural, name),
        }
    }

    /// A body in a form that is not read.
    #[must_use]
    pub fn unsupported_media_type(given: &str, known: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {} \
             (got {given:?})",
            known.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// A body, or an object, of too many bytes.
    #[must_use]
    pub fn too_large(most: u64) -> Self {
        let message = format!("Request entity is too large: limit is {most}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// What a client wants to go on from is forgotten.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// It can be done later.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message)
    }

    /// Nobody is there who would do it now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// What is not built yet.
    #[must_use]
    pub fn not_implemented(what: &str) -> Self {
        Self::new(501, "NotImplemented", format!("{what} is not supported by this server yet"))
    }

    /// The server itself failed.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// The answer's document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Compacted(_) => {
                Self::expired("The resourceVersion for the provided watch or list is too old.")
            }
            LogError::Future(revision) => {
                let message = format!("Too large resource version: {revision}");
                Self { code: 504, ..Self::new(504, "Timeout", message) }
            }
            LogError::TooLarge => Self::too_large(VALUE_BYTES_MAX as u64),
            LogError::Conflict(_) => Self::internal("a write met another one"),
            LogError::Storage(why) => Self::internal(&*why),
        }
    }
}

/// `deployments.apps`, as messages name a resource.
fn qualified(of: &Resource) -> String {
    match of.group {
        "" => of.plural.to_owned(),
        group => format!("{}.{group}", of.plural),
    }
}
