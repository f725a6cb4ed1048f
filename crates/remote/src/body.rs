//! What an answer says after its head.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;

use crate::head::Head;

/// Longest line that says how long the next piece is.
const SIZE_LINE_BYTES_MAX: u64 = 256;

/// A connection, and what has already been read from it.
pub(crate) type Connection = BufReader<UnixStream>;

/// The content of an answer, as it comes.
#[derive(Debug)]
pub struct Body {
    connection: Connection,
    left: Left,
}

/// What is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    /// Pieces, of which the current one has this much left.
    Chunks(u64),
    /// All until the other end hangs up.
    UntilEnd,
    Nothing,
}

impl Body {
    /// What comes after `head`, which answered a request for a head alone if `is_head`.
    pub(crate) fn new(connection: Connection, head: &Head, is_head: bool) -> Self {
        let length = head.field("content-length").and_then(|text| text.parse().ok());
        let left = match (head.status, length) {
            _ if is_head => Left::Nothing,
            (100..=199 | 204 | 304, _) => Left::Nothing,
            _ if head.has("transfer-encoding", "chunked") => Left::Chunks(0),
            (_, Some(length)) => Left::Bytes(length),
            (_, None) => Left::UntilEnd,
        };
        Self { connection, left }
    }

    /// The connection, if another request may follow on it.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        matches!(self.left, Left::Nothing | Left::Bytes(0)).then_some(self.connection)
    }

    /// How long the next piece is; 0 after the last one.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a piece of an answer is no piece");
        let mut line = Vec::new();
        (&mut self.connection).take(SIZE_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        // After each piece comes an empty line.
        if line == b"\r\n" {
            line.clear();
            (&mut self.connection).take(SIZE_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        }
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = std::str::from_utf8(&line).map_err(|_| bad())?.trim_end();
        let digits = text.split(';').next().unwrap_or_default();
        let length = u64::from_str_radix(digits, 16).map_err(|_| bad())?;
        if length == 0 {
            // Fields that follow mean nothing to us.
            loop {
                line.clear();
                (&mut self.connection).take(SIZE_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
                if line == b"\r\n" || line.is_empty() {
                    break;
                }
            }
        }
        Ok(length)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.left == Left::Chunks(0) {
            self.left = match self.next_chunk()? {
                0 => Left::Nothing,
                length => Left::Chunks(length),
            };
        }
        let most = match self.left {
            Left::Nothing => return Ok(0),
            Left::UntilEnd => return self.connection.read(buffer),
            Left::Bytes(left) | Left::Chunks(left) => left.min(buffer.len() as u64),
        };
        if most == 0 {
            return Ok(0);
        }
        let length = self.connection.read(&mut buffer[..usize::try_from(most).unwrap_or(1)])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Left::Bytes(left) | Left::Chunks(left) = &mut self.left {
            *left -= length as u64;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn check(answer: &str, expected: &str, may_follow: bool) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answer.as_bytes()).unwrap();
        drop(theirs);
        let mut connection = BufReader::new(ours);
        let head = Head::read(&mut connection).unwrap();
        let mut body = Body::new(connection, &head, false);
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        assert_eq!(text, expected, "{answer}");
        assert_eq!(body.into_connection().is_some(), may_follow, "{answer}");
    }

    #[test]
    fn bodies_end_where_they_say() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc", true);
        check("HTTP/1.1 200 OK\r\n\r\nabc", "abc", false);
        check("HTTP/1.1 204 No Content\r\n\r\n", "", true);
        let pieces = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        check(pieces, "abcde", true);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        for answer in [
            "Content-Length: 9\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n",
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).unwrap();
            drop(theirs);
            let mut connection = BufReader::new(ours);
            let head = Head::read(&mut connection).unwrap();
            let read = Body::new(connection, &head, false).read_to_end(&mut Vec::new());
            assert!(read.is_err(), "{answer}");
        }
    }
}
