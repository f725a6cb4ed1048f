//! `cais volume inspect`

use engine::{Error, Kind, Result};
use serde_json::json;

use crate::output;
use crate::session::Session;

/// What `volume inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template
    #[arg(short, long)]
    format: Option<String>,
    /// The volumes, by name
    #[arg(required = true)]
    volumes: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let mut found = Vec::new();
    let code = super::each(&args.volumes, |name| {
        let volume = engine.volume(name)?;
        found.push(json!({
            "CreatedAt": volume.created,
            "Driver": "local",
            "Labels": volume.labels.unwrap_or_default(),
            "Mountpoint": volume.mountpoint.display().to_string(),
            "Name": volume.name,
            "Options": {},
            "Scope": "local",
        }));
        Ok(())
    })?;
    let mut text = Vec::new();
    let shown = output::inspect(&mut text, args.format.as_deref(), &found);
    session.print_bytes(&text)?;
    shown.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    Ok(code)
}
