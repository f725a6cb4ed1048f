//! `cais ps`

use std::collections::BTreeMap;

use engine::{Container, Engine, MountSource, Result};
use jiff::Timestamp;
use serde_json::json;

use crate::output::{self, Row};
use crate::session::Session;
use docker::Filters;

pub(super) const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
pub(super) const HEADERS: &[(&str, &str)] = &[
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
/// Characters of a command that a table shows.
pub(super) const COMMAND_WIDTH: usize = 20;

/// What `ps` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub(super) all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    pub(super) format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(super) last: Option<usize>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    pub(super) latest: bool,
    /// Don't truncate output
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    pub(super) size: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let filters = Filters::parse(&args.filter, docker::CONTAINER_FILTERS)?;
    let wanted = docker::ContainerFilter::new(engine, &filters)?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.has("status") || filters.has("exited");
    let mut containers = engine.list()?;
    containers.retain(|container| all || container.is_running());
    containers.retain(|container| wanted.has(container));
    containers.truncate(last.unwrap_or(usize::MAX));
    let now = Timestamp::now();
    let only_table = args.format.is_none();
    let shown = Shown { no_trunc: args.no_trunc, size: args.size, only_table };
    let rows: Result<Vec<Row>> =
        containers.iter().map(|container| row(engine, container, shown, now)).collect();
    let table = if args.size { format!("{TABLE}\t{{{{.Size}}}}") } else { TABLE.to_owned() };
    super::show(session, args.format.as_deref(), args.quiet, &table, HEADERS, &rows?)
}

/// What of a container is shown in full.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    pub(super) no_trunc: bool,
    pub(super) size: bool,
    /// Whether nobody asks for more than the table that is shown by default.
    pub(super) only_table: bool,
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
    let command = docker::command_line(record.config.entrypoint.iter().chain(&record.config.cmd));
    let command = match args.no_trunc {
        true => command,
        false => output::ellipsis(&command, COMMAND_WIDTH),
    };
    let size = if args.size { size(engine, container)? } else { String::new() };
    let mut fields = json!({
        "ID": id,
        "Names": record.name,
        "Image": docker::image_name(&record.settings.image),
        "Command": format!("\"{}\"", output::printable_line(&command)),
        "RunningFor": format!("{} ago", super::age(&record.created, now)),
        "Ports": super::port::column(container),
        "Status": docker::status(container, now),
        "Size": size,
    });
    if args.only_table {
        return Ok(fields.into());
    }
    let mounts = || record.settings.mounts.iter();
    let names: Vec<String> = mounts().filter_map(mount_name).collect();
    let local = mounts().filter(|m| matches!(m.source, MountSource::Volume { .. })).count();
    let labels: Vec<String> =
        record.config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    fields["CreatedAt"] = super::local_time(&record.created).into();
    fields["State"] = container.state.status.word().into();
    fields["Labels"] = labels.join(",").into();
    fields["Mounts"] = names.join(",").into();
    fields["Networks"] = docker::network_names(container).join(",").into();
    fields["LocalVolumes"] = local.to_string().into();
    Ok(Row { fields, labels: record.config.labels.clone().into_iter().collect::<BTreeMap<_, _>>() })
}

fn mount_name(mount: &engine::Mount) -> Option<String> {
    let name = match &mount.source {
        MountSource::Bind { path, .. } => path.display().to_string(),
        MountSource::Volume { name, .. } => name.clone(),
        MountSource::Image { name, .. } => name.clone(),
        MountSource::Memory { .. } | MountSource::Tmpfs { .. } => return None,
    };
    Some(output::ellipsis(&name, 15))
}

fn size(engine: &Engine, container: &Container) -> Result<String> {
    let own = engine.writable_bytes(container)?;
    let image = engine.layers_bytes(container);
    let human = |bytes| output::human_size(bytes, 3);
    Ok(format!("{} (virtual {})", human(own), human(own + image)))
}
