//! What this process knows of each pod, and who works on it.
//!
//! A pod has a thread as long as there is something to do for it, and none otherwise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Key, Object};
use serde_json::Value;

use crate::backoff::Backoff;
use crate::host::Host;
use crate::probe::Prober;
use crate::volume::Ready;

/// A pod on this host.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) uid: String,
    pub(crate) key: Key,
    turn: Mutex<Turn>,
    /// Only whoever works on the pod looks at it.
    pub(crate) work: Mutex<Work>,
    /// What others find out about its containers, too: by their names.
    facts: Mutex<BTreeMap<String, Facts>>,
    is_stale: AtomicBool,
    /// Why its node ends it, if it does.
    evicted: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Turn {
    works: bool,
    again: bool,
}

/// What is known of a pod beside what the engine has.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// As the API has, or had it last.
    pub(crate) object: Option<Object>,
    /// Whether the API has it no more.
    pub(crate) is_gone: bool,
    /// The id of what holds its namespaces, running or not.
    pub(crate) sandbox: Option<String>,
    pub(crate) parts: BTreeMap<String, PartWork>,
    /// Its volumes, once all are ready.
    pub(crate) volumes: Option<Vec<(String, Ready)>>,
    /// When tokens among its volumes are to be replaced (ms); 0 for never.
    pub(crate) renew_at: i64,
    /// Nothing is begun before this time (ms), since something failed.
    pub(crate) not_before: i64,
    pub(crate) failures: Backoff,
    /// What was last reported.
    pub(crate) reported: Value,
    /// Why it does not have the resources that it asks for, yet.
    pub(crate) resize: Option<crate::resize::Pending>,
    /// Whether everything of it is removed.
    pub(crate) is_over: bool,
    /// Why it was ended by this host: reason and message.
    pub(crate) ended: Option<(String, String)>,
}

/// What is known of a container beside what the engine has.
#[derive(Debug, Default)]
pub(crate) struct PartWork {
    /// Ids of its runs that are there still, the oldest first.
    pub(crate) runs: Vec<String>,
    /// Its next run's number, which is how often it was started again.
    pub(crate) next: u32,
    /// Why it does not run: reason and message.
    pub(crate) waiting: Option<(String, String)>,
    /// It is not started before (ms).
    pub(crate) not_before: i64,
    pub(crate) backoff: Backoff,
    pub(crate) pull: Backoff,
    /// The run whose end was taken into account.
    pub(crate) ended: String,
    /// Whether that it waits is to be told.
    pub(crate) is_news: bool,
}

/// What probes and hooks find out about the last run of a container.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The run they are about.
    pub(crate) run: String,
    pub(crate) is_started: bool,
    pub(crate) is_ready: bool,
    pub(crate) must_end: bool,
    pub(crate) is_ending: bool,
    pub(crate) prober: Option<Prober>,
}

impl Slot {
    pub(crate) fn new(uid: &str, key: Key) -> Self {
        Self {
            uid: uid.to_owned(),
            key,
            turn: Mutex::default(),
            work: Mutex::default(),
            facts: Mutex::default(),
            // Files may have changed while nobody was here.
            is_stale: AtomicBool::new(true),
            evicted: Mutex::default(),
        }
    }

    /// What is known of its containers' last runs.
    pub(crate) fn facts(&self) -> MutexGuard<'_, BTreeMap<String, Facts>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node ends it, and why.
    pub(crate) fn evict(&self, why: String) {
        *self.evicted.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Why the node ends it.
    pub(crate) fn eviction(&self) -> Option<String> {
        self.evicted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.eviction().is_some()
    }

    /// Something that is mounted has changed.
    pub(crate) fn refresh(&self) {
        self.is_stale.store(true, Ordering::SeqCst);
    }

    /// Whether something that is mounted has changed since this was asked last.
    pub(crate) fn take_refresh(&self) -> bool {
        self.is_stale.swap(false, Ordering::SeqCst)
    }

    /// Changes what is known of a run, if it is the last one still.
    pub(crate) fn learn(&self, container: &str, run: &str, change: impl FnOnce(&mut Facts)) {
        let mut all = self.facts();
        if let Some(facts) = all.get_mut(container).filter(|facts| facts.run == run) {
            change(facts);
        }
    }
}

impl Host {
    /// The slot of a pod; made if there is none.
    pub(crate) fn slot(&self, uid: &str, namespace: &str, name: &str) -> Arc<Slot> {
        let mut slots = self.slots();
        let make = || Arc::new(Slot::new(uid, Key::new("Pod", namespace, name)));
        slots.entry(uid.to_owned()).or_insert_with(make).clone()
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, std::collections::HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has happened to a pod: somebody looks at it now, or again once they are done.
    pub(crate) fn kick(self: &Arc<Self>, slot: &Arc<Slot>) {
        let mut turn = slot.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.works {
            turn.again = true;
            return;
        }
        turn.works = true;
        drop(turn);
        let (host, mine) = (self.clone(), slot.clone());
        let work = move || host.work(&mine);
        if std::thread::Builder::new().name("pod".to_owned()).spawn(work).is_err() {
            // Too many threads: later there may be fewer.
            slot.turn.lock().unwrap_or_else(PoisonError::into_inner).works = false;
            self.timer.at(crate::timer::now_ms() + 1000, &slot.uid);
        }
    }

    /// As [`Host::kick`], of a pod that is known.
    pub(crate) fn kick_uid(self: &Arc<Self>, uid: &str) {
        let slot = self.slots().get(uid).cloned();
        if let Some(slot) = slot {
            self.kick(&slot);
        }
    }

    fn work(self: &Arc<Self>, slot: &Arc<Slot>) {
        loop {
            let is_over = {
                let mut work = slot.work.lock().unwrap_or_else(PoisonError::into_inner);
                self.pass(slot, &mut work);
                work.is_over
            };
            let mut turn = slot.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if is_over {
                self.slots().remove(&slot.uid);
                turn.works = false;
                return;
            }
            if !std::mem::take(&mut turn.again) {
                turn.works = false;
                return;
            }
        }
    }
}
