//! Questions over TCP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use net::dns::{Answer, Question};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Judge, REPLY_MAX, Servers, Verdict};

/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A connection; once a question on it is not ours, its bytes are passed on.
pub(super) struct Stream {
    client: TcpStream,
    upstream: Option<Upstream>,
    /// From the client, and not passed on or answered yet.
    asked: Vec<u8>,
    /// For the client.
    replies: Vec<u8>,
    deadline: Instant,
}

/// A server that is asked.
struct Upstream {
    socket: TcpStream,
    /// What it was sent, to be sent to the next one if it says nothing; empty once it has.
    sent: Vec<u8>,
    /// When the next one is asked; `None` once it has said something.
    patience: Option<Instant>,
    /// Servers that are still to be asked.
    rest: Vec<SocketAddr>,
}

impl Upstream {
    /// Connects to the first of the servers that can be, without waiting for it.
    fn first(mut rest: Vec<SocketAddr>, patience: Duration) -> Option<Upstream> {
        while !rest.is_empty() {
            if let Ok(socket) = connect(rest.remove(0)) {
                let patience = Some(Instant::now() + patience);
                return Some(Upstream { socket, sent: Vec::new(), patience, rest });
            }
        }
        None
    }

    /// Passes on what was asked, and reads what it says; whether anything moved.
    fn advance(&mut self, asked: &mut Vec<u8>, replies: &mut Vec<u8>) -> io::Result<bool> {
        let before = asked.clone();
        let mut moved = write(&mut self.socket, asked)?;
        if self.patience.is_some() {
            self.sent.extend_from_slice(&before[..before.len() - asked.len()]);
        }
        if replies.is_empty() && read(&mut self.socket, replies)? {
            self.patience = None;
            self.sent = Vec::new();
            moved = true;
        }
        match self.patience {
            Some(deadline) if Instant::now() >= deadline => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(moved),
        }
    }
}

impl Stream {
    pub(super) fn new(client: TcpStream) -> Self {
        let deadline = Instant::now() + SILENCE_MAX;
        Self { client, upstream: None, asked: Vec::new(), replies: Vec::new(), deadline }
    }

    /// When it has something to do even if nothing happens.
    pub(super) fn deadline(&self) -> Instant {
        let patience = self.upstream.as_ref().and_then(|upstream| upstream.patience);
        patience.map_or(self.deadline, |patience| patience.min(self.deadline))
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        let flags = |reads: bool, writes: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads);
            flags.set(PollFlags::OUT, writes);
            flags
        };
        let (asks, replies) = (!self.asked.is_empty(), !self.replies.is_empty());
        let upstream = self.upstream.as_ref();
        // One who does not take what was written is not read from.
        let client = PollFd::new(&self.client, flags(upstream.is_none() || !asks, replies));
        let upstream = upstream.map(|up| PollFd::new(&up.socket, flags(!replies, asks)));
        [client].into_iter().chain(upstream)
    }

    /// Does what can be done; an error ends the connection.
    pub(super) fn advance(&mut self, judge: &Judge<'_>, servers: &Servers) -> io::Result<()> {
        let mut moved = false;
        if self.upstream.is_none() || self.asked.is_empty() {
            moved |= read(&mut self.client, &mut self.asked)?;
        }
        while self.upstream.is_none() && self.answer(judge, servers)? {}
        moved |= self.pass_on(servers.patience)?;
        moved |= write(&mut self.client, &mut self.replies)?;
        let now = Instant::now();
        if moved {
            self.deadline = now + SILENCE_MAX;
        }
        if now >= self.deadline { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// A server that fails before it has said anything makes room for the next.
    fn pass_on(&mut self, patience: Duration) -> io::Result<bool> {
        while let Some(upstream) = &mut self.upstream {
            let error = match upstream.advance(&mut self.asked, &mut self.replies) {
                Ok(moved) => return Ok(moved),
                Err(error) => error,
            };
            if upstream.patience.is_none() {
                return Err(error);
            }
            self.asked.splice(..0, std::mem::take(&mut upstream.sent));
            let rest = std::mem::take(&mut upstream.rest);
            self.upstream = Some(Upstream::first(rest, patience).ok_or(error)?);
        }
        Ok(false)
    }

    /// Answers the first whole question, if it is ours; else connects to who is asked.
    fn answer(&mut self, judge: &Judge<'_>, servers: &Servers) -> io::Result<bool> {
        let Some(len) = self.asked.first_chunk::<2>() else { return Ok(false) };
        let end = 2 + usize::from(u16::from_be_bytes(*len));
        let Some(message) = self.asked.get(2..end) else { return Ok(false) };
        let question = Question::parse(message).ok_or(io::ErrorKind::InvalidData)?;
        let answer = match judge(&question) {
            Verdict::Known(answer) => answer,
            Verdict::PassOn => {
                self.upstream = Upstream::first(servers.list(), servers.patience);
                match self.upstream {
                    Some(_) => return Ok(true),
                    None => Answer::Failure,
                }
            }
            Verdict::Refused => Answer::Failure,
        };
        let reply = question.answer(message, &answer, usize::from(u16::MAX));
        let len = u16::try_from(reply.len()).map_err(io::Error::other)?;
        self.replies.extend(len.to_be_bytes());
        self.replies.extend(reply);
        self.asked.drain(..end);
        Ok(true)
    }
}

/// Begins a connection, without waiting for it.
pub(crate) fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&fd, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd.into()),
        Err(error) => Err(error.into()),
    }
}

/// Reads what is there; whether there was something. The end of a stream is an error.
fn read(from: &mut TcpStream, to: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; REPLY_MAX];
    match from.read(&mut buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        // A question longer than all lengths that a message can have is none.
        Ok(_) if to.len() > usize::from(u16::MAX) => Err(io::ErrorKind::InvalidData.into()),
        Ok(len) => {
            to.extend_from_slice(&buffer[..len]);
            Ok(true)
        }
        Err(error) if is_early(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes what can be; whether something could.
fn write(to: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    if bytes.is_empty() {
        return Ok(false);
    }
    match to.write(bytes) {
        Ok(len) => {
            bytes.drain(..len);
            Ok(len > 0)
        }
        Err(error) if is_early(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether it will go on by itself; a connection that is being made is not connected yet.
pub(crate) fn is_early(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | NotConnected)
}
