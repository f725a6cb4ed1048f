//! `cais network disconnect`

use engine::Result;

use crate::session::Session;

/// What `disconnect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    pub(in crate::command) force: bool,
    /// The network, by name or id
    pub(in crate::command) network: String,
    /// The container, by name or id
    pub(in crate::command) container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let network = engine.network(&args.network)?;
    let disconnected = engine.find(&args.container).and_then(|c| engine.disconnect(&network, &c));
    match disconnected {
        Err(error) if args.force && error.kind() == engine::Kind::NotFound => Ok(0),
        outcome => outcome.map(|()| 0),
    }
}
