//! `run`.

use anyhow::{Context as _, Result};
use runtime::container::{Error, Foreground, Started};

use super::flag::Flag;
use super::{Args, Call, Verb, create, words};

pub(super) const VERB: Verb = Verb {
    name: "run",
    about: "create and run a container",
    usage: "<container-id>",
    flags: &[
        create::BUNDLE,
        create::CONSOLE_SOCKET,
        create::PIDFD_SOCKET,
        Flag::switch("detach", "detach from the container's process").short('d'),
        Flag::switch("keep", "do not delete the container after it exits"),
        create::PID_FILE,
        Flag::switch(
            "no-subreaper",
            "disable the use of the subreaper used to reap reparented processes",
        ),
        create::NO_PIVOT,
        create::NO_NEW_KEYRING,
        create::PRESERVE_FDS,
    ],
    args: Args::Exactly(1),
    sealed: true,
    run,
};

fn run(call: &Call<'_>) -> Result<i32> {
    let detach = call.own.is_on("detach");
    let subreaper = !call.own.is_on("no-subreaper");
    let foreground = || Foreground::new(subreaper).context("take the signals");
    let mut foreground = (!detach).then(foreground).transpose()?;
    let mut started = create::create(call, detach, true)?;
    let outcome = follow(&mut started, foreground.as_mut());
    started.unlock();
    // A container that did not start is gone, and so is one that ended here.
    if outcome.is_err() || (!detach && !call.own.is_on("keep")) {
        clean(call, started);
    }
    outcome
}

/// Starts it and stays with it until it ends; 0 at once when it is left alone.
fn follow(started: &mut Started, foreground: Option<&mut Foreground>) -> Result<i32> {
    started.start(create::supervisor().as_deref(), foreground.is_some())?;
    let Some(foreground) = foreground else { return Ok(0) };
    started.unlock();
    let master = started.master.take();
    let status = foreground.attend(&started.process, master).context("wait for the container")?;
    Ok(status.code())
}

/// Deletes a container that has ended, or did not start.
pub(super) fn clean(call: &Call<'_>, started: Started) {
    match started.delete() {
        Ok(failed) => {
            failed.into_iter().for_each(|error| call.log.warn(&words(&error.into())));
        }
        // Somebody else was faster.
        Err(Error::NotExist) => {}
        Err(error) => call.log.warn(&words(&error.into())),
    }
}
