//! `cais logout`

use engine::Result;

use crate::session::Session;

/// What `logout` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The registry; Docker Hub if none is named
    server: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let registry = registry::registry_name(args.server.as_deref().unwrap_or_default());
    let name = registry::registry_key(&registry);
    session.say(format!("Removing login credentials for {name}"))?;
    engine::logout(&registry).map(|_| 0)
}
