//! `cais context ls`

use engine::Result;
use serde_json::json;

use super::store::{DEFAULT, Store};
use crate::command::remote::current_context;
use crate::command::show;
use crate::output::Row;
use crate::session::Session;

const TABLE: &str =
    "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
];
/// What is said of the context that is in no file.
const DEFAULT_DESCRIPTION: &str = "Current DOCKER_HOST based configuration";
/// Characters of a description that a table shows.
const DESCRIPTION_WIDTH: usize = 60;

/// What `context ls` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let store = Store::open()?;
    let current = current_context()?;
    let row = |name: &str, description: &str, endpoint: &str, error: &str| {
        Row::from(json!({
            "Current": name == current,
            "Description": crate::output::ellipsis(description, DESCRIPTION_WIDTH),
            "DockerEndpoint": endpoint,
            "Error": error,
            "Name": name,
        }))
    };
    let own = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let own = own
        .unwrap_or_else(|| format!("unix://{}", session.roots().1.join("docker.sock").display()));
    let mut rows = vec![row(DEFAULT, DEFAULT_DESCRIPTION, &own, "")];
    for context in store.list()? {
        rows.push(match context.endpoint() {
            Ok(endpoint) => row(&context.name, context.description(), &endpoint.host, ""),
            Err(error) => row(&context.name, context.description(), "", &error.to_string()),
        });
    }
    if !rows.iter().any(|row| row.fields["Current"] == true) {
        let error = format!("context {current:?}: context not found");
        rows.push(row(&current, "", "", &error));
    }
    rows.sort_by(|a, b| a.fields["Name"].as_str().cmp(&b.fields["Name"].as_str()));
    let format = match (args.quiet, args.format.as_deref()) {
        (true, None) => Some("{{.Name}}"),
        (_, format) => format,
    };
    show(session, format, false, TABLE, HEADERS, &rows)
}
