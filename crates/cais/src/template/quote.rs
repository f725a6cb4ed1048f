//! Go's string and character literals, both ways (`strconv.Quote`, `strconv.Unquote`).

use std::fmt::Write as _;

/// Whether Go calls the character printable: letters, marks, numbers, symbols and the plain space.
///
/// `str::escape_debug` knows the same classes; the leading letter keeps it from escaping a
/// combining mark merely because it stands first.
pub(super) fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().count() == 2
}

pub(super) fn quote(text: &str) -> String {
    quote_with(text, '"', false)
}

/// Quotes `text`; `ascii` escapes everything beyond ASCII.
pub(super) fn quote_with(text: &str, quote: char, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        escape(&mut out, c, quote, ascii);
    }
    out.push(quote);
    out
}

fn escape(out: &mut String, c: char, quote: char, ascii: bool) {
    let code = u32::from(c);
    let short = match c {
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        '\\' => '\\',
        _ if c == quote => c,
        _ if is_print(c) && (c.is_ascii() || !ascii) => return out.push(c),
        _ => {
            let written = match code {
                0..0x80 => write!(out, "\\x{code:02x}"),
                0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            return written.expect("writing to a string cannot fail");
        }
    };
    out.push('\\');
    out.push(short);
}

/// The value of a literal in double, single or back quotes; `None` where Go says `invalid syntax`.
///
/// Bytes that are no UTF-8 (`"\xff"`) become U+FFFD.
pub(super) fn unquote(literal: &str) -> Option<String> {
    let quote = literal.chars().next()?;
    let body = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(body.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => unescape(&mut rest, quote, &mut bytes)?,
            c => push(&mut bytes, c),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn unescape(rest: &mut std::str::Chars<'_>, quote: char, bytes: &mut Vec<u8>) -> Option<()> {
    let plain = match rest.next()? {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        c @ '0'..='7' => {
            let low = digits(rest, 2, 8)?;
            let code = c.to_digit(8)? * 64 + low;
            bytes.push(u8::try_from(code).ok()?);
            return Some(());
        }
        'x' => {
            bytes.push(u8::try_from(digits(rest, 2, 16)?).ok()?);
            return Some(());
        }
        'u' => char::from_u32(digits(rest, 4, 16)?)?,
        'U' => char::from_u32(digits(rest, 8, 16)?)?,
        c if c == quote => c,
        _ => return None,
    };
    push(bytes, plain);
    Some(())
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    (0..count).try_fold(0u32, |code, _| {
        code.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?)
    })
}
