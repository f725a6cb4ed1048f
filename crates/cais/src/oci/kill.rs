//! `kill`.

use anyhow::{Context as _, Result};
use runtime::container::{Container, Error};

use super::flag::Flag;
use super::{Args, Call, Verb};

pub(super) const VERB: Verb = Verb {
    name: "kill",
    about: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    usage: "<container-id> [signal]",
    flags: &[Flag::switch("all", "a container that has ended is no error").short('a')],
    args: Args::Between(1, 2),
    sealed: false,
    run,
};

fn run(call: &Call<'_>) -> Result<i32> {
    let container = Container::open(call.root, call.id()?)?;
    let name = call.own.args.get(1).map_or("", String::as_str);
    let signal = signal(if name.is_empty() { "TERM" } else { name })?;
    match container.signal(signal) {
        Err(Error::NotRunning) if call.own.is_on("all") => Ok(0),
        outcome => Ok(outcome.map(|()| 0)?),
    }
}

/// By number, which the kernel judges, or by name.
fn signal(text: &str) -> Result<i32> {
    let named = || runtime::signal(text).map(rustix::process::Signal::as_raw);
    text.parse().ok().or_else(named).with_context(|| format!("unknown signal \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("9", 9), ("KILL", 9), ("sigkill", 9), ("34", 34), ("0", 0)] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        assert!(signal("NOPE").is_err());
    }
}
