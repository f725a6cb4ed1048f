//! How tests ask a cluster.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::log::Memory;
use crate::{Answer, Cluster, Request, User};

/// A cluster in memory.
pub(crate) fn cluster() -> Cluster {
    Cluster::new(Arc::new(Memory::default())).unwrap()
}

/// What somebody asks of a path, with its query.
pub(crate) fn request(user: &User, method: &str, path: &str, body: &Value) -> Request {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let patch = "application/merge-patch+json";
    Request {
        method: method.to_owned(),
        parts: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        content_type: if method == "PATCH" { patch } else { "application/json" }.to_owned(),
        agent: "test/1".to_owned(),
        user: user.clone(),
        body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
        ..Request::default()
    }
}

/// Asks: the status and the document.
pub(crate) fn ask(
    cluster: &Cluster,
    user: &User,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    match cluster.answer(&request(user, method, path, body)) {
        Answer::Document { code, mut body, warnings } => {
            if !warnings.is_empty() {
                body["warnings"] = json!(warnings);
            }
            (code, body)
        }
        Answer::Text(code, text) => (code, text.into()),
        Answer::Bytes { media_type, .. } => (200, media_type.into()),
        Answer::Watch(_) => (200, json!("a watch")),
        Answer::Log(_)
        | Answer::Talk(_)
        | Answer::Forward(_)
        | Answer::Pass(_)
        | Answer::Elsewhere(_) => (200, json!("a stream")),
    }
}

/// Has the administrator make an object.
#[track_caller]
pub(crate) fn make(cluster: &Cluster, path: &str, body: &Value) -> Value {
    let (code, made) = ask(cluster, &User::administrator(), "POST", path, body);
    assert_eq!(code, 201, "{made}");
    made
}

/// Has the administrator get an object.
#[track_caller]
pub(crate) fn get(cluster: &Cluster, path: &str) -> Value {
    let (code, found) = ask(cluster, &User::administrator(), "GET", path, &Value::Null);
    assert_eq!(code, 200, "{found}");
    found
}

/// A pod with one container.
pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}
