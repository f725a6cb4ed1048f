//! `cais compose logs`

use std::collections::BTreeSet;
use std::sync::Mutex;

use engine::{Container, EventQuery, LogQuery, Result, Subject};

use super::follow::{Printer, Style};
use super::scope::{OneOff, Scope};
use super::{observed, one};
use crate::command::logs::{tail, time};
use crate::session::Session;

/// What `logs` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs for each container
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let containers = match (args.index, &args.services[..]) {
        (Some(index), [service]) => vec![one(&scope, service, Some(index))?],
        (Some(_), _) => {
            return Err(engine::Error::invalid("--index requires one service to be selected"));
        }
        (None, services) => scope.containers(services, OneOff::With)?,
    };
    let query = LogQuery {
        tail: tail(&args.tail),
        since: args.since.as_deref().map(|text| time("since", text)).transpose()?,
        until: args.until.as_deref().map(|text| time("until", text)).transpose()?,
        follow: args.follow,
    };
    let printer =
        Printer::new(Style::new(&scope.ansi, args.no_color, args.no_log_prefix, args.timestamps));
    containers.iter().for_each(|found| printer.expect(&observed::short_name(found)));
    if args.follow && args.index.is_none() {
        return follow(&scope, args, &printer, &query, &containers).map(|()| 0);
    }
    containers.iter().try_for_each(|found| printer.show(scope.engine, found, &query)).map(|()| 0)
}

/// Shows the lines of all containers at once, and of those that are started later.
fn follow(
    scope: &Scope<'_>,
    args: &Args,
    printer: &Printer,
    query: &LogQuery,
    containers: &[Container],
) -> Result<()> {
    let engine = scope.engine;
    // Opened before anything is shown: what starts meanwhile is not missed.
    let mut events = engine.events(EventQuery::default())?;
    let shown: Mutex<BTreeSet<String>> = Mutex::default();
    let locked = || shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = scope.name.as_str();
    std::thread::scope(|threads| {
        let show = |found: Container, query: LogQuery| {
            if !locked().insert(found.record.id.clone()) {
                return;
            }
            let shown = &shown;
            threads.spawn(move || {
                if let Err(error) = printer.show(engine, &found, &query) {
                    crate::command::report(&error);
                }
                let mut shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                shown.remove(&found.record.id);
                if shown.is_empty() {
                    // As Docker Compose: it ends when nothing of the project runs any more. Nothing
                    // else could wake who waits for events.
                    runtime::exit_now(0);
                }
            });
        };
        containers.iter().for_each(|found| show(found.clone(), query.clone()));
        if containers.is_empty() {
            return Ok(());
        }
        loop {
            let Some(event) = events.next() else { return Ok(()) };
            let event = event?;
            let label = |key: &str| event.attributes.get(key).map_or("", String::as_str);
            let service = label(::compose::create::SERVICE);
            let wanted =
                args.services.is_empty() || args.services.iter().any(|name| name == service);
            if event.subject == Subject::Container
                && event.action == "start"
                && label(::compose::create::PROJECT) == name
                && wanted
                && let Ok(found) = engine.find(&event.id)
            {
                printer.expect(&observed::short_name(&found));
                let since = Some(found.state.started_at.clone());
                show(found, LogQuery { since, tail: None, ..query.clone() });
            }
        }
    })
}
