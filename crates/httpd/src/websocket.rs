//! WebSockets (RFC 6455), the server's side: messages in both directions on a request's connection.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::{Exchange, Reply, Upgraded};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What the answer's key is made with (section 1.3).
const SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Of a message that is about the connection (section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A connection on which both sides send messages. Whoever reads it finds what is in them one after
/// the other; [`WebSocket::message`] gives them one by one.
#[derive(Debug)]
pub struct WebSocket<'a> {
    client: Upgraded<'a>,
    /// Bytes of the present frame that have not come.
    left: u64,
    mask: [u8; 4],
    /// Bytes of it that have come, as far as the mask goes by that.
    at: usize,
    /// Whether the present frame is the last of its message.
    is_last: bool,
    has_ended: bool,
}

impl<'a> WebSocket<'a> {
    /// Makes a request's connection one. Of the protocols that the client knows, `protocol` is chosen,
    /// if one is given; `sign` adds what answers have.
    ///
    /// # Errors
    /// Why the request asks for no WebSocket; within, that the client is gone.
    pub fn accept(
        exchange: &'a mut Exchange<'_>,
        protocol: Option<&str>,
        sign: impl FnOnce(Reply) -> Reply,
    ) -> Result<io::Result<Self>, &'static str> {
        let head = exchange.head();
        let asked = head.upgrade.as_deref();
        let key = head.get("sec-websocket-key").unwrap_or_default();
        if !asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
            || key.is_empty()
        {
            return Err("the request must ask for an upgrade to websocket");
        }
        if head.get("sec-websocket-version") != Some("13") {
            return Err("version 13 of WebSocket is spoken");
        }
        let answer = STANDARD.encode(sha1(format!("{key}{SALT}").as_bytes()));
        let reply = Reply::new(101).header("Connection", "Upgrade").header("Upgrade", "websocket");
        let mut reply = sign(reply.header("Sec-WebSocket-Accept", answer));
        if let Some(protocol) = protocol {
            reply = reply.header("Sec-WebSocket-Protocol", protocol);
        }
        let client = exchange.upgrade(&reply);
        Ok(client.map(|client| Self {
            client,
            left: 0,
            mask: [0; 4],
            at: 0,
            is_last: true,
            has_ended: false,
        }))
    }

    /// Whether something was read ahead, so that it need not be waited for.
    pub fn has_more(&mut self) -> bool {
        self.client.has_more()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The client is gone.
    pub fn send_message(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(BINARY, bytes)
    }

    /// Waits for what comes next: a message of at most so many bytes, nothing if what came was about the
    /// connection; `None` at the end.
    ///
    /// # Errors
    /// `InvalidData` for a longer one; the client is gone.
    pub fn message(&mut self, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        loop {
            match self.begin()? {
                CONTINUATION | TEXT | BINARY => {}
                kind => {
                    self.control(kind)?;
                    match (self.has_ended, message.is_empty()) {
                        (true, _) => return Ok(None),
                        (false, true) => return Ok(Some(Vec::new())),
                        // Within a message of several frames.
                        (false, false) => continue,
                    }
                }
            }
            let length = usize::try_from(self.left).unwrap_or(usize::MAX);
            if length > bytes_max.saturating_sub(message.len()) {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut at = message.len();
            message.resize(at + length, 0);
            while at < message.len() {
                match self.take(&mut message[at..])? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    more => at += more,
                }
            }
            if self.is_last {
                return Ok(Some(message));
            }
        }
    }

    /// Says that nothing more comes.
    pub fn close(&mut self) {
        // A client that has gone does not want to know.
        let _ = self.send(CLOSE, &1000_u16.to_be_bytes());
    }

    fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | kind];
        match bytes.len() {
            length @ 0..=125 => frame.push(length as u8),
            length @ 126..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(bytes);
        self.client.write_all(&frame)?;
        self.client.flush()
    }

    /// Reads what stands before a message (section 5.2): its kind.
    fn begin(&mut self) -> io::Result<u8> {
        let mut head = [0; 2];
        self.client.read_exact(&mut head)?;
        // Clients mask everything.
        if head[1] & 0x80 == 0 || head[0] & 0x70 != 0 {
            return Err(ErrorKind::InvalidData.into());
        }
        self.left = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.client.read_exact(&mut length)?;
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                self.client.read_exact(&mut length)?;
                u64::from_be_bytes(length)
            }
            length => length.into(),
        };
        self.client.read_exact(&mut self.mask)?;
        (self.at, self.is_last) = (0, head[0] & 0x80 != 0);
        Ok(head[0] & 0x0f)
    }

    /// Reads of the present message.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.client.read(&mut buffer[..most])?;
        for byte in &mut buffer[..length] {
            *byte ^= self.mask[self.at % 4];
            self.at += 1;
        }
        self.left -= length as u64;
        Ok(length)
    }

    /// Answers what is about the connection.
    fn control(&mut self, kind: u8) -> io::Result<()> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX);
        if length > CONTROL_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut said = vec![0; length];
        let mut come = 0;
        while come < length {
            match self.take(&mut said[come..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                more => come += more,
            }
        }
        match kind {
            PING => self.send(PONG, &said),
            PONG => Ok(()),
            CLOSE => {
                self.has_ended = true;
                Ok(())
            }
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

impl Read for WebSocket<'_> {
    /// [`ErrorKind::WouldBlock`] if what came was about the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        if self.left == 0 {
            match self.begin()? {
                CONTINUATION | TEXT | BINARY => {}
                kind => self.control(kind)?,
            }
            return if self.has_ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        self.take(buffer)
    }
}

impl Write for WebSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(BINARY, bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.client.flush()
    }
}

impl AsFd for WebSocket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

/// SHA-1 (FIPS 180-4, section 6.1.2), which a handshake is proved with and nothing is protected by.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for t in 16..80 {
            words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in words.iter().enumerate() {
            let (f, k) = match t {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k);
            (a, b, c, d, e) = (next.wrapping_add(*word), a, b.rotate_left(30), c, d);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_as_in_the_standard() {
        // RFC 6455, section 1.3.
        let digest = sha1(format!("dGhlIHNhbXBsZSBub25jZQ=={SALT}").as_bytes());
        assert_eq!(STANDARD.encode(digest), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let long = hex(&sha1(&[b'a'; 119]));
        assert_eq!(long, "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56");
    }
}
