//! `cais debug build`

use std::io::IsTerminal as _;

use engine::{FailedStep, Result};

use super::build;
use crate::session::Session;

/// What `debug build` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The Dockerfile that was built, if it was named
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Open a shell in the file system as it was when the command failed
    #[arg(short, long)]
    shell: bool,
    /// The context that was built
    #[arg(default_value = ".")]
    path: String,
    /// Run this there instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let name = build::name(&args.path, args.file.as_deref());
    if args.shell || !args.command.is_empty() {
        return enter(session, &name, &args.command);
    }
    let failed = session.engine()?.failed_step(&name)?;
    session.print(&crate::output::printable(&describe(&failed))).map(|()| 0)
}

/// Runs a command, or a shell, where one has failed.
pub(super) fn enter(session: &Session, name: &str, command: &[String]) -> Result<i32> {
    let shell = ["/bin/sh".to_owned()];
    let command = if command.is_empty() { &shell } else { command };
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    session.engine()?.enter_failed(name, command, tty)
}

/// What failed, in words.
pub(super) fn describe(failed: &FailedStep) -> String {
    let mut text = format!("{}\n  error: {}\n", failed.name, failed.error);
    let words: Vec<String> = failed.command.iter().map(|word| quoted(word)).collect();
    text = format!("{text}  command: {}\n", words.join(" "));
    let directory = if failed.working_dir().is_empty() { "/" } else { failed.working_dir() };
    let user = if failed.user().is_empty() { "root" } else { failed.user() };
    text = format!("{text}  directory: {directory}\n  user: {user}\n");
    text = format!("{text}  network: {}\n", failed.network);
    for variable in failed.env() {
        text = format!("{text}  env: {variable}\n");
    }
    for mount in &failed.mounts {
        text = format!("{text}  mount: {mount}\n");
    }
    for layer in failed.layers() {
        text = format!("{text}  layer: {layer}\n");
    }
    text
}

/// A word as a shell would take it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/bin/sh"), "/bin/sh");
        assert_eq!(quoted("echo a"), "'echo a'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
