//! `cais manifest rm`

use engine::Result;

use crate::session::Session;

/// What `rm` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lists
    #[arg(required = true)]
    manifest_lists: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    super::super::each(&args.manifest_lists, |name| {
        engine.remove_manifest_list(&super::super::reference(name)?)
    })
}
