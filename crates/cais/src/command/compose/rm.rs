//! `cais compose rm`

use std::io::{BufRead as _, Write as _};

use engine::Result;

use super::apply::Apply;
use super::scope::{OneOff, Scope};
use crate::session::Session;

/// What `rm` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Don't ask to confirm removal
    #[arg(short, long)]
    force: bool,
    /// Stop the containers, if required, before removing
    #[arg(short, long)]
    stop: bool,
    /// Remove any anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
    /// Deprecated: one-off containers are removed with the others
    #[arg(short, long, hide = true)]
    all: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    if args.stop {
        super::stop::stop(&scope, &args.services, None)?;
    }
    let mut containers = scope.containers(&args.services, OneOff::With)?;
    containers.retain(|found| !found.is_running());
    if containers.is_empty() {
        crate::progress::note("No stopped containers");
        return Ok(0);
    }
    let names: Vec<&str> = containers.iter().map(|found| found.record.name.as_str()).collect();
    if !args.force && !confirmed(&format!("Going to remove {}", names.join(", "))) {
        return Ok(0);
    }
    let nothing = super::down::nothing(&scope)?;
    let apply = Apply::new(&scope, &nothing);
    containers.iter().try_for_each(|found| apply.remove(found, args.volumes))?;
    Ok(0)
}

fn confirmed(question: &str) -> bool {
    // Who cannot be asked does not agree.
    let _ = write!(std::io::stderr(), "? {question} [yN] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
