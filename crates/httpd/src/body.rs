//! The body of a request or an answer, as a reader that ends where its head says.

use std::io::{self, Read, Write as _};

use crate::head::{Framing, Head};
use crate::wire::{Pace, Wire};

/// Longest line of a chunk's size, extensions included, and longest trailer section.
const CHUNK_LINE_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 8 << 10;
/// What is read from the socket at a time.
const INPUT_BYTES: usize = 64 << 10;

/// A connection's input with what was read ahead.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) wire: Wire,
    ahead: Vec<u8>,
    at: usize,
}

impl Input {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, ahead: Vec::new(), at: 0 }
    }

    /// What is there already.
    pub(crate) fn held(&self) -> &[u8] {
        &self.ahead[self.at..]
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.at += n;
        if self.at == self.ahead.len() {
            self.ahead.clear();
            self.at = 0;
        }
    }

    /// Reads more; the number of bytes that came, 0 at the end.
    pub(crate) fn fill(&mut self, most: usize) -> io::Result<usize> {
        if self.at > 0 {
            self.ahead.drain(..self.at);
            self.at = 0;
        }
        let held = self.ahead.len();
        self.ahead.resize(held + most, 0);
        let read = self.wire.read(&mut self.ahead[held..]);
        self.ahead.truncate(held + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Gives back memory that a request needed and an idle connection does not.
    pub(crate) fn shrink(&mut self) {
        if self.held().is_empty() {
            self.ahead = Vec::new();
            self.at = 0;
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.held().is_empty() {
            // Large reads go straight to where they belong.
            if buffer.len() >= INPUT_BYTES {
                return self.wire.read(buffer);
            }
            self.fill(INPUT_BYTES)?;
        }
        let n = self.held().len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.held()[..n]);
        self.consume(n);
        Ok(n)
    }

    /// A line that ends with CRLF, without it.
    fn line(&mut self, longest: usize) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.held().windows(2).position(|pair| pair == b"\r\n") {
                let line = self.held()[..end].to_vec();
                if line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
                    // Others may take it for the end of the line.
                    return Err(malformed("a line does not end with CRLF"));
                }
                self.consume(end + 2);
                return Ok(line);
            }
            if self.held().len() > longest + "\r\n".len() {
                return Err(malformed("a line is too long"));
            }
            if self.fill(INPUT_BYTES)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[derive(Debug)]
enum State {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of this chunk are left; then comes the next one.
    Chunk {
        left: u64,
        is_first: bool,
    },
    /// All until the connection ends.
    ToEnd,
    Ended,
}

/// The body of one request, or of one answer.
#[derive(Debug)]
pub struct Body<'a> {
    pub(crate) input: &'a mut Input,
    state: State,
    /// The client waits for our word before it sends anything (RFC 9110, section 10.1.1).
    must_invite: bool,
    pace: Pace,
    seen: u64,
    announced: Option<u64>,
}

impl<'a> Body<'a> {
    pub(crate) fn new(input: &'a mut Input, head: &Head) -> Self {
        Self { must_invite: head.expects_continue, ..Self::framed(input, head.framing) }
    }

    pub(crate) fn framed(input: &'a mut Input, framing: Framing) -> Self {
        let (state, announced) = match framing {
            Framing::Length(0) => (State::Ended, Some(0)),
            Framing::Length(length) => (State::Length(length), Some(length)),
            Framing::Chunked => (State::Chunk { left: 0, is_first: true }, None),
            Framing::ToEnd => (State::ToEnd, None),
        };
        let pace = Pace::new(input.wire.limits());
        Self { input, state, must_invite: false, pace, seen: 0, announced }
    }

    /// The announced length in bytes, if one was.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// All of it, if it is at most `longest` bytes.
    ///
    /// # Errors
    /// The client is gone, too slow, or breaks the rules of chunks.
    pub fn whole(&mut self, longest: u64) -> io::Result<Option<Vec<u8>>> {
        if self.announced.is_some_and(|length| length > longest) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.take(longest + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= longest).then_some(bytes))
    }

    /// Skips what nobody read, if that is little: whether the connection can go on.
    pub(crate) fn finish(&mut self) -> bool {
        const SKIPPED_BYTES_MAX: u64 = 64 << 10;
        match self.state {
            State::Ended => return true,
            State::Length(left) if left > SKIPPED_BYTES_MAX => return false,
            _ => {}
        }
        // A client that was not invited may send the next request or this body: nobody knows.
        if self.must_invite {
            return false;
        }
        let mut buffer = [0; 4096];
        let mut skipped = 0;
        while skipped <= SKIPPED_BYTES_MAX {
            match self.read(&mut buffer) {
                Ok(0) => return true,
                Ok(n) => skipped += n as u64,
                Err(_) => return false,
            }
        }
        false
    }

    fn invite(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.must_invite) {
            self.input.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.input.wire.flush()?;
        }
        Ok(())
    }

    /// The size of the next chunk (RFC 9112, section 7.1).
    fn next_chunk(&mut self, is_first: bool) -> io::Result<u64> {
        if !is_first && !self.input.line(0)?.is_empty() {
            return Err(malformed("a chunk does not end where it says"));
        }
        let line = self.input.line(CHUNK_LINE_BYTES_MAX)?;
        let digits = line.split(|b| *b == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default().trim_end();
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| plain && digits.len() <= 15);
        size.ok_or_else(|| malformed("invalid size of a chunk"))
    }

    fn skip_trailers(&mut self) -> io::Result<()> {
        let mut seen = 0;
        loop {
            let line = self.input.line(TRAILER_BYTES_MAX)?;
            seen += line.len();
            if line.is_empty() {
                return Ok(());
            }
            if seen > TRAILER_BYTES_MAX {
                return Err(malformed("the trailers are too long"));
            }
        }
    }

    /// Reads at most `left` bytes, of which there must be some.
    fn take_from(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.input.read(&mut buffer[..wanted])?;
        if n == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.seen += n as u64;
        self.pace.check(self.seen)?;
        Ok(n)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Ended => return Ok(0),
                State::ToEnd => return self.input.read(buffer),
                State::Length(left) => {
                    self.invite()?;
                    let n = self.take_from(buffer, left)?;
                    let left = left - n as u64;
                    self.state = if left == 0 { State::Ended } else { State::Length(left) };
                    return Ok(n);
                }
                State::Chunk { left: 0, is_first } => {
                    self.invite()?;
                    let left = self.next_chunk(is_first)?;
                    if left == 0 {
                        self.skip_trailers()?;
                        self.state = State::Ended;
                        return Ok(0);
                    }
                    self.state = State::Chunk { left, is_first: false };
                }
                State::Chunk { left, .. } => {
                    let n = self.take_from(buffer, left)?;
                    self.state = State::Chunk { left: left - n as u64, is_first: false };
                    return Ok(n);
                }
            }
        }
    }
}
