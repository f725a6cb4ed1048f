//! `cais compose volumes`

use engine::Result;
use serde_json::json;

use super::scope::Scope;
use crate::output::Row;
use crate::session::Session;

const TABLE: &str = "{{.Driver}}\t{{.Name}}";
const HEADERS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
];

/// What `volumes` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let project = scope.project_if_any();
    let is_used = |name: &str| {
        let Some(project) = project.filter(|_| !args.services.is_empty()) else { return true };
        let own = project.services.values().filter(|service| args.services.contains(&service.name));
        let mounts = own.flat_map(|service| {
            service.node.get("volumes").map(::compose::Node::items).unwrap_or_default()
        });
        let mut keys = mounts.filter_map(|mount| mount.word_of("source"));
        keys.any(|key| project.volumes.get(key).is_some_and(|volume| volume.name == name))
    };
    let mut rows: Vec<Row> = Vec::new();
    for volume in scope.engine.volume_list()? {
        let labels = volume.labels.clone().unwrap_or_default();
        if labels.get(::compose::create::PROJECT) != Some(&scope.name) || !is_used(&volume.name) {
            continue;
        }
        if args.quiet {
            session.say(&volume.name)?;
            continue;
        }
        let text: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        rows.push(Row::from(json!({
            "Driver": "local",
            "Name": volume.name,
            "Mountpoint": volume.mountpoint,
            "Labels": text.join(","),
        })));
    }
    match args.quiet {
        true => Ok(0),
        false => {
            crate::command::show(session, args.format.as_deref(), false, TABLE, HEADERS, &rows)
        }
    }
}
