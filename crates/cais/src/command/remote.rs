//! The commands, done by an engine elsewhere: what is typed and shown is the same, and what is done is
//! asked for over Docker's API.
//!
//! This is the one place where it is decided who does a command ([`chosen`]), and the table of those
//! that an engine elsewhere can be asked for ([`run`]).

mod build;
mod choice;
mod copy;
mod create;
mod exec;
mod image;
mod life;
mod list;
mod look;
mod object;
mod stats;
mod stream;
mod table;

use clap::ArgMatches;
use engine::{Error, Kind, Result};
use remote::{Answer, Request};
use serde_json::Value;

pub(super) use choice::{arguments, config_directory, current_context, is_docker};

use crate::session::Session;

/// An engine elsewhere.
pub(super) struct Remote<'a> {
    pub(super) session: &'a Session,
    engine: remote::Engine,
    /// The context that named it.
    context: String,
}

/// Which engine was chosen: by an option, by the environment or by a context; `None` for this
/// machine's own, which is asked without any API.
pub(super) fn chosen(matches: &ArgMatches) -> Result<Option<choice::Chosen>> {
    choice::chosen(matches)
}

/// Whether a command is done here, whichever engine was chosen: it is about registries, files,
/// contexts or clusters.
pub(super) fn is_local(family: &str, name: &str) -> bool {
    const GROUPS: &[&str] = &["cluster", "context", "manifest", "registry"];
    const COMMANDS: &[&str] = &["copy", "login", "logout", "search"];
    GROUPS.contains(&family) || family.is_empty() && COMMANDS.contains(&name)
}

/// Runs a command of a family (`container`, `image`, …; empty for those that are of none).
pub(super) fn run(
    session: &Session,
    chosen: choice::Chosen,
    (family, name): (&str, &str),
    matches: &ArgMatches,
) -> Result<i32> {
    let command = format!("{family} {name}");
    if command == "system dial-stdio" {
        return stream::dial_stdio(&chosen.place);
    }
    let Some(run) = table::find(family, name) else {
        let message =
            format!("{} is not supported for the engine at {}", command.trim(), chosen.place);
        return Err(Error::new(Kind::Unsupported, message).hint(
            "without -H, --context and DOCKER_HOST it is done by this machine's own engine",
        ));
    };
    let engine = remote::Engine::connect(chosen.place, docker::API_VERSION).map_err(failure)?;
    run(&Remote { session, engine, context: chosen.context }, matches)
}

impl Remote<'_> {
    /// Asks; the answer says yes.
    fn ask(&self, request: Request<'_>) -> Result<Answer> {
        self.engine.ask(request).map_err(failure)
    }

    /// Asks for a document.
    fn json(&self, request: Request<'_>) -> Result<Value> {
        self.engine.json(request).map_err(failure)
    }

    /// Asks for a document about one object.
    fn inspect(&self, family: &str, name: &str) -> Result<Value> {
        self.json(match family {
            "networks" | "volumes" => Request::new("GET", &[family, name]),
            _ => Request::new("GET", &[family, name, "json"]),
        })
    }

    /// Asks for something to be done.
    fn act(&self, request: Request<'_>) -> Result<()> {
        self.json(request).map(drop)
    }

    /// The connection broke.
    fn broken(&self, error: std::io::Error) -> Error {
        failure(self.engine.broken(error))
    }
}

/// A failure as those of this machine's own engine are.
fn failure(error: remote::Error) -> Error {
    let text = error.to_string();
    match error {
        remote::Error::Place(_) => Error::invalid(text)
            .hint("as in unix:///run/docker.sock, tcp://host:2376 or ssh://user@host"),
        remote::Error::Unreachable { source, .. } => Error::caused(Kind::Unavailable, text, source)
            .hint("check the address, and that `cais serve` or dockerd runs there"),
        remote::Error::Broken { source, .. } => Error::caused(Kind::Unavailable, text, source),
        remote::Error::Refused { status, message } => Error::new(kind(status, &message), text),
    }
}

/// What kind of failure an engine tells of.
fn kind(status: u16, message: &str) -> Kind {
    match status {
        400 | 500 if is_missing(message) => Kind::CommandNotFound,
        400 | 500 if message.contains("permission denied") => Kind::CommandNotExecutable,
        400 => Kind::Invalid,
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        501 => Kind::Unsupported,
        503 => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

/// What engines say of a program that is not there; Docker's client looks for the same words.
fn is_missing(message: &str) -> bool {
    message.contains("executable file not found")
        || message.contains("no such file or directory") && message.contains("exec")
}
