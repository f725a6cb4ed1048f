//! Being attached to a container through its monitor's socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use runtime::SignalFd;

use crate::container::Container;
use crate::error::{Doing, Error, Result};
use crate::event::Event;
use crate::monitor::attach::{self, Message, PAYLOAD_BYTES_MAX};
use crate::settings::Attached;
use crate::terminal::{self, RawMode};
use crate::{Engine, stop};

pub use crate::detach::DetachKeys;

impl Engine {
    /// Joins a running container: its output from now on, and our input where `by.streams` has it.
    /// Without a terminal, signals to us are sent on to the container, unless that is off.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run.
    ///
    /// [`Kind::Conflict`]: crate::Kind::Conflict
    pub fn attach(&self, container: &Container, by: &Attaching<'_>) -> Result<Outcome> {
        stop::running(container)?;
        self.emit(Event::container("attach", container));
        self.attach_to(container, by)
    }

    fn attach_to(&self, container: &Container, by: &Attaching<'_>) -> Result<Outcome> {
        let process = stop::running(container)?;
        let socket = attach::connect(&container.attach_path())
            .doing(|| format!("reach the monitor of container {}", container.record.name))?;
        let mut attachment = Attachment::new(socket, by, container.record.settings.tty);
        attachment.redraw();
        attachment.process = Some(process);
        attachment.run().or_else(|error| self.attach_again(container, by, error))
    }

    /// After a monitor that `container` says has gone without a word: another one may hold the
    /// container by now; else it left the exit code before it had heard of us.
    pub(crate) fn attach_again(
        &self,
        container: &Container,
        by: &Attaching<'_>,
        error: Error,
    ) -> Result<Outcome> {
        match self.find(&container.record.id) {
            Ok(found)
                if found.is_running()
                    && found.has_monitor()
                    && found.state.monitor_pid != container.state.monitor_pid =>
            {
                self.attach_to(&found, by)
            }
            _ => self.wait(container).map(Outcome::Exited).map_err(|_| error),
        }
    }
}

/// How somebody is attached to a container.
#[derive(Debug, Clone, Copy)]
pub struct Attaching<'a> {
    /// Which streams are ours; without output, being attached ends with our input.
    pub streams: Attached,
    /// What is typed to leave the container running.
    pub keys: &'a [u8],
    /// Whether signals to us are sent on to a container without a terminal, whose keys are its
    /// signals.
    pub signals: bool,
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
    /// The container's first process, which our signals go to unless it has a terminal, whose keys
    /// are its signals.
    pub(crate) process: Option<OwnedFd>,
    terminal: bool,
    streams: Attached,
    signals: bool,
    keys: DetachKeys,
}

impl Attachment {
    pub(crate) fn new(socket: OwnedFd, by: &Attaching<'_>, terminal: bool) -> Self {
        let Attaching { streams, keys, signals } = *by;
        let keys = DetachKeys::new(keys);
        Self { socket, process: None, terminal, streams, signals, keys }
    }

    pub(crate) fn announce_size(&self) {
        if let Some((rows, columns)) = self.size() {
            self.resize(rows, columns);
        }
    }

    /// Changes the terminal's size twice, as Docker does: who draws on it draws all of it anew, for
    /// somebody who has not seen it yet.
    fn redraw(&self) {
        if let Some((rows, columns)) = self.size() {
            self.resize(rows.saturating_add(1), columns);
            self.resize(rows, columns);
        }
    }

    /// The size of our terminal, where the container has one too.
    fn size(&self) -> Option<(u16, u16)> {
        self.terminal.then(terminal::size).flatten()
    }

    fn resize(&self, rows: u16, columns: u16) {
        let packet = Message::Resize(rows, columns).encode();
        // A monitor that has gone has no use for it.
        let _ = attach::send_packet(&self.socket, &packet, true);
    }

    /// Passes bytes both ways until the container ends or the user detaches.
    ///
    /// # Errors
    /// Of the terminal and of the socket.
    pub fn run(mut self) -> Result<Outcome> {
        let raw = if self.streams.stdin && self.terminal { RawMode::enter() } else { Ok(None) };
        let _raw = raw.doing(|| "use the terminal".into())?;
        let forwards = self.signals && !self.terminal;
        let signals = if forwards { SignalFd::forwarded() } else { SignalFd::window() };
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
            if self.streams.stdin {
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
                    Some(Message::Stdout(bytes)) if self.streams.stdout => {
                        write_all(rustix::stdio::stdout(), bytes)?;
                    }
                    Some(Message::Stderr(bytes)) if self.streams.stderr => {
                        write_all(rustix::stdio::stderr(), bytes)?;
                    }
                    Some(Message::Stdout(_) | Message::Stderr(_)) => {}
                    Some(Message::Exit(code)) => return Ok(Outcome::Exited(code)),
                    _ => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        match &self.process {
            _ if self.terminal => self.announce_size(),
            // A container that has ended meanwhile needs no signal.
            Some(process) if self.signals => drop(pidfd_send_signal(process, signal)),
            _ => {}
        }
    }

    /// Sends what was typed; returns whether nothing keeps us: the detach keys were among it, or it
    /// has ended and we see no output.
    fn input(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let read = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..PAYLOAD_BYTES_MAX])
        {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Ok(0) | Err(_) => {
                self.streams.stdin = false;
                // If it has gone, what it said last is still to be read.
                let _ = attach::send_packet(&self.socket, &Message::InputEnd.encode(), true);
                return Ok(!self.streams.stdout && !self.streams.stderr);
            }
            Ok(read) => read,
        };
        let (bytes, detached) = self.keys.filter(&buffer[..read]);
        if !bytes.is_empty() {
            let message = Message::Input(&bytes).encode();
            self.streams.stdin = attach::send_packet(&self.socket, &message, true).is_ok();
        }
        Ok(detached)
    }
}

fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&fd, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}
