//! One connection over TLS: requests and answers of HTTP/1.1, one at a time.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::tls::{self, Digest, Tls};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may be waited for, and the sending of a request.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// After this silence the other end is asked whether it is there: this often, so many times.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);
/// The longest head of an answer, in bytes and fields.
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 64;
/// The longest line before a chunk.
const LINE_BYTES_MAX: usize = 1024;
/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// Where a server is, and the name that it has to prove to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name or the address in its certificate.
    pub name: String,
}

impl Server {
    /// Reads `https://HOST[:PORT]`; the port is 6443 where none is given.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        const PORT: u16 = 6443;
        let place = url.strip_prefix("https://")?.trim_end_matches('/');
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let port = if port.is_empty() { PORT } else { port.parse().ok()? };
        let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
        is_host.then(|| Self { host: host.to_owned(), port, name: host.to_owned() })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

/// The head of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field; `name` is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// What is left of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    /// Of the present chunk; whether another one follows is not known yet.
    Chunk(u64),
    /// Until the connection ends.
    Connection,
}

/// A connection over TLS.
pub struct Connection {
    tcp: TcpStream,
    tls: ClientConnection,
    /// Bytes that were read, and not taken yet.
    held: Vec<u8>,
    left: Left,
    is_over: bool,
    may_go_on: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, and finds out that the server is who it has to be.
    ///
    /// # Errors
    /// Nobody listens there, or somebody else does.
    pub fn open(server: &Server, tls: &Tls) -> io::Result<Self> {
        let name = ServerName::try_from(server.name.clone());
        let name = name.map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        let mut found = None;
        for address in (server.host.as_str(), server.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                Ok(tcp) => {
                    found = Some(tcp);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let mut tcp = found.ok_or(last)?;
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(ANSWER_MAX))?;
        tcp.set_read_timeout(Some(CONNECT_MAX))?;
        let (idle, interval, count) = KEEP_ALIVE;
        sockopt::set_socket_keepalive(&tcp, true)?;
        sockopt::set_tcp_keepidle(&tcp, idle)?;
        sockopt::set_tcp_keepintvl(&tcp, interval)?;
        sockopt::set_tcp_keepcnt(&tcp, count)?;
        let mut tls = ClientConnection::new(tls.0.clone(), name).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).map_err(in_time)?;
        }
        let left = Left::Bytes(0);
        Ok(Self { tcp, tls, held: Vec::new(), left, is_over: false, may_go_on: true })
    }

    /// The certificate of the server's authority that has a digest, in DER, if the server has shown it.
    #[must_use]
    pub fn authority(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut shown = self.tls.peer_certificates()?.iter();
        shown.find(|one| tls::digest(one) == *digest).map(|one| one.to_vec())
    }

    /// Sends a request: its first line without the version, and fields beside `Host` and the length of
    /// the body.
    ///
    /// # Errors
    /// The server is gone.
    pub fn send(
        &mut self,
        line: &str,
        server: &Server,
        fields: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<()> {
        let host = server.to_string();
        let host = host.strip_prefix("https://").unwrap_or_default();
        let mut text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in fields {
            // Nothing that is not a line of its own becomes one.
            if name.contains(['\r', '\n']) || value.contains(['\r', '\n']) {
                return Err(ErrorKind::InvalidInput.into());
            }
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        self.tls.writer().write_all(text.as_bytes())?;
        self.tls.writer().write_all(body.unwrap_or_default())?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tcp).map_err(in_time)?;
        }
        Ok(())
    }

    /// Reads the head of an answer. `UnexpectedEof` if the server has hung up instead.
    ///
    /// # Errors
    /// No answer in time, or none that can be read.
    pub fn head(&mut self) -> io::Result<Head> {
        self.tcp.set_read_timeout(Some(ANSWER_MAX))?;
        loop {
            if let Some((head, length)) = parse(&self.held)? {
                drop(self.held.drain(..length));
                self.expect_body(&head)?;
                return Ok(head);
            }
            if self.held.len() > HEAD_BYTES_MAX {
                return Err(invalid("the head of the answer is too long"));
            }
            if self.more().map_err(in_time)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn expect_body(&mut self, head: &Head) -> io::Result<()> {
        let has_word = |name: &str, word: &str| {
            let value = head.get(name).unwrap_or_default();
            value.split(',').any(|own| own.trim().eq_ignore_ascii_case(word))
        };
        self.may_go_on = !has_word("connection", "close");
        self.is_over = false;
        self.left = if head.status < 200 || head.status == 204 || head.status == 304 {
            self.is_over = true;
            Left::Bytes(0)
        } else if has_word("transfer-encoding", "chunked") {
            Left::Chunk(0)
        } else if let Some(length) = head.get("content-length") {
            Left::Bytes(length.parse().map_err(|_| invalid("the length of the answer is none"))?)
        } else {
            self.may_go_on = false;
            Left::Connection
        };
        Ok(())
    }

    /// Reads of the answer's body; nothing at its end. Waits at most for a time, then `TimedOut`.
    ///
    /// # Errors
    /// The server is gone before its end.
    pub fn body(&mut self, buffer: &mut [u8], longest: Duration) -> io::Result<usize> {
        if self.is_over || buffer.is_empty() {
            return Ok(0);
        }
        self.tcp.set_read_timeout(Some(longest.max(Duration::from_millis(1))))?;
        if self.left == Left::Chunk(0) && !self.next_chunk()? {
            self.is_over = true;
            return Ok(0);
        }
        let most = match self.left {
            Left::Bytes(0) => {
                self.is_over = true;
                return Ok(0);
            }
            Left::Bytes(left) | Left::Chunk(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Left::Connection => usize::MAX,
        };
        if self.held.is_empty() && self.more().map_err(in_time)? == 0 {
            self.is_over = true;
            return match self.left {
                Left::Connection => Ok(0),
                _ => Err(ErrorKind::UnexpectedEof.into()),
            };
        }
        let count = most.min(buffer.len()).min(self.held.len());
        buffer[..count].copy_from_slice(&self.held[..count]);
        drop(self.held.drain(..count));
        match &mut self.left {
            Left::Bytes(left) => *left -= count as u64,
            Left::Chunk(left) => {
                *left -= count as u64;
                if *left == 0 {
                    // The end of its last line is read with the next one's.
                    self.left = Left::Chunk(0);
                }
            }
            Left::Connection => {}
        }
        Ok(count)
    }

    /// Reads the whole body, of at most so many bytes.
    ///
    /// # Errors
    /// There is more, or the server is gone before its end.
    pub fn whole(&mut self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.body(&mut buffer, ANSWER_MAX)? {
                0 => return Ok(all),
                count if all.len() + count > bytes_max => {
                    return Err(invalid("the answer is too long"));
                }
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Reads what stands before a chunk (RFC 9112, section 7.1): whether there is one. What was read is
    /// kept until all of it is here, so that a wait that is given up loses nothing.
    fn next_chunk(&mut self) -> io::Result<bool> {
        loop {
            // The end of the chunk before.
            let from = if self.held.starts_with(b"\r\n") { 2 } else { 0 };
            let end = self.held[from..].windows(2).position(|two| two == b"\r\n");
            let is_split = self.held == b"\r";
            if let Some(end) = end.filter(|_| !is_split) {
                let line = std::str::from_utf8(&self.held[from..from + end]).unwrap_or_default();
                let digits = line.split(';').next().unwrap_or_default().trim();
                let length = u64::from_str_radix(digits, 16);
                let length = length.map_err(|_| invalid("a chunk of the answer has no length"))?;
                let behind = from + end + 2;
                if length > 0 {
                    drop(self.held.drain(..behind));
                    self.left = Left::Chunk(length);
                    return Ok(true);
                }
                // No fields follow what we are answered.
                if self.held[behind..].starts_with(b"\r\n") {
                    drop(self.held.drain(..behind + 2));
                    return Ok(false);
                }
            }
            if self.held.len() > LINE_BYTES_MAX + READ_BYTES {
                return Err(invalid("a chunk of the answer has no length"));
            }
            if self.more().map_err(in_time)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads more into what is held: how much; nothing at the end.
    fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; READ_BYTES];
        let read = rustls::Stream::new(&mut self.tls, &mut self.tcp).read(&mut buffer);
        let count = match read {
            // It has hung up without a word of TLS, which is no less an end.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        self.held.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Whether another request may follow the answer that was read.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        let is_silent = || {
            let mut set = [PollFd::new(&self.tcp, PollFlags::IN | PollFlags::RDHUP)];
            let polled = rustix::io::retry_on_intr(|| poll(&mut set, Some(&Timespec::default())));
            matches!(polled, Ok(0))
        };
        self.may_go_on && self.is_over && self.held.is_empty() && is_silent()
    }

    /// Whether something was read ahead, so that it need not be waited for.
    #[must_use]
    pub fn has_more(&mut self) -> bool {
        !self.held.is_empty()
            || self.tls.process_new_packets().is_ok_and(|s| s.plaintext_bytes_to_read() > 0)
    }

    /// From now on, both sides say what they like (after an answer of 101), and nothing waits.
    ///
    /// # Errors
    /// The socket is no good.
    pub fn talk(mut self) -> io::Result<Talk> {
        self.tcp.set_nonblocking(true)?;
        let held = std::mem::take(&mut self.held);
        Ok(Talk { connection: self, held, has_ended: false })
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

/// A connection on which both sides say what they like. Nothing of it waits; its socket can be waited
/// for.
#[derive(Debug)]
pub struct Talk {
    connection: Connection,
    held: Vec<u8>,
    has_ended: bool,
}

impl Talk {
    /// What has come; nothing if nothing has, and `None` at the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn hear(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut heard = std::mem::take(&mut self.held);
        let Connection { tcp, tls, .. } = &mut self.connection;
        loop {
            match tls.read_tls(tcp) {
                Ok(0) => {
                    self.has_ended = true;
                    break;
                }
                Ok(_) => {
                    let state = tls.process_new_packets().map_err(io::Error::other)?;
                    let from = heard.len();
                    heard.resize(from + state.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut heard[from..])?;
                    self.has_ended |= state.peer_has_closed();
                    if heard.len() >= READ_BYTES {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.flush()?;
        Ok((!heard.is_empty() || !self.has_ended).then_some(heard))
    }

    /// Says something, at once as far as the other end takes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.tls.writer().write_all(bytes)?;
        self.flush()
    }

    /// Sends what has been said, as far as it is taken.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        let Connection { tcp, tls, .. } = &mut self.connection;
        while tls.wants_write() {
            match tls.write_tls(tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether something that was said has not been sent yet: then it is better to say no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.connection.tls.wants_write()
    }
}

impl AsFd for Talk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.tcp.as_fd()
    }
}

/// The first head in these bytes, and its length, if it is there whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    let parsed = answer.parse(bytes).map_err(|error| invalid(&error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
    let fields = answer.headers.iter().map(|f| (f.name.to_ascii_lowercase(), text(f.value)));
    let head = Head { status: answer.code.unwrap_or_default(), fields: fields.collect() };
    Ok(Some((head, length)))
}

/// A socket says of what did not come in time that it would block.
fn in_time(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "no answer in time"),
        _ => error,
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_their_addresses() {
        let read = |url| Server::parse(url).map(|server| (server.host, server.port));
        assert_eq!(read("https://a.example"), Some(("a.example".to_owned(), 6443)));
        assert_eq!(read("https://192.0.2.1:7/"), Some(("192.0.2.1".to_owned(), 7)));
        assert_eq!(read("https://[2001:db8::1]:8"), Some(("2001:db8::1".to_owned(), 8)));
        for wrong in ["http://a", "https://", "https://a:b", "https://[::1", "https://a/b", "a:1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let server = Server::parse("https://[::1]:8").unwrap();
        assert_eq!(server.to_string(), "https://[::1]:8");
    }

    #[test]
    fn a_head_is_read_once_it_is_there_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: a\r\nX: y \r\n\r\nbody";
        let (head, length) = parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.get("x"), length), (200, Some("y"), text.len() - 4));
        assert_eq!(parse(&text[..20]).unwrap(), None);
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
