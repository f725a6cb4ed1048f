//! `cais network prune`

use engine::Result;

use crate::command::prune;
use crate::session::Session;
use docker::Filters;

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
    let filter = docker::prune_filter(&filters)?;
    let what = "all custom networks not used by at least one container";
    if !prune::goes_on(session, args.force, what)? {
        return Ok(0);
    }
    let engine = session.engine()?;
    let removed = engine.prune_networks(&filter)?;
    session.print(&prune::list("Deleted Networks:", &removed))?;
    // Whoever asks for some of the networks does not ask for those of others.
    if args.filter.is_empty() {
        for (root, names) in engine.prune_abandoned_networks()? {
            session.say(format!("Deleted of root {root}, which is gone: {}", names.join(" ")))?;
        }
    }
    Ok(0)
}
