//! `cais volume rm`

use engine::{Kind, Result};

use crate::session::Session;

/// What `volume rm` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not complain about volumes that do not exist
    #[arg(short, long)]
    pub(in crate::command) force: bool,
    /// The volumes, by name
    #[arg(required = true)]
    pub(in crate::command) volumes: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    crate::command::each(&args.volumes, |name| match engine.remove_volume(name) {
        Err(error) if args.force && error.kind() == Kind::NotFound => session.say(name),
        removed => removed.and_then(|()| session.say(name)),
    })
}
