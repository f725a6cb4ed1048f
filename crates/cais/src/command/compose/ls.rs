//! `cais compose ls`

use std::collections::BTreeMap;

use ::compose::create;
use engine::Result;
use serde_json::json;

use crate::output::Row;
use crate::session::Session;
use docker::{Filters, Pattern};

const TABLE: &str = "{{.Name}}\t{{.Status}}\t{{.ConfigFiles}}";
const HEADERS: &[(&str, &str)] =
    &[("Name", "NAME"), ("Status", "STATUS"), ("ConfigFiles", "CONFIG FILES")];

/// What `ls` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Show all stopped Compose projects
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(long, value_name = "name=PATTERN")]
    filter: Vec<String>,
    /// Format the output (table, json)
    #[arg(long, value_name = "FORMAT", value_parser = ["table", "json"])]
    format: Option<String>,
    /// Only display project names
    #[arg(short, long)]
    quiet: bool,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["name"])?;
    let names = filters.patterns("name")?;
    let mut projects: BTreeMap<String, (BTreeMap<&str, usize>, String)> = BTreeMap::new();
    for found in session.engine()?.list()? {
        let label = |key: &str| found.record.config.labels.get(key).cloned().unwrap_or_default();
        let name = label(create::PROJECT);
        let is_shown =
            names.is_empty() || names.iter().any(|pattern: &Pattern| pattern.is_match(&name));
        if name.is_empty() || label(create::ONE_OFF) == "True" || !is_shown {
            continue;
        }
        let (states, files) = projects.entry(name).or_default();
        *states.entry(found.state.status.word()).or_default() += 1;
        *files = label(create::FILES);
    }
    projects.retain(|_, (states, _)| args.all || states.contains_key("running"));
    if args.quiet {
        return projects.keys().try_for_each(|name| session.say(name)).map(|()| 0);
    }
    let rows = projects.iter().map(|(name, (states, files))| {
        let states: Vec<String> =
            states.iter().map(|(state, count)| format!("{state}({count})")).collect();
        json!({ "Name": name, "Status": states.join(", "), "ConfigFiles": files })
    });
    let rows: Vec<serde_json::Value> = rows.collect();
    if args.format.as_deref() == Some("json") {
        return session.say(serde_json::Value::Array(rows).to_string()).map(|()| 0);
    }
    let rows: Vec<Row> = rows.into_iter().map(Row::from).collect();
    crate::command::show(session, None, false, TABLE, HEADERS, &rows)
}
