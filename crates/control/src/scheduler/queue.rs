//! Pods that wait to be placed: ready ones by priority, those that failed for a while, and those that
//! nothing has changed for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reason::Filters;
use super::state::Name;

/// After the first failure; doubled with each further one.
const BACKOFF: Duration = Duration::from_secs(1);
/// At most this long after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that nothing has changed for is tried again after this, in case a change went unnoticed.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// The more important first, then who came first.
type Rank = (Reverse<i32>, Duration, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    /// Until a time.
    Backoff(Duration),
    /// Since a time.
    Unschedulable(Duration),
    /// Gates are closed.
    Gated,
    /// It was given out, and nobody has said yet what became of it.
    Taken,
}

#[derive(Debug, Clone)]
struct Waiting {
    uid: String,
    rank: Rank,
    place: Place,
    /// How often it was found unschedulable.
    failures: u32,
    /// How often in a row the API refused what was decided.
    errors: u32,
    filters: Filters,
    /// When its last attempt ended.
    tried: Duration,
}

impl Waiting {
    /// When it may be tried again.
    fn ready(&self) -> Duration {
        let count = if self.errors > 0 { self.errors } else { self.failures };
        match count {
            0 => Duration::ZERO,
            count => {
                let delay = BACKOFF.saturating_mul(1 << (count - 1).min(10));
                self.tried + delay.min(BACKOFF_MAX)
            }
        }
    }
}

/// See above. Time is a duration since any moment, which the caller tells.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pods: BTreeMap<Name, Waiting>,
    active: BTreeSet<(Rank, Name)>,
    backoff: BTreeSet<(Duration, Rank, Name)>,
    unschedulable: BTreeSet<(Duration, Name)>,
    arrivals: u64,
}

impl Queue {
    /// A pod is new, or its gates or its wishes have changed. `is_urgent` forgets that nothing would
    /// help it.
    pub(super) fn set(
        &mut self,
        name: &Name,
        (uid, priority): (&str, i32),
        is_gated: bool,
        is_urgent: bool,
        now: Duration,
    ) {
        if self.pods.get(name).is_some_and(|own| own.uid != uid) {
            self.remove(name);
        }
        let before = self.pods.get(name).map(|own| own.place);
        let mut own = self.pods.get(name).cloned().unwrap_or_else(|| {
            self.arrivals += 1;
            Waiting {
                uid: uid.to_owned(),
                rank: (Reverse(priority), now, self.arrivals),
                place: Place::Gated,
                failures: 0,
                errors: 0,
                filters: Filters::default(),
                tried: Duration::ZERO,
            }
        });
        self.leave(name);
        own.rank.0 = Reverse(priority);
        let is_stuck = matches!(before, Some(Place::Unschedulable(_)));
        own.place = match before {
            _ if is_gated => Place::Gated,
            Some(place) if place != Place::Gated && !(is_stuck && is_urgent) => place,
            _ => again(&own, now),
        };
        self.enter(name, own);
    }

    /// A pod needs no place any more.
    pub(super) fn remove(&mut self, name: &Name) {
        self.leave(name);
        self.pods.remove(name);
    }

    /// The next pod to be placed. It stays known until it is removed or failed.
    pub(super) fn next(&mut self, now: Duration) -> Option<Name> {
        self.ripen(now);
        let ready = self.active.first().map(|(_, name)| name);
        // As there is nothing else to do, nobody loses if a pod does not wait; one whose placement
        // the API refused does, to spare the API.
        let early =
            || self.backoff.iter().map(|(_, _, name)| name).find(|name| self.can_hurry(name));
        let name = ready.or_else(early)?.clone();
        self.promote(&name, Place::Taken);
        Some(name)
    }

    fn can_hurry(&self, name: &Name) -> bool {
        self.pods.get(name).is_some_and(|own| own.errors == 0)
    }

    /// Moves pods whose time has come.
    fn ripen(&mut self, now: Duration) {
        while let Some((time, _, name)) = self.backoff.first().cloned() {
            if time > now {
                break;
            }
            self.promote(&name, Place::Active);
        }
        while let Some((since, name)) = self.unschedulable.first().cloned() {
            if since + FORGOTTEN > now {
                break;
            }
            let place = self.pods.get(&name).map(|own| again(own, now));
            self.promote(&name, place.unwrap_or(Place::Active));
        }
    }

    /// When there is something to do next; now, if there is already.
    pub(super) fn next_time(&self, now: Duration) -> Option<Duration> {
        if !self.active.is_empty() || self.backoff.iter().any(|(_, _, name)| self.can_hurry(name)) {
            return Some(now);
        }
        let backoff = self.backoff.first().map(|(time, ..)| *time);
        let forgotten = self.unschedulable.first().map(|(since, _)| *since + FORGOTTEN);
        backoff.into_iter().chain(forgotten).min()
    }

    /// No node can have a pod, because of some filters.
    pub(super) fn unschedulable(&mut self, name: &Name, filters: Filters, now: Duration) {
        let Some(own) = self.pods.get(name).cloned() else { return };
        self.leave(name);
        let place = Place::Unschedulable(now);
        let failures = own.failures + 1;
        self.enter(name, Waiting { place, failures, errors: 0, filters, tried: now, ..own });
    }

    /// The API refused what was decided for a pod.
    pub(super) fn failed(&mut self, name: &Name, now: Duration) {
        let Some(own) = self.pods.get(name).cloned() else { return };
        self.leave(name);
        let mut own = Waiting { errors: own.errors + 1, tried: now, ..own };
        own.place = again(&own, now);
        self.enter(name, own);
    }

    /// Pods that nothing would help have another chance if `helps` says so.
    pub(super) fn wake(&mut self, now: Duration, helps: impl Fn(&Name, Filters) -> bool) {
        if self.unschedulable.is_empty() {
            return;
        }
        let helped = self.unschedulable.iter().filter(|(_, name)| {
            self.pods
                .get(name)
                .is_some_and(|own| own.filters.is_empty() || helps(name, own.filters))
        });
        let helped: Vec<Name> = helped.map(|(_, name)| name.clone()).collect();
        for name in helped {
            let place = self.pods.get(&name).map(|own| again(own, now));
            self.promote(&name, place.unwrap_or(Place::Active));
        }
    }

    fn promote(&mut self, name: &Name, place: Place) {
        self.leave(name);
        if let Some(own) = self.pods.get(name).cloned() {
            self.enter(name, Waiting { place, ..own });
        }
    }

    fn leave(&mut self, name: &Name) {
        let Some(own) = self.pods.get(name) else { return };
        match own.place {
            Place::Active => self.active.remove(&(own.rank, name.clone())),
            Place::Backoff(until) => self.backoff.remove(&(until, own.rank, name.clone())),
            Place::Unschedulable(since) => self.unschedulable.remove(&(since, name.clone())),
            Place::Gated | Place::Taken => false,
        };
    }

    fn enter(&mut self, name: &Name, own: Waiting) {
        match own.place {
            Place::Active => self.active.insert((own.rank, name.clone())),
            Place::Backoff(until) => self.backoff.insert((until, own.rank, name.clone())),
            Place::Unschedulable(since) => self.unschedulable.insert((since, name.clone())),
            Place::Gated | Place::Taken => false,
        };
        self.pods.insert(name.clone(), own);
    }
}

/// Where a pod goes that is to be tried again.
fn again(own: &Waiting, now: Duration) -> Place {
    let ready = own.ready();
    if ready <= now { Place::Active } else { Place::Backoff(ready) }
}

#[cfg(test)]
mod tests {
    use super::super::reason::Filter;
    use super::*;

    fn name(name: &str) -> Name {
        ("a".to_owned(), name.to_owned())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn add(queue: &mut Queue, pod: &str, priority: i32, now: u64) {
        queue.set(&name(pod), (pod, priority), false, false, seconds(now));
    }

    fn next(queue: &mut Queue, now: u64) -> Option<String> {
        queue.next(seconds(now)).map(|name| name.1)
    }

    fn filters() -> Filters {
        let mut filters = Filters::default();
        filters.add(Filter::NodeResourcesFit);
        filters
    }

    #[test]
    fn the_more_important_come_first_and_then_the_older() {
        let mut queue = Queue::default();
        for (pod, priority, now) in [("x", 0, 1), ("y", 0, 2), ("z", 9, 3), ("w", 0, 1)] {
            add(&mut queue, pod, priority, now);
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, 5)).collect();
        assert_eq!(order, ["z", "x", "w", "y"]);
    }

    #[test]
    fn what_failed_waits_for_an_event_and_then_for_its_time() {
        let mut queue = Queue::default();
        add(&mut queue, "x", 0, 0);
        for (failure, delay) in [1, 2, 4, 8, 10, 10].into_iter().enumerate() {
            let now = 100 * failure as u64;
            assert_eq!(next(&mut queue, now).as_deref(), Some("x"));
            queue.unschedulable(&name("x"), filters(), seconds(now));
            assert_eq!(next(&mut queue, now + 50), None);
            queue.wake(seconds(now), |_, _| false);
            assert_eq!(next(&mut queue, now + 50), None);
            queue.wake(seconds(now), |_, _| true);
            // While others are ready it has to wait; they take its place.
            let mut other = Queue { pods: queue.pods.clone(), ..Queue::default() };
            other.backoff.clone_from(&queue.backoff);
            add(&mut other, "y", -1, now);
            assert_eq!(
                other.next(seconds(now + delay) - Duration::from_millis(1)),
                Some(name("y"))
            );
            add(&mut queue, "y", -1, now);
            assert_eq!(next(&mut queue, now + delay).as_deref(), Some("x"));
            queue.remove(&name("y"));
            queue.promote(&name("x"), Place::Active);
        }
    }

    #[test]
    fn what_the_api_refused_waits_even_if_there_is_nothing_else() {
        let mut queue = Queue::default();
        add(&mut queue, "x", 0, 0);
        assert!(next(&mut queue, 0).is_some());
        queue.failed(&name("x"), seconds(0));
        assert_eq!(queue.next_time(seconds(0)), Some(seconds(1)));
        assert_eq!(next(&mut queue, 0), None);
        assert_eq!(next(&mut queue, 1).as_deref(), Some("x"));
    }

    #[test]
    fn gates_and_forgotten_pods() {
        let mut queue = Queue::default();
        queue.set(&name("x"), ("x", 0), true, false, seconds(0));
        assert_eq!((next(&mut queue, 0), queue.next_time(seconds(0))), (None, None));
        queue.set(&name("x"), ("x", 0), false, false, seconds(1));
        assert_eq!(next(&mut queue, 1).as_deref(), Some("x"));
        queue.unschedulable(&name("x"), filters(), seconds(1));
        assert_eq!(queue.next_time(seconds(1)), Some(seconds(301)));
        assert_eq!(next(&mut queue, 300), None);
        assert_eq!(next(&mut queue, 301).as_deref(), Some("x"));
        // Another pod of its name is another pod.
        queue.set(&name("x"), ("new", 0), false, false, seconds(400));
        assert_eq!(next(&mut queue, 400).as_deref(), Some("x"));
    }
}
