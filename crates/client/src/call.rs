//! Requests, and what carries them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use objects::resource::Resource;
use serde_json::{Value, json};

/// An object, shared with whoever looks at it.
pub type Object = Arc<Value>;

/// A request of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `GET`, …
    pub method: &'static str,
    /// The path's parts, not encoded.
    pub parts: Vec<String>,
    /// The query, not encoded.
    pub query: Vec<(String, String)>,
    /// The form of the body; empty without one.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer that says no, or none at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The status of HTTP; 0 if there was no answer.
    pub code: u16,
    /// `NotFound`, for example; empty if there was no answer.
    pub reason: String,
    /// In words.
    pub message: String,
}

impl Failure {
    /// Nobody answered.
    pub fn unreachable(why: impl Into<String>) -> Self {
        Self { code: 0, reason: String::new(), message: why.into() }
    }

    /// Reads a document of kind `Status`.
    #[must_use]
    pub fn of_status(code: u16, status: &Value) -> Self {
        let word = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        Self { code, reason: word("reason"), message: word("message") }
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// Whether somebody was faster: the object was changed, or has been made already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code == 409
    }

    /// Whether a watch has to begin again from a list.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
}

/// Carries calls.
pub trait Transport: Send + Sync + Debug {
    /// Sends a call and gives the document of its answer.
    ///
    /// # Errors
    /// An answer that says no, or none.
    fn send(&self, call: &Call) -> Result<Value, Failure>;

    /// Begins a watch.
    ///
    /// # Errors
    /// An answer that says no, or none.
    fn watch(&self, call: &Call) -> Result<Box<dyn Events>, Failure>;
}

/// The events of a watch (`{"type": …, "object": …}`), as they come.
pub trait Events: Send {
    /// Those since the last call; waits for the first one, at most for a time. None when the watch is
    /// over.
    fn next(&mut self, longest: Duration) -> Option<Vec<Value>>;
}

/// How an object is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// JSON merge patch (RFC 7396).
    Merge,
    /// Strategic merge patch.
    Strategic,
    /// Server-side apply; conflicts are won.
    Apply,
}

/// How an object is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Only this very object.
    pub uid: Option<String>,
    /// Seconds for a pod to end; `None` is what it says itself.
    pub grace: Option<u64>,
    /// `Background`, `Foreground` or `Orphan`; `None` is the kind's default.
    pub propagation: Option<&'static str>,
}

/// A built-in resource by its kind, in the version that is preferred.
///
/// # Panics
/// If there is none, which is a mistake in the program.
#[must_use]
pub fn kind(kind: &str) -> &'static Resource {
    let found = Resource::built_in().iter().find(|resource| resource.kind == kind);
    found.unwrap_or_else(|| panic!("no built-in resource is called {kind}"))
}

/// Calls the API.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    /// Whose fields its changes are.
    manager: Arc<str>,
}

impl Client {
    /// A client whose changes are recorded as those of `manager`.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, manager: &str) -> Self {
        Self { transport, manager: manager.into() }
    }

    /// An object. `namespace` is empty for what is in none.
    ///
    /// # Errors
    /// [`Failure::is_not_found`], and others.
    pub fn get(&self, of: &Resource, namespace: &str, name: &str) -> Result<Value, Failure> {
        self.send("GET", parts(of, namespace, &[name]), Vec::new(), None)
    }

    /// All objects, and the revision at which they were so. `namespace` is empty for all.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn list(
        &self,
        of: &Resource,
        namespace: &str,
        query: &[(String, String)],
    ) -> Result<(Vec<Value>, String), Failure> {
        let mut list = self.send("GET", parts(of, namespace, &[]), query.to_vec(), None)?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        let complete = |mut item: Value| {
            // Lists of one kind leave out what each object is.
            item["kind"] = of.kind.into();
            item["apiVersion"] = of.api_version().into();
            item
        };
        Ok((items.into_iter().map(complete).collect(), revision))
    }

    /// What becomes of objects after a revision.
    ///
    /// # Errors
    /// [`Failure::is_expired`], and others.
    pub fn watch(
        &self,
        of: &Resource,
        namespace: &str,
        query: &[(String, String)],
        revision: &str,
    ) -> Result<Box<dyn Events>, Failure> {
        let mut all = query.to_vec();
        let own =
            [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", revision)];
        all.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let parts = parts(of, namespace, &[]);
        let call = Call { method: "GET", parts, query: all, content_type: "", body: Vec::new() };
        self.transport.watch(&call)
    }

    /// Makes an object, and gives what became of it.
    ///
    /// # Errors
    /// [`Failure::is_conflict`] if there is one of this name, and others.
    pub fn create(&self, of: &Resource, namespace: &str, object: &Value) -> Result<Value, Failure> {
        let body = Some(("application/json", object));
        self.send("POST", parts(of, namespace, &[]), self.own_query(), body)
    }

    /// Posts to a subresource of an object: a binding, an eviction.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn post(
        &self,
        of: &Resource,
        (namespace, name): (&str, &str),
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let parts = parts(of, namespace, &[name, subresource]);
        self.send("POST", parts, self.own_query(), Some(("application/json", body)))
    }

    /// Puts an object, or its subresource, in the place of the one with its `resourceVersion`.
    ///
    /// # Errors
    /// [`Failure::is_conflict`] if it was changed meanwhile, and others.
    pub fn replace(
        &self,
        of: &Resource,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, Failure> {
        let metadata = &object["metadata"];
        let word = |field: &str| metadata[field].as_str().unwrap_or_default();
        let parts = parts(of, word("namespace"), &[word("name"), subresource]);
        self.send("PUT", parts, self.own_query(), Some(("application/json", object)))
    }

    /// Changes an object, or its subresource.
    ///
    /// # Errors
    /// [`Failure::is_conflict`] if the patch names a `resourceVersion` that it has no more, and others.
    pub fn patch(
        &self,
        of: &Resource,
        (namespace, name): (&str, &str),
        subresource: &str,
        how: Patch,
        patch: &Value,
    ) -> Result<Value, Failure> {
        let mut query = self.own_query();
        let content_type = match how {
            Patch::Merge => "application/merge-patch+json",
            Patch::Strategic => "application/strategic-merge-patch+json",
            Patch::Apply => {
                query.push(("force".to_owned(), "true".to_owned()));
                "application/apply-patch+yaml"
            }
        };
        let parts = parts(of, namespace, &[name, subresource]);
        self.send("PATCH", parts, query, Some((content_type, patch)))
    }

    /// Removes an object, and gives what the server says: the object if it goes on ending, a `Status` if
    /// it is gone.
    ///
    /// # Errors
    /// [`Failure::is_not_found`], [`Failure::is_conflict`] if it is not the one with the uid, and others.
    pub fn delete(
        &self,
        of: &Resource,
        (namespace, name): (&str, &str),
        how: &Deletion,
    ) -> Result<Value, Failure> {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(uid) = &how.uid {
            options["preconditions"] = json!({"uid": uid});
        }
        if let Some(grace) = how.grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        if let Some(propagation) = how.propagation {
            options["propagationPolicy"] = propagation.into();
        }
        let body = Some(("application/json", &options));
        self.send("DELETE", parts(of, namespace, &[name]), Vec::new(), body)
    }

    fn own_query(&self) -> Vec<(String, String)> {
        vec![("fieldManager".to_owned(), self.manager.to_string())]
    }

    fn send(
        &self,
        method: &'static str,
        parts: Vec<String>,
        query: Vec<(String, String)>,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, Failure> {
        let (content_type, body) = match body {
            Some((content_type, body)) => (content_type, body.to_string().into_bytes()),
            None => ("", Vec::new()),
        };
        self.transport.send(&Call { method, parts, query, content_type, body })
    }
}

/// The path of a resource: of all its objects, or of one and its subresource.
fn parts(of: &Resource, namespace: &str, rest: &[&str]) -> Vec<String> {
    let mut parts = match of.group {
        "" => vec!["api", of.version],
        group => vec!["apis", group, of.version],
    };
    if of.is_namespaced && !namespace.is_empty() {
        parts.extend(["namespaces", namespace]);
    }
    parts.push(of.plural);
    parts.extend(rest.iter().filter(|part| !part.is_empty()));
    parts.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let path =
            |of: &str, namespace: &str, rest: &[&str]| parts(kind(of), namespace, rest).join("/");
        assert_eq!(path("Pod", "", &[]), "api/v1/pods");
        assert_eq!(path("Pod", "a", &["b", "status"]), "api/v1/namespaces/a/pods/b/status");
        assert_eq!(path("Node", "", &["n", ""]), "api/v1/nodes/n");
        assert_eq!(path("Deployment", "a", &["b"]), "apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(kind("HorizontalPodAutoscaler").version, "v2");
        assert_eq!(kind("Event").group, "");
    }
}
