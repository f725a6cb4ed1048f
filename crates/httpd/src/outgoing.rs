//! Requests to other servers, on a connection for each.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::body::{Body, Input};
use crate::exchange::Upgraded;
use crate::head::Framing;
use crate::server::Limits;
use crate::stream::Stream;
use crate::wire::{Socket, Wire};

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// What is read at a time until the head is there.
const HEAD_INPUT_BYTES: usize = 8 << 10;

/// How long a server may be silent until it is looked whether it is there, and between two looks.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A server that is asked.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where it is.
    pub address: SocketAddr,
    /// By what it is believed, and the name that its certificate must have; `None` for plain text.
    pub tls: Option<(Arc<ClientConfig>, String)>,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// The path and the query, encoded.
    pub target: &'a str,
    /// Header fields, beyond those of the framing.
    pub headers: &'a [(&'a str, &'a str)],
    /// What is sent along.
    pub body: &'a [u8],
}

/// What has come of an answer: its head.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    framing: Framing,
    input: Input,
}

impl Remote {
    /// Asks, and waits for the head of the answer. Everything, also what follows the head, has come
    /// within `patience`, unless [`Answered::be_patient`] says otherwise.
    ///
    /// # Errors
    /// The server cannot be reached, is not who it should be, is too slow or breaks the rules.
    pub fn ask(&self, asked: &Asked<'_>, patience: Duration) -> io::Result<Answered> {
        let mut input = Input::new(self.dial(patience)?);
        input.wire.write_all(&written(asked))?;
        input.wire.flush()?;
        loop {
            let head = next_head(&mut input)?;
            // What comes before the answer says nothing to us (RFC 9110, section 15.2).
            if head.status != 101 && head.status / 100 == 1 {
                continue;
            }
            let framing = head.framing(asked.method)?;
            return Ok(Answered { status: head.status, headers: head.headers, framing, input });
        }
    }

    /// Connects, within `patience`, for another protocol than this one; the server may take its time
    /// from then on.
    ///
    /// # Errors
    /// The server cannot be reached, or is not who it should be.
    pub fn connect(&self, patience: Duration) -> io::Result<Dialed> {
        let mut wire = self.dial(patience)?;
        wire.expect_by(None);
        wire.be_patient()?;
        sockopt::set_socket_keepalive(wire.stream(), true)?;
        sockopt::set_tcp_keepidle(wire.stream(), KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(wire.stream(), KEEPALIVE)?;
        Ok(Dialed(wire))
    }

    fn dial(&self, patience: Duration) -> io::Result<Wire> {
        let deadline = Instant::now() + patience;
        let stream = TcpStream::connect_timeout(&self.address, patience)?;
        let limits = Limits { connections: 1, silence: patience, bytes_per_second: 0 };
        let socket = Socket::new(Arc::new(Stream::Tcp(stream)), limits)?;
        Ok(match &self.tls {
            None => Wire::Plain(socket.until(deadline)),
            Some((config, name)) => {
                let wrong = |error: &dyn std::fmt::Display| {
                    io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {error}"))
                };
                let name = ServerName::try_from(name.clone()).map_err(|error| wrong(&error))?;
                let connection = ClientConnection::new(config.clone(), name);
                let connection = connection.map_err(|error| wrong(&error))?;
                let mut stream = StreamOwned::new(connection, socket.until(deadline));
                stream.conn.complete_io(&mut stream.sock)?;
                Wire::Outgoing(Box::new(stream))
            }
        })
    }
}

/// A connection on which something else is spoken.
#[derive(Debug)]
pub struct Dialed(Wire);

impl Dialed {
    /// Whether something can be read although the socket has nothing.
    pub fn has_more(&mut self) -> bool {
        self.0.has_plain_text()
    }
}

impl AsFd for Dialed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.stream().as_fd()
    }
}

impl Read for Dialed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Dialed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Answered {
    /// A header field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Lets the server take its time from now on.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn be_patient(&mut self) -> io::Result<()> {
        self.input.wire.be_patient()
    }

    /// What follows the head.
    pub fn body(&mut self) -> Body<'_> {
        Body::framed(&mut self.input, self.framing)
    }

    /// The connection, on which another protocol is spoken after status 101.
    pub fn upgraded(&mut self) -> Upgraded<'_> {
        Upgraded::new(&mut self.input)
    }
}

fn written(asked: &Asked<'_>) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", asked.method, asked.target);
    for (name, value) in asked.headers {
        // A line of a value's own would be a field of its own.
        let value = value.replace(['\r', '\n'], " ");
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !asked.body.is_empty() || !matches!(asked.method, "GET" | "HEAD" | "OPTIONS") {
        text.push_str(&format!("Content-Length: {}\r\n", asked.body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(asked.body);
    bytes
}

#[derive(Debug)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

fn next_head(input: &mut Input) -> io::Result<Head> {
    loop {
        if let Some((head, length)) = Head::parse(input.held())? {
            input.consume(length);
            return Ok(head);
        }
        if input.held().len() >= HEAD_BYTES_MAX {
            return Err(malformed("the head of the answer is too long"));
        }
        if input.fill(HEAD_INPUT_BYTES)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Head {
    fn parse(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(malformed(&format!("malformed answer: {error}"))),
        };
        let field = |header: &httparse::Header<'_>| {
            let value = String::from_utf8_lossy(header.value);
            (header.name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers = response.headers.iter().map(field).collect();
        Ok(Some((Self { status: response.code.unwrap_or_default(), headers }, length)))
    }

    /// RFC 9112, section 6.3.
    fn framing(&self, method: &str) -> io::Result<Framing> {
        let get = |name: &str| self.headers.iter().find(|(own, _)| own == name);
        if method == "HEAD" || matches!(self.status, 101 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if let Some((_, encoding)) = get("transfer-encoding") {
            return match encoding.eq_ignore_ascii_case("chunked") {
                true => Ok(Framing::Chunked),
                false => Err(malformed("unsupported transfer encoding")),
            };
        }
        match get("content-length") {
            Some((_, length)) => {
                let length = length.parse().map_err(|_| malformed("invalid length"))?;
                Ok(Framing::Length(length))
            }
            None => Ok(Framing::ToEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Asks a server that answers so: what it was asked, and what came of it.
    fn ask(method: &str, answer: &'static str) -> (String, io::Result<(u16, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let remote = Remote { address: listener.local_addr().expect("bound"), tls: None };
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = Vec::new();
            let mut buffer = [0; 1024];
            while !asked.ends_with(b"\r\n\r\n") && !asked.ends_with(b"body") {
                let n = stream.read(&mut buffer).expect("a request");
                asked.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(answer.as_bytes()).expect("the client is there");
            String::from_utf8(asked).expect("text")
        });
        let body: &[u8] = if method == "POST" { b"body" } else { b"" };
        let headers = [("Host", "there"), ("X-Evil", "a\r\nB: c")];
        let asked = Asked { method, target: "/a?b=c", headers: &headers, body };
        let answered = remote.ask(&asked, Duration::from_secs(60)).and_then(|mut answered| {
            let mut bytes = Vec::new();
            answered.body().read_to_end(&mut bytes)?;
            Ok((answered.status, bytes))
        });
        (server.join().expect("the server ends"), answered)
    }

    #[test]
    fn answers_end_where_they_say() {
        for (method, answer, expected) in [
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Some((200, "ab"))),
            ("GET", "HTTP/1.1 200 OK\r\n\r\nto the end", Some((200, "to the end"))),
            (
                "POST",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                Some((201, "abc")),
            ),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", Some((200, ""))),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", Some((204, ""))),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", None),
            ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab", None),
            ("GET", "nonsense\r\n\r\n", None),
            ("GET", "", None),
        ] {
            let (asked, answered) = ask(method, answer);
            let start = format!("{method} /a?b=c HTTP/1.1\r\nHost: there\r\nX-Evil: a  B: c\r\n");
            assert!(asked.starts_with(&start), "{asked}");
            assert_eq!(asked.contains("Content-Length: 4"), method == "POST", "{asked}");
            let answered = answered.ok().map(|(status, body)| (status, String::from_utf8(body)));
            let expected = expected.map(|(status, body)| (status, Ok(body.to_owned())));
            assert_eq!(answered, expected, "{answer}");
        }
    }
}
