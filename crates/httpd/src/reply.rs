//! Answers, and how they are written.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write as _};

use crate::wire::Wire;

/// What follows the head of an answer.
pub enum Content {
    /// All of it.
    Bytes(Vec<u8>),
    /// A part of a file.
    File {
        /// The file.
        file: File,
        /// Where the part begins.
        from: u64,
        /// Its bytes.
        length: u64,
    },
    /// What is just arriving from elsewhere.
    Stream {
        /// Where from.
        reader: Box<dyn Read + Send>,
        /// How many bytes; `None` where nobody knows how much it will be.
        length: Option<u64>,
    },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Content({:?})", self.length())
    }
}

impl Content {
    fn length(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File { length, .. } => Some(*length),
            Self::Stream { length, .. } => *length,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header fields, beyond those of the framing.
    pub headers: Vec<(Cow<'static, str>, String)>,
    content: Content,
    /// A word for the log.
    pub log: Option<String>,
}

const STREAM_BUFFER_BYTES: usize = 64 << 10;
/// Files up to this size are written together with the head: one system call, one packet.
const INLINE_BYTES_MAX: u64 = 16 << 10;

impl Reply {
    /// An answer without content.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), content: Content::Bytes(Vec::new()), log: None }
    }

    /// The same with another status.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// With a further header field.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Display) -> Self {
        self.headers.push((name.into(), format!("{value}")));
        self
    }

    /// With a document as its content.
    #[must_use]
    pub fn document(self, media_type: &str, bytes: Vec<u8>) -> Self {
        self.header("Content-Type", media_type).content(Content::Bytes(bytes))
    }

    /// With this content.
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    /// Writes it; without content for `HEAD`. Returns the bytes of content that were written.
    ///
    /// A stream whose length nobody knows ends with the connection for clients of HTTP/1.0.
    pub(crate) fn write(
        self,
        wire: &mut Wire,
        is_head: bool,
        closes: bool,
        knows_chunks: bool,
    ) -> io::Result<u64> {
        let length = self.content.length();
        let mut head = self.head(length, closes, knows_chunks);
        // RFC 9110, sections 15.3.5 and 15.4.5.
        if is_head || matches!(self.status, 204 | 304) {
            wire.write_all(head.as_bytes())?;
            return wire.flush().map(|()| 0);
        }
        match self.content {
            Content::Bytes(bytes) => {
                let written = bytes.len() as u64;
                let mut all = std::mem::take(&mut head).into_bytes();
                all.extend_from_slice(&bytes);
                wire.write_all(&all)?;
                wire.flush()?;
                Ok(written)
            }
            Content::File { file, from, length } if length <= INLINE_BYTES_MAX => {
                use std::os::unix::fs::FileExt as _;
                let mut all = head.into_bytes();
                let at = all.len();
                all.resize(at + usize::try_from(length).unwrap_or_default(), 0);
                file.read_exact_at(&mut all[at..], from)?;
                wire.write_all(&all)?;
                wire.flush()?;
                Ok(length)
            }
            Content::File { file, from, length } => {
                wire.write_all(head.as_bytes())?;
                wire.send_file(&file, from, length)?;
                Ok(length)
            }
            Content::Stream { mut reader, length } => {
                wire.write_all(head.as_bytes())?;
                stream(wire, reader.as_mut(), length, knows_chunks)
            }
        }
    }

    pub(crate) fn head(&self, length: Option<u64>, closes: bool, knows_chunks: bool) -> String {
        use std::fmt::Write as _;
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = match length {
            _ if matches!(self.status, 101 | 204 | 304) => Ok(()),
            Some(length) => write!(head, "Content-Length: {length}\r\n"),
            None if knows_chunks => write!(head, "Transfer-Encoding: chunked\r\n"),
            None => Ok(()),
        };
        if self.status != 101 && (closes || (length.is_none() && !knows_chunks)) {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

/// Passes on what arrives, in chunks (RFC 9112, section 7.1) where its length is not known.
fn stream(
    wire: &mut Wire,
    reader: &mut dyn Read,
    length: Option<u64>,
    knows_chunks: bool,
) -> io::Result<u64> {
    let chunked = length.is_none() && knows_chunks;
    let mut buffer = vec![0; STREAM_BUFFER_BYTES];
    let mut written = 0;
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        if chunked {
            write!(wire, "{n:x}\r\n")?;
        }
        wire.write_all(&buffer[..n])?;
        if chunked {
            wire.write_all(b"\r\n")?;
        }
        written += n as u64;
    }
    if chunked {
        wire.write_all(b"0\r\n\r\n")?;
    }
    wire.flush()?;
    match length {
        Some(length) if length != written => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(written),
    }
}

/// RFC 9110, section 15, for those that are in use here.
fn reason(status: u16) -> &'static str {
    match status {
        101 => "UPGRADED",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}
