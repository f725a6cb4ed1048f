//! `cais compose start`

use ::compose::{Condition, Project};
use engine::{Error, Kind, Result};

use super::apply::Apply;
use super::observed;
use super::scope::{OneOff, Scope};
use super::up::wait_for_all;
use super::wait_for::{End, Until, wait};
use crate::session::Session;

/// What `start` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Wait for services to be running|healthy. Implies detached mode
    #[arg(long)]
    wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut scope = Scope::known(session)?;
    let services = services(&mut scope, &args.services)?;
    let containers = scope.containers(&services, OneOff::Without)?;
    if containers.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("no container found for project \"{}\": not found", scope.name),
        )
        .hint("`cais compose up -d` makes them"));
    }
    let nothing = super::down::nothing(&scope)?;
    let project = scope.project_if_any().unwrap_or(&nothing);
    let mut apply = Apply::new(&scope, project);
    for name in &services {
        let own = containers.iter().filter(|found| observed::service(found) == *name);
        let own: Vec<_> = own.filter(|found| !found.is_running()).collect();
        if !own.is_empty() {
            wait_for_dependencies(&scope, project, name)?;
        }
        own.into_iter().try_for_each(|found| apply.start(found))?;
    }
    if args.wait {
        wait_for_all(&scope, &services, args.wait_timeout)?;
    }
    Ok(0)
}

/// The services in the order in which they start: of the files, or of what is there.
pub(super) fn services(scope: &mut Scope<'_>, named: &[String]) -> Result<Vec<String>> {
    if scope.project_if_any().is_some() {
        return scope.select(named, true);
    }
    let containers = scope.containers(named, OneOff::Without)?;
    let mut all: Vec<String> = containers.iter().map(observed::service).collect();
    all.dedup();
    Ok(all)
}

fn wait_for_dependencies(scope: &Scope<'_>, project: &Project, name: &str) -> Result<()> {
    let service = project.services.get(name);
    for dependency in service.map(::compose::Service::dependencies).unwrap_or_default() {
        let Some(until) = Until::of(dependency.condition) else { continue };
        let all = scope.containers(std::slice::from_ref(&dependency.service), OneOff::Without)?;
        // What has completed once is not started again for those that needed it.
        if dependency.condition == Condition::Completed || !all.is_empty() {
            wait(scope.engine, &all, until, End::Never)?;
        }
    }
    Ok(())
}
