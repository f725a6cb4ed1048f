//! Watches: what becomes of objects, as it happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use objects::resource::ResourceRef;
use serde_json::{Value, json};

use crate::audit::Over;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::form::Shown;
use crate::log::{Entry, Event, Log, LogError, Range, Revision};
use crate::select::Select;
use crate::target::Target;

/// How often a client that wants to is told how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// How long a watch goes on if the client does not say.
const TIMEOUT: Duration = Duration::from_mins(30);
/// What tells a client that it has seen everything that there was.
const END_OF_THE_BEGINNING: &str = "k8s.io/initial-events-end";

/// What a client wants to know of.
#[derive(Debug)]
pub struct Watch {
    log: Arc<dyn Log>,
    /// Who converts objects, where somebody has to be asked.
    converts: Option<Cluster>,
    resource: ResourceRef,
    /// In which version objects are shown.
    prefix: String,
    /// For a single object.
    key: Option<String>,
    select: Select,
    shown: Shown,
    /// The last revision that the client knows.
    seen: Revision,
    has_bookmarks: bool,
    ends: Instant,
    next_bookmark: Instant,
    /// What is to be told first.
    ahead: VecDeque<Value>,
    is_over: bool,
    /// Tells auditors when it is over.
    told: Option<Over>,
}

/// How a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// After what the client knows.
    After(Revision),
    /// With all that there is, and a mark behind it if that is wanted.
    WithAll { has_mark: bool },
}

/// What a client says of its watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) start: Start,
    pub(crate) has_bookmarks: bool,
    pub(crate) timeout: Option<Duration>,
}

impl Watch {
    pub(crate) fn new(
        cluster: &Cluster,
        target: &Target,
        select: Select,
        shown: Shown,
        wish: Wish,
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        let definition = target.resource.definition.as_ref();
        let converts = definition.is_some_and(|own| own.conversion().is_some());
        let mut watch = Self {
            log: cluster.log.clone(),
            converts: converts.then(|| cluster.clone()),
            resource: target.resource.clone(),
            prefix: target.prefix(),
            key: (!target.name.is_empty()).then(|| target.key()),
            select,
            shown,
            seen: 0,
            has_bookmarks: wish.has_bookmarks,
            ends: now + wish.timeout.unwrap_or(TIMEOUT),
            next_bookmark: now + BOOKMARK_EVERY,
            ahead: VecDeque::new(),
            is_over: false,
            told: None,
        };
        match wish.start {
            Start::After(revision) => watch.seen = revision,
            Start::WithAll { has_mark } => watch.begin(has_mark)?,
        }
        Ok(watch)
    }

    /// Has auditors told when it is over.
    pub(crate) fn tell_when_over(&mut self, told: Over) {
        self.told = Some(told);
    }

    fn begin(&mut self, has_mark: bool) -> Result<(), Failure> {
        let range = Range { prefix: &self.prefix, ..Range::default() };
        let page = self.log.range(range)?;
        let about = page.entries.iter().filter(|entry| self.is_about(&entry.key));
        let mut objects: Vec<Value> =
            about.map(|entry| self.shown.object(&self.resource, entry, entry.modified)).collect();
        if let Some(cluster) = &self.converts {
            cluster.convert(&self.resource, &mut objects)?;
        }
        let selected = objects.into_iter().filter(|object| self.select.matches(object));
        self.ahead = selected.map(|object| self.told("ADDED", &object)).collect();
        self.seen = page.revision;
        if has_mark {
            let annotations = json!({END_OF_THE_BEGINNING: "true"});
            self.ahead.push_back(self.bookmark(&annotations));
        }
        Ok(())
    }

    fn is_about(&self, key: &str) -> bool {
        self.key.as_deref().is_none_or(|own| own == key)
    }

    /// The next events, each a document; none if there were none for a while. `None` at the end.
    pub fn next(&mut self, longest: Duration) -> Option<Vec<Value>> {
        if !self.ahead.is_empty() {
            return Some(self.ahead.drain(..).collect());
        }
        let now = Instant::now();
        if self.is_over || now >= self.ends {
            return None;
        }
        let until = self.ends.min(self.next_bookmark);
        let wait = until.saturating_duration_since(now).min(longest);
        match self.log.events(&self.prefix, self.seen, wait) {
            Ok((events, seen)) => {
                self.seen = seen;
                let about = events.iter().filter(|event| self.is_about(event.key()));
                let told: Result<Vec<Option<Value>>, Failure> =
                    about.map(|event| self.tell(event)).collect();
                let mut told: Vec<Value> = match told {
                    Ok(told) => told.into_iter().flatten().collect(),
                    Err(failure) => return Some(self.fail(&failure)),
                };
                if self.has_bookmarks && Instant::now() >= self.next_bookmark {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    told.push(self.bookmark(&Value::Null));
                }
                Some(told)
            }
            Err(error) => {
                let failure = match error {
                    LogError::Compacted(first) => Failure::expired(format!(
                        "too old resource version: {} ({first})",
                        self.seen
                    )),
                    other => other.into(),
                };
                Some(self.fail(&failure))
            }
        }
    }

    /// Ends, and says why.
    fn fail(&mut self, failure: &Failure) -> Vec<Value> {
        self.is_over = true;
        vec![json!({"type": "ERROR", "object": failure.to_json()})]
    }

    fn object(&self, entry: &Entry, revision: Revision) -> Result<Value, Failure> {
        let mut object = self.shown.object(&self.resource, entry, revision);
        if let Some(cluster) = &self.converts {
            cluster.convert(&self.resource, std::slice::from_mut(&mut object))?;
        }
        Ok(object)
    }

    /// What an event is to a client that selects: an object that it no longer selects is gone.
    fn tell(&self, event: &Event) -> Result<Option<Value>, Failure> {
        let selected = |entry: &Option<Entry>| -> Result<Option<Value>, Failure> {
            let Some(entry) = entry else { return Ok(None) };
            let object = self.object(entry, event.revision)?;
            Ok(Some(object).filter(|object| self.select.matches(object)))
        };
        Ok(match (selected(&event.before)?, selected(&event.now)?) {
            (None, None) => None,
            (None, Some(now)) => Some(self.told("ADDED", &now)),
            (Some(_), Some(now)) => Some(self.told("MODIFIED", &now)),
            (Some(before), None) => Some(self.told("DELETED", &before)),
        })
    }

    fn told(&self, what: &str, object: &Value) -> Value {
        json!({"type": what, "object": self.shown.one(&self.resource, object)})
    }

    fn bookmark(&self, annotations: &Value) -> Value {
        let mut metadata =
            json!({"resourceVersion": self.seen.to_string(), "creationTimestamp": null});
        if !annotations.is_null() {
            metadata["annotations"] = annotations.clone();
        }
        let object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        json!({"type": "BOOKMARK", "object": self.shown.bookmark(&self.resource, object)})
    }
}
