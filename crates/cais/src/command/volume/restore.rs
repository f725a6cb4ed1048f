//! `cais volume restore`

use engine::Result;

use crate::session::Session;

/// What `volume restore` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The volume
    volume: String,
    /// The snapshot that it becomes
    snapshot: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    session.engine()?.restore_volume(&args.volume, &args.snapshot)?;
    session.say(&args.volume).map(|()| 0)
}
