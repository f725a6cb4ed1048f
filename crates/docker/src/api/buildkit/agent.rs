//! SSH agents of the client: sockets here, each of whose connections is a call of
//! `moby.sshforward.v1.SSH` in the client's session.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use engine::{BuildJob, ContextArchive, Wants};
use grpc::Connection;
use grpc::proto::Message;

use super::relay::relay;
use super::{Outcome, STACK_BYTES, failed};
use crate::api::Api;

/// The agents that a build may use. Their sockets are gone with this.
pub(super) struct Agents {
    listening: Vec<(UnixListener, Option<JoinHandle<()>>)>,
    sockets: BTreeMap<String, PathBuf>,
    _places: Vec<ContextArchive>,
}

impl Agents {
    /// Those that mounts in the Dockerfile name and the client has. Which are missing, the build will
    /// say.
    pub(super) fn open(api: &Api, session: &Connection, job: &BuildJob) -> Outcome<Self> {
        let mut agents =
            Self { listening: Vec::new(), sockets: BTreeMap::new(), _places: Vec::new() };
        for id in Wants::of(&job.dockerfile).agents {
            let asked = Message::new().text(1, &id);
            if session.ask("/moby.sshforward.v1.SSH/CheckAgent", &asked).is_err() {
                continue;
            }
            let place = api.engine.new_context().map_err(|error| failed(&error))?;
            let (listener, socket) = place.listen().map_err(|error| failed(&error))?;
            let listening =
                listener.try_clone().map_err(|error| super::invalid(error.to_string()))?;
            let (name, session) = (id.clone(), session.clone());
            let thread = thread::Builder::new().name("agent".to_owned()).stack_size(STACK_BYTES);
            let thread = thread.spawn(move || serve(&listening, &name, &session));
            agents.listening.push((listener, thread.ok()));
            agents.sockets.insert(id, socket);
            agents._places.push(place);
        }
        Ok(agents)
    }

    /// Where they are, by the ids that they have in the Dockerfile.
    pub(super) fn sockets(&self) -> BTreeMap<String, PathBuf> {
        self.sockets.clone()
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for (listener, thread) in &mut self.listening {
            // Whoever waits for a connection there waits no longer.
            let _ = rustix::net::shutdown(&*listener, rustix::net::Shutdown::Both);
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

fn serve(listener: &UnixListener, id: &str, session: &Connection) {
    while let Ok((client, _)) = listener.accept() {
        let (id, session) = (id.to_owned(), session.clone());
        let thread = thread::Builder::new().name("agent".to_owned()).stack_size(STACK_BYTES);
        // Whoever asked finds the connection closed.
        let _ = thread.spawn(move || pass_on(&client, &id, &session));
    }
}

fn pass_on(client: &UnixStream, id: &str, session: &Connection) {
    let path = "/moby.sshforward.v1.SSH/ForwardAgent";
    let Ok(stream) = session.call(path, &[("buildkit.ssh.id", id)]) else { return };
    relay(client, &stream);
    let _ = stream.end();
}
