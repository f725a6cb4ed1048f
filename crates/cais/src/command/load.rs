//! `cais load`

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use engine::{Error, Kind, Result};

use crate::session::Session;

/// What `load` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// Load only the given platform, if it is not this machine's
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    pub(super) quiet: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut archive: Box<dyn Read> = match &args.input {
        Some(path) => Box::new(super::open(path)?),
        None if std::io::stdin().is_terminal() => {
            return Err(Error::new(Kind::Invalid, "requested load from stdin, but stdin is empty")
                .hint("name the file with -i, or redirect it into the command"));
        }
        None => Box::new(std::io::stdin()),
    };
    session.relieve()?;
    let platform = super::platform(args.platform.as_deref())?;
    let loaded = session.engine()?.load(&mut archive, platform.as_ref(), &mut |_| {}).map_err(|error| {
        let name = args.input.as_ref().map_or("standard input".into(), |path| path.display().to_string());
        match (error.kind(), error.hint_text().map(str::to_owned)) {
            (Kind::Invalid, None) => Error::caused(Kind::Invalid, format!("load {name}"), error)
                .hint("what `docker save` writes and archives of an OCI layout can be loaded; `cais import` takes a root file system"),
            _ => error,
        }
    })?;
    for loaded in loaded {
        if loaded.references.is_empty() {
            session.say(format!("Loaded image ID: {}", loaded.image.id))?;
        }
        for name in &loaded.references {
            session.say(format!("Loaded image: {}", name.familiar()))?;
        }
    }
    Ok(0)
}
