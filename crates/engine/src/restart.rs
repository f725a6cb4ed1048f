//! When a container that has ended by itself is started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is waited before the first restart; each further one waits twice as long.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// No restart waits longer.
const DELAY_MAX: Duration = Duration::from_mins(1);
/// Who has run for this long begins anew with [`DELAY_MIN`].
const STEADY: Duration = Duration::from_secs(10);

/// Docker's restart policies, and one of our own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum RestartPolicy {
    /// It stays as it has ended.
    #[default]
    No,
    /// It is started again when its exit code is not 0.
    OnFailure {
        /// How often; 0 is without end.
        max: u32,
    },
    /// As [`RestartPolicy::OnFailure`], and it is ended and started again when its health check
    /// says that it is unhealthy. Docker has no such policy.
    OnUnhealthy {
        /// How often; 0 is without end.
        max: u32,
    },
    /// It is started again, and when the machine starts.
    Always,
    /// As [`RestartPolicy::Always`], unless somebody had stopped it before the machine ended.
    UnlessStopped,
}

impl RestartPolicy {
    /// The policy's name, as it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure { .. } => "on-failure",
            Self::OnUnhealthy { .. } => "on-unhealthy",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// How often a failure is followed by a start; 0 is without end.
    #[must_use]
    pub fn max(self) -> u32 {
        match self {
            Self::OnFailure { max } | Self::OnUnhealthy { max } => max,
            Self::No | Self::Always | Self::UnlessStopped => 0,
        }
    }

    /// Whether a container that has ended with `code` is started when the machine is. `stopped` says
    /// whether somebody had stopped it; `restarts`, how often it had been started again. As in
    /// Docker, `always` is stronger than that.
    pub(crate) fn starts_with_machine(self, code: i32, stopped: bool, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always => true,
            Self::UnlessStopped => !stopped,
            Self::OnFailure { max } | Self::OnUnhealthy { max } => {
                code != 0 && (max == 0 || restarts < max)
            }
        }
    }

    /// Whether a container that has ended by itself is started again.
    fn applies(self, end: End, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure { max } => end.code != 0 && (max == 0 || restarts < max),
            Self::OnUnhealthy { max } => {
                (end.code != 0 || end.unhealthy) && (max == 0 || restarts < max)
            }
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// How a container has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// Its exit code.
    pub(crate) code: i32,
    /// Whether it was ended because it was unhealthy.
    pub(crate) unhealthy: bool,
    /// How long it had run.
    pub(crate) ran: Duration,
}

/// Counts the restarts of one container, and spaces them out.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    delay: Duration,
    pub(crate) restarts: u32,
}

impl Backoff {
    /// As it was after so many restarts, each soon after the one before.
    pub(crate) fn after(restarts: u32) -> Self {
        let doubled = DELAY_MIN.saturating_mul(1 << restarts.saturating_sub(1).min(16));
        let delay = if restarts == 0 { Duration::ZERO } else { doubled.min(DELAY_MAX) };
        Self { delay, restarts }
    }

    /// How long is waited before the next start.
    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    /// How long to wait before the container is started again; `None` if it is not.
    pub(crate) fn next(&mut self, policy: RestartPolicy, end: End) -> Option<Duration> {
        if !policy.applies(end, self.restarts) {
            return None;
        }
        let longer = if end.ran >= STEADY { Duration::ZERO } else { self.delay * 2 };
        self.delay = longer.clamp(DELAY_MIN, DELAY_MAX);
        self.restarts += 1;
        Some(self.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(code: i32, seconds: u64) -> End {
        End { code, unhealthy: false, ran: Duration::from_secs(seconds) }
    }

    #[test]
    fn restarts_are_spaced_out_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut delays = |seconds: &[u64]| {
            let next = |s: &u64| backoff.next(RestartPolicy::Always, end(0, *s)).unwrap();
            seconds.iter().map(next).map(|delay| delay.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(delays(&[0, 1, 9, 0]), [100, 200, 400, 800]);
        assert_eq!(delays(&[10, 0]), [100, 200]);
        assert_eq!(delays(&[0; 12])[9..], [60_000; 3]);
    }

    #[test]
    fn what_starts_with_the_machine() {
        let starts = RestartPolicy::starts_with_machine;
        for stopped in [false, true] {
            assert!(!starts(RestartPolicy::No, 1, stopped, 0));
            assert!(starts(RestartPolicy::Always, 0, stopped, 0));
            assert_eq!(starts(RestartPolicy::UnlessStopped, 0, stopped, 0), !stopped);
            let twice = RestartPolicy::OnFailure { max: 2 };
            assert!(!starts(twice, 0, stopped, 0));
            assert!(starts(twice, 255, stopped, 1));
            assert!(!starts(twice, 255, stopped, 2));
        }
    }

    #[test]
    fn each_policy_has_its_reasons() {
        let twice = RestartPolicy::OnFailure { max: 2 };
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(twice, end(0, 1)), None);
        assert!(backoff.next(twice, end(1, 1)).is_some());
        assert!(backoff.next(twice, end(137, 1)).is_some());
        assert_eq!(backoff.next(twice, end(1, 1)), None);
        assert_eq!(backoff.restarts, 2);
        let fresh = |policy, end| Backoff::default().next(policy, end).is_some();
        assert!(!fresh(RestartPolicy::No, end(1, 1)));
        assert!(fresh(RestartPolicy::UnlessStopped, end(0, 1)));
        assert!(fresh(RestartPolicy::OnFailure { max: 0 }, end(1, 1)));
        let sick = End { unhealthy: true, ..end(0, 1) };
        assert!(fresh(RestartPolicy::OnUnhealthy { max: 0 }, sick));
        assert!(!fresh(RestartPolicy::OnUnhealthy { max: 0 }, end(0, 1)));
        assert!(!fresh(RestartPolicy::OnFailure { max: 0 }, sick));
    }
}
