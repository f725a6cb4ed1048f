//! The log in one file of SQLite. What is answered is on the disk.
//!
//! One thread writes: it takes whatever has come meanwhile, writes it in one transaction, and then
//! makes it visible and answers. So many writers share one sync, and nobody sees what a failure could
//! take back. Reads come from memory.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::memory::State;
use super::{Entry, Event, Log, LogError, Memory, Page, Range, Revision, Write};

/// Writes that share a transaction at most.
const BATCH_MAX: usize = 1000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entry (
        key TEXT PRIMARY KEY, created INTEGER NOT NULL, modified INTEGER NOT NULL, value BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS history (
        revision INTEGER PRIMARY KEY, key TEXT NOT NULL,
        created INTEGER, value BLOB,
        before_created INTEGER, before_modified INTEGER, before BLOB
    );
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// Keeps the log in a file.
#[derive(Debug)]
pub struct Sqlite {
    memory: Arc<Memory>,
    /// `None` once the log is being closed.
    queue: Mutex<Option<Sender<Request>>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Request {
    write: Write,
    answer: Sender<Result<Revision, LogError>>,
}

impl Sqlite {
    /// Opens a log, or makes it.
    ///
    /// # Errors
    /// [`LogError::Storage`] if the file is no log, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let storage = |error: rusqlite::Error| {
            LogError::Storage(format!("open `{}`: {error}", path.display()).into())
        };
        let connection = Connection::open(path).map_err(storage)?;
        let state = prepare(&connection).map_err(storage)?;
        let memory = Arc::new(Memory::new(state));
        let (queue, requests) = channel();
        let writer = Writer { connection, memory: memory.clone() };
        let thread = std::thread::Builder::new().name("log".to_owned());
        let writer = thread
            .spawn(move || writer.run(&requests))
            .map_err(|error| LogError::Storage(format!("start a thread: {error}").into()))?;
        Ok(Self { memory, queue: Mutex::new(Some(queue)), writer: Some(writer) })
    }
}

/// Has the file keep what it is told, and reads what it has.
fn prepare(connection: &Connection) -> rusqlite::Result<State> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    let number = |name: &str| {
        let found = connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
            row.get::<_, i64>(0)
        });
        match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(0),
            found => found.map(i64::unsigned_abs),
        }
    };
    let mut state = State { revision: number("revision")?, ..State::default() };
    let mut rows = connection.prepare("SELECT key, created, modified, value FROM entry")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let entry = Entry {
            key: row.get::<_, String>(0)?.into(),
            created: row.get::<_, i64>(1)?.unsigned_abs(),
            modified: row.get::<_, i64>(2)?.unsigned_abs(),
            value: row.get::<_, Vec<u8>>(3)?.into(),
        };
        state.entries.insert(entry.key.clone(), entry);
    }
    let mut rows = connection.prepare(
        "SELECT revision, key, created, value, before_created, before_modified, before
         FROM history ORDER BY revision",
    )?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let revision = row.get::<_, i64>(0)?.unsigned_abs();
        let key: Arc<str> = row.get::<_, String>(1)?.into();
        let entry = |created: Option<i64>, modified: Option<i64>, value: Option<Vec<u8>>| {
            Some(Entry {
                key: key.clone(),
                created: created?.unsigned_abs(),
                modified: modified?.unsigned_abs(),
                value: value?.into(),
            })
        };
        let now = entry(row.get(2)?, Some(revision.cast_signed()), row.get(3)?);
        let before = entry(row.get(4)?, row.get(5)?, row.get(6)?);
        state.remember(Event { revision, now, before });
    }
    // What is not in the history is forgotten.
    let first = state.history.front().map(|event| event.revision - 1);
    state.compacted = first.unwrap_or(state.revision);
    Ok(state)
}

struct Writer {
    connection: Connection,
    memory: Arc<Memory>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut batch = vec![first];
            while let Some(next) = (batch.len() < BATCH_MAX).then(|| requests.try_recv().ok()) {
                let Some(next) = next else { break };
                batch.push(next);
            }
            self.commit(batch);
        }
    }

    /// Writes what may be written, makes it visible, and answers everybody.
    fn commit(&mut self, batch: Vec<Request>) {
        let (mut events, mut answers) = (Vec::new(), Vec::with_capacity(batch.len()));
        {
            let state = self.memory.lock();
            // What this batch has done so far, on top of what everybody sees.
            let mut ahead = State { revision: state.revision, ..State::default() };
            for request in batch {
                let key = &request.write.key;
                let planned = {
                    let touched = events.iter().rev().find(|event: &&Event| event.key() == key);
                    let current = match touched {
                        Some(event) => event.now.clone(),
                        None => state.entries.get(key).cloned(),
                    };
                    ahead.entries.clear();
                    ahead.entries.extend(current.map(|entry| (entry.key.clone(), entry)));
                    ahead.plan(&request.write, ahead.revision + 1)
                };
                let answer = planned.map(|event| {
                    ahead.revision = event.revision;
                    events.push(event);
                    ahead.revision
                });
                answers.push((request.answer, answer));
            }
        }
        let written = self.write(&events);
        if written.is_ok() {
            self.memory.publish(events);
        }
        for (to, answer) in answers {
            let answer = match (&written, answer) {
                (Err(error), Ok(_)) => {
                    Err(LogError::Storage(format!("write the log: {error}").into()))
                }
                (_, answer) => answer,
            };
            // Whoever asked may be gone.
            let _ = to.send(answer);
        }
    }

    fn write(&mut self, events: &[Event]) -> rusqlite::Result<()> {
        let Some(last) = events.last() else { return Ok(()) };
        let transaction = self.connection.transaction()?;
        {
            let mut set = transaction.prepare_cached(
                "INSERT OR REPLACE INTO entry (key, created, modified, value) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut remove = transaction.prepare_cached("DELETE FROM entry WHERE key = ?1")?;
            let mut note = transaction
                .prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            for event in events {
                let key = &**event.key();
                let (now, before) = (event.now.as_ref(), event.before.as_ref());
                match now {
                    Some(entry) => set.execute(params![
                        key,
                        entry.created.cast_signed(),
                        entry.modified.cast_signed(),
                        &*entry.value
                    ])?,
                    None => remove.execute([key])?,
                };
                note.execute(params![
                    event.revision.cast_signed(),
                    key,
                    now.map(|entry| entry.created.cast_signed()),
                    now.map(|entry| &*entry.value),
                    before.map(|entry| entry.created.cast_signed()),
                    before.map(|entry| entry.modified.cast_signed()),
                    before.map(|entry| &*entry.value),
                ])?;
            }
            // What memory has forgotten by now.
            let forgotten = self.memory.lock().compacted.cast_signed();
            transaction
                .prepare_cached("DELETE FROM history WHERE revision <= ?1")?
                .execute([forgotten])?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('revision', ?1)")?
                .execute([last.revision.cast_signed()])?;
        }
        transaction.commit()
    }
}

impl Log for Sqlite {
    fn write(&self, write: Write) -> Result<Revision, LogError> {
        let (answer, answered) = channel();
        let closed = || LogError::Storage("the log is closed".into());
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or_else(closed)?.send(Request { write, answer }).map_err(|_| closed())?;
        answered.recv().map_err(|_| closed())?
    }

    fn get(&self, key: &str) -> (Option<Entry>, Revision) {
        self.memory.get(key)
    }

    fn range(&self, range: Range<'_>) -> Result<Page, LogError> {
        self.memory.range(range)
    }

    fn events(
        &self,
        prefix: &str,
        after: Revision,
        longest: Duration,
    ) -> Result<(Vec<Event>, Revision), LogError> {
        self.memory.events(prefix, after, longest)
    }

    fn compact(&self, until: Revision) {
        self.memory.compact(until);
    }
}

/// What was asked for is still written.
impl Drop for Sqlite {
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
