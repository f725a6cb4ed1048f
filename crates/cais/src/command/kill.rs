//! `cais kill`

use std::collections::HashSet;

use engine::Result;

use crate::session::Session;

/// What `kill` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container
    #[arg(short, long, default_value = "KILL")]
    pub(super) signal: String,
    /// The containers, by name or id
    #[arg(required = true)]
    pub(super) containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let signal = engine::signal(&args.signal)?;
    let kills = args.signal.trim_start_matches("SIG") == "KILL" || args.signal == "9";
    let mut killed = HashSet::new();
    super::each(&args.containers, |name| {
        // Whoever is named twice is dead already, and perhaps gone.
        if killed.contains(name) {
            return session.say(name);
        }
        let container = engine.find(name)?;
        if killed.contains(&container.record.id) {
            return session.say(name);
        }
        engine.kill(&container, signal)?;
        if kills {
            engine.wait(&container)?;
            killed.extend([name.to_owned(), container.record.id]);
        }
        session.say(name)
    })
}
