//! WebSockets (RFC 6455), the client's side: messages both ways on a request's connection.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::event::{PollFd, PollFlags, poll};

use super::answer::Answer;
use super::wire::Wire;

/// What the answer's key is made with (section 1.3).
const SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest message of a server's, in bytes.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A connection on which both sides send messages. It is never waited for within a call of
/// [`WebSocket::try_receive`]: poll its descriptor.
#[derive(Debug)]
pub struct WebSocket {
    wire: Wire,
    protocol: String,
    /// What was read and is not taken yet.
    buffer: Vec<u8>,
    /// What has come of a message of several frames.
    message: Vec<u8>,
    has_ended: bool,
}

/// A frame that has come whole.
struct Frame {
    is_last: bool,
    kind: u8,
    payload: Vec<u8>,
}

/// What a request says that asks for a WebSocket, and what its answer has to say.
pub(super) fn handshake(protocols: &[&str]) -> (String, String) {
    let key = STANDARD.encode(random::<16>());
    let head = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {}\r\n",
        protocols.join(", ")
    );
    (head, accept(&key))
}

fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{SALT}").as_bytes()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Nothing is protected by it; what a proxy must not be able to guess, it does not without it.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}

impl WebSocket {
    /// Of an answer with status 101.
    pub(super) fn new(answer: Answer, expected: &str) -> io::Result<Self> {
        if answer.field("sec-websocket-accept") != Some(expected) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the server speaks no WebSocket"));
        }
        let protocol = answer.field("sec-websocket-protocol").unwrap_or_default().to_owned();
        let Some((wire, buffer)) = answer.into_wire() else {
            return Err(ErrorKind::NotConnected.into());
        };
        wire.set_nonblocking()?;
        Ok(Self { wire, protocol, buffer, message: Vec::new(), has_ended: false })
    }

    /// The protocol that the server has chosen.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The server is gone.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.send_frame(BINARY, message)
    }

    /// Says that nothing more comes.
    pub fn close(&mut self) {
        // A server that has gone does not want to know.
        let _ = self.send_frame(CLOSE, &1000_u16.to_be_bytes());
    }

    /// The next message, if it has come whole; `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if it has not; the server is gone.
    pub fn try_receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.has_ended {
                return Ok(None);
            }
            let Some(Frame { is_last, kind, payload }) = self.frame()? else {
                let mut more = [0; 16 << 10];
                match io::Read::read(&mut self.wire, &mut more)? {
                    0 => self.has_ended = true,
                    length => self.buffer.extend_from_slice(&more[..length]),
                }
                continue;
            };
            match kind {
                CONTINUATION | TEXT | BINARY => {
                    self.message.extend(payload);
                    if is_last {
                        return Ok(Some(std::mem::take(&mut self.message)));
                    }
                }
                PING => self.send_frame(PONG, &payload)?,
                PONG => {}
                CLOSE => self.has_ended = true,
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Waits for the next message; `None` at the end.
    ///
    /// # Errors
    /// The server is gone.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.try_receive() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut set = [PollFd::new(&self.wire, PollFlags::IN)];
                    rustix::io::retry_on_intr(|| poll(&mut set, None))?;
                }
                outcome => return outcome,
            }
        }
    }

    fn send_frame(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | kind];
        match bytes.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let mask: [u8; 4] = random();
        frame.extend_from_slice(&mask);
        frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.wire.send_all(&frame)
    }

    /// The next frame (section 5.2), if it has come whole.
    fn frame(&mut self) -> io::Result<Option<Frame>> {
        let [first, second, rest @ ..] = &self.buffer[..] else { return Ok(None) };
        let (length, start) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u16::from_be_bytes([*a, *b]).into(), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
            }
            (126 | 127, _) => return Ok(None),
            (length, _) => (length.into(), 2),
        };
        let is_masked = second & 0x80 != 0;
        if is_masked || first & 0x70 != 0 || length > MESSAGE_BYTES_MAX - self.message.len() as u64
        {
            return Err(ErrorKind::InvalidData.into());
        }
        let (is_last, kind) = (first & 0x80 != 0, first & 0x0f);
        let end = start + length as usize;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let payload = self.buffer[start..end].to_vec();
        self.buffer.drain(..end);
        Ok(Some(Frame { is_last, kind, payload }))
    }
}

impl AsFd for WebSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (WebSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wire = Wire::Plain(socket);
        wire.set_nonblocking().unwrap();
        let (protocol, buffer, message) = (String::new(), Vec::new(), Vec::new());
        let own = WebSocket { wire, protocol, buffer, message, has_ended: false };
        (own, listener.accept().unwrap().0)
    }

    #[test]
    fn a_handshake_is_answered_as_in_the_standard() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn messages_come_in_frames_of_every_length() {
        let (mut own, mut other) = pair();
        let pending = own.try_receive().unwrap_err();
        assert_eq!(pending.kind(), ErrorKind::WouldBlock);
        other.write_all(&[0x01, 2, b'a', b'b', 0x89, 0, 0x80, 1, b'c']).unwrap();
        assert_eq!(own.receive().unwrap().unwrap(), b"abc");
        other.write_all(&[0x82, 126, 1, 0]).unwrap();
        other.write_all(&[7; 256]).unwrap();
        assert_eq!(own.receive().unwrap().unwrap(), [7; 256]);
        other.write_all(&[0x88, 0]).unwrap();
        assert_eq!(own.receive().unwrap(), None);
        let mut pong = [0; 6];
        other.read_exact(&mut pong).unwrap();
        assert_eq!(pong[..2], [0x8a, 0x80]);
    }

    #[test]
    fn what_is_sent_is_masked() {
        let (mut own, mut other) = pair();
        own.send(b"hello").unwrap();
        let mut frame = [0; 11];
        other.read_exact(&mut frame).unwrap();
        assert_eq!(frame[..2], [0x82, 0x85]);
        let clear: Vec<u8> = (0..5).map(|at| frame[6 + at] ^ frame[2 + at % 4]).collect();
        assert_eq!(clear, b"hello");
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused() {
        let (mut own, mut other) = pair();
        other.write_all(&[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(own.receive().unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
