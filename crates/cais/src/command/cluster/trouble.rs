//! What goes wrong, in kubectl's words and with its exit codes.

use std::io::Write as _;

use client::Failure;
use serde_json::Value;

use crate::output::printable;

/// What a verb of a cluster gives.
pub(crate) type Outcome<T> = Result<T, Trouble>;

/// Why a verb has not done what it was asked for.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server says no: what it says.
    Refused(Value),
    /// There is no answer.
    Unreachable(Failure),
    /// Something here.
    Local { text: String, hint: Option<String> },
    /// It has been told already; the exit code.
    Told(i32),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Unreachable(failure)
    }
}

impl From<engine::Error> for Trouble {
    fn from(error: engine::Error) -> Self {
        super::super::report(&error);
        Self::Told(1)
    }
}

impl Trouble {
    /// Something that is wrong here.
    pub(crate) fn local(text: impl Into<String>) -> Self {
        Self::Local { text: text.into(), hint: None }
    }

    /// The same, with what can be done about it.
    pub(crate) fn hint(self, hint: &str) -> Self {
        match self {
            Self::Local { text, .. } => Self::Local { text, hint: Some(hint.to_owned()) },
            other => other,
        }
    }

    pub(crate) fn no_such_kind(name: &str) -> Self {
        Self::local(format!("the server doesn't have a resource type \"{name}\""))
    }

    /// An answer that says no.
    pub(super) fn refused(code: u16, status: Value, bytes: &[u8]) -> Self {
        if status["kind"] == "Status" {
            return Self::Refused(status);
        }
        let text = String::from_utf8_lossy(bytes).trim().to_owned();
        Self::Refused(serde_json::json!({"code": code, "message": text}))
    }

    /// Whether the server says that it is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status["code"] == 404)
    }

    /// Whether the server says that somebody was faster, or is in the way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(status) if status["code"] == 409)
    }

    /// Why the server says no: `Invalid`, for example.
    fn reason(status: &Value) -> &str {
        status["reason"].as_str().unwrap_or_default()
    }

    /// In kubectl's words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Refused(status) => match Self::reason(status) {
                "Invalid" => invalid(status),
                reason => {
                    let message = status["message"].as_str().unwrap_or_default();
                    let reason = match reason {
                        "" | "Unknown" => String::new(),
                        reason => format!(" ({reason})"),
                    };
                    format!("Error from server{reason}: {message}")
                }
            },
            Self::Unreachable(failure) => unreachable(&failure.message),
            Self::Local { text, .. } => format!("error: {text}"),
            Self::Told(_) => String::new(),
        }
    }

    /// What the server says, without who says it.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Refused(status) => status["message"].as_str().unwrap_or_default().to_owned(),
            Self::Unreachable(failure) => failure.message.clone(),
            Self::Local { text, .. } => text.clone(),
            Self::Told(_) => String::new(),
        }
    }

    /// Says it on standard error.
    pub(crate) fn tell(&self) {
        match self {
            Self::Told(_) => {}
            Self::Local { hint: Some(hint), .. } => {
                note(&format!("{}\nhint: {hint}", self.words()));
            }
            _ => note(&self.words()),
        }
    }

    fn code(&self) -> i32 {
        match self {
            Self::Told(code) => *code,
            _ => 1,
        }
    }
}

fn unreachable(message: &str) -> String {
    let refused = message
        .strip_prefix("dial tcp ")
        .and_then(|rest| rest.strip_suffix(": connection refused"));
    match refused {
        Some(address) => format!(
            "The connection to the server {address} was refused - did you specify the right host or port?"
        ),
        None if message.starts_with("dial ") || message.starts_with("ask ") => {
            format!("Unable to connect to the server: {message}")
        }
        None => format!("error: {message}"),
    }
}

/// `The Pod "x" is invalid: …`, with a line for each cause.
fn invalid(status: &Value) -> String {
    let details = &status["details"];
    let word = |field: &str| details[field].as_str().unwrap_or_default();
    if details.is_null() {
        let message = status["message"].as_str().unwrap_or_default();
        return format!("The request is invalid: {message}");
    }
    let head = match (word("kind"), word("name")) {
        ("", "") => "The request is invalid".to_owned(),
        (kind, name) => format!("The {kind} \"{name}\" is invalid"),
    };
    let cause = |cause: &Value| {
        let word = |field: &str| cause[field].as_str().unwrap_or_default();
        format!("{}: {}", word("field"), word("message"))
    };
    let mut causes: Vec<String> =
        details["causes"].as_array().into_iter().flatten().map(cause).collect();
    causes.dedup();
    match &causes[..] {
        [] => head,
        [only] => format!("{head}: {only}"),
        all => {
            let lines: Vec<String> = all.iter().map(|cause| format!("* {cause}\n")).collect();
            format!("{head}: \n{}", lines.concat()).trim_end().to_owned()
        }
    }
}

/// Writes a line on standard error.
pub(crate) fn note(text: &str) {
    let text = printable(text).into_owned() + "\n";
    // Nobody to tell if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Says what a server warns of: `299 - "…"` in a header field.
pub(super) fn warn(field: &str) {
    let text = field.splitn(3, ' ').nth(2).unwrap_or(field).trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    note(&format!("Warning: {}", text.replace("\\\"", "\"").replace("\\\\", "\\")));
}

/// Runs a verb: what goes wrong is told, and becomes the exit code.
pub(crate) fn told(verb: impl FnOnce() -> Outcome<i32>) -> engine::Result<i32> {
    verb().or_else(|trouble| {
        trouble.tell();
        Ok(trouble.code())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn troubles_are_told_in_kubectl_s_words() {
        let refused = |status: Value| Trouble::Refused(status).words();
        let missing = json!({"reason": "NotFound", "message": "pods \"x\" not found"});
        assert_eq!(refused(missing), "Error from server (NotFound): pods \"x\" not found");
        let cause = |field: &str| json!({"field": field, "message": "Required value"});
        let details = |causes: Vec<Value>| json!({"reason": "Invalid", "details": {"kind": "Pod", "name": "x", "causes": causes}});
        assert_eq!(
            refused(details(vec![cause("a")])),
            "The Pod \"x\" is invalid: a: Required value"
        );
        assert_eq!(
            refused(details(vec![cause("a"), cause("b")])),
            "The Pod \"x\" is invalid: \n* a: Required value\n* b: Required value"
        );
        let refused = Failure::unreachable("dial tcp 127.0.0.1:1: connection refused");
        assert_eq!(
            Trouble::from(refused).words(),
            "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?"
        );
    }
}
