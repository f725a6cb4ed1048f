//! `cais rmi`

use engine::{Kind, Result};
use store::Removed;

use crate::session::Session;

/// What `rmi` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    pub(super) force: bool,
    /// Do not delete untagged parents, which no image has here
    #[arg(long)]
    pub(super) no_prune: bool,
    /// Remove only the given platform; fails where the image here is for another one
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// The images, by name or id
    #[arg(required = true)]
    pub(super) images: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let Args { force, no_prune: _, platform, images } = args;
    let platform = super::platform(platform.as_deref())?;
    let engine = session.engine()?;
    super::each(images, |name| {
        if platform.is_some() {
            engine.image_for(name, platform.as_ref())?;
        }
        let removed = match engine.remove_image(name, *force) {
            Err(error) if *force && error.kind() == Kind::NotFound => return Ok(()),
            outcome => outcome?,
        };
        for line in removed {
            match line {
                Removed::Untagged(name) => session.say(format!("Untagged: {name}"))?,
                Removed::Deleted(digest) => session.say(format!("Deleted: {digest}"))?,
            }
        }
        Ok(())
    })
}
