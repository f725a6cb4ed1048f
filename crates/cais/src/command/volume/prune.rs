//! `cais volume prune`

use engine::Result;

use crate::command::prune;
use crate::session::Session;
use docker::Filters;

/// What `volume prune` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. 'label=<label>')
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["all", "label", "label!"])?;
    let filter = docker::prune_filter(&filters)?;
    let all = args.all || docker::switch(&filters, "all", false)?;
    let what = match all {
        true => "all local volumes not used by at least one container",
        false => "anonymous local volumes not used by at least one container",
    };
    if !prune::goes_on(session, args.force, what)? {
        return Ok(0);
    }
    let pruned = session.engine()?.prune_volumes(all, &filter)?;
    prune::finish(session, "Deleted Volumes:", &pruned.removed, pruned.bytes)
}
