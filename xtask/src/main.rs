//! Tasks of the repository: `cargo xtask tidy`, `cargo xtask ci` and `cargo xtask bench`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a terminal")]

mod bench;
mod ci;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo xtask COMMAND

  tidy [DIR]   check the house rules: dependency arrows, sizes, unsafe, names, formatting
  ci           everything continuous integration runs, in its order
  bench [--rounds N] [--youki PATH] [--write] [NAME…]
               measure beside other engines, as root: run, bridge, pull, monitor, size, runtime";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs a command; false means that it found fault with the tree.
fn run(args: &[String]) -> Result<bool> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["tidy"] => tidy(&root()?),
        ["tidy", tree] => tidy(Path::new(tree)),
        ["bench", args @ ..] => bench::run(&root()?, args),
        ["ci"] => ci::run(&root()?),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(true)
        }
        [command, ..] => bail!("unknown command {command:?}\n{USAGE}"),
    }
}

/// The directory of the workspace, one above this package.
fn root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("the package lies in the workspace")?.to_owned())
}

fn tidy(root: &Path) -> Result<bool> {
    let violations = tidy::check(root)?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => println!("tidy"),
        count => println!("{count} violations"),
    }
    Ok(violations.is_empty())
}
