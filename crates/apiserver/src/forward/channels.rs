//! Two channels of a WebSocket for each port, in the order in which they were named: its bytes, and why
//! it has failed. The first message of each channel is the port's number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use httpd::WebSocket;

use super::{Heard, Trunk};

/// The longest message of a client's, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

pub(super) struct Channels<'a> {
    socket: WebSocket<'a>,
    /// What is to be connected to before anything is heard.
    first: Vec<Heard>,
}

impl<'a> Channels<'a> {
    pub(super) fn new(mut socket: WebSocket<'a>, ports: &[u16]) -> io::Result<Self> {
        let mut first = Vec::new();
        for (number, port) in (0..).zip(ports) {
            let [low, high] = port.to_le_bytes();
            for channel in [number * 2, number * 2 + 1] {
                // A byte names a channel: more are none.
                let channel = u8::try_from(channel).map_err(|_| io::ErrorKind::InvalidInput)?;
                socket.send_message(&[channel, low, high])?;
            }
            first.push(Heard::Open(number, *port));
        }
        Ok(Self { socket, first })
    }

    fn send(&mut self, channel: u32, bytes: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel as u8);
        message.extend_from_slice(bytes);
        self.socket.send_message(&message)
    }
}

impl Trunk for Channels<'_> {
    fn has_more(&mut self) -> bool {
        !self.first.is_empty() || self.socket.has_more()
    }

    fn hear(&mut self) -> io::Result<Option<Vec<Heard>>> {
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            return Ok(Some(first));
        }
        let Some(message) = self.socket.message(MESSAGE_BYTES_MAX)? else { return Ok(None) };
        let heard = message.split_first().filter(|(channel, _)| *channel % 2 == 0);
        let heard =
            heard.map(|(channel, bytes)| Heard::Bytes(u32::from(channel / 2), bytes.to_vec()));
        Ok(Some(heard.into_iter().collect()))
    }

    fn give(&mut self, connection: u32, bytes: &[u8]) -> io::Result<()> {
        self.send(connection * 2, bytes)
    }

    fn end(&mut self, connection: u32, failure: Option<&str>) -> io::Result<()> {
        failure.map_or(Ok(()), |why| self.send(connection * 2 + 1, why.as_bytes()))
    }

    fn goes_on(&self) -> bool {
        !self.first.is_empty()
    }

    fn leave(&mut self) -> io::Result<()> {
        self.socket.close();
        Ok(())
    }
}

impl AsFd for Channels<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
