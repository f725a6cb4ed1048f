//! The head of an answer (RFC 9112).

use std::io::{self, BufRead, Read as _};

/// Longest head.
const HEAD_BYTES_MAX: u64 = 256 << 10;

/// Status and fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether another request may follow, unless a field says otherwise: not before HTTP/1.1.
    pub(crate) is_current: bool,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "what came is no answer of HTTP");
        let mut from = from.take(HEAD_BYTES_MAX);
        let first = line(&mut from)?;
        let mut words = first.split(' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.filter(|_| version.starts_with("HTTP/1.")).ok_or_else(bad)?;
        let is_current = version != "HTTP/1.0";
        let mut head = Self { status, is_current, fields: Vec::new() };
        loop {
            let line = line(&mut from)?;
            if line.is_empty() {
                return Ok(head);
            }
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            head.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a field lists a word.
    pub(crate) fn has(&self, name: &str, word: &str) -> bool {
        let words = self.field(name).unwrap_or_default().split(',');
        words.map(str::trim).any(|known| known.eq_ignore_ascii_case(word))
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_to_their_end() {
        let mut text =
            &b"HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nConnection: a, Upgrade\r\n\r\nrest"[..];
        let head = Head::read(&mut text).unwrap();
        assert_eq!((head.status, head.field("api-version")), (200, Some("1.50")));
        assert!(head.has("connection", "upgrade") && !head.has("connection", "close"));
        assert_eq!(text, b"rest");
        for wrong in [
            "",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
            "HTTP/1.1 200\r\nx\r\n\r\n",
            "HTTP/1.1 200",
        ] {
            assert!(Head::read(&mut wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
