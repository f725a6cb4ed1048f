//! `cais rmi`

use engine::{Kind, Result};
use store::Removed;

use crate::session::Session;

/// What `rmi` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// The images, by name or id
    #[arg(required = true)]
    images: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    super::each(&args.images, |name| {
        let removed = match engine.remove_image(name, args.force) {
            Err(error) if args.force && error.kind() == Kind::NotFound => return Ok(()),
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
