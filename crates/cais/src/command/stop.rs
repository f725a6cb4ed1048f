//! `cais stop`

use std::thread::ScopedJoinHandle;

use engine::Result;

use crate::session::Session;

/// How many containers are waited for at the same time.
const AT_ONCE_MAX: usize = 50;

/// What `stop` takes.
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
    let stop = |name: &str| {
        let container = engine.find(name)?;
        // Said before, instead of a silence as long as the timeout.
        if let Some(note) = engine.deafness(&container, args.timeout, signal) {
            super::report(&note);
        }
        engine.stop(&container, args.timeout, signal)
    };
    let mut code = 0;
    for names in args.containers.chunks(AT_ONCE_MAX) {
        // Together, since each may take as long as its timeout.
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = names.iter().map(|name| scope.spawn(|| stop(name))).collect();
            threads.into_iter().map(ScopedJoinHandle::join).collect()
        });
        let mut outcomes = outcomes.into_iter();
        code |= super::each(names, |name| {
            let outcome = outcomes.next().expect("every name has an outcome");
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            session.say(name)
        })?;
    }
    Ok(code)
}
