//! A request and its answer, whatever they came by.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::authentication::User;
use crate::failure::Failure;
use crate::notes::Notes;

/// Longest body of a request (etcd's limit, which upstream has, too).
pub const BODY_BYTES_MAX: u64 = 3 << 20;

/// What a client asks.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, …
    pub method: String,
    /// The path's parts, decoded.
    pub parts: Vec<String>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// `Content-Type`, without parameters.
    pub content_type: String,
    /// `Accept`, as it was sent.
    pub accept: String,
    /// `User-Agent`: whoever names no manager of fields is called after it.
    pub agent: String,
    /// Who asks: whose rights count.
    pub user: User,
    /// Who acts as that user, if somebody does; it is for auditors.
    pub impersonator: Option<User>,
    /// Where from, if by a network; it is for auditors.
    pub source: Option<IpAddr>,
    /// What is noted of it on its way.
    pub notes: Notes,
    /// What was sent along.
    pub body: Vec<u8>,
}

/// What a client is answered.
pub enum Answer {
    /// A status of HTTP and a document, with warnings for people.
    Document {
        /// The status.
        code: u16,
        /// The document.
        body: Value,
        /// What a person should know.
        warnings: Vec<String>,
    },
    /// Plain text.
    Text(u16, String),
    /// A document in a form of its own.
    Bytes {
        /// Which form.
        media_type: &'static str,
        /// The document.
        bytes: Vec<u8>,
    },
    /// Events, as they come.
    Watch(Box<crate::watch::Watch>),
    /// Lines of a log, as they come.
    Log(crate::pods::Log),
    /// A conversation with a process.
    Talk(crate::pods::Talk),
    /// Connections to ports of a pod.
    Forward(crate::forward::Forward),
    /// Whatever somebody else answers.
    Pass(crate::proxy::Passed),
    /// Whatever another host answers.
    Elsewhere(Box<crate::elsewhere::Elsewhere>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Document { code, body, .. } => write!(f, "Document({code}, {body})"),
            Self::Text(code, text) => write!(f, "Text({code}, {text})"),
            Self::Bytes { media_type, bytes } => write!(f, "Bytes({media_type}, {})", bytes.len()),
            Self::Watch(watch) => watch.fmt(f),
            Self::Log(_) => f.write_str("Log"),
            Self::Forward(forward) => std::fmt::Debug::fmt(forward, f),
            Self::Talk(_) => f.write_str("Talk"),
            Self::Pass(passed) => passed.fmt(f),
            Self::Elsewhere(elsewhere) => elsewhere.fmt(f),
        }
    }
}

impl Answer {
    pub(crate) fn document(code: u16, body: Value) -> Self {
        Self::Document { code, body, warnings: Vec::new() }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::document(failure.code, failure.to_json())
    }
}

/// In which form objects are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Table,
    Metadata,
}

/// What to do with fields that a type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validation {
    Ignore,
    Warn,
    Strict,
}

impl Request {
    /// A parameter of the query; empty if it is not there.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
    }

    /// The form that `Accept` prefers among those there are.
    pub(crate) fn form(&self) -> Result<Form, Failure> {
        let wanted = if self.accept.is_empty() { "*/*" } else { &self.accept };
        for range in wanted.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "*/*" | "application/*") {
                continue;
            }
            let as_what = parts.find_map(|part| part.strip_prefix("as="));
            match as_what {
                Some("Table") => return Ok(Form::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => {
                    return Ok(Form::Metadata);
                }
                Some(_) => {}
                None => return Ok(Form::Whole),
            }
        }
        Err(Failure {
            code: 406,
            reason: "NotAcceptable",
            message: "only the following media types are accepted: application/json".to_owned(),
            details: Value::Null,
        })
    }

    pub(crate) fn is_dry_run(&self) -> Result<bool, Failure> {
        match self.parameter("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(Failure::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }

    pub(crate) fn validation(&self) -> Result<Validation, Failure> {
        match self.parameter("fieldValidation") {
            "" | "Warn" => Ok(Validation::Warn),
            "Ignore" => Ok(Validation::Ignore),
            "Strict" => Ok(Validation::Strict),
            other => Err(Failure::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \
                 \"Strict\", \"Warn\""
            ))),
        }
    }

    /// Who changes fields: what the request says, or the first word of its agent.
    pub(crate) fn manager(&self) -> &str {
        match self.parameter("fieldManager") {
            "" => self.agent.split('/').next().filter(|word| !word.is_empty()).unwrap_or("unknown"),
            manager => manager,
        }
    }

    /// The body as an object in JSON or Protocol Buffers.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Failure> {
        let value = match self.content_type.as_str() {
            "application/vnd.kubernetes.protobuf" => {
                let schema = objects::Schema::built_in();
                let decoded = objects::protobuf::decode(schema, &self.body);
                decoded.map_err(|why| Failure::bad_request(why.to_string()))?
            }
            "" | "application/json" => json(&self.body)?,
            "application/yaml" => yaml(&self.body)?,
            other => {
                let known =
                    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
                return Err(Failure::unsupported_media_type(other, &known));
            }
        };
        object(value)
    }
}

/// Reads JSON; a name that stands twice in an object is an error, as upstream's strict reader has it.
pub(crate) fn json(body: &[u8]) -> Result<Value, Failure> {
    let wrong = |why: serde_json::Error| {
        Failure::bad_request(format!("the body of the request is no JSON: {why}"))
    };
    serde_json::from_slice(body).map_err(wrong)
}

/// Reads YAML, of which JSON is a part.
pub(crate) fn yaml(body: &[u8]) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::bad_request(format!("error decoding YAML: {why}"));
    let text = std::str::from_utf8(body).map_err(|why| wrong(why.to_string()))?;
    objects::yaml::parse(text).map_err(|why| wrong(why.to_string()))
}

pub(crate) fn object(value: Value) -> Result<Map<String, Value>, Failure> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(Failure::bad_request("the body of the request is no object")),
    }
}
