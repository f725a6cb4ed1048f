//! Which objects name which others as their owners, by uid.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::list::items;
use crate::log::{Entry, Log, LogError, Range, Revision};

/// An index that follows the log, as far as somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Revision,
    keys: HashMap<String, BTreeSet<Arc<str>>>,
}

impl Owners {
    /// The keys of all that belongs to an object now.
    pub(crate) fn of(&self, log: &dyn Log, uid: &str) -> Result<Vec<Arc<str>>, LogError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.follow(log)?;
        Ok(state.keys.get(uid).into_iter().flatten().cloned().collect())
    }
}

impl State {
    fn follow(&mut self, log: &dyn Log) -> Result<(), LogError> {
        match log.events("", self.seen, Duration::ZERO) {
            Ok((events, seen)) => {
                for event in events {
                    if let Some(before) = &event.before {
                        self.forget(before);
                    }
                    if let Some(now) = &event.now {
                        self.note(now);
                    }
                }
                self.seen = seen;
                Ok(())
            }
            Err(LogError::Compacted(_)) => self.begin(log),
            Err(error) => Err(error),
        }
    }

    /// Reads everything: what has happened meanwhile is forgotten.
    fn begin(&mut self, log: &dyn Log) -> Result<(), LogError> {
        let page = log.range(Range::default())?;
        self.keys.clear();
        for entry in &page.entries {
            self.note(entry);
        }
        self.seen = page.revision;
        Ok(())
    }

    fn note(&mut self, entry: &Entry) {
        for uid in uids(entry) {
            self.keys.entry(uid).or_default().insert(entry.key.clone());
        }
    }

    fn forget(&mut self, entry: &Entry) {
        for uid in uids(entry) {
            if let Some(keys) = self.keys.get_mut(&uid) {
                keys.remove(&entry.key);
                if keys.is_empty() {
                    self.keys.remove(&uid);
                }
            }
        }
    }
}

/// The uids of an object's owners. Most have none, and need not be read.
fn uids(entry: &Entry) -> Vec<String> {
    const FIELD: &[u8] = b"\"ownerReferences\"";
    if !entry.value.windows(FIELD.len()).any(|window| window == FIELD) {
        return Vec::new();
    }
    let object: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
    let owners = items(&object["metadata"]["ownerReferences"]);
    owners.iter().filter_map(|owner| owner["uid"].as_str().map(str::to_owned)).collect()
}
