//! Docker's Engine API over HTTP: from requests to the engine, and back in Docker's words.

mod archive;
mod attach;
mod build;
mod buildkit;
mod call;
mod container;
mod create;
mod disk;
mod events;
mod exec;
mod failure;
mod frame;
mod hijack;
mod host_config;
mod image;
mod logs;
mod network;
mod progress;
mod prune;
mod pull;
mod registry_auth;
mod route;
mod session;
mod stats;
mod swarm;
mod system;
mod top;
mod volume;
mod wait;

use std::ops::RangeInclusive;

use engine::{Engine, Spawner, Watermarks};
use httpd::{Exchange, Peer, Reply, Service};

use call::Call;
use failure::Failure;
use route::find;
use session::Sessions;

/// The second part of the versions that are spoken: 1.24 to 1.50.
pub(crate) const VERSIONS: RangeInclusive<u32> = 24..=50;

/// What a plain request to a port with TLS is told; Go's words, which clients look for.
const SPEAK_TLS: &str = "HTTP/1.0 400 Bad Request\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// An engine, served. It has no state but the engine's, which is on disk, and what connections are.
#[derive(Debug)]
pub struct Api {
    engine: Engine,
    spawner: Spawner,
    /// Our own version.
    version: &'static str,
    /// When room is made before something is added.
    marks: Option<Watermarks>,
    sessions: Sessions,
}

impl Api {
    /// An engine, whose containers are started by `spawner`.
    #[must_use]
    pub fn new(
        engine: Engine,
        spawner: Spawner,
        version: &'static str,
        marks: Option<Watermarks>,
    ) -> Self {
        Self { engine, spawner, version, marks, sessions: Sessions::default() }
    }

    /// Makes room if the disk is too full for what comes.
    fn relieve(&self) -> engine::Result<()> {
        self.marks.map_or(Ok(()), |marks| self.engine.relieve(marks).map(drop))
    }

    /// With what every answer says.
    fn signed(&self, reply: Reply) -> Reply {
        let reply = reply.header("Api-Version", format_args!("1.{}", VERSIONS.end()));
        let reply = reply.header("Docker-Experimental", "false").header("Ostype", "linux");
        reply.header("Server", format_args!("Cais/{} (linux)", self.version))
    }

    fn answer(&self, exchange: &mut Exchange<'_>) -> Result<Option<Reply>, Failure> {
        let head = exchange.head();
        let (version, path) = route::version(&head.path)?;
        let (handler, names) = find(&head.method, path)?;
        let mut call = Call { api: self, exchange, version, names };
        handler(&mut call)
    }
}

impl Service for Api {
    fn serve(&self, exchange: &mut Exchange<'_>) {
        let reply = match self.answer(exchange) {
            Ok(None) => return,
            Ok(Some(reply)) => reply,
            Err(failure) => failure.reply(),
        };
        // A client that has gone does not want to know.
        let _ = exchange.send(self.signed(reply));
    }

    fn refuse(&self, status: u16, why: &'static str, _peer: Peer) -> Reply {
        self.signed(Failure::new(status, why).reply())
    }

    fn refuse_plain(&self) -> &'static str {
        SPEAK_TLS
    }
}
