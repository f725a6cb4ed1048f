//! The head of a request, read strictly (RFC 9112): what two parsers could understand in two ways
//! is refused, so that nothing can be smuggled past a proxy in front of us.

/// Longest head of a request, request line included.
pub(crate) const HEAD_BYTES_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 100;
const TARGET_BYTES_MAX: usize = 8 << 10;

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// Of an answer alone: it ends with the connection.
    ToEnd,
}

/// A request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `GET`, …, as it was sent.
    pub method: String,
    /// The path and the query as they were sent, percent-encoded.
    pub target: String,
    /// The path as it was sent, percent-encoded.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) framing: Framing,
    pub(crate) keeps_alive: bool,
    pub(crate) expects_continue: bool,
    /// What the client offers to speak instead.
    pub upgrade: Option<String>,
    /// HTTP/1.1, not 1.0.
    pub(crate) is_current: bool,
}

/// Why a head is no good: a status, and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bad(pub(crate) u16, pub(crate) &'static str);

impl Head {
    /// Reads the head that `bytes` start with: it and its length; `None` if it is not whole yet.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Bad> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() >= HEAD_BYTES_MAX => {
                return Err(Bad(431, "the head of the request is too long"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Bad(431, "too many header fields")),
            Err(httparse::Error::Version) => return Err(Bad(505, "HTTP/1.1 is spoken here")),
            // The first byte of TLS' greeting (RFC 8446, section 5.1).
            Err(_) if bytes.first() == Some(&0x16) => {
                return Err(Bad(400, "this port speaks plain HTTP, not TLS"));
            }
            Err(_) => return Err(Bad(400, "malformed request")),
        };
        if has_bare_line_feed(&bytes[..length]) {
            return Err(Bad(400, "a line of the request does not end with CRLF"));
        }
        let mut read = Vec::with_capacity(request.headers.len());
        for header in request.headers.iter() {
            let value = std::str::from_utf8(header.value);
            let value = value.map_err(|_| Bad(400, "a header field is not text"))?;
            read.push((header.name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let target = request.path.unwrap_or_default();
        if target.len() > TARGET_BYTES_MAX {
            return Err(Bad(414, "the address is too long"));
        }
        let (path, query) = split_target(target)?;
        let is_current = request.version == Some(1);
        let mut head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: target.to_owned(),
            path,
            query,
            headers: read,
            framing: Framing::Length(0),
            keeps_alive: false,
            expects_continue: false,
            upgrade: None,
            is_current,
        };
        head.settle()?;
        Ok(Some((head, length)))
    }

    /// Works out what follows from the header fields together.
    fn settle(&mut self) -> Result<(), Bad> {
        let hosts = self.all("host").count();
        if hosts > 1 || (self.is_current && hosts == 0) {
            return Err(Bad(400, "exactly one host must be named"));
        }
        self.framing = self.find_framing()?;
        let connection = self.get("connection").unwrap_or_default().to_ascii_lowercase();
        let says = |word: &str| connection.split(',').any(|said| said.trim() == word);
        self.upgrade = says("upgrade").then(|| self.list("upgrade")).flatten();
        self.keeps_alive = match self.is_current {
            true => !says("close"),
            false => says("keep-alive"),
        };
        match self.get("expect").map(str::to_ascii_lowercase).as_deref() {
            Some("100-continue") => self.expects_continue = self.is_current,
            Some(_) => return Err(Bad(417, "nothing but 100-continue can be expected")),
            None => {}
        }
        Ok(())
    }

    fn find_framing(&self) -> Result<Framing, Bad> {
        let mut lengths = self.all("content-length");
        let mut encodings = self.all("transfer-encoding");
        let (length, encoding) = (lengths.next(), encodings.next());
        if lengths.next().is_some() || encodings.next().is_some() {
            return Err(Bad(400, "the length of the body is said twice"));
        }
        match (length, encoding) {
            (Some(_), Some(_)) => Err(Bad(400, "the body has a length and a transfer encoding")),
            (None, Some(encoding)) if encoding.eq_ignore_ascii_case("chunked") => {
                match self.is_current {
                    true => Ok(Framing::Chunked),
                    false => Err(Bad(400, "HTTP/1.0 has no transfer encodings")),
                }
            }
            (None, Some(_)) => Err(Bad(501, "unsupported transfer encoding")),
            (Some(length), None) => {
                let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
                let length = length.parse().ok().filter(|_| digits);
                length.map(Framing::Length).ok_or(Bad(400, "invalid content length"))
            }
            (None, None) => Ok(Framing::Length(0)),
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first header field `name`, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All header fields: names in lower case, and values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All header fields `name` as one list.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<String> {
        let all: Vec<&str> = self.all(name).collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// A parameter of the query.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All parameters `name` of the query.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let feeds = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    feeds.into_iter().any(|(at, _)| at == 0 || head[at - 1] != b'\r')
}

/// Splits a request target in origin or absolute form (RFC 9112, section 3.2).
fn split_target(target: &str) -> Result<(String, Vec<(String, String)>), Bad> {
    let bad = Bad(400, "invalid address");
    let rest = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => rest.find('/').map(|at| &rest[at..]).ok_or(bad)?,
        None => target,
    };
    if !rest.starts_with('/') {
        return Err(bad);
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part: &str| decode(&part.replace('+', " ")).ok_or(bad);
        pairs.push((text(name)?, text(value)?));
    }
    Ok((path.to_owned(), pairs))
}

/// Undoes percent-encoding (RFC 3986, section 2.1); `None` for what is malformed or not text.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, more @ ..] = more else { return None };
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

/// Encodes what is not unreserved (RFC 3986, section 2.3).
#[must_use]
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Head, Bad> {
        Head::parse(text.as_bytes()).map(|head| head.expect("the head is whole").0)
    }

    #[test]
    fn a_request_is_read() {
        let head =
            parse("GET /v2/a/tags/list?n=2&last=a%2Bb&x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("GET", "/v2/a/tags/list"));
        assert_eq!(head.parameter("n"), Some("2"));
        assert_eq!(head.parameter("last"), Some("a+b"));
        assert!(head.keeps_alive && head.is_current && !head.expects_continue);
        let head = parse("GET http://h:1/v2/ HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(head.path, "/v2/");
        assert!(!head.keeps_alive);
    }

    #[test]
    fn bodies_are_framed_in_one_way() {
        let framing = |fields: &str| {
            parse(&format!("PUT / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).map(|head| head.framing)
        };
        assert_eq!(framing("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked));
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 1,1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length : 1\r\n",
            "X: a\r\n b\r\n",
            "X: a\nContent-Length: 1\r\n",
            "X: a\rContent-Length: 1\r\n",
            "X: a\0b\r\n",
            "Host: other\r\n",
            "Expect: 200-ok\r\n",
        ] {
            assert!(framing(fields).is_err(), "{fields:?}");
        }
        assert!(parse("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse("GET / HTTP/1.1\r\n\r\n").is_err(), "no host");
        assert!(parse("GET v2 HTTP/1.1\r\nHost: h\r\n\r\n").is_err());
        assert_eq!(parse("GET / HTTP/2.0\r\nHost: h\r\n\r\n").unwrap_err().0, 505);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_ends() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(HEAD_BYTES_MAX));
        assert_eq!(Head::parse(long.as_bytes()).unwrap_err().0, 431);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(Head::parse(many.as_bytes()).unwrap_err().0, 431);
        assert_eq!(Head::parse(b"GET / HTTP/1.1\r\nHost: h\r\n"), Ok(None));
    }

    #[test]
    fn percent_signs_mean_bytes() {
        assert_eq!(decode("a%2fb%3A").as_deref(), Some("a/b:"));
        for text in ["%", "%1", "%zz", "%ff"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(encode("a b/c+d"), "a%20b/c%2Bd");
    }
}
