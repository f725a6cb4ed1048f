//! What a server answers: a head, and a body that comes as it is read.

use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::IDLE_MAX;
use super::wire::Wire;

/// The longest head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most header fields.
const FIELDS_MAX: usize = 100;
/// The longest line that says how long a chunk is, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;

/// An answer whose body is read from it.
#[derive(Debug)]
pub struct Answer {
    code: u16,
    fields: Vec<(String, String)>,
    wire: Option<Wire>,
    /// What was read and is not taken yet.
    buffer: Vec<u8>,
    rest: Rest,
    /// Where the connection goes when all is read.
    idle: Option<Arc<Mutex<Vec<Wire>>>>,
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// So many bytes.
    Length(u64),
    /// So many bytes of a chunk, and others after it.
    Chunk(u64),
    /// What stands between two chunks.
    Between,
    /// Lines after the last one.
    Trailer,
    /// All that comes.
    UntilEnd,
}

impl Answer {
    /// Waits for the head of the answer to a request.
    pub(super) fn read(mut wire: Wire, method: &str) -> io::Result<Self> {
        let mut buffer = Vec::new();
        let (code, fields, length) = loop {
            if let Some(head) = parse(&buffer)? {
                // What says that one may go on is no answer yet.
                if head.0 == 100 {
                    buffer.drain(..head.2);
                    continue;
                }
                break head;
            }
            if buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("the head of the answer is too long"));
            }
            if fill(&mut wire, &mut buffer)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        buffer.drain(..length);
        let mut answer =
            Self { code, fields, wire: Some(wire), buffer, rest: Rest::UntilEnd, idle: None };
        answer.rest = answer.framing(method)?;
        Ok(answer)
    }

    fn framing(&self, method: &str) -> io::Result<Rest> {
        if method == "HEAD" || matches!(self.code, 101 | 204 | 304) {
            return Ok(Rest::Length(0));
        }
        if let Some(coding) = self.field("transfer-encoding") {
            return match coding.eq_ignore_ascii_case("chunked") {
                true => Ok(Rest::Between),
                false => Err(invalid("the answer has a coding that nobody asked for")),
            };
        }
        match self.field("content-length") {
            None => Ok(Rest::UntilEnd),
            Some(length) => {
                let length = length.parse().map_err(|_| invalid("the answer has no length"))?;
                Ok(Rest::Length(length))
            }
        }
    }

    /// The same, whose connection is used again.
    pub(super) fn kept_in(mut self, idle: &Arc<Mutex<Vec<Wire>>>) -> Self {
        let closes = self.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if !closes && self.rest != Rest::UntilEnd {
            self.idle = Some(Arc::clone(idle));
        }
        self.keep_if_over();
        self
    }

    /// The status of HTTP.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// A header field, by its name in small letters.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The values of all header fields of a name.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.fields.iter().filter(move |(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// How long reading waits; for ever without a time.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.wire.as_ref().map_or(Ok(()), |wire| wire.set_timeout(timeout))
    }

    /// The whole body, of at most so many bytes.
    ///
    /// # Errors
    /// It is longer, or does not come whole.
    pub fn bytes(mut self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self).take(bytes_max + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > bytes_max {
            true => Err(invalid("the answer is too long")),
            false => Ok(bytes),
        }
    }

    /// The connection, and what was read of it ahead.
    pub(super) fn into_wire(mut self) -> Option<(Wire, Vec<u8>)> {
        let buffer = std::mem::take(&mut self.buffer);
        self.wire.take().map(|wire| (wire, buffer))
    }

    fn keep_if_over(&mut self) {
        if self.rest != Rest::Length(0) || !self.buffer.is_empty() {
            return;
        }
        if let (Some(idle), true) = (&self.idle, self.wire.is_some()) {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.extend(self.wire.take());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        match &mut self.wire {
            None => Ok(0),
            Some(wire) => fill(wire, &mut self.buffer),
        }
    }

    /// A line that has come whole, or more of it.
    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > CHUNK_LINE_BYTES_MAX {
                return Err(invalid("a line between two chunks is too long"));
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads what stands before a chunk.
    fn next_chunk(&mut self) -> io::Result<()> {
        let line = self.line()?;
        // The end of the chunk before.
        if line.is_empty() {
            return Ok(());
        }
        let size = line.split(';').next().unwrap_or_default().trim();
        self.rest = match u64::from_str_radix(size, 16) {
            Ok(0) => Rest::Trailer,
            Ok(size) => Rest::Chunk(size),
            Err(_) => return Err(invalid("a chunk does not say how long it is")),
        };
        Ok(())
    }

    /// Takes of what is in the buffer, or comes.
    fn take_bytes(&mut self, most: u64, target: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Ok(0);
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let length = self.buffer.len().min(target.len()).min(most);
        target[..length].copy_from_slice(&self.buffer[..length]);
        self.buffer.drain(..length);
        Ok(length)
    }
}

impl Read for Answer {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        loop {
            match self.rest {
                Rest::Length(0) => {
                    self.keep_if_over();
                    return Ok(0);
                }
                Rest::UntilEnd => return self.take_bytes(u64::MAX, target),
                Rest::Length(left) => {
                    let length = self.take_bytes(left, target)?;
                    if length == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    self.rest = Rest::Length(left - length as u64);
                    self.keep_if_over();
                    return Ok(length);
                }
                Rest::Chunk(left) => {
                    let length = self.take_bytes(left, target)?;
                    if length == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    let left = left - length as u64;
                    self.rest = if left == 0 { Rest::Between } else { Rest::Chunk(left) };
                    return Ok(length);
                }
                Rest::Between => self.next_chunk()?,
                Rest::Trailer => {
                    if self.line()?.is_empty() {
                        self.rest = Rest::Length(0);
                    }
                }
            }
        }
    }
}

fn fill(wire: &mut Wire, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut more = [0; 16 << 10];
    loop {
        match wire.read(&mut more) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(length) => {
                buffer.extend_from_slice(&more[..length]);
                return Ok(length);
            }
        }
    }
}

/// Status, header fields and length of a head, once it is there.
type Head = (u16, Vec<(String, String)>, usize);

fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&format!("the answer is not HTTP: {error}"))),
    };
    let own = response.headers.iter().map(|field| {
        let value = String::from_utf8_lossy(field.value).into_owned();
        (field.name.to_ascii_lowercase(), value)
    });
    Ok(Some((response.code.unwrap_or_default(), own.collect(), length)))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A body as it comes over a connection.
    fn body(answer: &str) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        other.write_all(answer.as_bytes()).unwrap();
        drop(other);
        let answer = Answer::read(Wire::Plain(socket), "GET")?;
        answer.bytes(100).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn bodies_end_where_their_heads_say() {
        let check = |head: &str, rest: &str, expected: Option<&str>| {
            let found = body(&format!("HTTP/1.1 200 OK\r\n{head}\r\n{rest}"));
            assert_eq!(found.ok().as_deref(), expected, "{head}");
        };
        check("Content-Length: 3\r\n", "abcd", Some("abc"));
        check("Content-Length: 3\r\n", "ab", None);
        check("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n", Some("abc"));
        check("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n", None);
        check("Transfer-Encoding: chunked\r\n", "x\r\n", None);
        check("", "abc", Some("abc"));
        check("", &"a".repeat(101), None);
        let continued = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n\r\nx";
        assert_eq!(body(continued).unwrap(), "x");
        assert!(body("SSH-2.0\r\n\r\n").is_err());
    }
}
