//! `cais volume import`

use std::io::Read;
use std::path::PathBuf;

use engine::Result;

use super::super::open;
use crate::session::Session;

/// What `volume import` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive, plain or compressed; `-` for STDIN
    archive: PathBuf,
    /// The name of the new volume
    volume: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut archive: Box<dyn Read> = match args.archive.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(open(&args.archive)?),
    };
    let made = session.engine()?.import_volume(&args.volume, &mut archive)?;
    session.say(made.name).map(|()| 0)
}
