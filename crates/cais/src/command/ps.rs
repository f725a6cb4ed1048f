//! `cais ps`

use std::collections::BTreeMap;

use engine::{Container, Engine, MountSource, NetworkMode, Result, Status};
use jiff::Timestamp;
use oci::Reference;
use serde_json::json;

use super::filter::{Filters, Pattern};
use crate::output::{self, Row};
use crate::session::Session;

const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
];
const FILTERS: &[&str] = &[
    "ancestor", "before", "exited", "health", "id", "label", "name", "network", "since", "status",
    "volume",
];
/// Docker's words for the health of a container.
const HEALTHS: &[&str] = &["starting", "healthy", "unhealthy", "none"];
/// Docker's words for where a container is in its life; Cais knows no `dead`.
const STATUSES: &[&str] =
    &["created", "restarting", "running", "removing", "paused", "exited", "dead"];
/// Characters of a command that a table shows.
const COMMAND_WIDTH: usize = 20;

/// What `ps` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let filters = Filters::parse(&args.filter, FILTERS)?;
    let wanted = Wanted::new(engine, &filters)?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.has("status") || filters.has("exited");
    let mut containers = engine.list()?;
    containers.retain(|container| all || container.is_running());
    containers.retain(|container| wanted.has(container));
    containers.truncate(last.unwrap_or(usize::MAX));
    let now = Timestamp::now();
    let shown = Shown { no_trunc: args.no_trunc, size: args.size };
    let rows: Result<Vec<Row>> =
        containers.iter().map(|container| row(engine, container, shown, now)).collect();
    let table = if args.size { format!("{TABLE}\t{{{{.Size}}}}") } else { TABLE.to_owned() };
    super::show(session, args.format.as_deref(), args.quiet, &table, HEADERS, &rows?)
}

/// The containers that the filters leave.
struct Wanted<'a> {
    filters: &'a Filters,
    names: Vec<Pattern>,
    /// The images that it may have been made of; `None` for one that is not here.
    ancestors: Vec<Option<oci::Digest>>,
    /// When those were created that it must be older than, RFC 3339.
    before: Vec<String>,
    /// When those were created that it must be younger than, RFC 3339.
    since: Vec<String>,
}

impl<'a> Wanted<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        let image = |name: &str| match engine.image(name) {
            Ok(image) => Ok(Some(image.id)),
            Err(error) if error.kind() == engine::Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let created = |key: &str| {
            let find = |name| engine.find(name).map(|container| container.record.created);
            filters.values(key).map(find).collect::<Result<_>>()
        };
        filters.only("status", STATUSES)?;
        filters.only("health", HEALTHS)?;
        Ok(Self {
            filters,
            names: filters.patterns("name")?,
            ancestors: filters.values("ancestor").map(image).collect::<Result<_>>()?,
            before: created("before")?,
            since: created("since")?,
        })
    }

    fn has(&self, container: &Container) -> bool {
        let record = &container.record;
        let name = |pattern: &Pattern| {
            // Docker's names start with a slash, which nobody writes.
            pattern.is_match(&record.name) || pattern.is_match(&format!("/{}", record.name))
        };
        let volume = |wanted: &str| {
            record.settings.mounts.iter().any(|mount| {
                matches!(&mount.source, MountSource::Volume { name, .. } if name == wanted)
                    || mount.target == wanted
            })
        };
        let exited = |code: &str| {
            container.state.status == Status::Exited
                && code == container.state.exit_code.to_string()
        };
        let filters = self.filters;
        filters.any("id", |id| record.id.starts_with(id))
            && filters.all("label", |label| super::filter::has_label(&record.config.labels, label))
            && filters.any("status", |status| status == container.state.status.word())
            && filters.any("exited", exited)
            && (!filters.has("health") || filters.any("health", |word| word == health(container)))
            && filters.any("volume", volume)
            && filters
                .any("network", |network| network_names(container).iter().any(|n| n == network))
            && (self.names.is_empty() || self.names.iter().any(name))
            && (self.ancestors.is_empty() || self.ancestors.contains(&Some(record.image_id)))
            && self.before.iter().all(|time| record.created < *time)
            && self.since.iter().all(|time| record.created > *time)
    }
}

/// What of a container is shown in full.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    no_trunc: bool,
    size: bool,
}

/// A container as Docker lists it.
pub(super) fn row(
    engine: &Engine,
    container: &Container,
    args: Shown,
    now: Timestamp,
) -> Result<Row> {
    let record = &container.record;
    let id = if args.no_trunc { &record.id } else { container.short_id() };
    let command = command_line(record.config.entrypoint.iter().chain(&record.config.cmd));
    let command = match args.no_trunc {
        true => command,
        false => output::ellipsis(&command, COMMAND_WIDTH),
    };
    let volumes = record.settings.mounts.iter();
    let names: Vec<String> = volumes.filter_map(mount_name).collect();
    let labels: Vec<String> =
        record.config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let size = if args.size { size(engine, container)? } else { String::new() };
    let local = record.settings.mounts.iter();
    let local = local.filter(|m| matches!(m.source, MountSource::Volume { .. })).count();
    let fields = json!({
        "ID": id,
        "Names": record.name,
        "Image": image_name(&record.settings.image),
        "Command": format!("\"{}\"", output::printable_line(&command)),
        "CreatedAt": super::local_time(&record.created),
        "RunningFor": format!("{} ago", super::age(&record.created, now)),
        "Ports": super::port::column(container),
        "State": container.state.status.word(),
        "Status": status(container, now),
        "Size": size,
        "Labels": labels.join(","),
        "Mounts": names.join(","),
        "Networks": network_names(container).join(","),
        "LocalVolumes": local.to_string(),
    });
    Ok(Row { fields, labels: record.config.labels.clone().into_iter().collect::<BTreeMap<_, _>>() })
}

/// As Docker shows it: arguments with blanks are quoted, the program never is.
fn command_line<'a>(words: impl Iterator<Item = &'a String>) -> String {
    let quoted = words.enumerate().map(|(at, word)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The name as it was given; an id in short.
fn image_name(name: &str) -> String {
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    if bare.len() == 64 && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        return bare[..12].to_owned();
    }
    match name.parse::<Reference>() {
        Ok(reference) if reference.digest().is_some() => reference.familiar_name(),
        _ => name.to_owned(),
    }
}

fn mount_name(mount: &engine::Mount) -> Option<String> {
    let name = match &mount.source {
        MountSource::Bind { path, .. } => path.display().to_string(),
        MountSource::Volume { name, .. } => name.clone(),
        MountSource::Tmpfs { .. } => return None,
    };
    Some(output::ellipsis(&name, 15))
}

fn network_names(container: &Container) -> Vec<String> {
    match &container.record.settings.network {
        NetworkMode::Host => vec!["host".into()],
        NetworkMode::None => vec!["none".into()],
        _ => container.record.settings.networks().into_iter().map(|m| m.network).collect(),
    }
}

fn status(container: &Container, now: Timestamp) -> String {
    let state = &container.state;
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => {
            let up = format!("Up {}", super::age(&state.started_at, now));
            match health(container) {
                "none" => up,
                "starting" => format!("{up} (health: starting)"),
                health => format!("{up} ({health})"),
            }
        }
        Status::Restarting => {
            let age = super::age(&state.finished_at, now);
            format!("Restarting ({}) {age} ago", state.exit_code)
        }
        Status::Paused => format!("Up {} (Paused)", super::age(&state.started_at, now)),
        Status::Exited => {
            format!("Exited ({}) {} ago", state.exit_code, super::age(&state.finished_at, now))
        }
        Status::Removing => "Removal In Progress".into(),
    }
}

fn health(container: &Container) -> &'static str {
    container.health().map_or("none", |health| health.status.word())
}

fn size(engine: &Engine, container: &Container) -> Result<String> {
    let own = engine.writable_bytes(container)?;
    let image = engine.layers_bytes(container);
    let human = |bytes| output::human_size(bytes, 3);
    Ok(format!("{} (virtual {})", human(own), human(own + image)))
}
