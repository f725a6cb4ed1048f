//! The log in memory: what the others answer from, too.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Entry, Event, Log, LogError, Page, Range, Revision, VALUE_BYTES_MAX, Write};

/// Events that are kept for those who come back for them.
const HISTORY_MAX: usize = 10_000;
/// What their values may take together.
const HISTORY_BYTES_MAX: usize = 64 << 20;

/// Keeps everything in memory, and nothing beyond the process.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
    changed: Condvar,
}

/// Everything there is, and what happened of late.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) revision: Revision,
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    pub(super) history: VecDeque<Event>,
    /// The bytes of the values in it.
    pub(super) history_bytes: usize,
    /// The last revision that is forgotten.
    pub(super) compacted: Revision,
}

impl State {
    /// What a write would do, if it may.
    pub(super) fn plan(&self, write: &Write, revision: Revision) -> Result<Event, LogError> {
        if write.value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            return Err(LogError::TooLarge);
        }
        let before = self.entries.get(&*write.key).cloned();
        if before.as_ref().map(|entry| entry.modified) != write.expected {
            return Err(LogError::Conflict(before));
        }
        let now = write.value.clone().map(|value| Entry {
            key: write.key.clone(),
            value,
            created: before.as_ref().map_or(revision, |entry| entry.created),
            modified: revision,
        });
        match (&now, &before) {
            // Nobody removes what is not there.
            (None, None) => Err(LogError::Conflict(None)),
            _ => Ok(Event { revision, now, before }),
        }
    }

    pub(super) fn apply(&mut self, event: Event) {
        self.revision = event.revision;
        match &event.now {
            Some(entry) => {
                self.entries.insert(entry.key.clone(), entry.clone());
            }
            None => {
                self.entries.remove(event.key());
            }
        }
        self.remember(event);
    }

    /// Adds an event to the history, of which the oldest part goes if it is too much.
    pub(super) fn remember(&mut self, event: Event) {
        self.history_bytes += bytes(&event);
        self.history.push_back(event);
        while self.history.len() > HISTORY_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= bytes(&event);
            self.compacted = event.revision;
        }
    }

    pub(super) fn compact(&mut self, until: Revision) {
        while self.history.front().is_some_and(|event| event.revision < until) {
            self.forget_first();
        }
    }

    fn range(&self, range: &Range<'_>) -> Result<Page, LogError> {
        let revision = range.at.unwrap_or(self.revision);
        if revision > self.revision {
            return Err(LogError::Future(revision));
        }
        if revision < self.compacted {
            return Err(LogError::Compacted(self.compacted));
        }
        let past = self.undone(range.prefix, revision);
        let from = match range.after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(range.prefix),
        };
        let below = self.entries.range::<str, _>((from, Bound::Unbounded));
        let current = below.map(|(_, entry)| entry).take_while(|e| e.key.starts_with(range.prefix));
        let mut found: Vec<&Entry> =
            current.filter(|entry| !past.contains_key(&*entry.key)).collect();
        let is_wanted = |entry: &&Entry| range.after.is_none_or(|after| *entry.key > *after);
        found.extend(past.values().copied().flatten().filter(is_wanted));
        found.sort_by(|a, b| a.key.cmp(&b.key));
        let limit = if range.limit == 0 { found.len() } else { range.limit };
        let remaining = found.len().saturating_sub(limit);
        let entries = found.into_iter().take(limit).cloned().collect();
        Ok(Page { entries, revision, remaining })
    }

    /// What keys held at a revision that have changed since.
    fn undone(&self, prefix: &str, revision: Revision) -> BTreeMap<&str, Option<&Entry>> {
        let since = self.history.iter().rev().take_while(|event| event.revision > revision);
        let below = since.filter(|event| event.key().starts_with(prefix));
        below.map(|event| (&**event.key(), event.before.as_ref())).collect()
    }

    fn events(&self, prefix: &str, after: Revision) -> Result<Vec<Event>, LogError> {
        if after < self.compacted {
            return Err(LogError::Compacted(self.compacted));
        }
        let first = self.history.partition_point(|event| event.revision <= after);
        let since = self.history.range(first..);
        Ok(since.filter(|event| event.key().starts_with(prefix)).cloned().collect())
    }
}

fn bytes(event: &Event) -> usize {
    [&event.now, &event.before].into_iter().flatten().map(|entry| entry.value.len()).sum()
}

impl Memory {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A thread that panicked while it held the lock has broken nothing: changes are made whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts everything in the place of what there was, whose past is forgotten.
    pub(super) fn replace(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    /// Makes changes visible that are kept elsewhere: what keys hold now, and since when.
    pub(super) fn publish_changes(
        &self,
        changes: impl Iterator<Item = (Arc<str>, Revision, Option<Entry>)>,
    ) {
        let mut state = self.lock();
        for (key, revision, now) in changes {
            let before = state.entries.get(&key).cloned();
            // What has come and gone while nobody looked is nothing.
            if now.is_some() || before.is_some() {
                state.apply(Event { revision, now, before });
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until a revision is visible, at most for a time.
    pub(super) fn wait_for(&self, revision: Revision, longest: Duration) {
        let is_behind = |state: &mut State| state.revision < revision;
        // It ends in any case.
        drop(self.changed.wait_timeout_while(self.lock(), longest, is_behind));
    }

    /// Makes events visible that are kept already.
    pub(super) fn publish(&self, events: Vec<Event>) {
        let mut state = self.lock();
        events.into_iter().for_each(|event| state.apply(event));
        drop(state);
        self.changed.notify_all();
    }
}

impl Log for Memory {
    fn write(&self, write: Write) -> Result<Revision, LogError> {
        let mut state = self.lock();
        let event = state.plan(&write, state.revision + 1)?;
        let revision = event.revision;
        state.apply(event);
        drop(state);
        self.changed.notify_all();
        Ok(revision)
    }

    fn get(&self, key: &str) -> (Option<Entry>, Revision) {
        let state = self.lock();
        (state.entries.get(key).cloned(), state.revision)
    }

    fn range(&self, range: Range<'_>) -> Result<Page, LogError> {
        self.lock().range(&range)
    }

    fn events(
        &self,
        prefix: &str,
        after: Revision,
        longest: Duration,
    ) -> Result<(Vec<Event>, Revision), LogError> {
        let deadline = Instant::now() + longest;
        let mut state = self.lock();
        // What was looked through need not be again.
        let mut seen = after;
        loop {
            let events = state.events(prefix, seen)?;
            seen = state.revision.max(seen);
            let left = deadline.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() {
                return Ok((events, seen));
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn compact(&self, until: Revision) {
        self.lock().compact(until);
    }
}
