//! `cais rename`

use engine::Result;

use crate::session::Session;

/// What `rename` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container, by name or id
    pub(super) container: String,
    /// Its new name
    pub(super) new_name: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    engine.rename(&engine.find(&args.container)?, &args.new_name).map(|()| 0)
}
