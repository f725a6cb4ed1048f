//! `cais image prune`

use engine::Result;

use super::prune;
use crate::session::Session;
use docker::Filters;

/// What `image prune` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. 'until=24h')
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["dangling", "label", "label!", "until"])?;
    let filter = docker::prune_filter(&filters)?;
    let all = args.all || !docker::switch(&filters, "dangling", true)?;
    let what = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !prune::goes_on(session, args.force, what)? {
        return Ok(0);
    }
    let pruned = session.engine()?.prune_images(all, &filter)?;
    let lines = prune::image_lines(&pruned.removed);
    prune::finish(session, "Deleted Images:", &lines, pruned.bytes)
}
