//! Channels of a WebSocket: `v4.channel.k8s.io` and `v5.channel.k8s.io`. The first byte of a message
//! says which channel it is of.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use httpd::WebSocket;
use serde_json::Value;

use super::{Heard, Line, Output, size};

/// The protocols that are spoken, the best first.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The longest message of a client's, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Names a channel that is closed; of version 5.
const CLOSE: u8 = 255;

pub(super) struct Web<'a>(pub(super) WebSocket<'a>);

impl Web<'_> {
    fn send(&mut self, channel: u8, bytes: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        self.0.send_message(&message)
    }
}

impl Line for Web<'_> {
    fn has_more(&mut self) -> bool {
        self.0.has_more()
    }

    fn hear(&mut self) -> io::Result<Option<Vec<Heard>>> {
        let Some(message) = self.0.message(MESSAGE_BYTES_MAX)? else { return Ok(None) };
        let heard = match message.split_first() {
            Some((&STDIN, bytes)) => Some(Heard::Input(bytes.to_vec())),
            Some((&CLOSE, [STDIN])) => Some(Heard::InputEnds),
            Some((&RESIZE, text)) => size(text),
            _ => None,
        };
        Ok(Some(heard.into_iter().collect()))
    }

    fn say(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        let channel = match output {
            Output::Stdout => STDOUT,
            Output::Stderr => STDERR,
        };
        self.send(channel, bytes)
    }

    fn end(&mut self, status: &Value) -> io::Result<()> {
        self.send(ERROR, status.to_string().as_bytes())?;
        self.0.close();
        Ok(())
    }
}

impl AsFd for Web<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
