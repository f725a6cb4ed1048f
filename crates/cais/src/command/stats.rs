//! `cais stats`

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use engine::{Container, Engine, Kind, Result, Usage};
use serde_json::json;

use crate::output::{self, Row};
use crate::session::Session;

pub(super) const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Moves a terminal's cursor home and clears what follows.
pub(super) const CLEAR: &str = "\x1b[H\x1b[J";
const UNKNOWN: &str = "--";

/// What `stats` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub(super) all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    pub(super) format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    pub(super) no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// The containers, by name or id; all that run where there are none
    pub(super) containers: Vec<String>,
}

/// A container, and its usage when it was looked at.
type Look = (Container, Option<(Instant, Usage)>);

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let mut before = look(engine, args)?;
    let clears = std::io::stdout().is_terminal() && !args.no_stream;
    loop {
        std::thread::sleep(INTERVAL);
        let now = look(engine, args)?;
        if clears {
            session.print(CLEAR)?;
        }
        let rows: Vec<Row> = now.iter().map(|look| row(look, &before, args)).collect();
        super::show(session, args.format.as_deref(), false, TABLE, HEADERS, &rows)?;
        if args.no_stream || (!args.containers.is_empty() && !any_runs(&now)) {
            return Ok(0);
        }
        before = now;
    }
}

fn any_runs(looks: &[Look]) -> bool {
    looks.iter().any(|(container, _)| container.is_running())
}

fn look(engine: &Engine, args: &Args) -> Result<Vec<Look>> {
    let containers = match &args.containers[..] {
        [] => engine.list()?.into_iter().filter(|c| args.all || c.is_running()).collect(),
        names => names.iter().map(|name| engine.find(name)).collect::<Result<Vec<_>>>()?,
    };
    let look = |container: Container| {
        let usage = match engine.usage(&container) {
            Ok(usage) => Some((Instant::now(), usage)),
            // One that does not run uses nothing; Docker shows zeros.
            Err(error) if error.kind() == Kind::Conflict => None,
            Err(error) => return Err(error),
        };
        Ok((container, usage))
    };
    containers.into_iter().map(look).collect()
}

fn row((container, usage): &Look, before: &[Look], args: &Args) -> Row {
    let id = if args.no_trunc { &container.record.id } else { container.short_id() };
    let earlier = before.iter().find(|(other, _)| other.record.id == container.record.id);
    let earlier = earlier.and_then(|(_, usage)| usage.as_ref());
    let cpu = match (usage, earlier) {
        (Some((at, usage)), Some((earlier_at, earlier))) => {
            let used = usage.cpu_ns.saturating_sub(earlier.cpu_ns) as f64;
            let passed = at.duration_since(*earlier_at).as_nanos().max(1) as f64;
            percent(used / passed)
        }
        _ if container.is_running() => UNKNOWN.to_owned(),
        _ => percent(0.0),
    };
    let usage = usage.as_ref().map(|(_, usage)| usage.clone()).unwrap_or_default();
    let share = match usage.memory_limit_bytes {
        0 => 0.0,
        limit => usage.memory_bytes as f64 / limit as f64,
    };
    let both =
        |a: u64, b: u64| format!("{} / {}", output::human_size(a, 3), output::human_size(b, 3));
    Row::from(json!({
        "Container": args.containers.iter().find(|key| *key == &container.record.name
            || container.record.id.starts_with(key.as_str())).map_or(id, String::as_str),
        "ID": id,
        "Name": container.record.name,
        "CPUPerc": cpu,
        "MemUsage": format!("{} / {}", output::binary_size(usage.memory_bytes), output::binary_size(usage.memory_limit_bytes)),
        "MemPerc": percent(share),
        "NetIO": both(usage.received_bytes, usage.sent_bytes),
        "BlockIO": both(usage.read_bytes, usage.written_bytes),
        "PIDs": usage.pids.to_string(),
    }))
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}
