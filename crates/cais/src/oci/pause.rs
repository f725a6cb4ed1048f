//! `pause` and `resume`.

use anyhow::Result;

use super::{Args, Call, Verb};

pub(super) const PAUSE: Verb = Verb {
    name: "pause",
    about: "pause suspends all processes inside the container",
    usage: "<container-id>",
    flags: &[],
    args: Args::Exactly(1),
    sealed: false,
    run: pause,
};

pub(super) const RESUME: Verb = Verb {
    name: "resume",
    about: "resumes all processes that have been previously paused",
    usage: "<container-id>",
    flags: &[],
    args: Args::Exactly(1),
    sealed: false,
    run: resume,
};

fn pause(call: &Call<'_>) -> Result<i32> {
    runtime::container::pause(call.root, call.id()?)?;
    Ok(0)
}

fn resume(call: &Call<'_>) -> Result<i32> {
    runtime::container::resume(call.root, call.id()?)?;
    Ok(0)
}
