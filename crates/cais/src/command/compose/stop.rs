//! `cais compose stop`

use engine::Result;

use super::apply::Apply;
use super::down::nothing;
use super::scope::{OneOff, Scope};
use crate::session::Session;

/// What `stop` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Specify a shutdown timeout in seconds
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i64>,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    stop(&scope, &args.services, args.timeout)?;
    Ok(0)
}

/// Stops the containers of these services, or of all.
pub(super) fn stop(scope: &Scope<'_>, services: &[String], timeout_s: Option<i64>) -> Result<()> {
    let nothing = nothing(scope)?;
    let mut apply = Apply::new(scope, scope.project_if_any().unwrap_or(&nothing));
    apply.timeout_s = timeout_s;
    let containers = scope.containers(services, OneOff::Without)?;
    scope.in_stop_order(containers).into_iter().try_for_each(|group| apply.stop(&group))
}
