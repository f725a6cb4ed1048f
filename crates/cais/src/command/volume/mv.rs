//! `cais volume mv`

use engine::Result;

use crate::session::Session;

/// What `volume mv` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The volume
    volume: String,
    /// Its new name
    name: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    session.engine()?.rename_volume(&args.volume, &args.name).map(|()| 0)
}
