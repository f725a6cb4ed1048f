//! `cais network inspect`

use engine::{Error, Kind, Result};

use crate::output;
use crate::session::Session;

/// What `inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template
    #[arg(short, long)]
    pub(in crate::command) format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    pub(in crate::command) verbose: bool,
    /// The networks, by name or id
    #[arg(required = true)]
    pub(in crate::command) networks: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let mut found = Vec::new();
    let code = crate::command::each(&args.networks, |name| {
        found.push(docker::network(engine, &engine.network(name)?)?);
        Ok(())
    })?;
    let mut text = Vec::new();
    let shown = output::inspect(&mut text, args.format.as_deref(), &found);
    session.print_bytes(&text)?;
    shown.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    Ok(code)
}
