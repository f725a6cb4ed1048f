//! `cais compose version`

use engine::Result;
use serde_json::json;

use crate::session::Session;

/// What `version` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Format the output (pretty, json)
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty", value_parser = ["pretty", "json"])]
    format: String,
    /// Shows only the version number
    #[arg(long)]
    short: bool,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match (args.short, args.format.as_str()) {
        (true, _) => version.to_owned(),
        (false, "json") => json!({ "version": version }).to_string(),
        _ => format!("Cais Compose version {version}"),
    };
    session.say(text).map(|()| 0)
}
