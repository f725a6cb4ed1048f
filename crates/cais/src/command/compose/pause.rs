//! `cais compose pause` and `cais compose unpause`

use engine::{Container, Engine, Result, Status};

use super::apply::container;
use super::scope::{OneOff, Scope};
use crate::session::Session;

/// What `pause` and `unpause` take.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    each(session, args, Status::Running, "Paused", Engine::pause)
}

pub(in crate::command) fn unpause(session: &Session, args: &Args) -> Result<i32> {
    each(session, args, Status::Paused, "Unpaused", Engine::unpause)
}

fn each(
    session: &Session,
    args: &Args,
    status: Status,
    done: &str,
    act: fn(&Engine, &Container) -> Result<()>,
) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    for found in scope.containers(&args.services, OneOff::Without)? {
        if found.state.status == status {
            let now = std::time::Instant::now();
            act(scope.engine, &found)?;
            scope.report.done(&container(&found.record.name), done, now);
        }
    }
    Ok(0)
}
