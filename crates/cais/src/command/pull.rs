//! `cais pull`

use engine::{Error, Kind, Result};
use oci::Reference;

use crate::progress;
use crate::session::Session;

/// What `pull` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    pub(super) all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// The image, by name
    pub(super) image: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let reference = super::reference(&args.image)?;
    let platform = super::platform(args.platform.as_deref())?;
    let is_whole = reference.has_tag() || reference.digest().is_some();
    if args.all_tags && is_whole {
        return Err(Error::invalid("tag can't be used with --all-tags/-a"));
    }
    if !is_whole && !args.all_tags && !args.quiet {
        session.say("Using default tag: latest")?;
    }
    session.relieve()?;
    let engine = session.engine()?;
    let pull = |reference: &Reference| {
        progress::pull(engine, reference, platform.as_ref(), progress::To::Stdout, args.quiet)
    };
    if !args.all_tags {
        pull(&reference)?;
        return session.say(reference.to_string()).map(|()| 0);
    }
    for tag in engine::remote_tags(session.registry(), &reference)? {
        let tagged = reference.with_tag(&tag);
        pull(&tagged.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?)?;
    }
    session.say(reference.name()).map(|()| 0)
}
