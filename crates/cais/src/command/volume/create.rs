//! `cais volume create`

use std::collections::BTreeMap;

use engine::{Result, VolumeOptions};

use crate::session::Session;

/// What `volume create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local")]
    pub(in crate::command) driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "KEY=VALUE")]
    pub(in crate::command) label: Vec<String>,
    /// Set driver specific options: type, device and o as mount has them, size
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    pub(in crate::command) opt: Vec<String>,
    /// Its name; 64 random digits without one
    pub(in crate::command) volume: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    crate::command::volume_driver(&args.driver)?;
    let asked = VolumeOptions { labels: pairs(&args.label), options: pairs(&args.opt) };
    let name = args.volume.as_deref().unwrap_or_default();
    let volume = session.engine()?.create_volume(name, asked)?;
    session.say(volume.name).map(|()| 0)
}

fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}
