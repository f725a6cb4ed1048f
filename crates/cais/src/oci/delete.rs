//! `delete`.

use anyhow::Result;

use super::flag::Flag;
use super::{Args, Call, Verb, words};

pub(super) const VERB: Verb = Verb {
    name: "delete",
    about: "delete any resources held by the container often used with detached container",
    usage: "<container-id>",
    flags: &[Flag::switch(
        "force",
        "forcibly deletes the container if it is still running (uses SIGKILL)",
    )
    .short('f')],
    args: Args::Exactly(1),
    sealed: false,
    run,
};

fn run(call: &Call<'_>) -> Result<i32> {
    let force = call.own.is_on("force");
    for error in runtime::container::delete(call.root, call.id()?, force)? {
        call.log.warn(&words(&error.into()));
    }
    Ok(0)
}
