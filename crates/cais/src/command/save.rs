//! `cais save`

use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use engine::{Error, Kind, Result};

use crate::session::Session;

/// One write to the archive.
const WRITE_SIZE: usize = 256 << 10;

/// What `save` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Save only the given platform; fails where no image here is for it
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// The images, by name or id
    #[arg(required = true)]
    pub(super) images: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let platform = super::platform(args.platform.as_deref())?;
    let engine = session.engine()?;
    super::to_output(args.output.as_deref(), "save image", |out| {
        let out = BufWriter::with_capacity(WRITE_SIZE, out);
        let mut out = engine.save(&args.images, platform.as_ref(), out)?;
        out.flush().map_err(|error| Error::caused(Kind::Internal, "write the archive", error))
    })
}

/// Whether standard output is a terminal, which no archive belongs on.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
