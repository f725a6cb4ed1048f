//! The API over HTTPS: HTTP/1.1 on connections that are used again, and WebSockets.

mod answer;
mod trust;
mod web_socket;
mod wire;

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;

use crate::call::{Call, Events, Failure, Transport};

pub use answer::Answer;
pub use trust::{Authority, Identity};
pub use web_socket::WebSocket;

use wire::Wire;

/// So long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// So many connections wait for the next request.
const IDLE_MAX: usize = 4;
/// The largest document of an answer, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;
/// The largest document of an answer that says no, in bytes.
const STATUS_BYTES_MAX: u64 = 1 << 20;

/// A server of the API, reached over the network.
#[derive(Debug)]
pub struct Https {
    server: Server,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    authorization: Option<String>,
    /// What every request says besides.
    headers: Vec<(&'static str, String)>,
    timeout: Option<Duration>,
    idle: Arc<Mutex<Vec<Wire>>>,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    is_secure: bool,
    /// What stands in front of every path: empty, or `/…`.
    prefix: String,
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// Path and query, encoded, from `/` on.
    pub target: String,
    /// Header fields.
    pub headers: Vec<(&'a str, String)>,
    /// The body; nothing is said of it if it is empty and the method is one that needs none.
    pub body: Vec<u8>,
}

impl Https {
    /// A server by its address (`https://10.0.0.1:6443`), whose certificate an authority is to have
    /// signed, and who asks it. Nothing is connected yet.
    ///
    /// # Errors
    /// The address, a certificate or a key is no good.
    pub fn new(server: &str, ca: &Authority, identity: Identity) -> Result<Self, Failure> {
        let server = Server::parse(server).map_err(Failure::unreachable)?;
        let authorization = identity.authorization;
        let tls = match server.is_secure {
            false => None,
            true => {
                let config = trust::config(ca, identity.certificate.as_ref());
                let name = name(&server.host)?;
                Some((config.map_err(Failure::unreachable)?, name))
            }
        };
        let (headers, timeout, idle) = (Vec::new(), None, Arc::default());
        Ok(Self { server, tls, authorization, headers, timeout, idle })
    }

    /// The same, where the server's certificate is to have another name than its address.
    ///
    /// # Errors
    /// It is no name.
    pub fn named(mut self, server_name: &str) -> Result<Self, Failure> {
        if let Some((_, own)) = &mut self.tls {
            *own = name(server_name)?;
        }
        Ok(self)
    }

    /// The same, with a header field in every request.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, where an answer that does not come in time is none.
    #[must_use]
    pub fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// `127.0.0.1:6443`
    #[must_use]
    pub fn address(&self) -> String {
        match self.server.host.contains(':') {
            true => format!("[{}]:{}", self.server.host, self.server.port),
            false => format!("{}:{}", self.server.host, self.server.port),
        }
    }

    /// Sends a request and waits for the head of its answer, whatever it says.
    ///
    /// # Errors
    /// There is none.
    pub fn open(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let text = self.text(request, "");
        let reused = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut wire) = reused.filter(Wire::is_open) {
            let sent = wire.set_timeout(self.timeout).and_then(|()| wire.send_all(&text));
            match sent.and_then(|()| Answer::read(wire, request.method)) {
                Ok(answer) => return Ok(answer.kept_in(&self.idle)),
                // Whatever has no effect may be asked again, if the server had just hung up.
                Err(_) if request.method == "GET" => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let mut wire = self.connect()?;
        let answer = wire.send_all(&text).and_then(|()| Answer::read(wire, request.method));
        answer.map(|answer| answer.kept_in(&self.idle)).map_err(|error| self.failed(&error))
    }

    /// Sends a request and gives the document of its answer.
    ///
    /// # Errors
    /// An answer that says no, or none.
    pub fn ask(&self, request: &Request<'_>) -> Result<Value, Failure> {
        let answer = self.accepted(request)?;
        let bytes = answer.bytes(DOCUMENT_BYTES_MAX).map_err(|error| self.failed(&error))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::unreachable(format!("read the answer: {error}")))
    }

    /// Sends a request; an answer that says no is a failure.
    ///
    /// # Errors
    /// An answer that says no, or none.
    pub fn accepted(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let answer = self.open(request)?;
        match answer.code() {
            200..=299 => Ok(answer),
            code => Err(refusal(code, answer)),
        }
    }

    /// Makes a WebSocket of a request, in one of the protocols, the best first.
    ///
    /// # Errors
    /// An answer that says no, or none.
    pub fn web_socket(&self, target: &str, protocols: &[&str]) -> Result<WebSocket, Failure> {
        let (head, expected) = web_socket::handshake(protocols);
        let request = Request { method: "GET", target: target.to_owned(), ..Request::default() };
        let mut wire = self.connect()?;
        let sent = wire.send_all(&self.text(&request, &head));
        let answer = sent.and_then(|()| Answer::read(wire, "GET"));
        let answer = answer.map_err(|error| self.failed(&error))?;
        match answer.code() {
            101 => WebSocket::new(answer, &expected).map_err(|error| self.failed(&error)),
            code => Err(refusal(code, answer)),
        }
    }

    fn connect(&self) -> Result<Wire, Failure> {
        let refused = |error: &io::Error| {
            Failure::unreachable(format!("dial tcp {}: {}", self.address(), words(error)))
        };
        let place = (self.server.host.as_str(), self.server.port);
        let mut last = io::Error::other("no such host");
        for address in place.to_socket_addrs().map_err(|error| refused(&error))? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(socket) => {
                    let wire = Wire::new(socket, self.tls.as_ref(), self.timeout);
                    return wire.map_err(|error| self.failed(&error));
                }
                Err(error) => last = error,
            }
        }
        Err(refused(&last))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::unreachable(format!("ask {}: {}", self.address(), words(error)))
    }

    /// What is sent of a request.
    fn text(&self, request: &Request<'_>, more: &str) -> Vec<u8> {
        let Request { method, target, headers, body } = request;
        let prefix = &self.server.prefix;
        let mut text =
            format!("{method} {prefix}{target} HTTP/1.1\r\nHost: {}\r\n", self.address());
        text += concat!("User-Agent: cais/", env!("CARGO_PKG_VERSION"), "\r\n");
        if let Some(authorization) = &self.authorization {
            text += &format!("Authorization: {authorization}\r\n");
        }
        let own = self.headers.iter().map(|(name, value)| (*name, value));
        for (name, value) in headers.iter().map(|(name, value)| (*name, value)).chain(own) {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || matches!(*method, "POST" | "PUT" | "PATCH") {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += more;
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Why an answer says no.
fn refusal(code: u16, answer: Answer) -> Failure {
    refusal_of(code, &answer.bytes(STATUS_BYTES_MAX).unwrap_or_default())
}

/// Why an answer with this body says no.
pub(crate) fn refusal_of(code: u16, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Value>(body) {
        Ok(status) if status["kind"] == "Status" => Failure::of_status(code, &status),
        _ => Failure {
            code,
            reason: String::new(),
            message: String::from_utf8_lossy(body).trim().to_owned(),
        },
    }
}

/// Without the number, which says nothing that the words do not.
fn words(error: &io::Error) -> String {
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        return "timed out".to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    text.replacen("Connection refused", "connection refused", 1)
}

fn name(host: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::unreachable(format!("{host} cannot be in a certificate")))
}

impl Server {
    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(format!("{text}: a server is at https://HOST:PORT")),
        };
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            None => Some(if is_secure { 443 } else { 80 }),
            Some(port) => port.parse().ok(),
        };
        let path = path.trim_matches('/');
        match port.filter(|_| !host.is_empty()) {
            None => Err(format!("{text}: a server is at https://HOST:PORT")),
            Some(port) => Ok(Self {
                host: host.to_owned(),
                port,
                is_secure,
                prefix: if path.is_empty() { String::new() } else { format!("/{path}") },
            }),
        }
    }
}

/// Path and query of a call, encoded.
#[must_use]
pub fn target(parts: &[impl AsRef<str>], query: &[(impl AsRef<str>, impl AsRef<str>)]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push('/');
        encode(&mut text, part.as_ref());
    }
    for (at, (name, value)) in query.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        encode(&mut text, name.as_ref());
        text.push('=');
        encode(&mut text, value.as_ref());
    }
    text
}

fn encode(text: &mut String, word: &str) {
    for byte in word.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn request(call: &Call) -> Request<'static> {
    let mut headers = vec![("Accept", "application/json".to_owned())];
    if !call.content_type.is_empty() {
        headers.push(("Content-Type", call.content_type.to_owned()));
    }
    let target = target(&call.parts, &call.query);
    Request { method: call.method, target, headers, body: call.body.clone() }
}

impl Transport for Https {
    fn send(&self, call: &Call) -> Result<Value, Failure> {
        self.ask(&request(call))
    }

    fn watch(&self, call: &Call) -> Result<Box<dyn Events>, Failure> {
        let answer = self.accepted(&request(call))?;
        Ok(Box::new(Watch { answer, line: Vec::new() }))
    }
}

impl Https {
    /// Begins a watch whose events have the form that a request asks for.
    ///
    /// # Errors
    /// An answer that says no, or none.
    pub fn watch_as(&self, request: &Request<'_>) -> Result<Box<dyn Events>, Failure> {
        let answer = self.accepted(request)?;
        Ok(Box::new(Watch { answer, line: Vec::new() }))
    }
}

/// Events, a line each.
struct Watch {
    answer: Answer,
    /// What has come of lines that are not taken yet.
    line: Vec<u8>,
}

impl Watch {
    /// The whole lines that have come.
    fn take(&mut self) -> Option<Vec<Value>> {
        let end = self.line.iter().rposition(|byte| *byte == b'\n')?;
        let rest = self.line.split_off(end + 1);
        let lines = std::mem::replace(&mut self.line, rest);
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Some(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

impl Events for Watch {
    fn next(&mut self, longest: Duration) -> Option<Vec<Value>> {
        let until = Instant::now().checked_add(longest);
        loop {
            if let Some(events) = self.take() {
                return Some(events);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // No time at all would be for ever.
            self.answer.set_timeout(left.map(|left| left.max(Duration::from_millis(1)))).ok()?;
            let mut buffer = [0; 16 << 10];
            match io::Read::read(&mut self.answer, &mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.line.extend_from_slice(&buffer[..length]),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Some(Vec::new()),
                    _ => return None,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let read = |text: &str| {
            Server::parse(text).map(|own| (own.host, own.port, own.is_secure, own.prefix)).ok()
        };
        let own = |host: &str, port, is_secure, prefix: &str| {
            Some((host.to_owned(), port, is_secure, prefix.to_owned()))
        };
        assert_eq!(read("https://10.0.0.1:6443"), own("10.0.0.1", 6443, true, ""));
        assert_eq!(read("https://[::1]:6443/"), own("::1", 6443, true, ""));
        assert_eq!(read("https://a.example/k8s/c/"), own("a.example", 443, true, "/k8s/c"));
        assert_eq!(read("localhost:8080"), own("localhost", 8080, false, ""));
        assert_eq!(read("ftp://x"), None);
        assert_eq!(read("https://x:y"), None);
        assert_eq!(read("https://"), None);
    }

    #[test]
    fn targets_are_encoded() {
        let query = [("labelSelector", "a in (b,c)"), ("limit", "5")];
        assert_eq!(
            target(&["api", "v1", "a/b"], &query),
            "/api/v1/a%2Fb?labelSelector=a%20in%20%28b%2Cc%29&limit=5"
        );
        assert_eq!(target(&["api"], &[] as &[(&str, &str)]), "/api");
    }
}
