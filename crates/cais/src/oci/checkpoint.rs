//! `checkpoint` and `restore`, which are not supported yet.

use anyhow::{Result, bail};

use super::flag::Flag;
use super::{Args, Call, Verb};

pub(super) const CHECKPOINT: Verb = Verb {
    name: "checkpoint",
    about: "checkpoint a running container",
    usage: "<container-id>",
    flags: FLAGS,
    args: Args::Exactly(1),
    sealed: false,
    run,
};

pub(super) const RESTORE: Verb = Verb {
    name: "restore",
    about: "restore a container from a previous checkpoint",
    usage: "<container-id>",
    flags: FLAGS,
    args: Args::Exactly(1),
    sealed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::value("image-path", "path for criu image files"),
    Flag::value("work-path", "path for work files and logs"),
];

fn run(_: &Call<'_>) -> Result<i32> {
    bail!("checkpoint and restore are not supported");
}
