//! `cais push`

use engine::{Error, Kind, Result};
use oci::Reference;

use crate::progress;
use crate::session::Session;

/// What `push` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    pub(super) all_tags: bool,
    /// Push a platform-specific manifest as a single-platform image; an index is not pushed
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    pub(super) quiet: bool,
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
    if !args.all_tags && !is_whole && !args.quiet {
        session.say("Using default tag: latest")?;
    }
    let engine = session.engine()?;
    if !args.quiet {
        session.say(format!("The push refers to repository [{}]", reference.name()))?;
    }
    let tags = match args.all_tags {
        true => tags(session, &reference)?,
        false => vec![reference.clone()],
    };
    for tag in &tags {
        progress::push(engine, tag, platform.as_ref(), args.quiet)?;
    }
    if args.quiet {
        let name = if args.all_tags { reference.name() } else { reference.to_string() };
        session.say(name)?;
    }
    Ok(0)
}

/// All tags that are here of a repository.
fn tags(session: &Session, repository: &Reference) -> Result<Vec<Reference>> {
    let images = session.engine()?.images()?;
    let all = images.into_iter().flat_map(|image| image.tags);
    let mut tags: Vec<Reference> = all.filter(|tag| tag.name() == repository.name()).collect();
    tags.sort();
    if tags.is_empty() {
        let name = repository.familiar_name();
        let text = format!("An image does not exist locally with the tag: {name}");
        return Err(Error::new(Kind::NotFound, text).hint("`cais images` lists what is here"));
    }
    Ok(tags)
}
