//! SPDY/3.1, the server's side, as far as clients of Kubernetes speak it: streams that the client opens,
//! each of which both sides write to and end by themselves.
//!
//! A frame is eight bytes and what they say follows. Nobody counts windows: clients of Kubernetes do
//! not, and what is read is given on before more is read.

mod block;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use httpd::{Upgraded, WebSocket};

use self::block::Blocks;

/// The protocol's name where connections are upgraded.
pub(crate) const NAME: &str = "SPDY/3.1";
/// The longest frame that is taken, in bytes.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// The most that is put into one frame, in bytes.
const DATA_BYTES_MAX: usize = 64 << 10;
/// The most that is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

const HEAD_BYTES: usize = 8;
/// Control frames of version 3 begin with this.
const CONTROL: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
/// Why a stream is reset: nobody wants it any more.
const CANCEL: u32 = 5;

/// What carries frames.
pub(crate) trait Wire: Read + Write + AsFd {
    /// Whether something was read ahead, so that it need not be waited for.
    fn has_more(&mut self) -> bool;
}

impl Wire for Upgraded<'_> {
    fn has_more(&mut self) -> bool {
        Upgraded::has_more(self)
    }
}

impl Wire for WebSocket<'_> {
    fn has_more(&mut self) -> bool {
        WebSocket::has_more(self)
    }
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Opens a stream, and says what it is for.
    Opened { stream: u32, headers: Vec<(String, String)> },
    /// Writes to one.
    Data { stream: u32, bytes: Vec<u8> },
    /// Will write no more to it.
    Ended { stream: u32 },
    /// Wants nothing of it any more.
    Reset { stream: u32 },
}

/// A connection.
pub(crate) struct Session<W> {
    wire: W,
    come: Vec<u8>,
    events: VecDeque<Event>,
    blocks: Blocks,
}

impl<W: Wire> Session<W> {
    pub(crate) fn new(wire: W) -> Self {
        Self { wire, come: Vec::new(), events: VecDeque::new(), blocks: Blocks::new() }
    }

    /// Whether something has come that need not be waited for.
    pub(crate) fn has_more(&mut self) -> bool {
        !self.events.is_empty() || self.wire.has_more()
    }

    /// Reads what has come, once; whether there may be more.
    ///
    /// # Errors
    /// What has come is no SPDY; the client is gone.
    pub(crate) fn read(&mut self) -> io::Result<bool> {
        let mut part = vec![0; READ_BYTES];
        let length = match self.wire.read(&mut part) {
            Ok(length) => length,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.come.extend_from_slice(&part[..length]);
        while self.take_frame()? {}
        Ok(length > 0)
    }

    /// What the client did next, as far as that was read.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes one frame of what has come, if it is whole.
    fn take_frame(&mut self) -> io::Result<bool> {
        let Some(head) = self.come.get(..HEAD_BYTES) else { return Ok(false) };
        let first = number(&head[..4]);
        let (flags, length) = (head[4], number(&[0, head[5], head[6], head[7]]) as usize);
        if length > FRAME_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let Some(body) = self.come.get(HEAD_BYTES..HEAD_BYTES + length) else { return Ok(false) };
        let body = body.to_vec();
        self.come.drain(..HEAD_BYTES + length);
        if first & 0x8000_0000 == 0 {
            if !body.is_empty() {
                self.events.push_back(Event::Data { stream: first, bytes: body });
            }
            self.ended(first, flags);
        } else if first >> 16 == u32::from(CONTROL) {
            self.control((first & 0xffff) as u16, flags, &body)?;
        } else {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(true)
    }

    fn ended(&mut self, stream: u32, flags: u8) {
        if flags & FIN != 0 {
            self.events.push_back(Event::Ended { stream });
        }
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> io::Result<()> {
        let short = || io::Error::from(ErrorKind::InvalidData);
        let stream = || Ok::<_, io::Error>(number(body.get(..4).ok_or_else(short)?) & 0x7fff_ffff);
        match kind {
            SYN_STREAM => {
                let stream = stream()?;
                let headers = self.blocks.read(body.get(10..).ok_or_else(short)?)?;
                self.events.push_back(Event::Opened { stream, headers });
                self.ended(stream, flags);
            }
            HEADERS => {
                let stream = stream()?;
                // Read, as all blocks are one stream of bytes.
                let _ = self.blocks.read(body.get(4..).ok_or_else(short)?)?;
                self.ended(stream, flags);
            }
            RST_STREAM => self.events.push_back(Event::Reset { stream: stream()? }),
            PING => self.send_control(PING, 0, body)?,
            // Settings, windows, and that the client opens no more streams.
            _ => {}
        }
        Ok(())
    }

    /// Takes a stream that was opened.
    pub(crate) fn accept(&mut self, stream: u32) -> io::Result<()> {
        let mut body = stream.to_be_bytes().to_vec();
        body.extend(self.blocks.write_none()?);
        self.send_control(SYN_REPLY, 0, &body)
    }

    /// Writes to a stream.
    pub(crate) fn write(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(DATA_BYTES_MAX).try_for_each(|part| self.send(stream.to_be_bytes(), 0, part))
    }

    /// Says that nothing more is written to a stream.
    pub(crate) fn end(&mut self, stream: u32) -> io::Result<()> {
        self.send(stream.to_be_bytes(), FIN, &[])
    }

    /// Says that a stream is not wanted any more.
    pub(crate) fn reset(&mut self, stream: u32) -> io::Result<()> {
        let body = [stream.to_be_bytes(), CANCEL.to_be_bytes()].concat();
        self.send_control(RST_STREAM, 0, &body)
    }

    /// Says that no more streams are taken.
    pub(crate) fn say_goodbye(&mut self) -> io::Result<()> {
        self.send_control(GOAWAY, 0, &[0; 8])
    }

    fn send_control(&mut self, kind: u16, flags: u8, body: &[u8]) -> io::Result<()> {
        let (version, kind) = (CONTROL.to_be_bytes(), kind.to_be_bytes());
        self.send([version[0], version[1], kind[0], kind[1]], flags, body)
    }

    fn send(&mut self, first: [u8; 4], flags: u8, body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32).to_be_bytes();
        let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
        frame.extend(first);
        frame.extend([flags, length[1], length[2], length[3]]);
        frame.extend_from_slice(body);
        self.wire.write_all(&frame)?;
        self.wire.flush()
    }
}

impl<W: Wire> AsFd for Session<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// What a header of a stream says; empty if there is none.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    impl Wire for UnixStream {
        fn has_more(&mut self) -> bool {
            false
        }
    }

    fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = CONTROL.to_be_bytes().to_vec();
        frame.extend(kind.to_be_bytes());
        frame.push(flags);
        frame.extend(&(body.len() as u32).to_be_bytes()[1..]);
        frame.extend(body);
        frame
    }

    #[test]
    fn streams_are_opened_written_to_and_ended() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut session = Session::new(server);
        let mut body = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        body.extend(block::tests::deflated(&[("streamtype", "data"), ("port", "80")]));
        client.write_all(&control(SYN_STREAM, 0, &body)).unwrap();
        // Data in two writes, with the end.
        client.write_all(&[0, 0, 0, 1, FIN, 0, 0, 3, b'a']).unwrap();
        client.write_all(b"bc").unwrap();
        let mut events = Vec::new();
        while events.len() < 3 {
            assert!(session.read().unwrap());
            events.extend(std::iter::from_fn(|| session.next()));
        }
        let Event::Opened { stream: 1, headers } = &events[0] else { panic!("{events:?}") };
        assert_eq!(header(headers, "StreamType"), "data");
        let data = Event::Data { stream: 1, bytes: b"abc".to_vec() };
        assert_eq!(events[1..], [data, Event::Ended { stream: 1 }]);
    }

    #[test]
    fn pings_are_answered_and_nonsense_is_refused() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut session = Session::new(server);
        let ping = control(PING, 0, &[0, 0, 0, 7]);
        client.write_all(&ping).unwrap();
        assert!(session.read().unwrap());
        let mut answer = vec![0; ping.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, ping);
        client.write_all(&[0x80, 2, 0, 1, 0, 0, 0, 0]).unwrap();
        assert!(session.read().is_err());
    }
}
