//! Lines of output, cut out of what a stream writes, and as JSON.

use std::fmt::Write as _;

use super::Stream;

/// The longest text of one entry, in bytes; Docker splits there too.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes that are looked at together: enough for the compiler to use wide registers.
const BLOCK: usize = 32;

/// Cuts two streams into lines, and lines that are too long into parts.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: [Vec<u8>; 2],
}

impl Lines {
    /// Gives `take` every whole line, with its newline, and parts of those that are longer than
    /// [`LINE_BYTES_MAX`]. What is no whole line yet is kept.
    pub(super) fn feed(&mut self, stream: Stream, mut bytes: &[u8], take: &mut dyn FnMut(&[u8])) {
        let partial = &mut self.partial[stream as usize];
        while !partial.is_empty() && !bytes.is_empty() {
            let room = (LINE_BYTES_MAX - partial.len()).min(bytes.len());
            let newline = newline(&bytes[..room]);
            let end = newline.map_or(room, |at| at + 1);
            partial.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if newline.is_some() {
                take(partial);
                partial.clear();
            } else if partial.len() == LINE_BYTES_MAX {
                let whole = whole_characters(partial);
                take(&partial[..whole]);
                partial.drain(..whole);
            }
        }
        while !bytes.is_empty() {
            let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
            let end = match newline(window) {
                Some(at) => at + 1,
                None if window.len() == LINE_BYTES_MAX => whole_characters(window),
                None => return partial.extend_from_slice(bytes),
            };
            take(&bytes[..end]);
            bytes = &bytes[end..];
        }
    }

    /// Gives what is left of a stream that has ended.
    pub(super) fn finish(&mut self, stream: Stream, take: &mut dyn FnMut(&[u8])) {
        let partial = std::mem::take(&mut self.partial[stream as usize]);
        if !partial.is_empty() {
            take(&partial);
        }
    }
}

/// How much of a part can be cut off without splitting a character of UTF-8.
fn whole_characters(part: &[u8]) -> usize {
    for back in 1..=3.min(part.len()) {
        let at = part.len() - back;
        let needed = match part[at] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        return if needed > back && at > 0 { at } else { part.len() };
    }
    part.len()
}

/// Where the first newline is.
fn newline(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}

/// Where the first byte of a kind is.
#[inline]
fn first(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = 0;
    for block in bytes.chunks_exact(BLOCK) {
        // Without a branch for each byte, so that the block is compared as a whole.
        if block.iter().fold(false, |found, &byte| found | is_wanted(byte)) {
            break;
        }
        at += BLOCK;
    }
    bytes[at..].iter().position(|&byte| is_wanted(byte)).map(|found| at + found)
}

/// What an entry has before its text.
const HEAD: &[u8] = br#"{"log":""#;
/// A newline in text.
const NEWLINE: &str = "\\n";

/// What entries have besides their text: the same for all that came at once.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) stream: Stream,
    /// What a whole line has from its newline on.
    tail: String,
}

impl Envelope {
    /// Of what `stream` said at `time`, RFC 3339, with `,"attrs":{…}` or nothing.
    pub(super) fn new(stream: Stream, time: &str, attrs: &str) -> Self {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let tail = format!("{NEWLINE}\",\"stream\":\"{name}\"{attrs},\"time\":\"{time}\"}}\n");
        Self { stream, tail }
    }
}

/// Adds an entry as Docker's `json-file` has it, with a newline.
pub(super) fn encode(out: &mut Vec<u8>, text: &[u8], envelope: &Envelope) {
    let tail = envelope.tail.as_bytes();
    let (line, tail) = match text.split_last() {
        Some((b'\n', line)) => (line, tail),
        _ => (text, &tail[NEWLINE.len()..]),
    };
    out.reserve(HEAD.len() + line.len() + tail.len());
    out.extend_from_slice(HEAD);
    if is_plain(line) {
        out.extend_from_slice(line);
    } else if std::str::from_utf8(line).is_ok() {
        escape(out, line);
    } else {
        escape_binary(out, line);
    }
    out.extend_from_slice(tail);
}

/// Whether text is of ASCII that stands for itself in JSON, as most lines are.
fn is_plain(text: &[u8]) -> bool {
    first(text, |byte| byte >= 0x80 || is_special(byte)).is_none()
}

/// Whether a byte is to be escaped in a string of JSON (RFC 8259, 7).
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = first(text, is_special) {
        out.extend_from_slice(&text[..at]);
        match text[at] {
            b'\n' => out.extend_from_slice(NEWLINE.as_bytes()),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => unit(out, u16::from(byte)),
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// Bytes that are no UTF-8 become surrogates that stand alone, U+DC80 to U+DCFF, which no text has:
/// Python's `surrogateescape`. Readers that do not know them show a replacement character.
fn escape_binary(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        for &byte in chunk.invalid() {
            unit(out, 0xdc00 | u16::from(byte));
        }
    }
}

fn unit(out: &mut Vec<u8>, unit: u16) {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "\\u{unit:04x}");
    out.extend_from_slice(text.as_bytes());
}

/// The bytes that [`encode`] was given, of a text whose lone surrogates are in the form of UTF-8
/// (WTF-8).
pub(super) fn unescape_binary(mut text: Vec<u8>) -> Vec<u8> {
    let is_stand_in = |at: &[u8]| matches!(at, [0xed, 0xb2 | 0xb3, 0x80..=0xbf, ..]);
    if std::str::from_utf8(&text).is_ok() {
        return text;
    }
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        if is_stand_in(&text[from..]) {
            // Of U+DC80 the low eight bits are the byte.
            text[to] = (text[from + 1] & 0x03) << 6 | text[from + 2] & 0x3f;
            from += 3;
        } else {
            text[to] = text[from];
            from += 1;
        }
        to += 1;
    }
    text.truncate(to);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::monitor::log::Entry;

    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut parts = Vec::new();
        for chunk in chunks {
            lines.feed(Stream::Stdout, chunk, &mut |part| parts.push(part.to_vec()));
        }
        lines.finish(Stream::Stdout, &mut |part| parts.push(part.to_vec()));
        parts
    }

    #[test]
    fn no_character_is_cut_in_two() {
        let line = "x".repeat(LINE_BYTES_MAX - 1) + "é and so on\n";
        for at in [0, 5, LINE_BYTES_MAX - 1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1] {
            let parts = cut(&[&line.as_bytes()[..at], &line.as_bytes()[at..]]);
            assert_eq!(parts[0].len(), LINE_BYTES_MAX - 1, "{at}");
            assert_eq!(parts.concat(), line.as_bytes(), "{at}");
        }
        // What is no text at all is cut where it is too long.
        let binary = vec![0x80; LINE_BYTES_MAX + 1];
        assert_eq!(cut(&[&binary])[0].len(), LINE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn every_byte_comes_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let parts = cut(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let mut back = Vec::new();
            for part in &parts {
                let mut line = Vec::new();
                let attrs = r#","attrs":{"a":"b"}"#;
                encode(&mut line, part, &Envelope::new(Stream::Stderr, "t", attrs));
                prop_assert_eq!(newline(&line), Some(line.len() - 1));
                let entry: Entry = serde_json::from_slice(&line).unwrap();
                prop_assert_eq!(entry.stream, Stream::Stderr);
                back.extend(entry.log);
            }
            prop_assert_eq!(back, chunks.concat());
            let ends = parts.iter().rev().skip(1).all(|part| part.ends_with(b"\n"));
            prop_assert!(ends, "a line that is short enough is whole");
        }
    }
}
