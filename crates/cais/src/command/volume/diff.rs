//! `cais volume diff`

use engine::Result;

use super::super::diff::letters;
use crate::session::Session;

/// What `volume diff` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What was before: a volume's snapshot as VOLUME@SNAPSHOT, or another volume
    before: String,
    /// What is now, the same (default: the volume that the snapshot is of)
    after: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let volume = args.before.split_once('@').map_or(args.before.as_str(), |(volume, _)| volume);
    let before = engine.content(&args.before)?;
    let after = engine.content(args.after.as_deref().unwrap_or(volume))?;
    letters(session, &engine.compare_volumes(&before, &after)?, &[])
}
