//! `cais network prune`

use engine::Result;

use crate::command::filter::Filters;
use crate::command::prune;
use crate::session::Session;

/// What `network prune` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let filter = prune::filter(&filters)?;
    let what = "all custom networks not used by at least one container";
    if !prune::goes_on(session, args.force, what)? {
        return Ok(0);
    }
    let removed = session.engine()?.prune_networks(&filter)?;
    session.print(&prune::list("Deleted Networks:", &removed)).map(|()| 0)
}
