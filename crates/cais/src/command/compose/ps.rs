//! `cais compose ps`

use engine::{Error, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::observed;
use super::scope::{OneOff, Scope};
use crate::command::ps;
use crate::output::Row;
use crate::session::Session;

const TABLE: &str =
    "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}";
const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("Names", "NAMES"),
    ("Project", "PROJECT"),
    ("Service", "SERVICE"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Health", "HEALTH"),
    ("ExitCode", "EXIT CODE"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
];
const STATUSES: &[&str] =
    &["paused", "restarting", "removing", "running", "dead", "created", "exited"];

/// What `ps` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Show all stopped containers (including those created by the run command)
    #[arg(short, long)]
    all: bool,
    /// Filter services by a property (supported filters: status)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Option<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Include orphaned services (not declared by project)
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1)]
    #[arg(require_equals = true, default_value = "true", default_missing_value = "true")]
    #[arg(hide_default_value = true, value_parser = crate::command::grammar::Bool)]
    orphans: bool,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display services
    #[arg(long)]
    services: bool,
    /// Filter services by status
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// The services; all without one
    service: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.service)?;
    let statuses = statuses(args)?;
    let all = args.all || !statuses.is_empty();
    let one_off = if args.all { OneOff::With } else { OneOff::Without };
    let mut containers = scope.containers(&args.service, one_off)?;
    containers.retain(|found| all || found.is_running());
    containers.retain(|found| {
        statuses.is_empty() || statuses.iter().any(|status| status == found.state.status.word())
    });
    if let Some(project) = scope.project_if_any().filter(|_| !args.orphans) {
        containers.retain(|found| project.services.contains_key(&observed::service(found)));
    }
    containers.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    if args.quiet {
        return containers.iter().try_for_each(|found| session.say(&found.record.id)).map(|()| 0);
    }
    if args.services {
        let mut services: Vec<String> = containers.iter().map(observed::service).collect();
        services.dedup();
        return services.iter().try_for_each(|service| session.say(service)).map(|()| 0);
    }
    let now = Timestamp::now();
    let shown = ps::Shown { no_trunc: args.no_trunc, ..ps::Shown::default() };
    let rows = containers.iter().map(|found| {
        let mut row = ps::row(scope.engine, found, shown, now)?;
        complete(&mut row, &scope.name, found);
        Ok(row)
    });
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    crate::command::show(session, args.format.as_deref(), false, TABLE, HEADERS, &rows)
}

fn complete(row: &mut Row, project: &str, found: &engine::Container) {
    let Value::Object(fields) = &mut row.fields else { return };
    let health = found.health().map_or("", |health| health.status.word());
    fields.insert("Name".into(), found.record.name.clone().into());
    fields.insert("Service".into(), observed::service(found).into());
    fields.insert("Project".into(), project.into());
    fields.insert("Health".into(), health.into());
    fields.insert("ExitCode".into(), found.state.exit_code.into());
}

fn statuses(args: &Args) -> Result<Vec<String>> {
    let mut all = args.status.clone();
    if let Some(filter) = &args.filter {
        match filter.split_once('=') {
            Some(("status", status)) => all.push(status.to_owned()),
            Some(("source", _)) => {
                return Err(Error::invalid("filters by source are not supported")
                    .hint("the filter is status, as in --filter status=running"));
            }
            _ => {
                return Err(Error::invalid(format!("unknown filter {filter}"))
                    .hint("the filter is status, as in --filter status=running"));
            }
        }
    }
    match all.iter().find(|status| !STATUSES.contains(&status.as_str())) {
        Some(wrong) => Err(Error::invalid(format!("unknown status {wrong}"))
            .hint(format!("statuses are {}", STATUSES.join(", ")))),
        None => Ok(all),
    }
}
