//! What is said to etcd, and what it answers: the fields of its `rpc.proto` and `kv.proto` that are
//! used here.

use std::sync::Arc;

use grpc::Status;
use grpc::proto::{Message, Value, fields};

use crate::log::{Entry, Revision};

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// `Compare.CompareTarget.MOD`
const MOD: u64 = 2;
/// `Event.EventType.DELETE`
const DELETE: u64 = 1;

/// What is behind all keys that begin so.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // There is no end.
    vec![0]
}

/// Keys from one on, as they were at a revision, or are.
pub(super) fn range(from: &[u8], end: &[u8], limit: u64, at: Option<Revision>) -> Message {
    Message::new().bytes(1, from).bytes(2, end).number(3, limit).number(4, at.unwrap_or_default())
}

/// Puts or removes a key if it was changed last at a revision, 0 if there is none; or else reads it.
pub(super) fn transaction(key: &[u8], expected: Revision, value: Option<&[u8]>) -> Message {
    let compare = Message::new().number(2, MOD).bytes(3, key).number(6, expected);
    let change = match value {
        Some(value) => Message::new().message(2, &Message::new().bytes(1, key).bytes(2, value)),
        None => Message::new().message(3, &Message::new().bytes(1, key)),
    };
    let read = Message::new().message(1, &Message::new().bytes(1, key));
    Message::new().message(1, &compare).message(2, &change).message(3, &read)
}

pub(super) fn compaction(revision: Revision) -> Message {
    Message::new().number(1, revision)
}

/// All changes below a prefix from a revision on.
pub(super) fn watch(prefix: &[u8], from: Revision) -> Message {
    let create = Message::new()
        .bytes(1, prefix)
        .bytes(2, &end_of(prefix))
        .number(3, from)
        // In pieces, where there is much.
        .number(8, 1);
    Message::new().message(1, &create)
}

/// Some keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) revision: Revision,
    pub(super) entries: Vec<Entry>,
    pub(super) has_more: bool,
}

pub(super) fn read_keys(message: &[u8], prefix: usize) -> Result<Keys, Status> {
    let mut keys = Keys::default();
    for field in fields(message) {
        match field? {
            (1, header) => keys.revision = revision(header)?,
            (2, entry) => keys.entries.push(read_entry(entry, prefix)?),
            (3, more) => keys.has_more = more.number() != 0,
            _ => {}
        }
    }
    Ok(keys)
}

/// How a transaction has ended: at which revision, and what is there if it was not done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) revision: Revision,
    pub(super) is_done: bool,
    pub(super) found: Option<Entry>,
}

pub(super) fn read_done(message: &[u8], prefix: usize) -> Result<Done, Status> {
    let mut done = Done::default();
    for field in fields(message) {
        match field? {
            (1, header) => done.revision = revision(header)?,
            (2, succeeded) => done.is_done = succeeded.number() != 0,
            (3, response) => {
                for field in fields(response.bytes()) {
                    if let (1, range) = field? {
                        done.found = read_keys(range.bytes(), prefix)?.entries.pop();
                    }
                }
            }
            _ => {}
        }
    }
    Ok(done)
}

/// What a watch tells.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) is_over: bool,
    pub(super) changes: Vec<Change>,
}

/// A key that was changed, and what it holds now, if anything.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: Arc<str>,
    pub(super) revision: Revision,
    pub(super) now: Option<Entry>,
}

pub(super) fn read_told(message: &[u8], prefix: usize) -> Result<Told, Status> {
    let mut told = Told::default();
    for field in fields(message) {
        match field? {
            (4, is_over) => told.is_over = is_over.number() != 0,
            (11, event) => told.changes.push(read_change(event, prefix)?),
            _ => {}
        }
    }
    Ok(told)
}

fn read_change(event: Value<'_>, prefix: usize) -> Result<Change, Status> {
    let (mut is_gone, mut entry) = (false, None);
    for field in fields(event.bytes()) {
        match field? {
            (1, kind) => is_gone = kind.number() == DELETE,
            (2, found) => entry = Some(read_entry(found, prefix)?),
            _ => {}
        }
    }
    let entry = entry.unwrap_or_else(|| Entry {
        key: "".into(),
        value: Arc::from([]),
        created: 0,
        modified: 0,
    });
    let (key, revision) = (entry.key.clone(), entry.modified);
    Ok(Change { key, revision, now: (!is_gone).then_some(entry) })
}

fn read_entry(value: Value<'_>, prefix: usize) -> Result<Entry, Status> {
    let mut entry = Entry { key: "".into(), value: Arc::from([]), created: 0, modified: 0 };
    for field in fields(value.bytes()) {
        match field? {
            (1, key) => entry.key = String::from_utf8_lossy(&key.bytes()[prefix..]).into(),
            (2, revision) => entry.created = revision.number(),
            (3, revision) => entry.modified = revision.number(),
            (5, value) => entry.value = value.bytes().into(),
            _ => {}
        }
    }
    Ok(entry)
}

fn revision(header: Value<'_>) -> Result<Revision, Status> {
    for field in fields(header.bytes()) {
        if let (3, revision) = field? {
            return Ok(revision.number());
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_others_begin() {
        assert_eq!(end_of(b"/registry/"), b"/registry0");
        assert_eq!(end_of(b"a\xff"), b"b");
        assert_eq!(end_of(b"\xff\xff"), b"\0");
    }
}
