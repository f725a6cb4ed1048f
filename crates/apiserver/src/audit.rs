//! Who did what, for auditors: a line of JSON for each stage of a request (`audit.k8s.io/v1`).

mod file;
mod policy;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::authorization::Attributes;
use crate::cluster::{Cluster, random, uid};
use crate::failure::Failure;
use crate::request::{Answer, Request};
use file::Rotating;
use policy::{Level, Policy, Verdict};

/// Where requests are told, and which.
#[derive(Debug)]
pub struct Audit {
    policy: Policy,
    file: Mutex<Rotating>,
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be written.
    #[error("open the audit log `{}`", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The policy is none.
    #[error("read the audit policy: {0}")]
    Policy(String),
}

/// How long files of an audit log become, and how many old ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of a file.
    pub bytes_max: u64,
    /// Files besides the one that is written.
    pub backups_max: usize,
}

impl Audit {
    /// Tells a file what a policy (`Policy` of `audit.k8s.io/v1`) wants told. Without one it is told
    /// who did what, when it is done, and never what was in it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(
        path: &Path,
        policy: Option<&Value>,
        rotation: Rotation,
    ) -> Result<Self, AuditError> {
        let policy = match policy {
            Some(policy) => Policy::read(policy).map_err(AuditError::Policy)?,
            None => Policy::of_metadata(),
        };
        let open = |source| AuditError::Open { path: path.to_owned(), source };
        let file = Rotating::open(path, rotation).map_err(open)?;
        Ok(Self { policy, file: Mutex::new(file) })
    }

    fn write(&self, event: &Value) {
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // The request was answered by what it did, not by whether that could be told.
        file.write(&line);
    }
}

/// A request that is told of.
#[derive(Debug)]
pub(crate) struct Told {
    audit: Arc<Audit>,
    verdict: Verdict,
    /// What is the same at all stages.
    event: Value,
}

impl Told {
    /// Begins to tell of a request; `None` if nothing is to be told.
    pub(crate) fn received(audit: &Arc<Audit>, request: &Request) -> Option<Self> {
        let asked = Attributes::of(request);
        let user = request.impersonator.as_ref().unwrap_or(&request.user);
        let verdict = audit.policy.verdict(user, &asked);
        if verdict.level == Level::None {
            return None;
        }
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": verdict.level.word(),
            "auditID": uid(&random::<16>()),
            "stage": "RequestReceived",
            "requestURI": uri(request),
            "verb": asked.verb,
            "user": user.to_json(),
        });
        if request.impersonator.is_some() {
            event["impersonatedUser"] = request.user.to_json();
        }
        if let Some(source) = request.source {
            event["sourceIPs"] = json!([source.to_string()]);
        }
        if !request.agent.is_empty() {
            event["userAgent"] = request.agent.clone().into();
        }
        if asked.is_of_resource() {
            event["objectRef"] = reference(&asked);
        }
        event["requestReceivedTimestamp"] = now().into();
        let told = Self { audit: audit.clone(), verdict, event };
        told.stage("RequestReceived", &told.event);
        Some(told)
    }

    /// Tells what a request was answered.
    pub(crate) fn answered(mut self, request: &Request, answer: &mut Answer) {
        let annotations = request.notes.annotations();
        if !annotations.is_empty() {
            self.event["annotations"] = json!(annotations);
        }
        let body = Some(request).filter(|_| self.verdict.level >= Level::Request).and_then(body);
        if let Some(body) = body {
            self.event["requestObject"] = self.shown(body);
        }
        match answer {
            Answer::Document { code, body, .. } => {
                self.event["responseStatus"] = status(*code, body);
                if self.verdict.level >= Level::RequestResponse {
                    self.event["responseObject"] = self.shown(body.clone());
                }
                self.stage("ResponseComplete", &self.event);
            }
            Answer::Text(..) | Answer::Bytes { .. } => {
                let code = if let Answer::Text(code, _) = answer { *code } else { 200 };
                self.event["responseStatus"] = json!({"metadata": {}, "code": code});
                self.stage("ResponseComplete", &self.event);
            }
            Answer::Log(_)
            | Answer::Talk(_)
            | Answer::Forward(_)
            | Answer::Pass(_)
            | Answer::Elsewhere(_) => {
                self.event["responseStatus"] = json!({"metadata": {}, "code": 200});
                self.stage("ResponseStarted", &self.event);
            }
            Answer::Watch(watch) => {
                self.event["responseStatus"] = json!({"metadata": {}, "code": 200});
                self.stage("ResponseStarted", &self.event);
                watch.tell_when_over(Over(self));
            }
        }
    }

    fn shown(&self, mut object: Value) -> Value {
        if let (true, Some(metadata)) =
            (self.verdict.omits_managed_fields, object["metadata"].as_object_mut())
        {
            metadata.shift_remove("managedFields");
        }
        object
    }

    fn stage(&self, stage: &'static str, event: &Value) {
        if self.verdict.omitted.iter().any(|omitted| omitted == stage) {
            return;
        }
        let mut event = event.clone();
        event["stage"] = stage.into();
        event["stageTimestamp"] = now().into();
        self.audit.write(&event);
    }
}

/// Tells that a watch is over when it is dropped.
#[derive(Debug)]
pub(crate) struct Over(Told);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.stage("ResponseComplete", &self.0.event);
    }
}

impl Cluster {
    /// Tells of a request of somebody who is not known, or may not act as another.
    pub(crate) fn audit_refused(&self, request: &Request, failure: &Failure) {
        let told = self.audit.as_ref().and_then(|audit| Told::received(audit, request));
        if let Some(told) = told {
            told.answered(request, &mut failure.clone().into());
        }
    }
}

fn uri(request: &Request) -> String {
    let parts: Vec<String> = request.parts.iter().map(|part| httpd::encode(part)).collect();
    let pair = |(name, value): &(String, String)| {
        format!("{}={}", httpd::encode(name), httpd::encode(value))
    };
    let query: Vec<String> = request.query.iter().map(pair).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/{}{mark}{}", parts.join("/"), query.join("&"))
}

fn reference(asked: &Attributes) -> Value {
    let mut reference = json!({"resource": asked.resource});
    for (field, value) in [
        ("namespace", &asked.namespace),
        ("name", &asked.name),
        ("apiGroup", &asked.group),
        ("apiVersion", &asked.version),
        ("subresource", &asked.subresource),
    ] {
        if !value.is_empty() {
            reference[field] = value.clone().into();
        }
    }
    reference
}

/// What was sent along, if it is an object; a patch is one, too.
fn body(request: &Request) -> Option<Value> {
    if request.body.is_empty() {
        return None;
    }
    match request.object() {
        Ok(object) => Some(Value::Object(object)),
        Err(_) => serde_json::from_slice(&request.body).ok(),
    }
}

fn status(code: u16, body: &Value) -> Value {
    let mut status = json!({"metadata": {}});
    if body["kind"] == "Status" {
        for field in ["status", "message", "reason", "details"] {
            if !body[field].is_null() {
                status[field] = body[field].clone();
            }
        }
    }
    status["code"] = code.into();
    status
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    objects::time::micros(now.as_second(), now.subsec_nanosecond().unsigned_abs())
}
