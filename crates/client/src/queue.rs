//! Work to be done: each thing once, and again after a while if it failed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// After the first failure; doubled with each further one.
const DELAY: Duration = Duration::from_millis(5);
/// At most this long after a failure.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// A queue of work. Time is a duration since any moment, which the caller tells.
#[derive(Debug)]
pub struct Queue<T> {
    ready: VecDeque<T>,
    is_ready: HashSet<T>,
    later: BTreeSet<(Duration, T)>,
    failures: HashMap<T, u32>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            is_ready: HashSet::new(),
            later: BTreeSet::new(),
            failures: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash + Ord> Queue<T> {
    /// Something is to be done now; nothing if it waits already.
    pub fn add(&mut self, work: T) {
        if self.is_ready.insert(work.clone()) {
            self.ready.push_back(work);
        }
    }

    /// Something is to be done at a time.
    pub fn add_at(&mut self, work: T, time: Duration) {
        self.later.insert((time, work));
    }

    /// It failed: it is to be done again, later with each failure.
    pub fn retry(&mut self, work: T, now: Duration) {
        let failures = self.failures.entry(work.clone()).or_default();
        let delay = DELAY.saturating_mul(1 << (*failures).min(20)).min(DELAY_MAX);
        *failures += 1;
        self.add_at(work, now + delay);
    }

    /// It succeeded.
    pub fn succeeded(&mut self, work: &T) {
        self.failures.remove(work);
    }

    /// What is to be done now.
    pub fn next(&mut self, now: Duration) -> Option<T> {
        while self.later.first().is_some_and(|(time, _)| *time <= now) {
            let Some((_, work)) = self.later.pop_first() else { break };
            self.add(work);
        }
        let work = self.ready.pop_front()?;
        self.is_ready.remove(&work);
        Some(work)
    }

    /// When the next thing is to be done; now, if something is ready.
    #[must_use]
    pub fn next_time(&self, now: Duration) -> Option<Duration> {
        match self.ready.is_empty() {
            false => Some(now),
            true => self.later.first().map(|(time, _)| *time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_waits_once_and_failures_come_later_each_time() {
        let mut queue = Queue::default();
        let second = Duration::from_secs(1);
        queue.add("a");
        queue.add("a");
        queue.add_at("b", second);
        assert_eq!(queue.next(Duration::ZERO), Some("a"));
        assert_eq!(queue.next(Duration::ZERO), None);
        assert_eq!(queue.next_time(Duration::ZERO), Some(second));
        assert_eq!(queue.next(second), Some("b"));
        queue.retry("a", second);
        assert_eq!(queue.next_time(second), Some(second + DELAY));
        assert_eq!(queue.next(second + DELAY), Some("a"));
        queue.retry("a", second);
        assert_eq!(queue.next_time(second), Some(second + 2 * DELAY));
        for _ in 0..40 {
            queue.retry("a", second);
        }
        queue.succeeded(&"a");
        queue.retry("a", second);
        assert_eq!(queue.next_time(second), Some(second + DELAY));
    }
}
