//! Waiting until containers are as somebody needs them: by events, not by the clock.

use std::os::fd::AsFd as _;

use ::compose::Condition;
use engine::{Container, Engine, Error, EventQuery, Health, HealthStatus, Kind, Result, Status};
use runtime::SignalFd;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// That checks of its health succeed.
    Healthy,
    /// That it runs, and is healthy if its health is checked.
    RunningOrHealthy,
    /// That it has ended with code 0.
    Completed,
}

impl Until {
    pub(super) fn of(condition: Condition) -> Option<Self> {
        match condition {
            Condition::Started => None,
            Condition::Healthy => Some(Self::Healthy),
            Condition::Completed => Some(Self::Completed),
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Healthy | Self::RunningOrHealthy => "Healthy",
            Self::Completed => "Exited",
        }
    }
}

/// When waiting is given up.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    /// Never.
    Never,
    /// After so many seconds, which is an error.
    Seconds(u64),
    /// With one of these signals, which is left for others to read.
    Signal(&'a SignalFd),
}

/// Waits for all these containers.
///
/// # Errors
/// If one can never be so, or the time is over.
pub(super) fn wait(
    engine: &Engine,
    containers: &[Container],
    until: Until,
    end: End<'_>,
) -> Result<()> {
    let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let until_ns = match end {
        End::Seconds(s) => {
            let ns = i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
            Some(now.saturating_add(ns))
        }
        End::Never | End::Signal(_) => None,
    };
    // Opened before the first look: what happens after it is not missed.
    let mut events = engine.events(EventQuery { since_ns: None, until_ns })?;
    if let End::Signal(signals) = end {
        let copy = signals.as_fd().try_clone_to_owned();
        let copy =
            copy.map_err(|error| Error::caused(Kind::Internal, "wait for containers", error))?;
        events = events.until_readable(copy);
    }
    loop {
        let mut all = true;
        for container in containers {
            let found = engine.find(&container.record.id)?;
            all &= is_so(&found, until)?;
        }
        if all {
            return Ok(());
        }
        match events.next() {
            Some(event) => drop(event?),
            None if matches!(end, End::Signal(_)) => return Ok(()),
            None => return Err(Error::new(Kind::Unavailable, "timeout waiting for containers")),
        }
    }
}

fn is_so(container: &Container, until: Until) -> Result<bool> {
    let name = &container.record.name;
    let state = &container.state;
    let fail = |what: String| Err(Error::new(Kind::Conflict, format!("container {name} {what}")));
    if until == Until::Completed {
        return match (state.status, state.exit_code) {
            (Status::Exited, 0) => Ok(true),
            (Status::Exited, code) => fail(format!("didn't complete successfully: exit {code}")),
            _ => Ok(false),
        };
    }
    // Right after the start nothing has been found yet, which is not to say that nobody looks.
    let health = container.health().or_else(|| is_checked(container).then(Health::default));
    match (state.status, health) {
        (Status::Exited | Status::Removing, _) => fail(format!("exited ({})", state.exit_code)),
        (Status::Running, Some(health)) => match health.status {
            HealthStatus::Healthy => Ok(true),
            HealthStatus::Unhealthy => fail("is unhealthy".to_owned()),
            HealthStatus::Starting => Ok(false),
        },
        (Status::Running, None) if until == Until::RunningOrHealthy => Ok(true),
        (Status::Running, None) => fail("has no healthcheck configured".to_owned()),
        _ => Ok(false),
    }
}

/// Whether its health is checked.
fn is_checked(container: &Container) -> bool {
    let check = container.record.config.healthcheck.as_ref();
    check.and_then(|check| check.test.first()).is_some_and(|word| word != "NONE")
}
