//! `cais volume create`

use std::collections::BTreeMap;

use engine::{Error, Kind, Result};

use crate::session::Session;

/// What `volume create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Set driver specific options (none is supported yet)
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its name; 64 random digits without one
    volume: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    if args.driver != "local" {
        return Err(Error::new(Kind::NotFound, format!("plugin \"{}\" not found", args.driver))
            .hint("the only driver is local"));
    }
    if let Some(option) = args.opt.first() {
        return Err(Error::new(
            Kind::Unsupported,
            format!("the option {option} of a volume is not supported yet"),
        )
        .hint("a volume is a directory; mount others with -v or --mount"));
    }
    let mut labels = BTreeMap::new();
    for label in &args.label {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        labels.insert(key.to_owned(), value.to_owned());
    }
    let name = args.volume.as_deref().unwrap_or_default();
    let volume = session.engine()?.create_volume(name, labels)?;
    session.say(volume.name).map(|()| 0)
}
