//! `cais update`

use engine::{Error, Result, Update};

use super::create_options::{UpdateOptions, value};
use crate::session::Session;

/// What `update` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) limits: UpdateOptions,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY")]
    pub(super) restart: Option<String>,
    /// The containers, by name or id
    #[arg(required = true)]
    pub(super) containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let update = Update {
        limits: args.limits.limits()?,
        restart: args.restart.as_deref().map(value::restart_policy).transpose()?,
    };
    if update == Update::default() {
        return Err(Error::invalid("you must provide one or more flags when using this command"));
    }
    super::each(&args.containers, |name| {
        engine.update(&engine.find(name)?, &update)?;
        session.say(name)
    })
}
