//! How long something that failed waits until it is tried again: upstream's times.

/// After the first time that waits at all (ms).
const FIRST_MS: i64 = 10_000;
/// No wait is longer (ms).
const LONGEST_MS: i64 = 300_000;
/// Who has gone on for so long begins anew (ms).
const STEADY_MS: i64 = 600_000;

/// Failures of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// What has failed before, as often.
    pub(crate) fn after(failures: u32) -> Self {
        Self { failures }
    }

    /// How long a container waits that has ended after it ran for a time; at once the first time.
    pub(crate) fn next(&mut self, ran_ms: i64) -> i64 {
        if ran_ms >= STEADY_MS {
            self.failures = 0;
        }
        let wait = match self.failures {
            0 => 0,
            failures => delay(failures - 1),
        };
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// How long something waits that is not tried at once even the first time.
    pub(crate) fn next_wait(&mut self) -> i64 {
        let wait = delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

fn delay(doublings: u32) -> i64 {
    (FIRST_MS << doublings.min(16)).min(LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_begin_anew_after_ten() {
        let mut backoff = Backoff::default();
        let waits: Vec<i64> = (0..8).map(|_| backoff.next(1000) / 1000).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.next(600_000), 0);
        assert_eq!(backoff.next(0), 10_000);
        let mut pull = Backoff::default();
        assert_eq!([pull.next_wait(), pull.next_wait()], [10_000, 20_000]);
    }
}
