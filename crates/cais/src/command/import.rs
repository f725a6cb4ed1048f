//! `cais import`

use std::io::Read;

use engine::{Error, Kind, Result};
use oci::ContainerConfig;

use crate::session::Session;

/// What `import` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(super) change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(super) message: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// The archive: a file, an address, or - for standard input
    pub(super) file: String,
    /// The name of the image
    pub(super) repository: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let reference = args.repository.as_deref().map(super::reference).transpose()?;
    let platform = super::platform(args.platform.as_deref())?;
    let mut config = ContainerConfig::default();
    docker::apply_changes(&args.change, &mut config)?;
    let mut archive: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(std::io::stdin()),
        url if url.starts_with("http://") || url.starts_with("https://") => {
            Box::new(session.engine()?.fetch(url)?)
        }
        path => Box::new(super::open(path.as_ref())?),
    };
    let message = match (args.message.as_str(), args.file.as_str()) {
        ("", "-") => "Imported from -".to_owned(),
        ("", file) => format!("Imported from {file}"),
        (message, _) => message.to_owned(),
    };
    session.relieve()?;
    let engine = session.engine()?;
    let image =
        engine.import(&mut archive, config, &message, platform.as_ref(), reference.as_ref());
    let image = image.map_err(|error| match (error.kind(), error.hint_text()) {
        (Kind::Invalid, None) => {
            let name = if args.file == "-" { "standard input" } else { &args.file };
            Error::caused(Kind::Invalid, format!("import {name}"), error).hint(
                "`cais import` takes a root file system as a tar archive, plain or compressed",
            )
        }
        _ => error,
    })?;
    session.say(image.id.to_string()).map(|()| 0)
}
