//! `cais volume inspect`

use engine::{Error, Kind, Result};

use crate::output;
use crate::session::Session;

/// What `volume inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template
    #[arg(short, long)]
    pub(in crate::command) format: Option<String>,
    /// The volumes, by name
    #[arg(required = true)]
    pub(in crate::command) volumes: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let mut found = Vec::new();
    let code = crate::command::each(&args.volumes, |name| {
        found.push(docker::volume(&engine.volume(name)?));
        Ok(())
    })?;
    let mut text = Vec::new();
    let shown = output::inspect(&mut text, args.format.as_deref(), &found);
    session.print_bytes(&text)?;
    shown.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    Ok(code)
}
