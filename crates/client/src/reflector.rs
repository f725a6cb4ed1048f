//! Keeps what a cache knows of a kind true.

use std::fmt;
use std::time::Duration;

use objects::resource::Resource;
use serde_json::Value;

use crate::cache::{Cache, Change};
use crate::call::{Client, Events, Failure};

/// Lists a kind's objects, then watches them; begins again when the watch cannot go on.
pub struct Reflector {
    client: Client,
    resource: &'static Resource,
    query: Vec<(String, String)>,
    revision: Option<String>,
    events: Option<Box<dyn Events>>,
}

impl fmt::Debug for Reflector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector").field("kind", &self.resource.kind).finish_non_exhaustive()
    }
}

impl Reflector {
    /// A reflector of all objects of a kind that a query selects (`fieldSelector`, `labelSelector`).
    #[must_use]
    pub fn new(client: Client, resource: &'static Resource, query: &[(&str, &str)]) -> Self {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { client, resource, query: query.collect(), revision: None, events: None }
    }

    /// Brings a cache up to date, and gives what has changed. Waits for the first change, at most for a
    /// time; the first step does not wait.
    ///
    /// # Errors
    /// The server cannot be asked. What is known stays; the next step tries again.
    pub fn step(&mut self, cache: &Cache, longest: Duration) -> Result<Vec<Change>, Failure> {
        let Some(revision) = self.revision.clone() else {
            let (items, revision) = self.client.list(self.resource, "", &self.query)?;
            self.revision = Some(revision);
            return Ok(cache.replace(self.resource, items));
        };
        if self.events.is_none() {
            let begun = self.client.watch(self.resource, "", &self.query, &revision);
            let begun = begun.inspect_err(|failure| self.end(failure.is_expired()))?;
            self.events = Some(begun);
        }
        let told = self.events.as_mut().and_then(|events| events.next(longest));
        let Some(told) = told else {
            self.end(false);
            return Ok(Vec::new());
        };
        let mut changes = Vec::new();
        for event in told {
            changes.extend(self.take(cache, event)?);
        }
        Ok(changes)
    }

    fn take(&mut self, cache: &Cache, mut event: Value) -> Result<Option<Change>, Failure> {
        let object = event["object"].take();
        let what = event["type"].as_str().unwrap_or_default();
        if what == "ERROR" {
            let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            let failure = Failure::of_status(code.unwrap_or(500), &object);
            self.end(true);
            return if failure.is_expired() { Ok(None) } else { Err(failure) };
        }
        if let Some(revision) = object["metadata"]["resourceVersion"].as_str() {
            self.revision = Some(revision.to_owned());
        }
        Ok(match what {
            "ADDED" | "MODIFIED" => cache.put(self.resource, object),
            "DELETED" => cache.remove(self.resource, &object),
            _ => None,
        })
    }

    /// Ends the watch; whoever does not know where to go on lists again.
    fn end(&mut self, is_lost: bool) {
        self.events = None;
        if is_lost {
            self.revision = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::call::{Call, Transport, kind};

    /// Answers from a script.
    #[derive(Debug, Default)]
    struct Script {
        lists: Mutex<Vec<Value>>,
        watches: Mutex<Vec<Vec<Vec<Value>>>>,
        asked: Mutex<Vec<String>>,
    }

    struct Told(std::vec::IntoIter<Vec<Value>>);

    impl Events for Told {
        fn next(&mut self, _longest: Duration) -> Option<Vec<Value>> {
            self.0.next()
        }
    }

    impl Transport for Script {
        fn send(&self, _call: &Call) -> Result<Value, Failure> {
            self.asked.lock().unwrap().push("list".to_owned());
            Ok(self.lists.lock().unwrap().remove(0))
        }

        fn watch(&self, call: &Call) -> Result<Box<dyn Events>, Failure> {
            let is = |(name, _): &&(String, String)| name == "resourceVersion";
            let from = call.query.iter().find(is).map(|(_, value)| value.clone()).unwrap();
            self.asked.lock().unwrap().push(format!("watch {from}"));
            Ok(Box::new(Told(self.watches.lock().unwrap().remove(0).into_iter())))
        }
    }

    fn pod(name: &str, revision: u64) -> Value {
        json!({"metadata": {"name": name, "uid": name, "resourceVersion": revision.to_string()}})
    }

    fn list(items: &[Value], revision: u64) -> Value {
        json!({"items": items, "metadata": {"resourceVersion": revision.to_string()}})
    }

    #[test]
    fn it_goes_on_where_a_watch_ended_and_begins_again_where_it_cannot() {
        let expired = json!({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}});
        let script = Arc::new(Script {
            lists: Mutex::new(vec![list(&[pod("x", 1)], 1), list(&[pod("y", 9)], 9)]),
            watches: Mutex::new(vec![
                vec![vec![json!({"type": "ADDED", "object": pod("y", 3)})]],
                vec![vec![expired]],
                vec![vec![json!({"type": "DELETED", "object": pod("y", 10)})]],
            ]),
            asked: Mutex::default(),
        });
        let client = Client::new(script.clone(), "test");
        let mut reflector = Reflector::new(client, kind("Pod"), &[]);
        let cache = Cache::default();
        let mut told = Vec::new();
        for _ in 0..7 {
            let changes = reflector.step(&cache, Duration::ZERO).unwrap();
            told.extend(changes.into_iter().map(|c| (c.key.name, c.now.is_some())));
        }
        let wanted = [("x", true), ("y", true), ("x", false), ("y", true), ("y", false)];
        assert_eq!(told, wanted.map(|(name, is)| (name.to_owned(), is)));
        let asked = script.asked.lock().unwrap().clone();
        assert_eq!(asked, ["list", "watch 1", "watch 3", "list", "watch 9"]);
        assert!(cache.list("Pod", "").is_empty());
    }
}
