//! One client's connection: requests in a row, each with its limits.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::body::Input;
use crate::exchange::{Exchange, Service};
use crate::head::{Bad, HEAD_BYTES_MAX, Head};
use crate::place::Guest;
use crate::server::Limits;
use crate::stream::{Peer, Stream};
use crate::wire::{Socket, Wire};

/// Longest wait for the next request of a connection.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// Longest wait for the first byte of a new connection: whoever connects has something to say.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);
/// Longest time from the first byte of a request to the end of its head, TLS' greeting included.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
const HEAD_INPUT_BYTES: usize = 4 << 10;

/// Serves a client until one of the two has enough.
pub(crate) fn serve(
    service: &dyn Service,
    tls: Option<&Arc<ServerConfig>>,
    stream: &Arc<Stream>,
    peer: Peer,
    guest: &Guest,
    limits: Limits,
) {
    let Ok(socket) = Socket::new(stream.clone(), limits) else { return };
    let wire = match tls {
        None => Wire::Plain(socket),
        Some(_) if !(guest.may_wait() && greets_in_tls(service, stream, limits)) => return,
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
            Err(Bad(status, why)) => {
                let reply = service.refuse(status, why, peer);
                // Whoever cannot even ask need not hear it.
                let _ = reply.write(&mut input.wire, false, true, true);
                break;
            }
        };
        if !guest.is_busy() {
            break;
        }
        patience = IDLE_MAX;
        let mut exchange = Exchange::new(&mut input, &head, peer, guest);
        service.serve(&mut exchange);
        if !exchange.goes_on() {
            break;
        }
        input.shrink();
    }
    input.wire.close();
}

/// Whether a client speaks TLS, and tells it to if it does not.
fn greets_in_tls(service: &dyn Service, stream: &Stream, limits: Limits) -> bool {
    // RFC 8446, section 5.1: the type of a record that is part of a handshake.
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    let peeked = stream.set_read_timeout(Some(FIRST_BYTE_MAX)).and_then(|()| {
        let peeked = stream.peek(&mut first);
        // As the socket has it from here on.
        stream.set_read_timeout(Some(limits.silence)).and(peeked)
    });
    match peeked {
        Ok(1) if first[0] == HANDSHAKE => true,
        Ok(1) => {
            let _ = stream.write(service.refuse_plain().as_bytes());
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
