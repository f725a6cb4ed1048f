//! `cais builder prune`

use engine::Result;

use super::prune;
use crate::session::Session;

/// What `builder prune` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused build cache, not just dangling ones: cache mounts, too
    #[arg(short, long)]
    all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let what = match args.all {
        true => "all build cache, with what cache mounts hold",
        false => "all build cache but what cache mounts hold",
    };
    if !prune::goes_on(session, args.force, what)? {
        return Ok(0);
    }
    let pruned = session.engine()?.prune_builds(args.all)?;
    prune::finish(session, "Deleted build cache objects:", &pruned.removed, pruned.bytes)
}
