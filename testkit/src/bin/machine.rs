//! The runtime's tests, those of networks, of checkpoints and of file systems, in a virtual machine with
//! Debian's kernel, whose control groups are of version 2 alone and which has CRIU.
//!
//! First the machine has nothing but the tests, then systemd runs those that need it. `machine`
//! builds the tests, starts the machine, shows what they print there and ends with 0 only
//! if all of them passed. `machine WORD…` gives the words to the test programs, to choose some.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use testkit::{Job, Machine, Pool};

/// What runs inside: arguments of cargo, which choose packages and their targets.
const TESTS: &[&[&str]] = &[
    &["test", "--no-run", "--package", "runtime"],
    &["test", "--no-run", "--package", "net"],
    &["build", "--package", "cais", "--bin", "cais"],
    &["test", "--no-run", "--package", "tests", "--test", "checkpoint"],
    &["test", "--no-run", "--package", "tests", "--test", "disk"],
];

/// What is chosen of the tests of networks if nothing is: what another kernel decides.
const OF_NETWORKS: &str = "it::stacked:: it::port:: it::v6::";

/// Tests that compare with a library, by a C compiler, and need no kernel: they run outside.
const COMPARING: &str = "tests::differential";

/// What the tests that need systemd have in their names.
const SYSTEMD: &str = "systemd::";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("machine: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<bool> {
    // The kernel package and qemu's program are those of one architecture.
    if cfg!(not(target_arch = "x86_64")) {
        say("machine: skipped: it is made for x86_64 only, so nothing ran on version 2 alone");
        return Ok(true);
    }
    let start = Instant::now();
    let (mut files, mut jobs) = (Vec::new(), Vec::new());
    for arguments in TESTS {
        let built = build(arguments)?;
        for (program, integration) in &built.tests {
            let (directory, program) = (built.directory.clone(), program.display());
            let chosen = match words {
                [] if arguments.contains(&"net") => OF_NETWORKS.to_owned(),
                words => words.join(" "),
            };
            let command = format!("{program} --skip {COMPARING} {chosen}");
            let command = command.trim_end().to_owned();
            jobs.push(Job { directory: directory.clone(), command, systemd: false });
            if *integration {
                let command = format!("{program} {SYSTEMD}");
                jobs.push(Job { directory, command, systemd: true });
            }
        }
        let tests = built.tests.into_iter().map(|(program, _)| program);
        files.extend(tests.chain(built.programs));
    }
    let machine = Machine::prepare(&Pool::open())?;
    say(&format!("machine: starting after {:.1} s", start.elapsed().as_secs_f64()));
    let booted = Instant::now();
    let report = machine.run(&files, &jobs, &mut |line| say(line))?;
    for command in &report.broken {
        say(&format!("machine: failed: {command}"));
    }
    say(&format!(
        "machine: {} tests passed and {} failed in {} runs of test programs on {}, in {:.1} s",
        report.passed,
        report.failed,
        jobs.len(),
        report.kernel,
        booted.elapsed().as_secs_f64()
    ));
    Ok(report.is_good())
}

/// What cargo made.
struct Built {
    directory: PathBuf,
    /// With whether they are integration tests.
    tests: Vec<(PathBuf, bool)>,
    /// Programs that the tests start.
    programs: Vec<PathBuf>,
}

fn build(arguments: &[&str]) -> Result<Built> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).args(["--locked", "--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), output.status);
    }
    let mut built = Built { directory: PathBuf::new(), tests: Vec::new(), programs: Vec::new() };
    for line in output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let message: serde_json::Value =
            serde_json::from_slice(line).context("read what cargo says")?;
        let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
        built.directory = manifest.parent().context("a manifest lies in a directory")?.to_owned();
        match message["profile"]["test"].as_bool() {
            Some(true) => built.tests.push((program, message["target"]["kind"][0] == "test")),
            _ => built.programs.push(program),
        }
    }
    if built.tests.is_empty() && built.programs.is_empty() {
        bail!("cargo {} makes nothing", arguments.join(" "));
    }
    Ok(built)
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
