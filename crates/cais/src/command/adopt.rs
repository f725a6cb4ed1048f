//! `cais system adopt`

use engine::Result;

use crate::session::Session;

/// What `system adopt` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers, by name or id; all where there are none
    containers: Vec<String>,
}

/// Every command does this for what it meets; this one for all, and it is what the others call.
pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    if args.containers.is_empty() {
        return engine.list().map(|_| 0);
    }
    super::each(&args.containers, |name| {
        engine.adopt(name)?;
        session.say(name)
    })
}
