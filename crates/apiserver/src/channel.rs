//! A process' streams as channels of one WebSocket: `v4.channel.k8s.io` and `v5.channel.k8s.io`.
//!
//! The first byte of a message says which channel it is of.

use std::io;
use std::os::fd::AsFd as _;

use httpd::{Exchange, WebSocket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::pods::{Process, Said, Talk};

/// The protocols that are spoken, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The longest message of a client's, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Input that a process has not taken: then its client is not read further.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// How soon input is offered again that was not taken.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Names a channel that is closed; of version 5.
const CLOSE: u8 = 255;

/// What is left to be given to a process.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    is_over: bool,
}

/// Serves a conversation, if the client asks for one that is spoken here.
pub(crate) fn serve(exchange: &mut Exchange<'_>, talk: Talk) -> Result<io::Result<()>, Failure> {
    let asked = exchange.head().list("sec-websocket-protocol").unwrap_or_default();
    let knows = |protocol: &&&str| asked.split(',').any(|word| word.trim() == **protocol);
    let Some(protocol) = PROTOCOLS.iter().find(knows) else {
        return Err(Failure::bad_request(format!(
            "unable to upgrade: a WebSocket with one of {PROTOCOLS:?} is spoken here"
        )));
    };
    let socket = WebSocket::accept(exchange, Some(protocol), |reply| reply);
    let mut socket = match socket.map_err(Failure::bad_request)? {
        Ok(socket) => socket,
        Err(error) => return Ok(Err(error)),
    };
    let Talk { options, begin } = talk;
    let outcome = match begin() {
        Ok(mut process) => {
            let wanted = [options.stdout, options.stderr && !options.tty];
            pass_on(&mut socket, process.as_mut(), wanted).map(status)
        }
        Err(why) => Ok(failed(&why)),
    };
    Ok(outcome.and_then(|status| {
        let mut message = vec![ERROR];
        message.extend(status.to_string().into_bytes());
        socket.send_message(&message)?;
        socket.close();
        Ok(())
    }))
}

/// How a process has ended, as clients are told.
fn status(code: Option<i32>) -> Value {
    match code {
        Some(0) => json!({"metadata": {}, "status": "Success"}),
        Some(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        None => failed("nobody knows how it has ended"),
    }
}

fn failed(why: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {why}"),
    })
}

/// Passes on what both sides say, until the process has ended: its code.
fn pass_on(
    socket: &mut WebSocket<'_>,
    process: &mut dyn Process,
    [stdout, stderr]: [bool; 2],
) -> io::Result<Option<i32>> {
    let mut input = Input::default();
    let mut is_heard = true;
    loop {
        let is_waiting = !input.give(process)?;
        let reads = is_heard && input.bytes.len() < INPUT_BYTES_MAX;
        if reads && socket.has_more() {
            is_heard = hear(socket, process, &mut input)?;
            continue;
        }
        let flags = if reads { PollFlags::IN } else { PollFlags::empty() };
        let mut set = [
            PollFd::from_borrowed_fd(process.socket(), PollFlags::IN),
            PollFd::from_borrowed_fd(socket.as_fd(), flags),
        ];
        let longest = is_waiting.then_some(&AGAIN);
        rustix::io::retry_on_intr(|| poll(&mut set, longest))?;
        let [says, client] = [set[0].revents(), set[1].revents()];
        if !says.is_empty() {
            let (channel, bytes) = match process.listen() {
                Said::Stdout(bytes) => (stdout.then_some(STDOUT), bytes),
                Said::Stderr(bytes) => (stderr.then_some(STDERR), bytes),
                Said::Exit(code) => return Ok(Some(code)),
                Said::Gone => return Ok(None),
            };
            if let Some(channel) = channel {
                let mut message = Vec::with_capacity(bytes.len() + 1);
                message.push(channel);
                message.extend_from_slice(bytes);
                socket.send_message(&message)?;
            }
        } else if client.contains(PollFlags::IN) {
            is_heard = hear(socket, process, &mut input)?;
            if !is_heard {
                // Whoever has gone does not want to know the end.
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        } else if !client.is_empty() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
}

/// Hears one message of the client; whether there may be more.
fn hear(
    socket: &mut WebSocket<'_>,
    process: &mut dyn Process,
    input: &mut Input,
) -> io::Result<bool> {
    let Some(message) = socket.message(MESSAGE_BYTES_MAX)? else { return Ok(false) };
    match message.split_first() {
        Some((&STDIN, bytes)) if !input.is_over => input.bytes.extend_from_slice(bytes),
        Some((&CLOSE, [STDIN])) => input.is_over = true,
        Some((&RESIZE, size)) => {
            let size: Value = serde_json::from_slice(size).unwrap_or_default();
            let number = |field: &str| size[field].as_u64().and_then(|n| u16::try_from(n).ok());
            if let (Some(rows), Some(columns)) = (number("Height"), number("Width")) {
                process.resize(rows, columns);
            }
        }
        _ => {}
    }
    Ok(true)
}

impl Input {
    /// Gives what is taken; whether nothing is left.
    fn give(&mut self, process: &mut dyn Process) -> io::Result<bool> {
        while !self.bytes.is_empty() {
            match process.try_input(&self.bytes) {
                Ok(0) => return Ok(false),
                Ok(taken) => drop(self.bytes.drain(..taken)),
                // It reads no more, and may go on.
                Err(_) => self.bytes.clear(),
            }
        }
        if self.is_over {
            match process.try_end_input() {
                Ok(false) => return Ok(false),
                Ok(true) | Err(_) => self.is_over = false,
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_upstream_tells_them() {
        assert_eq!(status(Some(0))["status"], "Success");
        let failure = status(Some(3));
        assert_eq!(failure["reason"], "NonZeroExitCode");
        assert_eq!(failure["details"]["causes"][0]["message"], "3");
        assert_eq!(status(None)["code"], 500);
    }
}
