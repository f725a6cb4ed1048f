//! Connections to ports of a pod, on one connection of a client (`…/pods/NAME/portforward`).
//!
//! A client asks for SPDY, bare or within the messages of a WebSocket, and opens two streams for each
//! connection; or for a WebSocket with two channels for each port that it names.

mod channels;
mod streams;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use httpd::{Exchange, WebSocket};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use self::channels::Channels;
use self::streams::Streams;
use crate::channel::{self, STREAM_PROTOCOL};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::pods::Pods;
use crate::request::{Answer, Request};
use crate::spdy::Session;
use crate::target::Target;

/// The protocol over SPDY.
const STREAMS: &str = "portforward.k8s.io";
/// The same within a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The protocol of a WebSocket by itself.
const CHANNELS: &str = "v4.channel.k8s.io";
/// Bytes that a port has not taken: then the client is not read further.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// The most that is read at once, in bytes.
const READ_BYTES: usize = 32 << 10;

/// Ports of a pod that a client wants to reach.
pub struct Forward {
    pods: Arc<dyn Pods>,
    pod: Value,
    /// Those that were named beforehand.
    ports: Vec<u16>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("ports", &self.ports).finish_non_exhaustive()
    }
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    /// Wants a connection, which it has its own word for, to a port.
    Open(u32, u16),
    Bytes(u32, Vec<u8>),
    /// Will send nothing more.
    Ends(u32),
    /// Wants nothing more.
    Gone(u32),
}

/// The client's end.
trait Trunk: AsFd {
    /// Whether something was read ahead, so that it need not be waited for.
    fn has_more(&mut self) -> bool;
    /// Hears what has come; none if nothing more will.
    fn hear(&mut self) -> io::Result<Option<Vec<Heard>>>;
    fn give(&mut self, connection: u32, bytes: &[u8]) -> io::Result<()>;
    /// Says that a connection is over, and why if it has failed.
    fn end(&mut self, connection: u32, failure: Option<&str>) -> io::Result<()>;
    /// Whether a client that has no connection any more may open another.
    fn goes_on(&self) -> bool;
    fn leave(&mut self) -> io::Result<()>;
}

/// `…/pods/NAME/portforward`
pub(crate) fn answer(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    let whole = Target { subresource: String::new(), ..target.clone() };
    let pod = cluster.find(&whole)?.object;
    if pod["status"]["phase"] != "Running" {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        return Err(Failure::bad_request(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    if let Some(elsewhere) = cluster.elsewhere(request, &pod, ("portForward", ""))? {
        return Ok(elsewhere.into());
    }
    match cluster.pods() {
        Some(pods) => begin(pods, pod, request),
        None => Err(Failure::not_implemented("pods/portforward")),
    }
}

/// Begins to forward to a pod of this process's node.
pub(crate) fn begin(
    pods: &Arc<dyn Pods>,
    pod: Value,
    request: &Request,
) -> Result<Answer, Failure> {
    let asked = request.query.iter().filter(|(name, _)| name == "ports");
    let numbers = asked.flat_map(|(_, value)| value.split(','));
    let port = |text: &str| {
        let number: Option<u16> = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| Failure::bad_request(format!("invalid port value {text:?}")))
    };
    let ports = numbers.map(port).collect::<Result<_, _>>()?;
    Ok(Answer::Forward(Forward { pods: pods.clone(), pod, ports }))
}

/// Serves a client, if it asks for what is spoken here.
pub(crate) fn serve(
    exchange: &mut Exchange<'_>,
    forward: &Forward,
) -> Result<io::Result<()>, Failure> {
    if channel::asks_for_spdy(exchange) {
        let protocol = channel::choose(exchange, STREAM_PROTOCOL, &[STREAMS])?;
        let session = channel::upgrade(exchange, protocol);
        return Ok(session.and_then(|session| carry(&mut Streams::new(session), forward)));
    }
    let protocol = channel::choose(exchange, "sec-websocket-protocol", &[TUNNEL, CHANNELS])?;
    if protocol == CHANNELS && forward.ports.is_empty() {
        return Err(Failure::bad_request("query parameter \"ports\" is required"));
    }
    let socket = WebSocket::accept(exchange, Some(protocol), |reply| reply);
    Ok(socket.map_err(Failure::bad_request)?.and_then(|socket| match protocol {
        TUNNEL => carry(&mut Streams::new(Session::new(socket)), forward),
        _ => carry(&mut Channels::new(socket, &forward.ports)?, forward),
    }))
}

/// A connection to a port.
struct Connection {
    stream: TcpStream,
    /// What the port has not taken.
    waiting: Vec<u8>,
    /// Whether the client sends nothing more.
    ends: bool,
}

impl Connection {
    fn dial(forward: &Forward, port: u16) -> Result<Self, String> {
        let socket = forward.pods.dial(&forward.pod, port).map_err(|why| {
            let word = |field: &str| forward.pod["metadata"][field].as_str().unwrap_or_default();
            format!(
                "error forwarding port {port} to pod {}, uid {}: {why}",
                word("name"),
                word("uid")
            )
        })?;
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, waiting: Vec::new(), ends: false })
    }

    /// Gives what the port takes now.
    fn give(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => drop(self.waiting.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if std::mem::take(&mut self.ends) {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

/// All connections of a client, by its words for them.
type Connections = BTreeMap<u32, Connection>;

/// Passes on what both sides say, until the client has gone.
fn carry(trunk: &mut dyn Trunk, forward: &Forward) -> io::Result<()> {
    let mut open = Connections::new();
    loop {
        let is_full = open.values().any(|one| one.waiting.len() > WAITING_BYTES_MAX);
        if !is_full && trunk.has_more() {
            if !hear(trunk, forward, &mut open)? {
                return Ok(());
            }
            continue;
        }
        if open.is_empty() && !trunk.goes_on() {
            return trunk.leave();
        }
        let client = if is_full { PollFlags::empty() } else { PollFlags::IN };
        let mut set = vec![PollFd::from_borrowed_fd(trunk.as_fd(), client)];
        set.extend(open.values().map(|one| {
            let out = if one.waiting.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            PollFd::from_borrowed_fd(one.stream.as_fd(), PollFlags::IN | out)
        }));
        rustix::io::retry_on_intr(|| poll(&mut set, None))?;
        let ready: Vec<bool> = set.iter().map(|fd| !fd.revents().is_empty()).collect();
        let numbers: Vec<u32> = open.keys().copied().collect();
        for (number, _) in numbers.into_iter().zip(&ready[1..]).filter(|(_, is_ready)| **is_ready) {
            say(trunk, &mut open, number)?;
        }
        if ready[0] && (is_full || !hear(trunk, forward, &mut open)?) {
            return Ok(());
        }
    }
}

/// Hears what the client says; whether there may be more.
fn hear(trunk: &mut dyn Trunk, forward: &Forward, open: &mut Connections) -> io::Result<bool> {
    let Some(heard) = trunk.hear()? else { return Ok(false) };
    for one in heard {
        let number = match one {
            Heard::Open(number, port) => {
                match Connection::dial(forward, port) {
                    Ok(connection) => drop(open.insert(number, connection)),
                    Err(why) => trunk.end(number, Some(&why))?,
                }
                continue;
            }
            Heard::Gone(number) => {
                if open.remove(&number).is_some() {
                    trunk.end(number, None)?;
                }
                continue;
            }
            Heard::Bytes(number, bytes) => {
                open.get_mut(&number).into_iter().for_each(|own| own.waiting.extend(&bytes));
                number
            }
            Heard::Ends(number) => {
                open.get_mut(&number).into_iter().for_each(|own| own.ends = true);
                number
            }
        };
        if open.get_mut(&number).is_some_and(|own| own.give().is_err()) {
            open.remove(&number);
            trunk.end(number, None)?;
        }
    }
    Ok(true)
}

/// Passes on what a port says, and gives it what it takes.
fn say(trunk: &mut dyn Trunk, open: &mut Connections, number: u32) -> io::Result<()> {
    let Some(own) = open.get_mut(&number) else { return Ok(()) };
    let mut part = vec![0; READ_BYTES];
    let said = own.give().and_then(|()| own.stream.read(&mut part));
    match said {
        Ok(0) => {}
        Ok(length) => return trunk.give(number, &part[..length]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            return Ok(());
        }
        // Whoever listened has hung up, which its client sees by that nothing more comes.
        Err(_) => {}
    }
    open.remove(&number);
    trunk.end(number, None)
}
