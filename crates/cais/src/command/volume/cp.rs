//! `cais volume cp`

use engine::Result;

use crate::session::Session;

/// What `volume cp` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The volume to copy
    volume: String,
    /// The name of the new one
    copy: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let made = session.engine()?.copy_volume(&args.volume, &args.copy)?;
    session.say(made.name).map(|()| 0)
}
