//! `cais registry gc`
use engine::Result;

use crate::session::Session;

/// What `registry gc` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_session: &Session, _args: &Args) -> Result<i32> {
    Ok(0)
}
