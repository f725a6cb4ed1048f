//! The health of a container: a command that is executed in it from time to time.
//!
//! Semantics are Docker's: the first check comes one interval after the start; a failure during
//! the start period does not count while the container is still starting; so many failures in a
//! row make it unhealthy, and one success makes it healthy.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use oci::Healthcheck;
use runtime::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::{clock, file};

/// The file in the run directory that holds a running container's health.
pub(crate) const HEALTH: &str = "health.json";
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// No check comes sooner after another, and none has less time; Docker's bound.
const TIME_MIN: Duration = Duration::from_millis(1);
/// Results kept.
const RESULTS_MAX: usize = 5;
/// Bytes kept of what one check wrote.
const OUTPUT_BYTES_MAX: usize = 4096;
/// How often output is read before something else has its turn.
const READS_MAX: usize = 64;
/// The exit code of a check that took too long, or could not be executed.
const NO_CODE: i32 = -1;

/// What checks have found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet, nor too many failed.
    #[default]
    Starting,
    /// The last check succeeded, or too few have failed since.
    Healthy,
    /// Too many checks in a row failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The health of a container whose health is checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// What was found.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results, the oldest first.
    pub log: VecDeque<HealthResult>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// When it began, RFC 3339.
    pub start: String,
    /// When it ended, RFC 3339.
    pub end: String,
    /// 0 for success; -1 where it took too long or could not be executed.
    pub exit_code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

impl Health {
    /// Counts a result; `counts` says whether a failure does.
    fn add(&mut self, result: HealthResult, retries: u32, counts: bool) {
        if result.exit_code == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if counts {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push_back(result);
        if self.log.len() > RESULTS_MAX {
            self.log.pop_front();
        }
    }
}

/// How often and how long is checked; zeros replaced by what they stand for.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Pace {
    fn new(check: &Healthcheck) -> Self {
        // What an image asks for is not checked as options are.
        let or = |nanoseconds: u64, default: Duration| match nanoseconds {
            0 => default,
            set => Duration::from_nanos(set).max(TIME_MIN),
        };
        Self {
            interval: or(check.interval, INTERVAL),
            timeout: or(check.timeout, TIMEOUT),
            start_period: Duration::from_nanos(check.start_period),
            start_interval: or(check.start_interval, START_INTERVAL),
            retries: if check.retries == 0 { RETRIES } else { check.retries },
        }
    }

    /// The time between two checks, for a container that was started `age` ago.
    fn interval(&self, age: Duration, status: HealthStatus) -> Duration {
        match status == HealthStatus::Starting && age < self.start_period {
            true => self.start_interval,
            false => self.interval,
        }
    }
}

/// The command of a check: `None` where health is not checked. `shell` is the image's.
#[must_use]
pub(crate) fn command(check: &Healthcheck, shell: &[String]) -> Option<Vec<String>> {
    match check.test.split_first()? {
        (kind, command) if kind == "CMD" && !command.is_empty() => Some(command.to_vec()),
        (kind, line) if kind == "CMD-SHELL" => {
            let shell = match shell {
                [] => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
                shell => shell.to_vec(),
            };
            Some([shell, line.to_vec()].concat())
        }
        _ => None,
    }
}

/// Executes a check in the container: the process and what it writes to; `None` while the
/// container is paused.
pub(crate) type Probe<'a> = Box<dyn Fn() -> Result<Option<(Process, OwnedFd)>> + 'a>;

/// Checks one container's health while it runs.
pub(crate) struct Checker<'a> {
    probe: Probe<'a>,
    pace: Pace,
    /// Where [`HEALTH`] is written.
    directory: &'a Path,
    health: Health,
    started: Instant,
    next: Instant,
    running: Option<Running>,
    /// Is told when the status is another one.
    changed: Box<dyn Fn(HealthStatus) + 'a>,
}

/// A check that is being executed.
struct Running {
    process: Process,
    /// `None` once it has ended.
    output: Option<OwnedFd>,
    text: Vec<u8>,
    start: String,
    deadline: Instant,
    /// Whether it was killed for having taken too long.
    late: bool,
}

impl fmt::Debug for Checker<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Checker").field("health", &self.health).finish_non_exhaustive()
    }
}

impl<'a> Checker<'a> {
    /// `directory` is the container's run directory, `health` what was found before, by another
    /// monitor.
    pub(crate) fn new(
        check: &Healthcheck,
        (directory, health): (&'a Path, Health),
        probe: Probe<'a>,
        changed: Box<dyn Fn(HealthStatus) + 'a>,
    ) -> Self {
        let (pace, started) = (Pace::new(check), Instant::now());
        let next = started + pace.interval(Duration::ZERO, health.status);
        let checker =
            Self { probe, pace, directory, health, started, next, running: None, changed };
        checker.save();
        checker
    }

    /// What was found so far.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// What to wait for: the output of a check, and its end.
    pub(crate) fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        let running = self.running.as_ref();
        let output = running.and_then(|running| running.output.as_ref());
        let output = output.map(|output| PollFd::new(output, PollFlags::IN));
        output.into_iter().chain(running.map(Running::ended))
    }

    /// When [`Checker::advance`] has something to do even if nothing else happens.
    pub(crate) fn deadline(&self) -> Instant {
        self.running.as_ref().map_or(self.next, |running| running.deadline)
    }

    /// Begins, reads or ends a check, whatever is due.
    pub(crate) fn advance(&mut self) {
        let Some(running) = &mut self.running else {
            if Instant::now() >= self.next {
                self.begin();
            }
            return;
        };
        running.read();
        // Not once its output has ended: what it leaves behind may hold the pipe for long.
        if readable(running.ended()) {
            running.read();
            self.end();
        } else if Instant::now() >= running.deadline {
            running.kill();
            running.late = true;
            running.deadline += self.pace.interval;
        }
    }

    fn begin(&mut self) {
        let start = clock::now();
        match (self.probe)() {
            Ok(Some((process, output))) => {
                let deadline = Instant::now() + self.pace.timeout;
                let (output, text) = (Some(output), Vec::new());
                self.running =
                    Some(Running { process, output, text, start, deadline, late: false });
            }
            Ok(None) => self.next = Instant::now() + self.pace.interval,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let output = format!("{error}{}", cause.unwrap_or_default());
                self.record(HealthResult { start, end: clock::now(), exit_code: NO_CODE, output });
            }
        }
    }

    /// Takes the result of the check that has ended.
    fn end(&mut self) {
        let Some(running) = self.running.take() else { return };
        let written = String::from_utf8_lossy(&running.text);
        let (exit_code, output) = match (running.late, running.process.wait()) {
            (false, Ok(status)) => (status.code(), written.into_owned()),
            _ => {
                let late = format!("Health check exceeded timeout ({:?})", self.pace.timeout);
                (NO_CODE, if written.is_empty() { late } else { format!("{late}: {written}") })
            }
        };
        self.record(HealthResult { start: running.start, end: clock::now(), exit_code, output });
    }

    fn record(&mut self, result: HealthResult) {
        let age = self.started.elapsed();
        let starting = self.health.status == HealthStatus::Starting;
        let before = self.health.status;
        self.health.add(result, self.pace.retries, !(starting && age < self.pace.start_period));
        self.next = Instant::now() + self.pace.interval(age, self.health.status);
        self.save();
        if self.health.status != before {
            (self.changed)(self.health.status);
        }
    }

    /// Shows others what was found. It lies in memory; where that is full, the last result stands.
    fn save(&self) {
        let _ = file::write_json(self.directory, HEALTH, &self.health);
    }
}

impl Drop for Checker<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
            let _ = running.process.wait();
        }
    }
}

impl Running {
    fn ended(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.process.pidfd(), PollFlags::IN)
    }

    /// Ends the check and what it has started. A frozen one ends when it thaws.
    fn kill(&self) {
        // It leads a session and a group of its own, whose number is not another's as long as the
        // process has not been waited for.
        if let Some(group) = Pid::from_raw(self.process.pid()) {
            // One that has just ended needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Takes what was written, without waiting; what is beyond the bound is dropped.
    fn read(&mut self) {
        let mut buffer = [0; OUTPUT_BYTES_MAX];
        for _ in 0..READS_MAX {
            let Some(output) = &self.output else { return };
            if !readable(PollFd::new(output, PollFlags::IN)) {
                return;
            }
            match rustix::io::read(output, &mut buffer) {
                Ok(0) | Err(_) => self.output = None,
                Ok(read) => {
                    let room = OUTPUT_BYTES_MAX - self.text.len();
                    self.text.extend_from_slice(&buffer[..read.min(room)]);
                }
            }
        }
    }
}

fn readable(mut fd: PollFd<'_>) -> bool {
    let now = Timespec::default();
    let set = std::slice::from_mut(&mut fd);
    rustix::io::retry_on_intr(|| poll(set, Some(&now))).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> HealthResult {
        HealthResult { start: String::new(), end: String::new(), exit_code, output: String::new() }
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy() {
        let mut health = Health::default();
        let mut add = |code, counts| {
            health.add(result(code), 2, counts);
            (health.status, health.failing_streak, health.log.len())
        };
        assert_eq!(add(1, false), (HealthStatus::Starting, 0, 1), "it is still starting");
        assert_eq!(add(1, true), (HealthStatus::Starting, 1, 2));
        assert_eq!(add(0, true), (HealthStatus::Healthy, 0, 3));
        assert_eq!(add(1, true), (HealthStatus::Healthy, 1, 4));
        assert_eq!(add(-1, true), (HealthStatus::Unhealthy, 2, 5));
        assert_eq!(add(0, true), (HealthStatus::Healthy, 0, 5));
    }

    #[test]
    fn a_check_has_a_command_or_there_is_none() {
        let of = |words: &[&str]| {
            let test = words.iter().map(|word| (*word).to_owned()).collect();
            command(&Healthcheck { test, ..Healthcheck::default() }, &[])
        };
        assert_eq!(of(&["CMD", "a", "b c"]).unwrap(), ["a", "b c"]);
        assert_eq!(of(&["CMD-SHELL", "a b"]).unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!((of(&["NONE"]), of(&[]), of(&["CMD"])), (None, None, None));
    }

    #[test]
    fn checks_are_closer_while_it_starts() {
        let seconds = |s: u64| s * 1_000_000_000;
        let pace = Pace::new(&Healthcheck { start_period: seconds(20), ..Default::default() });
        let interval = |age, status| pace.interval(Duration::from_secs(age), status).as_secs();
        assert_eq!(interval(0, HealthStatus::Starting), 5);
        assert_eq!(interval(0, HealthStatus::Healthy), 30);
        assert_eq!(interval(20, HealthStatus::Starting), 30);
    }
}
