//! Requests to an engine, and its answers.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::body::{Body, Connection};
use crate::dial::dial;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::place::Place;

/// What of a long body is sent at a time.
const PIECE_BYTES: usize = 32 << 10;
/// Longest document that is read as a whole.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// An engine that answers.
#[derive(Debug)]
pub struct Engine {
    place: Place,
    /// The version that both ends speak: `1.50`.
    version: String,
    /// A connection on which nothing is under way.
    idle: RefCell<Option<Connection>>,
}

/// What is asked.
#[derive(Debug, Default)]
pub struct Request<'a> {
    method: &'static str,
    path: String,
    /// Written into the path.
    query: String,
    headers: Vec<(&'static str, String)>,
    content: Content<'a>,
}

/// What is sent along.
#[derive(Default)]
pub enum Content<'a> {
    /// Nothing.
    #[default]
    None,
    /// A document.
    Json(Value),
    /// As much as comes, of this kind.
    Stream(&'static str, &'a mut dyn Read),
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::None => "None",
            Self::Json(_) => "Json",
            Self::Stream(..) => "Stream",
        })
    }
}

impl<'a> Request<'a> {
    /// A request for a path, whose parts are encoded.
    #[must_use]
    pub fn new(method: &'static str, parts: &[&str]) -> Self {
        let path = parts.iter().fold(String::new(), |path, part| path + "/" + &encode(part));
        Self { method, path, ..Self::default() }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let sign = if self.query.is_empty() { '?' } else { '&' };
        // Writing to a string cannot fail.
        let _ = write!(self.query, "{sign}{name}={}", encode(value.as_ref()));
        self
    }

    /// Adds a parameter, unless it is empty.
    #[must_use]
    pub fn with_some(self, name: &str, value: impl AsRef<str>) -> Self {
        if value.as_ref().is_empty() { self } else { self.with(name, value) }
    }

    /// Adds a parameter that is 1, if it is set.
    #[must_use]
    pub fn with_flag(self, name: &str, is_set: bool) -> Self {
        if is_set { self.with(name, "1") } else { self }
    }

    /// Adds a field to the head.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends a document along.
    #[must_use]
    pub fn json(self, document: Value) -> Self {
        Self { content: Content::Json(document), ..self }
    }

    /// Sends along what `from` gives, of a kind as in `application/x-tar`.
    #[must_use]
    pub fn stream<'b>(self, kind: &'static str, from: &'b mut dyn Read) -> Request<'b> {
        let Self { method, path, query, headers, .. } = self;
        Request { method, path, query, headers, content: Content::Stream(kind, from) }
    }
}

/// Everything but what needs no encoding anywhere in an address (RFC 3986, section 2.3), and what
/// names of images have.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// An answer that says yes.
#[derive(Debug)]
pub struct Answer {
    head: Head,
    body: Body,
}

impl Answer {
    /// The status of HTTP.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// A field of the head, by its name in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// The content, as it comes.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }
}

/// A connection that is no longer HTTP's.
#[derive(Debug)]
pub struct Stream {
    connection: Connection,
}

impl Stream {
    /// The direction to the engine.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn writer(&self) -> io::Result<UnixStream> {
        self.connection.get_ref().try_clone()
    }

    /// Says that nothing more is coming.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn end_writing(writer: &UnixStream) -> io::Result<()> {
        writer.shutdown(Shutdown::Write)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.connection.read(buffer)
    }
}

impl Engine {
    /// Reaches an engine, and finds the version that both ends speak: `newest` is the newest of ours.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and others.
    pub fn connect(place: Place, newest: &str) -> Result<Self> {
        let engine = Self { place, version: String::new(), idle: RefCell::default() };
        // An answer to this has no words for what is wrong, and engines of old do not know it.
        let answer = match engine.ask(Request::new("HEAD", &["_ping"])) {
            Err(Error::Refused { .. }) => engine.ask(Request::new("GET", &["_ping"]))?,
            answer => answer?,
        };
        // An engine that does not say is as old as the oldest that does.
        let theirs = answer.field("api-version").unwrap_or("1.24").to_owned();
        engine.keep(answer);
        let version = if number(&theirs) < number(newest) { theirs } else { newest.to_owned() };
        Ok(Self { version, ..engine })
    }

    /// The version that both ends speak.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether a version is spoken that has what came with 1.`minor`.
    #[must_use]
    pub fn speaks(&self, minor: u32) -> bool {
        number(&self.version) >= (1, minor)
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A connection on which nothing has been said.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn dial(place: &Place) -> Result<UnixStream> {
        dial(place).map_err(|source| Error::Unreachable { place: place.to_string(), source })
    }

    /// Asks; the answer says yes.
    ///
    /// # Errors
    /// [`Error::Refused`] if it says no, and others.
    pub fn ask(&self, request: Request<'_>) -> Result<Answer> {
        let is_head = request.method == "HEAD";
        let (head, connection) = self.exchange(request, false)?;
        let body = Body::new(connection, &head, is_head);
        let answer = Answer { head, body };
        match answer.head.status {
            200..=399 => Ok(answer),
            status => Err(self.refusal(status, answer)),
        }
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn json(&self, request: Request<'_>) -> Result<Value> {
        let mut answer = self.ask(request)?;
        let document = self.document(&mut answer)?;
        self.keep(answer);
        let text = if document.is_empty() { b"null" } else { document.as_slice() };
        serde_json::from_slice(text).map_err(|error| self.broken(error.into()))
    }

    /// Asks, and then takes the connection over.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn take_over(&self, request: Request<'_>) -> Result<Stream> {
        let (head, connection) = self.exchange(request, true)?;
        match head.status {
            // Engines of old say 200, and mean the same.
            101 | 200 => Ok(Stream { connection }),
            status => {
                let body = Body::new(connection, &head, false);
                Err(self.refusal(status, Answer { head, body }))
            }
        }
    }

    /// Has another request follow where this one ended.
    fn keep(&self, answer: Answer) {
        let closes = !answer.head.is_current || answer.head.has("connection", "close");
        if let (false, Some(connection)) = (closes, answer.body.into_connection()) {
            self.idle.replace(Some(connection));
        }
    }

    fn exchange(&self, request: Request<'_>, takes_over: bool) -> Result<(Head, Connection)> {
        let mut connection = match self.idle.take() {
            Some(idle) => idle,
            None => BufReader::new(Self::dial(&self.place)?),
        };
        let sent = self.send(connection.get_mut(), request, takes_over);
        // An engine that says no does not read what else was to be sent, and hangs up.
        let head = loop {
            match Head::read(&mut connection) {
                Ok(head) if (100..=199).contains(&head.status) && head.status != 101 => {}
                Ok(head) => break head,
                Err(error) => return Err(self.broken(sent.err().unwrap_or(error))),
            }
        };
        if head.status < 400 {
            sent.map_err(|error| self.broken(error))?;
        }
        Ok((head, connection))
    }

    fn send(&self, mut to: &UnixStream, request: Request<'_>, takes_over: bool) -> io::Result<()> {
        let Request { method, path, query, headers, content } = request;
        let version = match self.version.as_str() {
            "" => String::new(),
            version => format!("/v{version}"),
        };
        let host = self.place.host_field();
        let mut head = format!("{method} {version}{path}{query} HTTP/1.1\r\nHost: {host}\r\n");
        head.push_str(concat!("User-Agent: Cais/", env!("CARGO_PKG_VERSION"), "\r\n"));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if takes_over {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        match content {
            Content::None => {
                head.push_str(if method == "POST" { "Content-Length: 0\r\n\r\n" } else { "\r\n" });
                to.write_all(head.as_bytes())
            }
            Content::Json(document) => {
                let document = document.to_string();
                let length = document.len();
                head.push_str(&format!(
                    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{document}"
                ));
                to.write_all(head.as_bytes())
            }
            Content::Stream(kind, from) => {
                head.push_str(&format!(
                    "Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
                ));
                to.write_all(head.as_bytes())?;
                send_pieces(from, to)
            }
        }
    }

    fn document(&self, answer: &mut Answer) -> Result<Vec<u8>> {
        let mut document = Vec::new();
        let read = (&mut answer.body).take(DOCUMENT_BYTES_MAX).read_to_end(&mut document);
        read.map_err(|error| self.broken(error))?;
        Ok(document)
    }

    fn refusal(&self, status: u16, mut answer: Answer) -> Error {
        let document = match self.document(&mut answer) {
            Ok(document) => document,
            Err(error) => return error,
        };
        self.keep(answer);
        let told = serde_json::from_slice::<Value>(&document).ok();
        let told = told.as_ref().and_then(|told| told["message"].as_str()).map(str::to_owned);
        let text = || match String::from_utf8_lossy(&document).trim() {
            "" => format!("it answered with the status {status}"),
            text => text.to_owned(),
        };
        Error::Refused { status, message: told.unwrap_or_else(text) }
    }

    /// The connection broke while something was under way.
    #[must_use]
    pub fn broken(&self, source: io::Error) -> Error {
        Error::Broken { place: self.place.to_string(), source }
    }
}

fn send_pieces(from: &mut dyn Read, mut to: &UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return to.write_all(b"0\r\n\r\n"),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(format!("{length:x}\r\n").as_bytes())?;
        to.write_all(&buffer[..length])?;
        to.write_all(b"\r\n")?;
    }
}

/// `1.50` as numbers.
fn number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_parameters_are_encoded() {
        let request = Request::new("GET", &["images", "a/b:c", "json"]);
        let request = request.with("filters", r#"{"a":["b c"]}"#).with_some("x", "");
        assert_eq!(request.path, "/images/a/b:c/json");
        assert_eq!(request.query, "?filters=%7B%22a%22:%5B%22b%20c%22%5D%7D");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("1.9") < number("1.24") && number("1.50") < number("2.0"));
    }
}
