//! `cais commit`

use engine::{CommitOptions, Result};

use super::grammar;
use crate::session::Session;

/// What `commit` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(super) author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(super) change: Vec<String>,
    /// Commit message
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(super) message: String,
    /// Pause container during commit
    #[arg(
        short,
        long,
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = grammar::Bool
    )]
    pub(super) pause: bool,
    /// The container, by name or id
    pub(super) container: String,
    /// The name of the image
    pub(super) repository: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let reference = args.repository.as_deref().map(super::reference).transpose()?;
    let engine = session.engine()?;
    let container = engine.find(&args.container)?;
    session.relieve()?;
    let mut config = container.record.config.clone();
    docker::apply_changes(&args.change, &mut config)?;
    let options = CommitOptions {
        author: args.author.clone(),
        message: args.message.clone(),
        pause: args.pause,
        config,
        reference,
    };
    let image = engine.commit(&container, options)?;
    session.say(image.id.to_string()).map(|()| 0)
}
