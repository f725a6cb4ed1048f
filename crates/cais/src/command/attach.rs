//! `cais attach`

use clap::ArgAction;
use engine::{Attached, Attaching, Outcome, Result};

use super::grammar::Bool;
use crate::session::Session;

/// What `attach` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = super::DETACH_KEYS, hide_default_value = true)]
    pub(super) detach_keys: String,
    /// Do not attach STDIN
    #[arg(long)]
    pub(super) no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, value_parser = Bool)]
    #[arg(num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "true", default_missing_value = "true", hide_default_value = true)]
    pub(super) sig_proxy: bool,
    /// The container, by name or id
    pub(super) container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let keys = super::detach_keys(&args.detach_keys)?;
    let engine = session.engine()?;
    let container = engine.find(&args.container)?;
    let stdin = !args.no_stdin && container.record.settings.open_stdin;
    if stdin && container.record.settings.tty && container.is_running() {
        super::run::needs_terminal("add --no-stdin where standard input is not a terminal")?;
    }
    let streams = Attached { stdin, stdout: true, stderr: true };
    match engine.attach(&container, &Attaching { streams, keys: &keys, signals: args.sig_proxy })? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Detached => Ok(0),
    }
}
