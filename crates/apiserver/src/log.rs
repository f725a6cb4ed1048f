//! The revision log: every change of cluster state, in one order.
//!
//! A key has a value and two revisions: when it was made, and when it was last changed. Whoever
//! writes says what is there now; if something else is, nothing is written. Revisions grow by one
//! with each change of the whole log.

mod etcd;
mod memory;
mod sqlite;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use etcd::{Etcd, EtcdOptions};
pub use memory::Memory;
pub use sqlite::Sqlite;

/// Longest value, in bytes: what etcd takes (`--max-request-bytes`).
pub const VALUE_BYTES_MAX: usize = 3 << 19;

/// A place in the order of all changes. The first change is 1.
pub type Revision = u64;

/// A key with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `/pods/default/web`, for example.
    pub key: Arc<str>,
    /// What was written.
    pub value: Arc<[u8]>,
    /// When the key was made.
    pub created: Revision,
    /// When it was last changed.
    pub modified: Revision,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub revision: Revision,
    /// What it holds now; `None` if it is gone.
    pub now: Option<Entry>,
    /// What it held before; `None` if it is new.
    pub before: Option<Entry>,
}

impl Event {
    /// The key.
    ///
    /// # Panics
    /// Never: an event has one of both.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        let entry = self.now.as_ref().or(self.before.as_ref());
        &entry.expect("something is, or was").key
    }
}

/// What a writer wants.
#[derive(Debug, Clone)]
pub struct Write {
    /// The key.
    pub key: Arc<str>,
    /// When it was last changed, as the writer knows it; `None` if there is no such key.
    pub expected: Option<Revision>,
    /// What it shall hold; `None` if it shall go.
    pub value: Option<Arc<[u8]>>,
}

/// Some entries below a prefix, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The state of which revision this is.
    pub revision: Revision,
    /// How many further ones there are.
    pub remaining: usize,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct Range<'a> {
    /// What their keys begin with.
    pub prefix: &'a str,
    /// Only those behind this key.
    pub after: Option<&'a str>,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// As they were then; `None` for now.
    pub at: Option<Revision>,
}

/// Why the log did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Something else is there than the writer expected: this, or nothing.
    #[error("the key was changed meanwhile")]
    Conflict(Option<Entry>),
    /// What was before this revision is forgotten.
    #[error("what was before revision {0} is forgotten")]
    Compacted(Revision),
    /// A revision that has not come yet.
    #[error("revision {0} has not come yet")]
    Future(Revision),
    /// A value that is longer than [`VALUE_BYTES_MAX`].
    #[error("a value is longer than {VALUE_BYTES_MAX} bytes")]
    TooLarge,
    /// What keeps the log on disk failed.
    #[error("{0}")]
    Storage(Arc<str>),
}

/// Keeps cluster state. All implementations pass one suite of tests.
pub trait Log: Send + Sync + std::fmt::Debug {
    /// Makes, changes or removes a key. An answer means that it will be so after any failure that the
    /// log is made for.
    ///
    /// # Errors
    /// [`LogError::Conflict`], [`LogError::TooLarge`] and [`LogError::Storage`].
    fn write(&self, write: Write) -> Result<Revision, LogError>;

    /// The entry of a key, and the revision of the whole log.
    fn get(&self, key: &str) -> (Option<Entry>, Revision);

    /// Entries below a prefix.
    ///
    /// # Errors
    /// [`LogError::Compacted`] and [`LogError::Future`].
    fn range(&self, range: Range<'_>) -> Result<Page, LogError>;

    /// Events below a prefix after a revision, without a gap, in order. Waits for the first one, at
    /// most for a time; the revision up to which there are no others is returned with them.
    ///
    /// # Errors
    /// [`LogError::Compacted`] if some are forgotten already.
    fn events(
        &self,
        prefix: &str,
        after: Revision,
        longest: Duration,
    ) -> Result<(Vec<Event>, Revision), LogError>;

    /// Forgets what was before a revision.
    fn compact(&self, until: Revision);
}
