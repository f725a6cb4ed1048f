//! Two names that change places all the time.

use std::env;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// How often a runtime is let into a race by default. The names change places at full speed
/// meanwhile, and at least [`SWAPS_MIN`] times.
pub const ROUNDS: u32 = 200;

/// How often the names change places at least.
pub(crate) const SWAPS_MIN: u64 = 10_000;

/// `ATTACK_ROUNDS`, or [`ROUNDS`].
#[must_use]
pub fn rounds() -> u32 {
    env::var("ATTACK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// Lets `one` and `other` change places while `body` runs; gives what that found, and how often
/// they did.
pub(crate) fn race<T>(one: &Path, other: &Path, body: impl FnOnce() -> T) -> (T, u64) {
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Also when it panics: the other thread would go on for ever.
        let _stop = Stop(&stop);
        body()
    });
    (found, swaps.into_inner())
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
