//! `cais container prune`

use engine::Result;

use super::prune;
use crate::session::Session;
use docker::Filters;

/// What `container prune` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. 'until=24h')
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let filter = docker::prune_filter(&filters)?;
    if !prune::goes_on(session, args.force, "all stopped containers")? {
        return Ok(0);
    }
    let pruned = session.engine()?.prune_containers(&filter)?;
    prune::finish(session, "Deleted Containers:", &pruned.removed, pruned.bytes)
}
