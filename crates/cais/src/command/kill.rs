//! `cais kill`

use engine::Result;

use crate::session::Session;

/// What `kill` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// The containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let signal = engine::signal(&args.signal)?;
    super::each(&args.containers, |name| {
        let container = engine.find(name)?;
        engine.kill(&container, signal)?;
        if args.signal.trim_start_matches("SIG") == "KILL" || args.signal == "9" {
            engine.wait(&container)?;
        }
        session.say(name)
    })
}
