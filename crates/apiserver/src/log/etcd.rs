//! The log in etcd (v3, over gRPC). What is answered is in a majority of its servers.
//!
//! Everything below the prefix is in memory, too, as a watch tells it: reads and watches are answered
//! from there, and a write waits until it is. So several servers may have one log; what another one
//! has written is seen as soon as etcd tells. Revisions are etcd's own. There is a gap wherever
//! something else is written, or several servers write.

mod endpoint;
mod wire;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use grpc::{Code, Connection, Status};

use self::endpoint::{Endpoints, unusable};
use self::wire::{Done, Keys};
use super::memory::State;
use super::{Entry, Event, Log, LogError, Memory, Page, Range, Revision, VALUE_BYTES_MAX, Write};

pub use self::endpoint::EtcdOptions;

/// Keys that are asked for at a time.
const KEYS_AT_A_TIME: u64 = 500;
/// How many servers are asked to write where connections end.
const TRIES: usize = 3;
/// How long a write waits to be seen that is done already.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// How often etcd is told to forget what was before the last time (apiserver,
/// `--etcd-compaction-interval`).
const FORGET_EVERY: Duration = Duration::from_mins(5);
/// How soon a watch that has ended is begun again.
const AGAIN: Duration = Duration::from_millis(100);

/// Keeps the log in etcd.
#[derive(Debug)]
pub struct Etcd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    memory: Memory,
    endpoints: Endpoints,
    prefix: String,
    is_closed: Mutex<bool>,
    closing: Condvar,
}

impl Etcd {
    /// Connects to etcd, and reads what is there.
    ///
    /// # Errors
    /// [`LogError::Storage`] if no server is reached, or what is said of them is no good.
    pub fn open(options: &EtcdOptions) -> Result<Self, LogError> {
        let endpoints = Endpoints::new(options)?;
        let prefix = options.prefix.trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared {
            memory: Memory::default(),
            endpoints,
            prefix,
            is_closed: Mutex::new(false),
            closing: Condvar::new(),
        });
        shared.load().map_err(|status| unusable(status.message))?;
        let start = |name: &str, run: fn(&Shared)| {
            let own = shared.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            let failed = |error| LogError::Storage(format!("start a thread: {error}").into());
            thread.spawn(move || run(&own)).map_err(failed)
        };
        let threads = vec![start("log", Shared::follow)?, start("compact", Shared::forget)?];
        Ok(Self { shared, threads })
    }
}

/// Nobody is left who would be told.
impl Drop for Etcd {
    fn drop(&mut self) {
        *self.shared.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.closing.notify_all();
        self.shared.endpoints.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    /// Waits, unless the log is closed meanwhile: whether it is not.
    fn pause(&self, longest: Duration) -> bool {
        let closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.closing.wait_timeout_while(closed, longest, |closed| !*closed);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Reads everything as it is now. Its past is not asked for: whoever comes back for that begins
    /// anew, as with upstream's server after a restart.
    fn load(&self) -> Result<(), Status> {
        let connection = self.endpoints.connection()?;
        let mut state = State::default();
        let (mut from, mut limit, mut at) = (self.key("/"), KEYS_AT_A_TIME, None);
        loop {
            let page = match self.keys(&connection, &from, limit, at) {
                // The page is too large, not the key.
                Err(status) if status.code == Code::ResourceExhausted && limit > 1 => {
                    limit /= 4;
                    continue;
                }
                page => page?,
            };
            let revision = *at.get_or_insert(page.revision);
            if let Some(last) = page.entries.last() {
                from = self.key(&last.key);
                from.push(0);
            }
            state.entries.extend(page.entries.into_iter().map(|entry| (entry.key.clone(), entry)));
            if !page.has_more {
                (state.revision, state.compacted) = (revision, revision);
                self.memory.replace(state);
                return Ok(());
            }
        }
    }

    fn keys(
        &self,
        connection: &Connection,
        from: &[u8],
        limit: u64,
        at: Option<Revision>,
    ) -> Result<Keys, Status> {
        let end = wire::end_of(&self.key("/"));
        let answer = connection.ask(wire::RANGE, &wire::range(from, &end, limit.max(1), at))?;
        wire::read_keys(&answer, self.prefix.len())
    }

    /// Passes on what is changed, until the log is closed.
    fn follow(&self) {
        while self.pause(Duration::ZERO) {
            let outcome = self.endpoints.connection().and_then(|own| self.follow_on(&own));
            match outcome {
                // What would come next is forgotten: everything is read anew.
                Ok(()) => drop(self.load()),
                Err(_) => drop(self.pause(AGAIN)),
            }
        }
    }

    /// Passes on what is changed, until the connection ends, or etcd ends the watch.
    fn follow_on(&self, connection: &Connection) -> Result<(), Status> {
        let stream = connection.call(wire::WATCH, &[])?;
        let from = self.memory.lock().revision + 1;
        stream.send(&wire::watch(&self.key("/"), from))?;
        while let Some(message) = stream.receive()? {
            let told = wire::read_told(&message, self.prefix.len())?;
            self.memory.publish_changes(
                told.changes.into_iter().map(|change| (change.key, change.revision, change.now)),
            );
            if told.is_over {
                return Ok(());
            }
        }
        Err(Status::new(Code::Unavailable, "etcd has ended the watch"))
    }

    /// Has etcd forget, every now and then, what was before the last time.
    fn forget(&self) {
        let mut last = self.memory.lock().revision;
        while self.pause(FORGET_EVERY) {
            self.compact(last);
            last = self.memory.lock().revision;
        }
    }

    /// Has etcd forget what was before a revision; another server may have done so.
    fn compact(&self, until: Revision) {
        if let Ok(connection) = self.endpoints.connection() {
            let _ = connection.ask(wire::COMPACT, &wire::compaction(until));
        }
    }

    /// Changes a key. Where the connection ends before the answer, another server is asked: what has
    /// become of the key says whether it was done.
    fn change(&self, write: &Write) -> Result<Done, Status> {
        let expected = write.expected.unwrap_or_default();
        let message = wire::transaction(&self.key(&write.key), expected, write.value.as_deref());
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let connection = self.endpoints.connection()?;
            match connection.ask(wire::TXN, &message) {
                Ok(answer) => {
                    let done = wire::read_done(&answer, self.prefix.len())?;
                    let is_first = tries + 1 == TRIES;
                    return Ok(if is_first { done } else { done.judged_by(write) });
                }
                Err(status) if status.code == Code::Unavailable && tries > 0 => {
                    self.endpoints.turn_away(&connection);
                }
                Err(status) => return Err(status),
            }
        }
    }
}

impl Done {
    /// Done, if the key is as a writer wanted it who does not know whether he has written: he has, or
    /// somebody else has done the same.
    fn judged_by(self, write: &Write) -> Self {
        let found = self.found.as_ref();
        if self.is_done || found.map(|found| &found.value) != write.value.as_ref() {
            return self;
        }
        let revision = found.map_or(self.revision, |found| found.modified);
        Self { revision, is_done: true, found: None }
    }
}

impl Log for Etcd {
    fn write(&self, write: Write) -> Result<Revision, LogError> {
        if write.value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            return Err(LogError::TooLarge);
        }
        if write.value.is_none() && write.expected.is_none() {
            return Err(LogError::Conflict(self.get(&write.key).0));
        }
        let done = self.shared.change(&write).map_err(|status| {
            match status.message.contains("request is too large") {
                true => LogError::TooLarge,
                false => LogError::Storage(format!("write to etcd: {}", status.message).into()),
            }
        })?;
        // Who is told is to find what he was told.
        let seen = match (done.is_done, &done.found) {
            (true, _) => done.revision,
            (false, found) => found.as_ref().map_or(0, |found| found.modified),
        };
        self.shared.memory.wait_for(seen, SEEN_WITHIN);
        match done.is_done {
            true => Ok(done.revision),
            false => Err(LogError::Conflict(done.found)),
        }
    }

    fn get(&self, key: &str) -> (Option<Entry>, Revision) {
        self.shared.memory.get(key)
    }

    fn range(&self, range: Range<'_>) -> Result<Page, LogError> {
        self.shared.memory.range(range)
    }

    fn events(
        &self,
        prefix: &str,
        after: Revision,
        longest: Duration,
    ) -> Result<(Vec<Event>, Revision), LogError> {
        self.shared.memory.events(prefix, after, longest)
    }

    fn compact(&self, until: Revision) {
        self.shared.memory.compact(until);
        self.shared.compact(until.saturating_sub(1));
    }
}
