//! What every log does, run over each.

mod etcd;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Event, Log, LogError, Memory, Range, Revision, Sqlite, Write};

/// Runs a test over every log.
fn over_each(test: impl Fn(&dyn Log)) {
    test(&Memory::default());
    let directory = tempfile::tempdir().unwrap();
    test(&Sqlite::open(&directory.path().join("log")).unwrap());
    let server = etcd::Server::start(etcd::Speaks::Plainly);
    test(&etcd::FromZero::open(&server));
}

fn write(
    log: &dyn Log,
    key: &str,
    expected: Option<Revision>,
    value: &str,
) -> Result<Revision, LogError> {
    let value = (!value.is_empty()).then(|| Arc::from(value.as_bytes()));
    log.write(Write { key: key.into(), expected, value })
}

fn keys(log: &dyn Log, range: Range<'_>) -> Vec<String> {
    log.range(range).unwrap().entries.iter().map(|entry| entry.key.to_string()).collect()
}

fn below(prefix: &str) -> Range<'_> {
    Range { prefix, ..Range::default() }
}

fn since(log: &dyn Log, prefix: &str, after: Revision) -> Vec<Event> {
    log.events(prefix, after, Duration::ZERO).unwrap().0
}

#[test]
fn who_writes_must_know_what_is_there() {
    over_each(|log| {
        assert_eq!(write(log, "/a", None, "1").unwrap(), 1);
        let Err(LogError::Conflict(Some(found))) = write(log, "/a", None, "2") else { panic!() };
        assert_eq!((found.modified, &*found.value), (1, &b"1"[..]));
        assert_eq!(write(log, "/a", Some(1), "2").unwrap(), 2);
        assert!(matches!(write(log, "/a", Some(1), "3"), Err(LogError::Conflict(Some(_)))));
        assert!(matches!(write(log, "/b", Some(1), "3"), Err(LogError::Conflict(None))));
        assert_eq!(write(log, "/a", Some(2), "").unwrap(), 3);
        assert!(matches!(write(log, "/a", None, ""), Err(LogError::Conflict(None))));
        assert_eq!(log.get("/a"), (None, 3));
        assert_eq!(write(log, "/a", None, "4").unwrap(), 4);
        let (entry, revision) = log.get("/a");
        let entry = entry.unwrap();
        assert_eq!((entry.created, entry.modified, revision), (4, 4, 4));
    });
}

#[test]
fn pages_are_of_one_moment() {
    over_each(|log| {
        for key in ["/p/a", "/p/b", "/p/c", "/q/a"] {
            let _ = write(log, key, None, "1").unwrap();
        }
        let page = log.range(Range { limit: 2, ..below("/p/") }).unwrap();
        assert_eq!((page.entries.len(), page.remaining, page.revision), (2, 1, 4));
        // What happens meanwhile is not on the next page.
        let _ = write(log, "/p/bb", None, "1").unwrap();
        let _ = write(log, "/p/c", Some(3), "").unwrap();
        let next = Range { after: Some("/p/b"), at: Some(4), ..below("/p/") };
        assert_eq!(keys(log, next), ["/p/c"]);
        assert_eq!(keys(log, below("/p/")), ["/p/a", "/p/b", "/p/bb"]);
        assert_eq!(keys(log, Range { at: Some(1), ..below("/p/") }), ["/p/a"]);
        let future = log.range(Range { at: Some(99), ..below("/") });
        assert!(matches!(future, Err(LogError::Future(99))));
        log.compact(6);
        let old = log.range(Range { at: Some(4), ..below("/") });
        assert!(matches!(old, Err(LogError::Compacted(5))), "{old:?}");
        assert!(matches!(log.events("/", 4, Duration::ZERO), Err(LogError::Compacted(5))));
        assert_eq!(since(log, "/", 5).len(), 1);
    });
}

#[test]
fn what_is_kept_of_the_past_is_bounded() {
    over_each(|log| {
        let long = "x".repeat(super::VALUE_BYTES_MAX);
        let mut last = None;
        for _ in 0..40 {
            last = Some(write(log, "/a", last, &long).unwrap());
        }
        assert!(matches!(log.events("/", 0, Duration::ZERO), Err(LogError::Compacted(_))));
        assert_eq!(since(log, "/", 39).len(), 1);
        let longer = "x".repeat(super::VALUE_BYTES_MAX + 1);
        assert!(matches!(write(log, "/b", None, &longer), Err(LogError::TooLarge)));
    });
}

#[test]
fn events_wake_whoever_waits() {
    over_each(|log| {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.events("/a", 0, Duration::from_mins(2)).unwrap());
            let _ = write(log, "/b", None, "1").unwrap();
            let _ = write(log, "/a", None, "1").unwrap();
            let (events, seen) = waiting.join().unwrap();
            assert_eq!((events.len(), events[0].revision, seen), (1, 2, 2));
        });
        assert_eq!(log.events("/c", 0, Duration::ZERO).unwrap(), (Vec::new(), 2));
    });
}

#[test]
fn writers_at_once_do_not_disturb_each_other() {
    over_each(|log| {
        std::thread::scope(|scope| {
            for writer in 0..8 {
                scope.spawn(move || {
                    let own = format!("/own/{writer}");
                    let mut last = write(log, &own, None, "0").unwrap();
                    for _ in 0..20 {
                        last = write(log, &own, Some(last), "1").unwrap();
                        // One counter for all: somebody else may be first.
                        loop {
                            let (entry, _) = log.get("/shared");
                            let count = entry.as_ref().map_or(0, |e| e.value.len());
                            let expected = entry.map(|entry| entry.modified);
                            if write(log, "/shared", expected, &"x".repeat(count + 1)).is_ok() {
                                break;
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(log.get("/shared").0.unwrap().value.len(), 160);
        let events = since(log, "", 0);
        let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
        assert_eq!(revisions, (1..=8 * 21 + 160).collect::<Vec<_>>());
    });
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Sqlite::open(&path).unwrap();
    let _ = write(&log, "/a", None, "1").unwrap();
    let _ = write(&log, "/b", None, "1").unwrap();
    let _ = write(&log, "/a", Some(1), "2").unwrap();
    let _ = write(&log, "/b", Some(2), "").unwrap();
    let before = since(&log, "", 0);
    drop(log);
    let log = Sqlite::open(&path).unwrap();
    assert_eq!(since(&log, "", 0), before);
    let (entry, revision) = log.get("/a");
    let entry = entry.unwrap();
    assert_eq!((entry.created, entry.modified, revision), (1, 3, 4));
    assert_eq!(write(&log, "/b", None, "3").unwrap(), 5);
    std::fs::write(directory.path().join("other"), "no database at all, by any means").unwrap();
    assert!(matches!(Sqlite::open(&directory.path().join("other")), Err(LogError::Storage(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A watch over any part is exactly what a model says has happened there.
    #[test]
    fn events_are_all_that_has_happened(steps in proptest::collection::vec((0..6_u8, 0..3_u8), 0..60)) {
        let log = Memory::default();
        let mut model: BTreeMap<String, (Revision, String)> = BTreeMap::new();
        let mut happened = Vec::new();
        for (key, what) in steps {
            let key = format!("/{}/{key}", key % 2);
            let expected = model.get(&key).map(|(revision, _)| *revision);
            let value = ["", "x", "y"][usize::from(what)];
            match write(&log, &key, expected, value) {
                Ok(revision) if value.is_empty() => {
                    model.remove(&key);
                    happened.push((revision, key));
                }
                Ok(revision) => {
                    model.insert(key.clone(), (revision, value.to_owned()));
                    happened.push((revision, key));
                }
                Err(_) => prop_assert!(expected.is_none() && value.is_empty()),
            }
        }
        for prefix in ["", "/0/", "/1/", "/2/"] {
            for after in 0..=happened.len() as u64 {
                let expected: Vec<_> = happened
                    .iter()
                    .filter(|(revision, key)| *revision > after && key.starts_with(prefix))
                    .cloned()
                    .collect();
                let seen: Vec<_> = since(&log, prefix, after)
                    .into_iter()
                    .map(|event| (event.revision, event.key().to_string()))
                    .collect();
                prop_assert_eq!(seen, expected);
            }
        }
        let there: Vec<_> = model.keys().cloned().collect();
        prop_assert_eq!(keys(&log, below("")), there);
    }
}
