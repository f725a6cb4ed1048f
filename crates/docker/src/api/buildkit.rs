//! `POST /grpc`: BuildKit's interface, as far as `docker build` needs it; the builder is our own.
//!
//! A client (buildx) opens a [session](super::session), calls `Control.Solve`, which waits, and
//! `Control.Status`, which tells how it goes; then it has the frontend `dockerfile.v0` build by
//! `LLBBridge.Solve`, and hands the result over to `Control.Solve` by `LLBBridge.Return`. All of that
//! is on one connection, so what is known of a build lives as long as that.

mod agent;
mod attribute;
mod cache;
mod check;
mod control;
mod export;
mod files;
mod gateway;
mod input;
mod news;
mod policy;
pub(super) mod post;
mod relay;
mod solve;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use grpc::proto::Message;
use grpc::{Code, Connection, Status, Stream};
use httpd::Upgraded;

use super::Api;
use super::call::{Answer, Call};
use super::failure::told;
use super::session::switch;
use news::News;
use solve::Solve;

/// Of a thread that answers a call.
const STACK_BYTES: usize = 512 << 10;
/// Builds of one connection.
const BUILDS_MAX: usize = 64;
/// The largest piece of a file or an archive in one message.
const PIECE_BYTES: usize = 256 << 10;

/// What a call comes to.
type Outcome<T = ()> = Result<T, Status>;

pub(super) fn grpc(call: &mut Call<'_, '_>) -> Answer {
    let api = call.api;
    let connection = Connection::server()?;
    let Ok(mut client) = switch(call)? else { return Ok(None) };
    let room = Room { api, connection, builds: Mutex::default() };
    thread::scope(|scope| {
        room.connection.run(&mut client, &Upgraded::has_more, &|stream| {
            let thread = thread::Builder::new().name("grpc".to_owned()).stack_size(STACK_BYTES);
            // A call that no thread can be had for is given up.
            let _ = thread.spawn_scoped(scope, || room.take(stream));
        });
    });
    Ok(None)
}

/// One connection, with its builds by their names.
struct Room<'a> {
    api: &'a Api,
    connection: Connection,
    builds: Mutex<HashMap<String, Arc<Build>>>,
}

/// A build, for all calls that are about it.
#[derive(Debug, Default)]
struct Build {
    state: Mutex<BuildState>,
}

#[derive(Debug, Default)]
struct BuildState {
    /// What `Control.Solve` asks for.
    solve: Option<Arc<Solve>>,
    /// What `LLBBridge.Return` says.
    returned: Option<Outcome>,
    /// The image that was built.
    image: Option<String>,
    news: News,
    has_ended: bool,
}

impl Build {
    fn lock(&self) -> MutexGuard<'_, BuildState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room<'_> {
    /// Answers a call.
    fn take(&self, stream: Stream) {
        let outcome = self.answer(&stream);
        stream.finish(&outcome);
    }

    fn answer(&self, stream: &Stream) -> Outcome {
        let path = stream.path();
        let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or_default();
        match service {
            "moby.buildkit.v1.Control" => self.control(method, stream),
            "moby.buildkit.v1.frontend.LLBBridge" => self.bridge(method, stream),
            // It serves.
            "grpc.health.v1.Health" if method == "Check" => {
                stream.receive_one()?;
                stream.send(&Message::new().number(1, 1))
            }
            _ => Err(grpc::unknown(&path)),
        }
    }

    /// The build of this name, which is known from its first call on.
    fn build(&self, name: &str) -> Outcome<Arc<Build>> {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        if builds.len() >= BUILDS_MAX && !builds.contains_key(name) {
            builds.retain(|_, build| !build.lock().has_ended);
            if builds.len() >= BUILDS_MAX {
                return Err(Status::new(Code::ResourceExhausted, "there are too many builds"));
            }
        }
        Ok(builds.entry(name.to_owned()).or_default().clone())
    }

    /// Changes what is known of a build, and tells whoever waits for it.
    fn change<T>(&self, build: &Build, change: impl FnOnce(&mut BuildState) -> T) -> T {
        let value = change(&mut build.lock());
        self.connection.wake();
        value
    }
}

/// What the engine refuses, as a call's failure.
fn failed(error: &engine::Error) -> Status {
    let code = match error.kind() {
        engine::Kind::Invalid | engine::Kind::Usage => Code::InvalidArgument,
        engine::Kind::NotFound => Code::NotFound,
        engine::Kind::Denied => Code::PermissionDenied,
        engine::Kind::Unsupported => Code::Unimplemented,
        engine::Kind::Unavailable => Code::Unavailable,
        _ => Code::Unknown,
    };
    let says_what_helps = matches!(error.kind(), engine::Kind::Unsupported | engine::Kind::Denied);
    let message = match error.hint_text().filter(|_| says_what_helps) {
        Some(hint) => format!("{} ({hint})", told(error)),
        None => told(error),
    };
    Status::new(code, message)
}

/// Something that is not done here.
fn unsupported(message: impl Into<String>) -> Status {
    Status::new(Code::Unimplemented, message)
}

fn invalid(message: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, message)
}

/// Whether a value means yes, as Go reads it.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
