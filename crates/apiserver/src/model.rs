//! Clients at once against a cluster that is started again and again, at random under a seed. What they
//! were told must be one history: each write has its place in it, in the order in which they happened,
//! and watches tell all of it, once and in order.
//!
//! `CAIS_SEED` has one seed tried alone; threads still meet as they like.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asking::{ask, request};
use crate::log::{Log, Memory, Revision, Sqlite};
use crate::{Answer, Cluster, User};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const NAMES: [&str; 3] = ["m-a", "m-b", "m-c"];
const SEEDS: u64 = 4;
/// How often the cluster is started.
const RUNS: u64 = 3;
const CLIENTS: u64 = 4;
const STEPS: u64 = 30;
/// How long a watch waits for more before it looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// Numbers that are the same for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}

/// What was done to an object, or seen of it: when that began and ended, by a clock of ours.
#[derive(Debug, Clone)]
struct Done {
    name: String,
    kind: Kind,
    began: u64,
    ended: u64,
    revision: Revision,
    /// What it then held; of one that is gone, what it held before.
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Created,
    /// By somebody who knew the revision before.
    Replaced(Revision),
    Patched,
    Deleted,
    Read,
}

/// What a watch has told: which kind of event, of what, at which revision, with which value.
type Told = (String, String, Revision, String);

fn revision_of(object: &Value) -> Revision {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn value_of(object: &Value) -> String {
    object["data"]["v"].as_str().unwrap_or_default().to_owned()
}

/// One client's steps.
fn client(cluster: &Cluster, clock: &AtomicU64, seed: u64) -> Vec<Done> {
    let (mut dice, mut done) = (Dice(seed), Vec::new());
    let mut known: BTreeMap<&str, Value> = BTreeMap::new();
    for step in 0..STEPS {
        let name = NAMES[dice.roll(NAMES.len())];
        let (path, value) = (format!("{MAPS}/{name}"), format!("{seed}-{step}"));
        let body = json!({"metadata": {"name": name}, "data": {"v": value}});
        let began = clock.fetch_add(1, Ordering::SeqCst);
        let tell = |method: &str, path: &str, body: &Value| {
            ask(cluster, &User::administrator(), method, path, body)
        };
        let (kind, (code, object)) = match dice.roll(10) {
            0 | 1 => (Kind::Created, tell("POST", MAPS, &body)),
            2 | 3 => match known.get(name) {
                Some(old) => {
                    let mut new = old.clone();
                    new["data"]["v"] = value.into();
                    (Kind::Replaced(revision_of(old)), tell("PUT", &path, &new))
                }
                None => continue,
            },
            4 | 5 => (Kind::Patched, tell("PATCH", &path, &json!({"data": {"v": value}}))),
            6 => (Kind::Deleted, delete(cluster, &path)),
            _ => (Kind::Read, tell("GET", &path, &Value::Null)),
        };
        let ended = clock.fetch_add(1, Ordering::SeqCst);
        if code >= 300 {
            assert!(matches!(code, 404 | 409), "{kind:?} {name}: {object}");
            continue;
        }
        let (revision, value) = (revision_of(&object), value_of(&object));
        done.push(Done { name: name.to_owned(), kind, began, ended, revision, value });
        match kind {
            Kind::Deleted => drop(known.remove(name)),
            _ => drop(known.insert(name, object)),
        }
    }
    done
}

/// Removes an object: what it was, at the revision at which it went.
fn delete(cluster: &Cluster, path: &str) -> (u16, Value) {
    // What is there must be told, not only that it is gone: as a pod's removal is.
    let target = request(&User::administrator(), "DELETE", path, &Value::Null);
    let target_of = cluster.target(&target.parts).unwrap().unwrap();
    let options = crate::cluster::delete::Options::default();
    match cluster.delete(&target, &target_of, &options) {
        Ok((object, _)) => (200, object),
        Err(failure) => (failure.code, failure.to_json()),
    }
}

/// Follows a watch until nothing happens any more: what it tells, and where it is then.
fn follow(cluster: &Cluster, after: Revision, is_over: &AtomicBool) -> (Vec<Told>, Revision) {
    let path = format!("{MAPS}?watch=true&resourceVersion={after}");
    let asked = request(&User::administrator(), "GET", &path, &Value::Null);
    let Answer::Watch(mut watch) = cluster.answer(&asked) else { panic!("no watch") };
    let (mut told, mut at) = (Vec::new(), after);
    loop {
        let is_last = is_over.load(Ordering::SeqCst);
        let events = watch.next(if is_last { Duration::ZERO } else { LOOK }).unwrap();
        if is_last && events.is_empty() {
            return (told, at);
        }
        for event in events {
            let (kind, object) = (event["type"].as_str().unwrap(), &event["object"]);
            assert_ne!(kind, "ERROR", "{event}");
            at = revision_of(object);
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            told.push((kind.to_owned(), name, at, value_of(object)));
        }
    }
}

/// Which state each object has after each write, if they are one history.
fn check_history(done: &[Done]) -> Vec<Told> {
    let mut writes: Vec<&Done> = done.iter().filter(|one| one.kind != Kind::Read).collect();
    writes.sort_by_key(|one| one.revision);
    let mut now: BTreeMap<&str, (Revision, &str)> = BTreeMap::new();
    let mut events = Vec::new();
    for write in &writes {
        let (name, value) = (write.name.as_str(), write.value.as_str());
        let before = now.get(name).copied();
        let kind = match write.kind {
            Kind::Created => {
                assert_eq!(before, None, "made twice: {write:?}");
                "ADDED"
            }
            Kind::Replaced(known) => {
                assert_eq!(before.map(|(at, _)| at), Some(known), "lost update: {write:?}");
                "MODIFIED"
            }
            Kind::Patched => {
                assert!(before.is_some(), "patched what is not: {write:?}");
                "MODIFIED"
            }
            _ => {
                assert_eq!(before.map(|(_, value)| value), Some(value), "removed else: {write:?}");
                "DELETED"
            }
        };
        match write.kind {
            Kind::Deleted => drop(now.remove(name)),
            _ => drop(now.insert(name, (write.revision, value))),
        }
        events.push((kind.to_owned(), write.name.clone(), write.revision, write.value.clone()));
    }
    for pair in writes.windows(2) {
        assert!(pair[0].revision < pair[1].revision, "at once: {pair:?}");
    }
    check_order(done, &writes);
    events
}

/// What had ended before something began comes before it.
fn check_order(done: &[Done], writes: &[&Done]) {
    for one in done {
        let own = writes.iter().filter(|write| write.name == one.name);
        let is_read = one.kind == Kind::Read;
        for write in own {
            let is_same = write.revision == one.revision;
            if write.ended < one.began {
                let holds = write.revision < one.revision || is_read && is_same;
                assert!(holds, "{one:?} does not know of {write:?}");
            }
            if write.began > one.ended {
                assert!(one.revision < write.revision, "{one:?} knows of {write:?}");
            }
            if is_read && is_same {
                assert_eq!(one.value, write.value, "{one:?} is not {write:?}");
            }
        }
        let is_known = writes.iter().any(|write| write.revision == one.revision);
        assert!(is_known, "{one:?} is of no write");
    }
}

fn run(seed: u64, open: &dyn Fn() -> Arc<dyn Log>) {
    let (clock, mut done, mut told) = (AtomicU64::new(0), Vec::new(), Vec::new());
    let (mut begun, mut at) = (None, 0);
    for round in 0..RUNS {
        let cluster = Cluster::new(open()).unwrap();
        if begun.is_none() {
            (begun, at) = (Some(cluster.log.get("").1), cluster.log.get("").1);
        }
        let is_over = AtomicBool::new(false);
        let (cluster, is_over, clock) = (&cluster, &is_over, &clock);
        thread::scope(|scope| {
            let watch = scope.spawn(move || follow(cluster, at, is_over));
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let own = seed * 1000 + round * 100 + number + 1;
                    scope.spawn(move || client(cluster, clock, own))
                })
                .collect();
            clients.into_iter().for_each(|one| done.extend(one.join().unwrap()));
            is_over.store(true, Ordering::SeqCst);
            let (more, last) = watch.join().unwrap();
            told.extend(more);
            at = last;
        });
    }
    let history = check_history(&done);
    assert_eq!(told, history, "seed {seed}: a watch over all runs is not what has happened");
    // Who comes back from anywhere is told the rest.
    let cluster = Cluster::new(open()).unwrap();
    let mut dice = Dice(seed);
    for _ in 0..10 {
        let from = history[dice.roll(history.len())].2;
        let rest: Vec<Told> = history.iter().filter(|event| event.2 > from).cloned().collect();
        assert_eq!(follow(&cluster, from, &AtomicBool::new(true)).0, rest, "seed {seed}");
    }
}

fn seeds() -> Vec<u64> {
    let own = std::env::var("CAIS_SEED").ok().and_then(|seed| seed.parse().ok());
    own.map_or_else(|| (1..=SEEDS).collect(), |seed| vec![seed])
}

#[test]
fn what_clients_are_told_is_one_history() {
    for seed in seeds() {
        let log: Arc<dyn Log> = Arc::new(Memory::default());
        run(seed, &|| log.clone());
    }
}

#[test]
fn what_clients_are_told_is_one_history_on_disk() {
    for seed in seeds() {
        let directory = tempfile::tempdir().unwrap();
        let path: &Path = &directory.path().join("log");
        run(seed, &|| Arc::new(Sqlite::open(path).unwrap()));
    }
}
