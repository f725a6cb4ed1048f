//! `features`.

use anyhow::Result;

use super::{Args, Call, Verb, print};

pub(super) const VERB: Verb = Verb {
    name: "features",
    about: "show the enabled features",
    usage: "",
    flags: &[],
    args: Args::Exactly(0),
    sealed: false,
    run,
};

fn run(_: &Call<'_>) -> Result<i32> {
    let features = runtime::container::features();
    Ok(print(&format!("{}\n", serde_json::to_string_pretty(&features)?)))
}
