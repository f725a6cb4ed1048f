//! `cais export`

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use engine::{Error, Kind, Result};

use crate::session::Session;

/// One write to the archive.
const WRITE_SIZE: usize = 256 << 10;

/// What `export` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// The container, by name or id
    pub(super) container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let container = engine.find(&args.container)?;
    super::to_output(args.output.as_deref(), "export container", |out| {
        let out = BufWriter::with_capacity(WRITE_SIZE, out);
        let mut out = engine.export(&container, out)?;
        out.flush().map_err(|error| Error::caused(Kind::Internal, "write the archive", error))
    })
}
