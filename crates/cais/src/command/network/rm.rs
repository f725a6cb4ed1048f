//! `cais network rm`

use engine::{Kind, Result};

use crate::session::Session;

/// What `rm` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    pub(in crate::command) force: bool,
    /// The networks, by name or id
    #[arg(required = true)]
    pub(in crate::command) networks: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    crate::command::each(&args.networks, |name| {
        match engine.network(name).and_then(|network| engine.remove_network(&network)) {
            Err(error) if args.force && error.kind() == Kind::NotFound => Ok(()),
            outcome => outcome.and_then(|()| session.say(name)),
        }
    })
}
