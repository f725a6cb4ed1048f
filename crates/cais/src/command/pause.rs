//! `cais pause` and `cais unpause`

use engine::Result;

use crate::session::Session;

/// What `pause` and `unpause` take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers, by name or id
    #[arg(required = true)]
    pub(super) containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    super::each(&args.containers, |name| {
        engine.pause(&engine.find(name)?)?;
        session.say(name)
    })
}

pub(crate) fn unpause(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    super::each(&args.containers, |name| {
        engine.unpause(&engine.find(name)?)?;
        session.say(name)
    })
}
