//! Streams of SPDY, one for each of a process', as clients before Kubernetes 1.31 speak:
//! `v4.channel.k8s.io`.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::{Heard, Line, Output, size};
use crate::pods::TalkOptions;
use crate::spdy::{Event, Session, Wire, header};

/// How long a client has to open all streams (upstream's `DefaultStreamCreationTimeout`).
const OPENING: Duration = Duration::from_secs(30);
/// How long one has to hang up, once it knows the end.
const LEAVING: Duration = Duration::from_secs(5);

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Role {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "error" => Self::Error,
            "stdin" => Self::Stdin,
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "resize" => Self::Resize,
            _ => return None,
        })
    }

    /// Those that a client opens which asks for this.
    fn wanted(options: &TalkOptions) -> Vec<Self> {
        let all = [
            (Self::Error, true),
            (Self::Stdin, options.stdin),
            (Self::Stdout, options.stdout),
            (Self::Stderr, options.stderr && !options.tty),
            (Self::Resize, options.tty),
        ];
        all.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(role, _)| role).collect()
    }
}

pub(super) struct Streams<W> {
    session: Session<W>,
    numbers: BTreeMap<Role, u32>,
    /// What was said before all streams were open.
    early: Vec<Event>,
}

impl<W: Wire> Streams<W> {
    /// Waits until the client has opened what it asks for.
    pub(super) fn await_all(session: Session<W>, options: &TalkOptions) -> io::Result<Self> {
        let mut own = Self { session, numbers: BTreeMap::new(), early: Vec::new() };
        let wanted = Role::wanted(options);
        let deadline = Instant::now() + OPENING;
        while !wanted.iter().all(|role| own.numbers.contains_key(role)) {
            match own.session.next() {
                Some(Event::Opened { stream, headers }) => own.open(stream, &headers)?,
                Some(event) => own.early.push(event),
                None => {
                    if !wait(&mut own.session, deadline)? || !own.session.read()? {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
            }
        }
        Ok(own)
    }

    fn open(&mut self, stream: u32, headers: &[(String, String)]) -> io::Result<()> {
        match Role::of(header(headers, "streamtype")) {
            Some(role) => {
                self.numbers.insert(role, stream);
                self.session.accept(stream)
            }
            None => self.session.reset(stream),
        }
    }

    fn take(&mut self, event: Event) -> io::Result<Option<Heard>> {
        let is = |role: Role, stream: u32| self.numbers.get(&role) == Some(&stream);
        Ok(match event {
            Event::Opened { stream, headers } => {
                self.open(stream, &headers)?;
                None
            }
            Event::Data { stream, bytes } if is(Role::Stdin, stream) => Some(Heard::Input(bytes)),
            Event::Data { stream, bytes } if is(Role::Resize, stream) => size(&bytes),
            Event::Ended { stream } | Event::Reset { stream } if is(Role::Stdin, stream) => {
                Some(Heard::InputEnds)
            }
            _ => None,
        })
    }
}

/// Waits until something comes; whether it has.
fn wait<W: Wire>(session: &mut Session<W>, deadline: Instant) -> io::Result<bool> {
    if session.has_more() {
        return Ok(true);
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or_default();
    let mut set = [PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut set, Some(&left)))? > 0)
}

impl<W: Wire> Line for Streams<W> {
    fn has_more(&mut self) -> bool {
        !self.early.is_empty() || self.session.has_more()
    }

    fn hear(&mut self) -> io::Result<Option<Vec<Heard>>> {
        let mut events = std::mem::take(&mut self.early);
        let goes_on = !events.is_empty() || self.session.read()?;
        events.extend(std::iter::from_fn(|| self.session.next()));
        let mut heard = Vec::new();
        for event in events {
            heard.extend(self.take(event)?);
        }
        Ok((goes_on || !heard.is_empty()).then_some(heard))
    }

    fn say(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        let role = match output {
            Output::Stdout => Role::Stdout,
            Output::Stderr => Role::Stderr,
        };
        match self.numbers.get(&role) {
            Some(stream) => self.session.write(*stream, bytes),
            None => Ok(()),
        }
    }

    fn end(&mut self, status: &Value) -> io::Result<()> {
        if let Some(error) = self.numbers.get(&Role::Error) {
            self.session.write(*error, status.to_string().as_bytes())?;
        }
        for stream in self.numbers.values() {
            self.session.end(*stream)?;
        }
        leave(&mut self.session)
    }
}

/// Lets a client hang up, which may have to read what it was told last.
pub(crate) fn leave<W: Wire>(session: &mut Session<W>) -> io::Result<()> {
    session.say_goodbye()?;
    let deadline = Instant::now() + LEAVING;
    while Instant::now() < deadline && wait(session, deadline)? {
        if !session.read()? {
            break;
        }
        while session.next().is_some() {}
    }
    Ok(())
}

impl<W: Wire> AsFd for Streams<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.session.as_fd()
    }
}
