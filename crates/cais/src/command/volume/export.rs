//! `cais volume export`

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use engine::{Error, Kind, Result};

use super::super::to_output;
use crate::session::Session;

/// One write to the archive.
const WRITE_SIZE: usize = 256 << 10;

/// What `volume export` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The volume, or VOLUME@SNAPSHOT
    volume: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    engine.content(&args.volume)?;
    to_output(args.output.as_deref(), "export volume", |out| {
        let out = BufWriter::with_capacity(WRITE_SIZE, out);
        let mut out = engine.export_volume(&args.volume, out)?;
        out.flush().map_err(|error| Error::caused(Kind::Internal, "write the archive", error))
    })
}
