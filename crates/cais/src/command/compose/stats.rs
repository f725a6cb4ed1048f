//! `cais compose stats`

use engine::Result;

use super::scope::{OneOff, Scope};
use super::typed;
use crate::session::Session;

/// What `stats` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let mut containers = scope.containers(&args.services, OneOff::Without)?;
    containers.retain(|found| args.all || found.is_running());
    if containers.is_empty() {
        return Ok(0);
    }
    let mut words = vec![format!("--no-stream={}", args.no_stream)];
    words.push(format!("--no-trunc={}", args.no_trunc));
    words.extend(args.format.iter().map(|format| format!("--format={format}")));
    words.push("--".to_owned());
    words.extend(containers.into_iter().map(|found| found.record.name));
    crate::command::stats::run(session, &typed("stats", words)?)
}
