//! The options about a container's health.

use engine::{Error, Result};
use oci::Healthcheck;

use crate::output;

/// The shortest time that Docker takes, in nanoseconds.
const TIME_MIN_NS: i128 = 1_000_000;

/// How its health is checked.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthOptions {
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Start period for the container to initialize before starting health-retries countdown
    /// (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthOptions {
    /// What was asked; zeros and an empty test stand for the image's.
    pub(crate) fn healthcheck(&self) -> Result<Option<Healthcheck>> {
        let times = [
            ("health-interval", &self.health_interval),
            ("health-timeout", &self.health_timeout),
            ("health-start-period", &self.health_start_period),
            ("health-start-interval", &self.health_start_interval),
        ];
        let given = times.iter().any(|(_, text)| text.is_some())
            || self.health_cmd.is_some()
            || self.health_retries.is_some();
        if self.no_healthcheck {
            if given {
                return Err(Error::invalid("--no-healthcheck conflicts with --health-* options"));
            }
            let test = vec!["NONE".to_owned()];
            return Ok(Some(Healthcheck { test, ..Healthcheck::default() }));
        }
        if !given {
            return Ok(None);
        }
        let retries = self.health_retries.unwrap_or(0);
        let retries = retries
            .try_into()
            .map_err(|_| Error::invalid("--health-retries cannot be negative"))?;
        let mut nanoseconds = Vec::with_capacity(times.len());
        for (name, text) in times {
            nanoseconds.push(text.as_ref().map_or(Ok(0), |text| time(name, text))?);
        }
        let test = self.health_cmd.iter().filter(|line| !line.is_empty());
        let test = test.flat_map(|line| ["CMD-SHELL".to_owned(), line.clone()]).collect();
        Ok(Some(Healthcheck {
            test,
            interval: nanoseconds[0],
            timeout: nanoseconds[1],
            start_period: nanoseconds[2],
            start_interval: nanoseconds[3],
            retries,
        }))
    }
}

/// Nanoseconds of one of Go's durations; 0, or at least a millisecond.
fn time(name: &str, text: &str) -> Result<u64> {
    let bad = |why: &str| {
        Error::invalid(format!("invalid argument \"{text}\" for \"--{name}\" flag: {why}"))
            .hint("a duration is a number with a unit, as in 500ms, 30s or 1m30s")
    };
    let duration = output::parse_duration(text).map_err(|error| bad(&error.to_string()))?;
    let nanoseconds = duration.as_nanos();
    if nanoseconds < 0 {
        return Err(Error::invalid(format!("--{name} cannot be negative")));
    }
    if nanoseconds != 0 && nanoseconds < TIME_MIN_NS {
        return Err(bad("cannot be less than 1ms"));
    }
    u64::try_from(nanoseconds).map_err(|_| bad("too long"))
}
