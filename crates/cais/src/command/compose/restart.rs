//! `cais compose restart`

use std::collections::BTreeSet;

use engine::{Error, Kind, Result};

use super::apply::{Apply, container};
use super::observed;
use super::scope::{OneOff, Scope};
use crate::session::Session;

/// What `restart` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Don't restart dependent services
    #[arg(long)]
    no_deps: bool,
    /// Specify a shutdown timeout in seconds
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i64>,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut scope = Scope::known(session)?;
    let mut services = super::start::services(&mut scope, &args.services)?;
    if !args.services.is_empty() {
        let mut wanted: BTreeSet<String> = args.services.iter().cloned().collect();
        if let Some(project) = scope.project_if_any().filter(|_| !args.no_deps) {
            let dependent = project.services.values().filter(|service| {
                let mut all = service.dependencies().into_iter();
                all.any(|dependency| {
                    dependency.restarts && args.services.contains(&dependency.service)
                })
            });
            wanted.extend(dependent.map(|service| service.name.clone()));
        }
        services = match scope.project_if_any() {
            Some(_) => scope.select(&wanted.iter().cloned().collect::<Vec<_>>(), false)?,
            None => wanted.into_iter().collect(),
        };
    }
    let containers = scope.containers(&services, OneOff::Without)?;
    if containers.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("no container found for project \"{}\": not found", scope.name),
        )
        .hint("`cais compose up -d` makes them"));
    }
    let nothing = super::down::nothing(&scope)?;
    let apply = Apply::new(&scope, scope.project_if_any().unwrap_or(&nothing));
    for name in &services {
        for found in containers.iter().filter(|found| observed::service(found) == *name) {
            let what = container(&found.record.name);
            let since = scope.report.begin(&what, "Restarting");
            apply.pre_stop(found)?;
            scope.engine.restart(found, args.timeout, None)?;
            scope.report.done(&what, "Started", since);
        }
    }
    Ok(0)
}
