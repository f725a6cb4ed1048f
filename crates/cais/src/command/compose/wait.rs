//! `cais compose wait`

use std::sync::mpsc;

use engine::{Error, Kind, Result};

use super::observed;
use super::scope::{OneOff, Scope};
use super::{apply::Apply, typed};
use crate::session::Session;

/// What `wait` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Drops project when the first container stops
    #[arg(long)]
    down_project: bool,
    /// The services
    #[arg(required = true)]
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let containers = scope.containers(&args.services, OneOff::Without)?;
    if containers.is_empty() {
        let message = format!("no containers for project \"{}\"", scope.name);
        return Err(Error::new(Kind::NotFound, message).hint("`cais compose up -d` makes them"));
    }
    let engine = scope.engine;
    let first = std::thread::scope(|threads| {
        let (tell, ended) = mpsc::channel();
        for found in &containers {
            let tell = tell.clone();
            threads.spawn(move || {
                let code = engine.wait(found);
                // Only the first is listened to where the project is taken down.
                let _ = tell.send((found.record.name.clone(), observed::service(found), code));
            });
        }
        drop(tell);
        let mut last = None;
        for (name, service, code) in ended {
            let code = code?;
            session.say(format!(
                "container \"{name}\" of service {service} exited with status code {code}"
            ))?;
            if last.is_none() && args.down_project {
                let nothing = super::down::nothing(&scope)?;
                let apply = Apply::new(&scope, &nothing);
                apply.stop(&containers)?;
            }
            last = last.or(Some(code));
        }
        Ok::<_, Error>(last.unwrap_or(0))
    })?;
    if args.down_project {
        super::down::run(session, &typed("down", [])?)?;
    }
    Ok(first)
}
