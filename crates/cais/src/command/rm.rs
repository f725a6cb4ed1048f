//! `cais rm`

use engine::{Kind, RemoveOptions, Result};

use crate::session::Session;

/// What `rm` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub(super) force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    pub(super) link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    pub(super) volumes: bool,
    /// The containers, by name or id
    #[arg(required = true)]
    pub(super) containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let options = RemoveOptions { force: args.force, volumes: args.volumes };
    super::each(&args.containers, |name| {
        if args.link {
            return engine.remove_link(name).and_then(|()| session.say(name));
        }
        let removed = engine.find(name).and_then(|container| engine.remove(&container, options));
        match removed {
            // What is not there needs no force to go away; Docker says nothing about it either.
            Err(error) if args.force && error.kind() == Kind::NotFound => Ok(()),
            outcome => outcome.and_then(|()| session.say(name)),
        }
    })
}
