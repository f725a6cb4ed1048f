//! Calls from the same process: no socket, no bytes of HTTP.

use std::time::Duration;

use client::{Call, Events, Failure, Transport};
use serde_json::Value;

use crate::authentication::User;
use crate::cluster::Cluster;
use crate::request::{Answer, Request};
use crate::watch::Watch;

/// A cluster, as a component of its own process calls it.
#[derive(Debug, Clone)]
pub struct InProcess {
    cluster: Cluster,
    user: User,
}

impl InProcess {
    /// Calls a cluster in the name of a user, who may do everything: it is the process that does.
    #[must_use]
    pub fn new(cluster: Cluster, user: &str) -> Self {
        Self { cluster, user: User::known(user, &["system:masters"]) }
    }

    fn answer(&self, call: &Call) -> Answer {
        self.cluster.answer(&Request {
            method: call.method.to_owned(),
            parts: call.parts.clone(),
            query: call.query.clone(),
            content_type: call.content_type.to_owned(),
            agent: self.user.name.clone(),
            user: self.user.clone(),
            body: call.body.clone(),
            ..Request::default()
        })
    }
}

impl Transport for InProcess {
    fn send(&self, call: &Call) -> Result<Value, Failure> {
        match self.answer(call) {
            Answer::Document { code, body, .. } if code < 300 => Ok(body),
            Answer::Document { code, body, .. } => Err(Failure::of_status(code, &body)),
            Answer::Text(_, text) => Ok(Value::String(text)),
            Answer::Bytes { .. }
            | Answer::Watch(_)
            | Answer::Log(_)
            | Answer::Talk(_)
            | Answer::Forward(_)
            | Answer::Pass(_)
            | Answer::Elsewhere(_) => Err(Failure::unreachable("a stream was answered")),
        }
    }

    fn watch(&self, call: &Call) -> Result<Box<dyn Events>, Failure> {
        match self.answer(call) {
            Answer::Watch(watch) => Ok(Box::new(Told(*watch))),
            Answer::Document { code, body, .. } => Err(Failure::of_status(code, &body)),
            Answer::Text(_, text) => Err(Failure::unreachable(text)),
            Answer::Bytes { .. }
            | Answer::Log(_)
            | Answer::Talk(_)
            | Answer::Forward(_)
            | Answer::Pass(_)
            | Answer::Elsewhere(_) => Err(Failure::unreachable("a stream was answered")),
        }
    }
}

struct Told(Watch);

impl Events for Told {
    fn next(&mut self, longest: Duration) -> Option<Vec<Value>> {
        self.0.next(longest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use client::{Cache, Client, Deletion, Patch, Reflector, kind};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_in_the_same_process_does_everything() {
        let cluster = Cluster::new(Arc::new(crate::log::Memory::default())).unwrap();
        let client = Client::new(Arc::new(InProcess::new(cluster, "test")), "test");
        let (cache, of) = (Cache::default(), kind("ConfigMap"));
        let mut reflector = Reflector::new(client.clone(), of, &[]);
        reflector.step(&cache, Duration::ZERO).unwrap();
        let map = json!({"metadata": {"name": "x"}, "data": {"a": "b"}});
        let made = client.create(of, "default", &map).unwrap();
        assert_eq!(made["metadata"]["namespace"], "default");
        assert!(client.create(of, "default", &map).unwrap_err().is_conflict());
        let patch = json!({"data": {"a": "c"}});
        let changed = client.patch(of, ("default", "x"), "", Patch::Merge, &patch).unwrap();
        assert_eq!(changed["data"]["a"], "c");
        let seen = reflector.step(&cache, Duration::from_secs(120)).unwrap();
        assert!(!seen.is_empty());
        assert!(cache.get(&client::Key::new("ConfigMap", "default", "x")).is_some());
        client.delete(of, ("default", "x"), &Deletion::default()).unwrap();
        assert!(client.get(of, "default", "x").unwrap_err().is_not_found());
    }
}
