//! `cais context use`

use engine::Result;

use super::store::{DEFAULT, Store};
use crate::progress;
use crate::session::Session;

/// What `context use` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    context: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let store = Store::open()?;
    let name = Some(args.context.as_str()).filter(|name| *name != DEFAULT);
    if let Some(name) = name {
        store.get(name)?;
    }
    store.choose(name)?;
    session.say(&args.context)?;
    progress::note(&format!("Current context is now \"{}\"", args.context));
    if std::env::var("DOCKER_HOST").is_ok_and(|host| !host.is_empty()) {
        progress::note(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use \"{}\", \
             either set the global --context flag, or unset DOCKER_HOST environment variable.",
            args.context
        ));
    }
    Ok(0)
}
