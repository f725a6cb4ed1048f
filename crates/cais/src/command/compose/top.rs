//! `cais compose top`

use engine::Result;

use super::scope::{OneOff, Scope};
use super::typed;
use crate::session::Session;

/// What `top` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    for found in scope.containers(&args.services, OneOff::With)? {
        if found.is_running() {
            session.say(&found.record.name)?;
            crate::command::top::run(session, &typed("top", [found.record.name])?)?;
            session.say("")?;
        }
    }
    Ok(0)
}
