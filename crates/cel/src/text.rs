//! Literals, and addresses on the web.

use crate::value::Value;

/// A text or bytes in quotes at the beginning, and its length in bytes; `None` if there is none.
pub(crate) fn quoted(text: &str) -> Result<Option<(Value, usize)>, String> {
    let prefix = text.len() - text.trim_start_matches(['r', 'R', 'b', 'B']).len();
    let marks = text[..prefix].to_ascii_lowercase();
    let rest = &text[prefix..];
    let is_literal = prefix <= 2 && rest.starts_with(['"', '\'']);
    if !is_literal || marks == "rr" || marks == "bb" {
        return Ok(None);
    }
    let (is_raw, is_bytes) = (marks.contains('r'), marks.contains('b'));
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| rest.starts_with(q));
    let Some(quote) = quote else { return Ok(None) };
    let mut bytes = Vec::new();
    let mut at = quote.len();
    loop {
        let left = &rest[at..];
        if left.starts_with(quote) {
            at += quote.len();
            break;
        }
        match left.chars().next() {
            None => return Err("Syntax error: a text does not end".to_owned()),
            Some('\n') if quote.len() == 1 => {
                return Err("Syntax error: a text does not end in its line".to_owned());
            }
            Some('\\') if !is_raw => at += escape(left, is_bytes, &mut bytes)?,
            Some(letter) => {
                bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
                at += letter.len_utf8();
            }
        }
    }
    let value = match is_bytes {
        true => Value::Bytes(bytes.into()),
        false => {
            let text = String::from_utf8(bytes).map_err(|_| "a text is not UTF-8".to_owned())?;
            Value::text(&text)
        }
    };
    Ok(Some((value, prefix + at)))
}

/// An escape sequence: what it stands for is added, how long it is returned.
fn escape(text: &str, is_bytes: bool, bytes: &mut Vec<u8>) -> Result<usize, String> {
    let wrong = || "Syntax error: an escape that is none".to_owned();
    let kind = text.as_bytes().get(1).copied().ok_or_else(wrong)?;
    let plain = match kind {
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(11),
        b'\\' | b'\'' | b'"' | b'`' | b'?' => Some(kind),
        _ => None,
    };
    if let Some(byte) = plain {
        bytes.push(byte);
        return Ok(2);
    }
    let (from, length, radix) = match kind {
        b'x' | b'X' => (2, 2, 16),
        b'u' => (2, 4, 16),
        b'U' => (2, 8, 16),
        b'0'..=b'3' => (1, 3, 8),
        _ => return Err(wrong()),
    };
    let digits = text.get(from..from + length).ok_or_else(wrong)?;
    let number = u32::from_str_radix(digits, radix).map_err(|_| wrong())?;
    match u8::try_from(number) {
        Ok(byte) if is_bytes => bytes.push(byte),
        _ => {
            let letter = char::from_u32(number).ok_or_else(wrong)?;
            bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(from + length)
}

/// A number at the beginning, and its length.
pub(crate) fn number(text: &str) -> Result<(Value, usize), String> {
    let wrong = || "Syntax error: a number that is none".to_owned();
    if let Some(hex) = text.strip_prefix("0x") {
        let length = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let digits = &hex[..length];
        return match hex[length..].starts_with(['u', 'U']) {
            true => {
                Ok((Value::Uint(u64::from_str_radix(digits, 16).map_err(|_| wrong())?), length + 3))
            }
            false => {
                Ok((Value::Int(i64::from_str_radix(digits, 16).map_err(|_| wrong())?), length + 2))
            }
        };
    }
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut length = digits(0);
    let mut is_whole = true;
    if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
        is_whole = false;
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let count = bytes.get(length + 1 + sign).map_or(0, |_| digits(length + 1 + sign));
        if count > 0 {
            length += 1 + sign + count;
            is_whole = false;
        }
    }
    let own = &text[..length];
    if !is_whole {
        return Ok((Value::Double(own.parse().map_err(|_| wrong())?), length));
    }
    if text[length..].starts_with(['u', 'U']) {
        return Ok((Value::Uint(own.parse().map_err(|_| wrong())?), length + 1));
    }
    // The smallest number has no positive one: it is written with a sign, and read as a double here.
    match own.parse() {
        Ok(number) => Ok((Value::Int(number), length)),
        Err(_) => Err("invalid int literal".to_owned()),
    }
}

/// An address on the web, as far as rules ask for its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
}

impl Url {
    /// Reads an absolute address, or a path from the root (Go, `url.ParseRequestURI`).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return None;
        }
        let (scheme, rest) = match text.split_once(':') {
            _ if text.starts_with('/') => ("", text),
            Some((scheme, rest)) => (scheme, rest),
            None => return None,
        };
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if !text.starts_with('/')
            && !(scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(is_part))
        {
            return None;
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) => match rest.find('/') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            },
            None => ("", rest),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn host_and_port(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
            _ => (&self.host, ""),
        }
    }

    pub(crate) fn hostname(&self) -> &str {
        self.host_and_port().0.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> &str {
        self.host_and_port().1
    }
}
