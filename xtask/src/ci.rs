//! What continuous integration runs, step by step.

use std::path::Path;
use std::process::Command;
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
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(*args)
            .env("PROPTEST_RNG_SEED", RANDOM_SEED)
            .current_dir(root)
            .status()
            .with_context(|| format!("run `{command}`"))?;
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
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
