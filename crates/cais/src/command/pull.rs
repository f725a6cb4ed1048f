//! `cais pull`

use engine::Result;

use crate::progress;
use crate::session::Session;

/// What `pull` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The image, by name
    image: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let reference = super::reference(&args.image)?;
    let platform = super::platform(args.platform.as_deref())?;
    if !reference.has_tag() && reference.digest().is_none() && !args.quiet {
        session.say("Using default tag: latest")?;
    }
    session.relieve()?;
    progress::pull(
        session.engine()?,
        &reference,
        platform.as_ref(),
        progress::To::Stdout,
        args.quiet,
    )?;
    session.say(reference.to_string()).map(|()| 0)
}
