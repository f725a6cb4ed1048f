//! What containers go through.

use engine::{Error, Kind, Result};
use remote::Request;
use serde_json::Value;

use super::{Remote, stream};
use crate::command::{self, each};

/// Asks for something to be done with a container.
fn post<'a>(name: &str, what: &str) -> Request<'a> {
    Request::new("POST", &["containers", name, what])
}

/// Does the same with each of several containers, and says which.
fn of_each(
    remote: &Remote<'_>,
    names: &[String],
    request: impl for<'n> Fn(&'n str) -> Request<'static>,
) -> Result<i32> {
    each(names, |name| {
        remote.act(request(name))?;
        remote.session.say(name)
    })
}

pub(super) fn kill(remote: &Remote<'_>, args: &command::kill::Args) -> Result<i32> {
    of_each(remote, &args.containers, |name| post(name, "kill").with("signal", &args.signal))
}

pub(super) fn pause(remote: &Remote<'_>, args: &command::pause::Args) -> Result<i32> {
    of_each(remote, &args.containers, |name| post(name, "pause"))
}

pub(super) fn unpause(remote: &Remote<'_>, args: &command::pause::Args) -> Result<i32> {
    of_each(remote, &args.containers, |name| post(name, "unpause"))
}

/// With a signal and a time to wait, where they are given.
fn ending(
    what: &'static str,
    signal: Option<&str>,
    timeout: Option<i64>,
) -> impl for<'n> Fn(&'n str) -> Request<'static> {
    let signal = signal.unwrap_or_default().to_owned();
    let timeout = timeout.map(|seconds| seconds.to_string()).unwrap_or_default();
    move |name| post(name, what).with_some("signal", &signal).with_some("t", &timeout)
}

pub(super) fn stop(remote: &Remote<'_>, args: &command::stop::Args) -> Result<i32> {
    of_each(remote, &args.containers, ending("stop", args.signal.as_deref(), args.timeout))
}

pub(super) fn restart(remote: &Remote<'_>, args: &command::restart::Args) -> Result<i32> {
    of_each(remote, &args.containers, ending("restart", args.signal.as_deref(), args.timeout))
}

pub(super) fn rename(remote: &Remote<'_>, args: &command::rename::Args) -> Result<i32> {
    remote.act(post(&args.container, "rename").with("name", &args.new_name)).map(|()| 0)
}

pub(super) fn rm(remote: &Remote<'_>, args: &command::rm::Args) -> Result<i32> {
    each(&args.containers, |name| {
        let request = Request::new("DELETE", &["containers", name.trim_start_matches('/')]);
        let request = request.with_flag("force", args.force).with_flag("link", args.link);
        match remote.act(request.with_flag("v", args.volumes)) {
            Err(error) if args.force && error.kind() == Kind::NotFound => Ok(()),
            outcome => outcome.and_then(|()| remote.session.say(name)),
        }
    })
}

pub(super) fn start(remote: &Remote<'_>, args: &command::start::Args) -> Result<i32> {
    if args.checkpoint.is_some() || args.checkpoint_dir.is_some() {
        let message = "start --checkpoint is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    if !(args.attach || args.interactive) {
        return of_each(remote, &args.containers, |name| post(name, "start"));
    }
    let [name] = &args.containers[..] else {
        return Err(Error::invalid("you cannot start and attach multiple containers at once"));
    };
    let found = remote.inspect("containers", name)?;
    let id = found["Id"].as_str().unwrap_or(name);
    let is_stdin = args.interactive && found["Config"]["OpenStdin"] == true;
    let talk = stream::Talk {
        stdin: is_stdin,
        stdout: true,
        stderr: true,
        is_terminal: found["Config"]["Tty"] == true,
        signals: true,
        keys: &args.detach_keys,
    };
    if found["State"]["Running"] == true {
        return stream::attach_running(remote, id, &talk);
    }
    stream::start_attached(remote, id, found["HostConfig"]["AutoRemove"] == true, &talk)
}

pub(super) fn wait(remote: &Remote<'_>, args: &command::wait::Args) -> Result<i32> {
    each(&args.containers, |name| {
        let waited: Value = remote.json(post(name, "wait"))?;
        remote.session.say(waited["StatusCode"].to_string())
    })
}
