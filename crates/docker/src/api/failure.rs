//! What a client is told when a request is not fulfilled: a status, and `{"message": …}`.

use std::error::Error as _;

use engine::Kind;
use httpd::Reply;
use serde_json::{Value, json};

/// A request that is not fulfilled.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    status: u16,
    message: String,
    /// The exit code of the command that it is about, which clients exit with.
    code: Option<i32>,
}

impl Failure {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code: None }
    }

    /// The request makes no sense.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// The request asks for what is not supported.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(501, message)
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn with_code(self, code: Option<i32>) -> Self {
        Self { code, ..self }
    }

    /// The failure of what has been going well until now.
    pub(super) fn document(&self) -> Value {
        let mut detail = json!({ "message": self.message });
        if let Some(code) = self.code {
            detail["code"] = code.into();
        }
        json!({ "errorDetail": detail, "error": self.message })
    }

    pub(super) fn reply(&self) -> Reply {
        let body = json!({ "message": self.message }).to_string() + "\n";
        Reply::new(self.status).document("application/json", body.into_bytes())
    }
}

/// What the kernel says, as Go writes it: some clients look for `permission denied`.
fn in_go(text: &str) -> String {
    let Some((words, _)) = text.split_once(" (os error ") else { return text.to_owned() };
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// What failed, with its causes.
pub(super) fn told(error: &engine::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = in_go(&error.to_string());
        // Some causes say what the failure above them says.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let status = match error.kind() {
            Kind::Invalid | Kind::Usage => 400,
            Kind::CommandNotFound | Kind::CommandNotExecutable => 400,
            Kind::Denied => 403,
            Kind::NotFound => 404,
            Kind::Exists | Kind::Conflict => 409,
            Kind::Unsupported => 501,
            Kind::Unavailable | Kind::Internal => 500,
        };
        let mut message = told(&error);
        if let (Kind::Unsupported, Some(hint)) = (error.kind(), error.hint_text()) {
            message = format!("{message} ({hint})");
        }
        Self { status, message, code: None }
    }
}

/// The client's connection broke while its request was read, or ours to somebody else did.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Self::bad(error.to_string()),
            _ => Self::new(500, error.to_string()),
        }
    }
}
