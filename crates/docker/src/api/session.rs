//! `POST /session`: a client's connection becomes one on which we call, and it answers: for files,
//! secrets, agents and credentials of a build.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use grpc::{Code, Connection, Status};
use httpd::{Reply, Upgraded};

use super::call::{Answer, Call};
use super::failure::Failure;

/// How long a build waits for the session that it names; BuildKit's.
const COME_MAX: Duration = Duration::from_secs(5);
/// Bytes of the name of a session.
pub(super) const ID_BYTES_MAX: usize = 256;

/// The sessions of all clients, by their names. They are connections, and end with them: there is
/// nothing to know of them afterwards.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Mutex<HashMap<String, Connection>>,
    come: Condvar,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Connection>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a session as long as its connection is there.
    pub(super) fn hold<W: Read + Write + AsFd>(
        &self,
        id: &str,
        wire: &mut W,
        has_more: &dyn Fn(&mut W) -> bool,
    ) -> io::Result<()> {
        let session = Connection::client()?;
        if let Some(other) = self.lock().insert(id.to_owned(), session.clone()) {
            // Nobody has two connections for one.
            other.close();
        }
        self.come.notify_all();
        // Clients do not call here.
        session.run(wire, has_more, &drop);
        let mut all = self.lock();
        if all.get(id).is_some_and(Connection::is_closed) {
            all.remove(id);
        }
        Ok(())
    }

    /// The session of this name, which may still be about to come.
    pub(super) fn find(&self, id: &str) -> Result<Connection, Status> {
        let deadline = Instant::now() + COME_MAX;
        let mut all = self.lock();
        loop {
            if let Some(session) = all.get(id) {
                return Ok(session.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("no active session for {id}");
                return Err(Status::new(Code::NotFound, message));
            }
            let waited = self.come.wait_timeout(all, left);
            (all, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

pub(super) fn session(call: &mut Call<'_, '_>) -> Answer {
    let id =
        call.exchange.head().get("x-docker-expose-session-uuid").unwrap_or_default().to_owned();
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(Failure::bad("X-Docker-Expose-Session-Uuid is required"));
    }
    let sessions = &call.api.sessions;
    let Ok(mut client) = switch(call)? else { return Ok(None) };
    sessions.hold(&id, &mut client, &Upgraded::has_more)?;
    Ok(None)
}

/// Makes a request's connection one of HTTP/2.
pub(super) fn switch<'a>(call: &'a mut Call<'_, '_>) -> Result<io::Result<Upgraded<'a>>, Failure> {
    let asked = call.exchange.head().upgrade.as_deref();
    if !asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case("h2c")) {
        return Err(Failure::bad("the request must ask for an upgrade to h2c"));
    }
    let reply = Reply::new(101).header("Connection", "Upgrade").header("Upgrade", "h2c");
    let reply = call.api.signed(reply);
    Ok(call.exchange.upgrade(&reply))
}
