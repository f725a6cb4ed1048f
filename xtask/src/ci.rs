//! What continuous integration runs, step by step.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

/// A step's name and its arguments to cargo.
const STEPS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    ("test", &["test", "--workspace", "--locked", "--no-fail-fast"]),
    (
        "test on control groups of version 2",
        &["run", "--quiet", "--locked", "--package", "testkit", "--bin", "machine"],
    ),
    ("release build", &["build", "--release", "--locked", "--package", "cais"]),
];

/// What properties are tested with is the same every time, so that a change is judged by what it
/// does; `cargo test` by itself looks further, with inputs that nobody has seen.
const RANDOM_SEED: &str = "20261127";

/// Runs the steps until one fails.
pub(crate) fn run(root: &Path) -> Result<bool> {
    for (name, args) in STEPS {
        let command = format!("cargo {}", args.join(" "));
        println!("== {name}: {command}");
        let start = Instant::now();
        let mut failures = Failures::default();
        let status = step(root, args, &mut failures).with_context(|| format!("run `{command}`"))?;
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
            failures.print();
            println!(
                "== ci failed at {name} after {seconds:.1} s: `{command}` ended with {status}"
            );
            return Ok(false);
        }
        println!("== {name}: ok in {seconds:.1} s");
    }
    println!("== ci: ok");
    Ok(true)
}

/// Runs cargo, passes on what it prints, and remembers what it says of failed tests.
fn step(root: &Path, args: &[&str], failures: &mut Failures) -> Result<ExitStatus> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(args)
        .env("PROPTEST_RNG_SEED", RANDOM_SEED)
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()?;
    let printed = child.stdout.take().context("its output is piped")?;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(printed).split(b'\n') {
        let line = line?;
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        failures.note(&String::from_utf8_lossy(&line));
    }
    Ok(child.wait()?)
}

/// What failed tests printed: it is told once more at the end, because it stands thousands of lines
/// up when all tests are run.
#[derive(Default)]
struct Failures {
    tests: Vec<Failure>,
    /// Whether lines now belong to the last test.
    inside: bool,
}

struct Failure {
    name: String,
    /// The last lines.
    lines: VecDeque<String>,
}

impl Failures {
    /// Lines kept of each test.
    const LINES: usize = 40;
    /// Bytes kept of each line.
    const LINE_BYTES: usize = 400;

    /// Takes a line in the format of libtest: each failed test's output is headed by
    /// `---- NAME stdout ----`, and the list of names after the last is headed by `failures:`.
    fn note(&mut self, line: &str) {
        if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.tests.push(Failure { name: name.to_owned(), lines: VecDeque::new() });
            self.inside = true;
        } else if line == "failures:" {
            self.inside = false;
        } else if let (true, Some(test)) = (self.inside, self.tests.last_mut()) {
            if test.lines.len() == Self::LINES {
                test.lines.pop_front();
            }
            let end = line.floor_char_boundary(Self::LINE_BYTES);
            test.lines.push_back(line.get(..end).unwrap_or(line).to_owned());
        }
    }

    fn print(&self) {
        for test in &self.tests {
            println!("== failed: {}", test.name);
            test.lines.iter().for_each(|line| println!("{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn what_failed_tests_print_is_remembered_and_nothing_else() {
        let mut failures = Failures::default();
        let printed = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nwhy\n---- b stdout ----\nbecause\n\n\nfailures:\n    a\n    b\n\ntest result: FAILED.";
        printed.lines().for_each(|line| failures.note(line));
        let found: Vec<_> = failures
            .tests
            .iter()
            .map(|test| (test.name.as_str(), test.lines[0].as_str()))
            .collect();
        assert_eq!(found, [("a", "why"), ("b", "because")]);
    }
}
