//! One client's connection: requests in a row, each with its limits.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::access::Access;
use super::body::{Body, Input};
use super::failure::{Code, Failure};
use super::handler::Registry;
use super::head::{Bad, HEAD_BYTES_MAX, Head};
use super::place::Guest;
use super::wire::{SILENCE_MAX, Socket, Wire};

/// Longest wait for the next request of a connection.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// Longest wait for the first byte of a new connection: whoever connects has something to say.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);
/// Longest time from the first byte of a request to the end of its head, TLS' greeting included.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
const HEAD_INPUT_BYTES: usize = 4 << 10;

/// What a plain request to a port with TLS is told.
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\n\r\nThis registry speaks HTTPS.\n";

/// Serves a client until one of the two has enough.
pub(super) fn serve(
    registry: &Arc<Registry>,
    tls: Option<&Arc<ServerConfig>>,
    stream: &Arc<TcpStream>,
    peer: SocketAddr,
    guest: &Guest,
    log: &dyn Fn(&Access),
) {
    let Ok(socket) = Socket::new(stream.clone()) else { return };
    let wire = match tls {
        None => Wire::Plain(socket),
        Some(_) if !(guest.may_wait() && greets_in_tls(stream)) => return,
        Some(config) => match ServerConnection::new(config.clone()) {
            Ok(connection) => Wire::Tls(Box::new(StreamOwned::new(connection, socket))),
            Err(_) => return,
        },
    };
    let mut input = Input::new(wire);
    let mut patience = FIRST_BYTE_MAX;
    while guest.may_wait() {
        let head = match next_head(&mut input, guest, patience) {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(Bad(status, what)) => {
                refuse(&mut input, status, what, peer, log);
                break;
            }
        };
        if !guest.is_busy() {
            break;
        }
        patience = IDLE_MAX;
        let goes_on = exchange(registry, &mut input, &head, peer, guest, log);
        if !goes_on {
            break;
        }
        input.shrink();
    }
    input.wire.close();
}

/// Whether a client speaks TLS, and tells it to if it does not.
fn greets_in_tls(mut stream: &TcpStream) -> bool {
    // RFC 8446, section 5.1: the type of a record that is part of a handshake.
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    let peeked = stream.set_read_timeout(Some(FIRST_BYTE_MAX)).and_then(|()| {
        let peeked = stream.peek(&mut first);
        // As the socket has it from here on.
        stream.set_read_timeout(Some(SILENCE_MAX)).and(peeked)
    });
    match peeked {
        Ok(1) if first[0] == HANDSHAKE => true,
        Ok(1) => {
            let _ = stream.write_all(SPEAK_TLS.as_bytes());
            // What was not read would reset the connection before our answer is read.
            let _ = stream.read(&mut [0; HEAD_INPUT_BYTES]);
            false
        }
        _ => false,
    }
}

/// The next request's head, which begins within `patience`; `None` where there is none.
fn next_head(input: &mut Input, guest: &Guest, patience: Duration) -> Result<Option<Head>, Bad> {
    let mut deadline = Instant::now() + patience;
    let mut has_begun = !input.held().is_empty();
    if has_begun {
        guest.is_beginning();
    }
    loop {
        if has_begun {
            // A client may send empty lines between requests (RFC 9112, section 2.2).
            while matches!(input.held().first(), Some(b'\r' | b'\n')) {
                input.consume(1);
            }
            if let Some((head, length)) = Head::parse(input.held())? {
                input.consume(length);
                input.wire.expect_by(None);
                return Ok(Some(head));
            }
        }
        input.wire.expect_by(Some(deadline));
        let room = HEAD_BYTES_MAX.saturating_sub(input.held().len()).clamp(1, HEAD_INPUT_BYTES);
        match input.fill(room) {
            Ok(0) => return Ok(None),
            Ok(_) if has_begun => {}
            Ok(_) => {
                has_begun = true;
                guest.is_beginning();
                deadline = Instant::now() + HEAD_TIME_MAX;
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut && has_begun => {
                return Err(Bad(408, "the request took too long"));
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Answers one request: whether another one may follow.
fn exchange(
    registry: &Arc<Registry>,
    input: &mut Input,
    head: &Head,
    peer: SocketAddr,
    guest: &Guest,
    log: &dyn Fn(&Access),
) -> bool {
    let started = Instant::now();
    let mut body = Body::new(input, head);
    let (mut reply, user) = registry.answer(head, &mut body, peer.ip());
    let is_clean = body.finish();
    let closes = !is_clean || !head.keeps_alive || guest.is_stopping();
    let (status, note) = (reply.status, reply.log.take());
    let is_head = head.method == "HEAD";
    let written = reply.write(&mut input.wire, is_head, closes, head.is_current);
    log(&Access {
        peer,
        user,
        method: head.method.clone(),
        path: head.target.clone(),
        agent: head.get("user-agent").unwrap_or_default().to_owned(),
        status,
        bytes: *written.as_ref().unwrap_or(&0),
        duration: started.elapsed(),
        note: note.or_else(|| written.as_ref().err().map(|error| format!("answer: {error}"))),
    });
    written.is_ok() && !closes
}

/// Answers what cannot be read.
fn refuse(
    input: &mut Input,
    status: u16,
    what: &'static str,
    peer: SocketAddr,
    log: &dyn Fn(&Access),
) {
    let reply = Failure::new(Code::Unsupported, what).status(status).reply();
    let written = reply.write(&mut input.wire, false, true, true);
    log(&Access {
        peer,
        user: None,
        method: "-".to_owned(),
        path: "-".to_owned(),
        agent: String::new(),
        status,
        bytes: written.unwrap_or(0),
        duration: Duration::ZERO,
        note: Some(what.to_owned()),
    });
}
