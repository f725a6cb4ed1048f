//! `start`.

use anyhow::Result;

use super::create::supervisor;
use super::{Args, Call, Verb};

pub(super) const VERB: Verb = Verb {
    name: "start",
    about: "executes the user defined process in a created container",
    usage: "<container-id>",
    flags: &[],
    args: Args::Exactly(1),
    sealed: false,
    run,
};

fn run(call: &Call<'_>) -> Result<i32> {
    runtime::container::start(call.root, call.id()?, supervisor().as_deref())?;
    Ok(0)
}
