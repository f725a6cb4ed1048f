//! Contestants that take turns, and what their times come to.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use wait4::Wait4 as _;

/// One way to do the job. Its command is made anew for each turn; making it is not timed.
pub(crate) struct Contestant<'a> {
    pub(crate) name: String,
    pub(crate) command: Box<dyn FnMut(usize) -> Result<Command> + 'a>,
    /// The control group of version 2 whose processes work for the command: a daemon's.
    pub(crate) daemon: Option<PathBuf>,
}

/// Milliseconds of each turn.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) name: String,
    pub(crate) wall: Vec<f64>,
    pub(crate) cpu: Vec<f64>,
}

/// Milliseconds: the one in the middle, and the ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Time for the kernel to finish with the turn before: it removes networks in threads of its own,
/// under a lock that the next contestant would wait for.
const SETTLE: Duration = Duration::from_millis(200);

/// Lets all contestants take turns, and counts all rounds but one before the first.
pub(crate) fn hold(contestants: &mut [Contestant<'_>], rounds: usize) -> Result<Vec<Times>> {
    let empty = |c: &Contestant<'_>| Times { name: c.name.clone(), wall: vec![], cpu: vec![] };
    let mut times: Vec<Times> = contestants.iter().map(empty).collect();
    for round in 0..=rounds {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            std::thread::sleep(SETTLE);
            let (wall, cpu) = turn(contestant, round)
                .with_context(|| format!("take a turn of {}", contestant.name))?;
            if round > 0 {
                times.wall.push(wall);
                times.cpu.push(cpu);
            }
        }
    }
    Ok(times)
}

/// Milliseconds of wall time, and of processor time in the command, its children and its daemon.
fn turn(contestant: &mut Contestant<'_>, round: usize) -> Result<(f64, f64)> {
    let mut command = (contestant.command)(round)?;
    let mut errors = tempfile::tempfile().context("make a file for errors")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?);
    let before = daemon_ms(contestant)?;
    let start = Instant::now();
    let ended = command.spawn().with_context(|| format!("start {command:?}"))?.wait4()?;
    let wall = start.elapsed().as_secs_f64() * 1e3;
    let own = (ended.rusage.utime + ended.rusage.stime).as_secs_f64() * 1e3;
    let cpu = own + daemon_ms(contestant)? - before;
    let mut said = String::new();
    errors.rewind()?;
    errors.read_to_string(&mut said)?;
    ensure!(ended.status.success(), "{command:?}: {}: {said}", ended.status);
    Ok((wall, cpu))
}

fn daemon_ms(contestant: &Contestant<'_>) -> Result<f64> {
    let Some(group) = &contestant.daemon else { return Ok(0.0) };
    let path = group.join("cpu.stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    let used: f64 = used.context("find usage_usec in cpu.stat")?.parse()?;
    Ok(used / 1e3)
}

impl Spread {
    /// Of at least one number.
    pub(crate) fn of(numbers: &[f64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Self { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_many() {
        let spread = |numbers: &[f64]| {
            let spread = Spread::of(numbers);
            (spread.median, spread.min, spread.max)
        };
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0]), (2.5, 1.0, 4.0));
    }

    #[test]
    fn a_turn_counts_children_and_the_first_round_does_not() {
        let busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let mut rounds = Vec::new();
        let command = |round| {
            rounds.push(round);
            let mut command = Command::new("sh");
            command.args(["-c", &format!("({busy}); true")]);
            Ok(command)
        };
        let mut all = [Contestant { name: "sh".into(), command: Box::new(command), daemon: None }];
        let times = hold(&mut all, 2).unwrap();
        drop(all);
        assert_eq!(rounds, [0, 1, 2]);
        assert_eq!(times[0].wall.len(), 2);
        assert!(times[0].cpu.iter().all(|&cpu| cpu > 1.0), "{times:?}");
    }

    #[test]
    fn what_fails_says_why() {
        let command = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo oh no >&2; exit 3"]);
            Ok(command)
        };
        let mut all = [Contestant { name: "sh".into(), command: Box::new(command), daemon: None }];
        let error = format!("{:#}", hold(&mut all, 1).unwrap_err());
        assert!(error.contains("oh no"), "{error}");
    }
}
