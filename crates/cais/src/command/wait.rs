//! `cais wait`

use engine::Result;

use crate::session::Session;

/// What `wait` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers, by name or id
    #[arg(required = true)]
    pub(super) containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    super::each(&args.containers, |name| {
        let code = engine.wait(&engine.find(name)?)?;
        session.say(code.to_string())
    })
}
