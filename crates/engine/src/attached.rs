//! Being attached to a container through its monitor's socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use runtime::SignalFd;

use crate::container::Container;
use crate::error::{Doing, Result};
use crate::monitor::attach::{self, Message, PAYLOAD_BYTES_MAX};
use crate::terminal::{self, RawMode};
use crate::{Engine, stop};

impl Engine {
    /// Joins a running container: its output from now on, and our input where `stdin` is set.
    /// Without a terminal, signals to us are sent on to the container.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run.
    ///
    /// [`Kind::Conflict`]: crate::Kind::Conflict
    pub fn attach(&self, container: &Container, stdin: bool, keys: &[u8]) -> Result<Outcome> {
        let process = stop::running(container)?;
        let socket = attach::connect(&container.attach_path())
            .doing(|| format!("reach the monitor of container {}", container.record.name))?;
        let mut attachment = Attachment::new(socket, stdin, keys);
        match container.record.settings.tty {
            true => attachment.announce_size(),
            false => attachment.process = Some(process),
        }
        // A monitor that goes before it has heard of us left the exit code.
        attachment.run().or_else(|error| match self.wait(container) {
            Ok(code) => Ok(Outcome::Exited(code)),
            Err(_) => Err(error),
        })
    }
}

/// How an attached run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The container has ended with this code.
    Exited(i32),
    /// The user detached; the container goes on.
    Detached,
}

/// A connection to a monitor, and what our side of it does.
#[derive(Debug)]
pub struct Attachment {
    socket: OwnedFd,
    /// The container's first process, which our signals go to; none where it has a terminal, whose
    /// keys are its signals.
    process: Option<OwnedFd>,
    stdin: bool,
    detach_keys: Vec<u8>,
    matched: usize,
}

impl Attachment {
    /// `stdin` says whether our standard input is passed on; typing `detach_keys` ends the
    /// attachment and leaves the container running.
    pub(crate) fn new(socket: OwnedFd, stdin: bool, detach_keys: &[u8]) -> Self {
        Self { socket, process: None, stdin, detach_keys: detach_keys.to_vec(), matched: 0 }
    }

    pub(crate) fn announce_size(&self) {
        if let Some((rows, columns)) = terminal::size() {
            let packet = Message::Resize(rows, columns).encode();
            // A monitor that has gone has no use for it.
            let _ = attach::send_packet(&self.socket, &packet, true);
        }
    }

    /// Passes bytes both ways until the container ends or the user detaches.
    ///
    /// # Errors
    /// Of the terminal and of the socket.
    pub fn run(mut self) -> Result<Outcome> {
        let has_terminal = self.process.is_none();
        let raw = if self.stdin && has_terminal { RawMode::enter() } else { Ok(None) };
        let _raw = raw.doing(|| "use the terminal".into())?;
        let signals = if has_terminal { SignalFd::window() } else { SignalFd::forwarded() };
        let mut signals = signals.doing(|| "take over signals".into())?;
        self.pass(&mut signals).doing(|| "talk to the container's monitor".into())
    }

    fn pass(&mut self, signals: &mut SignalFd) -> io::Result<Outcome> {
        let mut packet = vec![0; PAYLOAD_BYTES_MAX + 1];
        loop {
            let stdin = rustix::stdio::stdin();
            let mut set = vec![
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            if self.stdin {
                set.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
            rustix::io::retry_on_intr(|| poll(&mut set, None))?;
            let ready: Vec<bool> = set.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[1] {
                self.signal(signals.read()?);
            }
            if ready.get(2) == Some(&true) && self.input(&mut packet)? {
                return Ok(Outcome::Detached);
            }
            if ready[0] {
                match Message::decode(attach::receive(&self.socket, &mut packet)?) {
                    Some(Message::Stdout(bytes)) => write_all(rustix::stdio::stdout(), bytes)?,
                    Some(Message::Stderr(bytes)) => write_all(rustix::stdio::stderr(), bytes)?,
                    Some(Message::Exit(code)) => return Ok(Outcome::Exited(code)),
                    _ => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        match &self.process {
            // A container that has ended meanwhile needs no signal.
            Some(process) => drop(pidfd_send_signal(process, signal)),
            None => self.announce_size(),
        }
    }

    /// Sends what was typed; returns whether the detach keys were among it.
    fn input(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let read = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..PAYLOAD_BYTES_MAX])
        {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Ok(0) | Err(_) => {
                self.stdin = false;
                attach::send_packet(&self.socket, &Message::InputEnd.encode(), true)?;
                return Ok(false);
            }
            Ok(read) => read,
        };
        let (bytes, detached) = self.filter(&buffer[..read]);
        if !bytes.is_empty() {
            attach::send_packet(&self.socket, &Message::Input(&bytes).encode(), true)?;
        }
        Ok(detached)
    }

    /// Holds back keys that may be the beginning of the detach keys.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for &key in typed {
            if self.detach_keys.get(self.matched) == Some(&key) {
                self.matched += 1;
                if self.matched == self.detach_keys.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.detach_keys[..self.matched]);
            self.matched = usize::from(self.detach_keys.first() == Some(&key));
            if self.matched == 0 {
                passed.push(key);
            }
        }
        (passed, false)
    }
}

fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&fd, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &[&[u8]], passed: &[u8], detached: bool) {
        let (socket, _other) = attach::pair().unwrap();
        let mut attachment = Attachment::new(socket, true, &[16, 17]);
        let mut all = Vec::new();
        let mut left = false;
        for piece in typed {
            let (bytes, end) = attachment.filter(piece);
            all.extend(bytes);
            left |= end;
        }
        assert_eq!((all.as_slice(), left), (passed, detached), "{typed:?}");
    }

    #[test]
    fn detach_keys_are_found_in_one_piece_and_in_two() {
        check(&[b"ab\x10\x11"], b"ab", true);
        check(&[b"a\x10", b"\x11"], b"a", true);
        check(&[b"a\x10b"], b"a\x10b", false);
        check(&[b"\x10\x10\x11"], b"\x10", true);
    }
}
