//! `cais volume ls`, and the rows of `cais system df -v`.

use engine::{Result, Volume};
use serde_json::json;

use crate::output::Row;
use crate::session::Session;
use docker::{Filters, Pattern, has_label};

pub(in crate::command) const TABLE: &str = "{{.Driver}}\t{{.Name}}";
pub(in crate::command) const HEADERS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
];

/// What `volume ls` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. 'dangling=true')
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(in crate::command) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    pub(in crate::command) format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    pub(in crate::command) quiet: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "label", "name"])?;
    let dangling = docker::switch(&filters, "dangling", true)?;
    let names: Vec<Pattern> = filters.patterns("name")?;
    let mut rows = Vec::new();
    for volume in engine.volume_list()? {
        let labels = volume.labels.clone().unwrap_or_default();
        let is_wanted = filters.any("driver", |driver| driver == "local")
            && filters.all("label", |label| has_label(&labels, label))
            && (names.is_empty() || names.iter().any(|name| name.is_match(&volume.name)))
            && (!filters.has("dangling")
                || engine.volume_users(&volume.name)?.is_empty() == dangling);
        if is_wanted {
            rows.push(row(&volume, "N/A", "N/A"));
        }
    }
    let format = match (args.quiet, args.format.as_deref()) {
        (true, None) => Some("{{.Name}}"),
        (_, format) => format,
    };
    crate::command::show(session, format, false, TABLE, HEADERS, &rows)
}

/// A volume as Docker lists it.
pub(in crate::command) fn row(volume: &Volume, links: &str, size: &str) -> Row {
    let labels = volume.labels.clone().unwrap_or_default();
    let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let fields = json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": shown.join(","),
        "Links": links,
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name,
        "Scope": "local",
        "Size": size,
        "Status": "N/A",
    });
    Row { fields, labels }
}
