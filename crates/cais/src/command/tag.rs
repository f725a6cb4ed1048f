//! `cais tag`

use engine::Result;

use crate::session::Session;

/// What `tag` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image, by name or id
    pub(super) source_image: String,
    /// The new name
    pub(super) target_image: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let reference = super::reference(&args.target_image)?;
    session.engine()?.tag(&args.source_image, &reference).map(|()| 0)
}
