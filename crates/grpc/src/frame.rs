//! Frames of HTTP/2 (RFC 9113, section 4).

/// What a client says first (section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of a frame's content, in bytes: the least that everybody takes, and all that we do.
pub(crate) const CONTENT_BYTES_MAX: usize = 16 << 10;
const HEAD_BYTES: usize = 9;

/// The kinds that are told apart (section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RESET: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GO_AWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) mod flag {
    /// Of SETTINGS and PING.
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 32;
}

/// Numbers of settings (section 6.5.2).
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const STREAMS_MAX: u16 = 3;
    pub(crate) const WINDOW: u16 = 4;
    pub(crate) const FRAME_BYTES: u16 = 5;
}

/// Why a stream or a connection ends (section 7).
pub(crate) mod reason {
    pub(crate) const PROTOCOL: u32 = 1;
    pub(crate) const REFUSED: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// 0 for what is about the connection.
    pub(crate) stream: u32,
    pub(crate) content: Vec<u8>,
}

/// What is longer than we said that we take.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Frame {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The next frame of what was received, which is taken out; `None` if it has not come to its end.
    pub(crate) fn take(received: &mut Vec<u8>) -> Result<Option<Self>, TooLong> {
        let Some(head) = received.get(..HEAD_BYTES) else { return Ok(None) };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if length > CONTENT_BYTES_MAX {
            return Err(TooLong);
        }
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        let end = HEAD_BYTES + length;
        let Some(content) = received.get(HEAD_BYTES..end) else { return Ok(None) };
        let content = content.to_vec();
        received.drain(..end);
        Ok(Some(Self { kind, flags, stream, content }))
    }

    /// The content without padding and priority; `None` if there is more of that than content.
    pub(crate) fn inner(&self) -> Option<&[u8]> {
        let mut content = &self.content[..];
        let mut padding = 0;
        if self.has(flag::PADDED) {
            let (length, rest) = content.split_first()?;
            (padding, content) = (usize::from(*length), rest);
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            content = content.get(5..)?;
        }
        content.get(..content.len().checked_sub(padding)?)
    }
}

/// Writes a frame behind others.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    out.extend_from_slice(&(content.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(content);
}

/// Writes a list of fields, in as many frames as it needs.
pub(crate) fn put_fields(out: &mut Vec<u8>, stream: u32, block: &[u8], ends: bool) {
    let mut parts = block.chunks(CONTENT_BYTES_MAX).peekable();
    let mut kind = kind::HEADERS;
    let mut flags = if ends { flag::END_STREAM } else { 0 };
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            flags |= flag::END_HEADERS;
        }
        put(out, kind, flags, stream, part);
        (kind, flags) = (kind::CONTINUATION, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_once_they_are_whole() {
        let mut out = Vec::new();
        put(&mut out, kind::PING, flag::ACK, 0, b"12345678");
        put(&mut out, kind::DATA, 0, 3, b"x");
        let rest = out.split_off(out.len() - 1);
        let taken = Frame::take(&mut out).unwrap().unwrap();
        let expected =
            Frame { kind: kind::PING, flags: flag::ACK, stream: 0, content: b"12345678".to_vec() };
        assert_eq!(taken, expected);
        assert!(Frame::take(&mut out).unwrap().is_none());
        out.extend(rest);
        assert_eq!(Frame::take(&mut out).unwrap().unwrap().content, b"x");
        assert!(Frame::take(&mut vec![0, 0x40, 1, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn padding_is_no_content() {
        let frame = |kind, flags, content: &[u8]| Frame {
            kind,
            flags,
            stream: 1,
            content: content.to_vec(),
        };
        let padded = frame(kind::DATA, flag::PADDED, b"\x02ab\0\0");
        assert_eq!(padded.inner(), Some(&b"ab"[..]));
        let both = frame(kind::HEADERS, flag::PADDED | flag::PRIORITY, b"\x01\0\0\0\0\x10ab\0");
        assert_eq!(both.inner(), Some(&b"ab"[..]));
        assert_eq!(frame(kind::DATA, flag::PADDED, b"\x05ab").inner(), None);
        assert_eq!(frame(kind::HEADERS, flag::PRIORITY, b"\0").inner(), None);
    }

    #[test]
    fn long_lists_are_continued() {
        let mut out = Vec::new();
        put_fields(&mut out, 1, &vec![0; CONTENT_BYTES_MAX + 1], true);
        let first = Frame::take(&mut out).unwrap().unwrap();
        assert_eq!((first.kind, first.flags), (kind::HEADERS, flag::END_STREAM));
        let second = Frame::take(&mut out).unwrap().unwrap();
        assert_eq!((second.kind, second.flags), (kind::CONTINUATION, flag::END_HEADERS));
        assert!(out.is_empty());
    }
}
