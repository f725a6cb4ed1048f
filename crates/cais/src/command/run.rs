//! `cais run`

use std::io::IsTerminal;

use clap::ArgAction;
use engine::{Attached, Attaching, Container, Engine, Error, Outcome, RemoveOptions, Result};

use super::create;
use super::create_options::CreateOptions;
use super::grammar::Bool;
use crate::session::Session;

/// What `run` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais run [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) create: CreateOptions,
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = super::DETACH_KEYS, hide_default_value = true)]
    pub(super) detach_keys: String,
    /// Proxy received signals to the process
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, value_parser = Bool)]
    #[arg(num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "true", default_missing_value = "true", hide_default_value = true)]
    pub(super) sig_proxy: bool,
    /// The image, by name or id; then the command and its arguments, or arguments for what the
    /// image runs
    // One argument, so that every word behind the image is the container's, even `--name`.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    #[arg(num_args = 1..)]
    pub(super) image_and_command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let keys = super::detach_keys(&args.detach_keys)?;
    if !args.detach && args.create.tty && args.create.interactive {
        needs_terminal("leave out -t where standard input is not a terminal")?;
    }
    if args.detach && args.create.is_attached() {
        return Err(Error::invalid(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    let streams = if args.detach { Attached::default() } else { args.create.attached()? };
    let container = create::create(session, &args.create, streams, &args.image_and_command)?;
    let engine = session.engine()?;
    if args.detach {
        or_remove(engine, &container, engine.start(&container))?;
        return session.say(&container.record.id).map(|()| 0);
    }
    let by = Attaching { streams, keys: &keys, signals: args.sig_proxy };
    let outcome = engine.start_attached(&container, &by);
    match or_remove(engine, &container, outcome)? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Detached => Ok(0),
    }
}

/// A container that was to be removed when it exits is removed when it cannot even start.
fn or_remove<T>(engine: &Engine, container: &Container, outcome: Result<T>) -> Result<T> {
    if outcome.is_err() && container.record.settings.auto_remove {
        let options = RemoveOptions { force: true, volumes: true };
        // The failure to start is what the user has to know.
        let _ = engine.remove(container, options);
    }
    outcome
}

/// As Docker has it: a terminal for a program that reads from something else would not work.
pub(super) fn needs_terminal(remedy: &str) -> Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::invalid("the input device is not a TTY").hint(remedy))
}
