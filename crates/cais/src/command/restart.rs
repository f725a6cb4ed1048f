//! `cais restart`

use engine::Result;

use crate::session::Session;

/// What `restart` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container
    #[arg(short, long)]
    pub(super) signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, visible_alias = "time")]
    pub(super) timeout: Option<i64>,
    /// The containers, by name or id
    #[arg(required = true)]
    pub(super) containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let signal = args.signal.as_deref().map(engine::signal).transpose()?;
    super::each(&args.containers, |name| {
        let container = engine.find(name)?;
        if let Some(note) = engine.deafness(&container, args.timeout, signal) {
            super::report(&note);
        }
        engine.restart(&container, args.timeout, signal)?;
        session.say(name)
    })
}
