//! `cais attach`

use engine::{Outcome, Result};

use crate::session::Session;

/// What `attach` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = super::DETACH_KEYS, hide_default_value = true)]
    detach_keys: String,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// The container, by name or id
    container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let keys = super::detach_keys(&args.detach_keys)?;
    let engine = session.engine()?;
    let container = engine.find(&args.container)?;
    let stdin = !args.no_stdin && container.record.settings.open_stdin;
    if stdin && container.record.settings.tty && container.is_running() {
        super::run::needs_terminal("add --no-stdin where standard input is not a terminal")?;
    }
    match engine.attach(&container, stdin, &keys)? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Detached => Ok(0),
    }
}
