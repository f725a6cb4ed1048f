//! Times at which pods are looked at again.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A clock's hands, as milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What is to be looked at when.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    times: Mutex<BTreeSet<(i64, String)>>,
    changed: Condvar,
}

impl Timer {
    fn times(&self) -> MutexGuard<'_, BTreeSet<(i64, String)>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is to be looked at, at a time.
    pub(crate) fn at(&self, time: i64, what: &str) {
        let mut times = self.times();
        let is_first = times.first().is_none_or(|(first, _)| time < *first);
        times.insert((time, what.to_owned()));
        if is_first {
            self.changed.notify_all();
        }
    }

    /// Waits until something is to be looked at: what.
    pub(crate) fn next(&self) -> String {
        let mut times = self.times();
        loop {
            let now = now_ms();
            let first = times.first().map(|(time, _)| *time);
            match first {
                Some(time) if time <= now => {
                    if let Some((_, what)) = times.pop_first() {
                        return what;
                    }
                }
                Some(time) => {
                    let wait = Duration::from_millis(u64::try_from(time - now).unwrap_or(0));
                    let waited = self.changed.wait_timeout(times, wait);
                    times = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    times = self.changed.wait(times).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}
