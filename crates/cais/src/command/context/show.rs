//! `cais context show`

use engine::Result;

use crate::command::remote::current_context;
use crate::session::Session;

/// What `context show` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(session: &Session, _: &Args) -> Result<i32> {
    session.say(current_context()?).map(|()| 0)
}
