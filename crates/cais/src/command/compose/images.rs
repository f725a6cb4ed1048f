//! `cais compose images`

use engine::Result;
use jiff::Timestamp;
use oci::Reference;
use serde_json::{Value, json};

use super::scope::{OneOff, Scope};
use crate::output::{Row, human_size};
use crate::session::Session;

const TABLE: &str = "{{.ContainerName}}\t{{.Repository}}\t{{.Tag}}\t{{.Platform}}\t{{.ShortID}}\t{{.SizeText}}\t{{.CreatedText}}";
const HEADERS: &[(&str, &str)] = &[
    ("ContainerName", "CONTAINER"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Platform", "PLATFORM"),
    ("ShortID", "IMAGE ID"),
    ("SizeText", "SIZE"),
    ("CreatedText", "CREATED"),
];

/// What `images` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Format the output (table, json)
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let engine = scope.engine;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for found in scope.containers(&args.services, OneOff::With)? {
        let record = &found.record;
        let id = record.image_id.hex().to_owned();
        let image = engine.image(&record.image_id.to_string()).ok();
        let reference = record.settings.image.parse::<Reference>().ok();
        let size = engine.layers_bytes(&found);
        let created = image.as_ref().and_then(|image| image.created.clone()).unwrap_or_default();
        let platform = match image.as_ref() {
            Some(_) => record.settings.platform.clone().unwrap_or_else(|| {
                let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
                format!("linux/{arch}")
            }),
            None => String::new(),
        };
        rows.push(json!({
            "ID": record.image_id,
            "ShortID": &id[..12],
            "ContainerName": record.name,
            "Repository": reference.as_ref().map_or("<none>".into(), Reference::familiar_name),
            "Tag": reference.as_ref().and_then(Reference::tag).unwrap_or("<none>"),
            "Platform": platform,
            "Size": size,
            "Created": created,
            "SizeText": human_size(size, 3),
            "CreatedText": format!("{} ago", crate::command::age(&created, now)),
        }));
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if args.quiet {
        return ids.iter().try_for_each(|id| session.say(id)).map(|()| 0);
    }
    if args.format == "json" {
        for row in &mut rows {
            if let Value::Object(fields) = row {
                fields.retain(|key, _| {
                    !matches!(key.as_str(), "ShortID" | "SizeText" | "CreatedText")
                });
            }
        }
        return session.say(Value::Array(rows).to_string()).map(|()| 0);
    }
    let rows: Vec<Row> = rows.into_iter().map(Row::from).collect();
    crate::command::show(session, None, false, TABLE, HEADERS, &rows)
}
