//! `cais compose kill`

use std::collections::BTreeSet;

use engine::Result;
use rustix::process::Signal;

use super::apply::{Apply, container};
use super::observed;
use super::scope::{OneOff, Scope};
use crate::session::Session;

/// What `kill` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// SIGNAL to send to the container
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let signal = engine::signal(&args.signal)?;
    for found in scope.containers(&args.services, OneOff::Without)? {
        if !found.is_running() {
            continue;
        }
        let what = container(&found.record.name);
        let since = scope.report.begin(&what, "Killing");
        scope.engine.kill(&found, signal)?;
        if signal == Signal::KILL {
            scope.engine.wait(&found)?;
        }
        scope.report.done(&what, "Killed", since);
    }
    if let Some(project) = scope.project_if_any().filter(|_| args.remove_orphans) {
        let known: BTreeSet<String> = project.all().map(|service| service.name.clone()).collect();
        let apply = Apply::new(&scope, project);
        for found in scope.containers(&[], OneOff::Without)? {
            if !known.contains(&observed::service(&found)) {
                apply.stop(std::slice::from_ref(&found))?;
                apply.remove(&found, true)?;
            }
        }
    }
    Ok(0)
}
