//! The monitor's loop: moves bytes between a process, its log and whoever is attached, until the
//! process ends.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use runtime::{ExitStatus, Process, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::detach::DetachKeys;
use crate::monitor::forward::Forwarder;
use crate::settings::Attached;

use super::attach::{self, Message, PAYLOAD_BYTES_MAX};
use super::health::{Checker, HealthStatus};
use super::honest::Honest;
use super::log::{self, Stream};
use super::pace::Pace;
use super::resolver::Resolver;

/// How often a pipe is read whose process has ended: it holds at most a mebibyte of what that wrote
/// (pipe(7)), and others may write to it for ever.
const DRAIN_READS_MAX: usize = 2 * (1 << 20) / PAYLOAD_BYTES_MAX;

/// Pieces of output, of at most [`PAYLOAD_BYTES_MAX`], that are kept for a client that came by and
/// does not take them.
const PENDING_MAX: usize = 32;

/// Seconds that whoever started a process may take nothing of its last words.
const FAREWELL_S: i64 = 10;

/// The ends of a process' standard streams that are held on this side.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Writes to standard input, or to the terminal.
    pub(crate) input: Option<OwnedFd>,
    /// Reads of standard output and standard error, or of the terminal alone.
    pub(crate) outputs: Vec<Output>,
    /// The terminal, to resize it.
    pub(crate) terminal: Option<OwnedFd>,
}

impl Streams {
    /// The numbers of the pipes that are the process' standard input, output and error; 0 where
    /// there is none.
    pub(crate) fn pipes(&self) -> [u64; 3] {
        let of = |fd: &OwnedFd| rustix::fs::fstat(fd).map_or(0, |stat| stat.st_ino);
        let output = |stream| {
            let own = self.outputs.iter().find(|output| output.stream == stream);
            own.and_then(|output| output.fd.as_ref()).map_or(0, of)
        };
        match self.terminal {
            Some(_) => [0; 3],
            None => {
                [self.input.as_ref().map_or(0, of), output(Stream::Stdout), output(Stream::Stderr)]
            }
        }
    }
}

/// One stream that the process writes.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` once it has ended.
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) stream: Stream,
}

/// Everything the loop watches.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    pub(crate) process: &'a Process,
    pub(crate) streams: Streams,
    pub(crate) log: Option<log::Writer>,
    pub(crate) own: Option<Attached>,
    pub(crate) listener: Option<OwnedFd>,
    pub(crate) clients: Vec<Client>,
    pub(crate) signals: Option<SignalFd>,
    /// Keys on our own standard input that end the relay while the process goes on.
    pub(crate) keys: Option<DetachKeys>,
    /// Checks the process' health.
    pub(crate) health: Option<Checker<'a>>,
    /// Answers the container's questions about names.
    pub(crate) names: Option<Resolver<'a>>,
    /// Passes on what comes to its ports by `::1`.
    pub(crate) forward: Option<Forwarder>,
    /// Tells the container its limits.
    pub(crate) honest: Option<Honest>,
    /// Ends the process once it is unhealthy.
    pub(crate) replace: Option<Ending>,
    detached: bool,
    pace: Pace,
    /// Bytes that standard input did not accept yet.
    pub(crate) backlog: Vec<u8>,
    /// Whether standard input is closed once the backlog is written.
    pub(crate) input_ended: bool,
    /// Whether the end of a client's input is the end of the process' input.
    pub(crate) input_once: bool,
}

/// Somebody attached through the socket.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    pending: VecDeque<Vec<u8>>,
    gone: bool,
    /// Whether the process waits while this client is slow.
    holds: bool,
    /// Bytes that it was too slow for.
    missed: u64,
    /// Whether it wants to hear of the end alone.
    quiet: bool,
}

impl Client {
    /// Somebody who came by: the process does not wait for them.
    fn guest(socket: OwnedFd) -> Self {
        Self {
            socket,
            pending: VecDeque::new(),
            gone: false,
            holds: false,
            missed: 0,
            quiet: false,
        }
    }

    /// Whoever started the process and stands in for its terminal: if they are slow, it is, as in a
    /// pipeline.
    pub(crate) fn starter(socket: OwnedFd) -> Self {
        Self { holds: true, ..Self::guest(socket) }
    }

    /// Somebody who waits for the end.
    pub(crate) fn observer(socket: OwnedFd) -> Self {
        Self { quiet: true, ..Self::guest(socket) }
    }

    /// Passes on output, or drops it where it would have to be kept for too long.
    fn show(&mut self, message: &Message<'_>, length: usize) {
        if self.quiet {
            return;
        }
        if !self.holds && self.pending.len() >= PENDING_MAX {
            self.missed += length as u64;
            return;
        }
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            let mark = format!("cais: {missed} bytes were dropped here; the log has them\r\n");
            self.push(Message::Stderr(mark.as_bytes()).encode());
        }
        self.push(message.encode());
    }

    /// Tells it that the process has ended. Whoever started the process is waited for as long as it
    /// goes on taking what was written; what others are too slow to take now is lost to them, and
    /// the log has it.
    pub(crate) fn farewell(mut self, code: i32) {
        self.push(Message::Exit(code).encode());
        while self.holds && !self.pending.is_empty() && !self.gone {
            let mut set = [PollFd::new(&self.socket, PollFlags::OUT)];
            let patience = Timespec { tv_sec: FAREWELL_S, tv_nsec: 0 };
            match rustix::io::retry_on_intr(|| poll(&mut set, Some(&patience))) {
                Ok(ready) if ready > 0 => self.flush(),
                _ => return,
            }
        }
    }

    fn push(&mut self, packet: Vec<u8>) {
        self.pending.push_back(packet);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(packet) = self.pending.front() {
            match attach::send_packet(&self.socket, packet, false) {
                Ok(()) => drop(self.pending.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}

/// What one entry of the poll set stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Output(usize),
    Input,
    OwnStdin,
    Signals,
    Listener,
    Client(usize),
    Health,
    Names,
    Forward,
    Log,
    Honest,
    Process,
}

/// How a process is ended: asked first, and killed if it does not obey in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) signal: i32,
    /// `None` waits for ever.
    pub(crate) timeout: Option<Duration>,
    /// When it is killed; set once it was asked.
    kill_at: Option<Instant>,
    /// Whether it was asked.
    pub(crate) asked: bool,
}

impl Ending {
    pub(crate) fn new(signal: i32, timeout: Option<Duration>) -> Self {
        Self { signal, timeout, kill_at: None, asked: false }
    }
}

impl<'a> Relay<'a> {
    pub(crate) fn new(process: &'a Process, streams: Streams) -> Self {
        Self {
            process,
            streams,
            log: None,
            own: None,
            listener: None,
            clients: Vec::new(),
            signals: None,
            keys: None,
            health: None,
            names: None,
            honest: None,
            forward: None,
            replace: None,
            detached: false,
            pace: Pace::new(),
            backlog: Vec::new(),
            input_ended: false,
            input_once: true,
        }
    }

    /// Runs until the process has ended and its output is drained; `None` if the detach keys were
    /// typed before.
    ///
    /// # Errors
    /// Of `poll` and of the process' status.
    pub(crate) fn run(&mut self) -> io::Result<Option<ExitStatus>> {
        // Gets its size when there is something to read: most monitors wait most of the time.
        let mut buffer = Vec::new();
        loop {
            let (mut asked, mut forwards) = (false, false);
            for (source, ready) in self.wait()? {
                match source {
                    Source::Output(index) => self.output(index, &mut buffer)?,
                    Source::Input => self.feed(),
                    Source::OwnStdin => self.own_stdin(&mut buffer),
                    Source::Signals => self.signal(),
                    Source::Listener => self.greet(),
                    Source::Client(index) => self.client(index, ready),
                    // Looked at below, whatever happened.
                    Source::Health => {}
                    Source::Log => self.log.iter_mut().for_each(log::Writer::advance),
                    Source::Honest => self.honest.iter_mut().for_each(Honest::answer),
                    Source::Names => asked = true,
                    Source::Forward => forwards = true,
                    Source::Process => {
                        self.drain(&mut buffer)?;
                        return self.process.wait().map(Some);
                    }
                }
            }
            self.check();
            self.answer(asked);
            if let Some(forward) = self.forward.as_mut().filter(|_| forwards) {
                forward.advance();
            }
            if std::mem::take(&mut self.detached) {
                return Ok(None);
            }
            self.clients.retain(|client| !client.gone);
            self.pace.gather();
        }
    }

    /// Waits for whatever happens first; the process' end comes last, so that what it wrote
    /// before is passed on first. A slow client holds back the process' output if it started it; a
    /// full standard input holds back those who write to it.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut set: Vec<(Source, PollFd<'_>)> = Vec::with_capacity(8);
        let slow = self.clients.iter().any(|client| client.holds && !client.pending.is_empty());
        for (index, output) in self.streams.outputs.iter().enumerate().filter(|_| !slow) {
            if let Some(fd) = &output.fd {
                set.push((Source::Output(index), PollFd::new(fd, PollFlags::IN)));
            }
        }
        let writable = self.backlog.is_empty();
        if let Some(input) = self.streams.input.as_ref().filter(|_| !writable) {
            set.push((Source::Input, PollFd::new(input, PollFlags::OUT)));
        }
        if writable && self.own.is_some_and(|own| own.stdin) {
            let stdin = rustix::stdio::stdin();
            set.push((Source::OwnStdin, PollFd::from_borrowed_fd(stdin, PollFlags::IN)));
        }
        if let Some(signals) = &self.signals {
            set.push((Source::Signals, PollFd::new(signals, PollFlags::IN)));
        }
        if let Some(listener) = &self.listener {
            set.push((Source::Listener, PollFd::new(listener, PollFlags::IN)));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, writable);
            flags.set(PollFlags::OUT, !client.pending.is_empty());
            set.push((Source::Client(index), PollFd::new(&client.socket, flags)));
        }
        let health = self.health.iter().flat_map(Checker::sources);
        set.extend(health.map(|fd| (Source::Health, fd)));
        let names = self.names.iter().flat_map(Resolver::sources);
        set.extend(names.map(|fd| (Source::Names, fd)));
        let forward = self.forward.iter().flat_map(Forwarder::sources);
        set.extend(forward.map(|fd| (Source::Forward, fd)));
        let honest = self.honest.iter().flat_map(Honest::sources);
        set.extend(honest.map(|fd| (Source::Honest, fd)));
        let log = self.log.as_ref().and_then(log::Writer::source);
        set.extend(log.map(|fd| (Source::Log, PollFd::from_borrowed_fd(fd, PollFlags::IN))));
        let end = PollFd::from_borrowed_fd(self.process.pidfd(), PollFlags::IN);
        set.push((Source::Process, end));
        let (sources, mut fds): (Vec<_>, Vec<_>) = set.into_iter().unzip();
        let left = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
        rustix::io::retry_on_intr(|| poll(&mut fds, left.as_ref()))?;
        let ready = sources.into_iter().zip(&fds).map(|(source, fd)| (source, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// When something is to be done even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let health = self.health.as_ref().map(Checker::deadline);
        let names = self.names.as_ref().and_then(Resolver::deadline);
        let ending = self.replace.and_then(|ending| ending.kill_at);
        health.into_iter().chain(names).chain(ending).min()
    }

    /// Answers questions about names, if some came or one has waited for too long.
    fn answer(&mut self, asked: bool) {
        let Some(names) = &mut self.names else { return };
        if asked || names.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
            names.advance();
        }
    }

    /// Checks the process' health if that is due, and ends the process if it is to be replaced.
    fn check(&mut self) {
        let Some(health) = &mut self.health else { return };
        health.advance();
        let Some(ending) = &mut self.replace else { return };
        // A process that has just ended needs no signal.
        if ending.kill_at.is_some_and(|at| Instant::now() >= at) {
            ending.kill_at = None;
            let _ = self.process.signal(Signal::KILL.as_raw());
        } else if !ending.asked && health.health().status == HealthStatus::Unhealthy {
            ending.asked = true;
            ending.kill_at = ending.timeout.map(|timeout| Instant::now() + timeout);
            let _ = self.process.signal(ending.signal);
        }
    }

    /// Passes on one piece of output.
    fn output(&mut self, index: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
        let Some(fd) = &self.streams.outputs[index].fd else { return Ok(()) };
        buffer.resize(self.pace.piece(), 0);
        buffer.shrink_to(self.pace.piece());
        match rustix::io::read(fd, buffer.as_mut_slice()) {
            // A terminal whose last user has gone answers EIO.
            Ok(0) | Err(Errno::IO) => self.streams.outputs[index].fd = None,
            Ok(read) => {
                self.pace.add(fd, read, buffer.len());
                return self.deliver(index, &buffer[..read]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn deliver(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let stream = self.streams.outputs[index].stream;
        if let Some(log) = &mut self.log {
            // A full disk, which another container may have filled, costs lines and not this one.
            let _ = log.write(stream, bytes);
        }
        if self.own.is_some_and(|own| own.takes(stream)) && own_write(stream, bytes).is_err() {
            // Whoever read our output has gone: the process learns it as it would in a pipeline.
            self.streams.outputs[index].fd = None;
        }
        let message = match stream {
            Stream::Stdout => Message::Stdout,
            Stream::Stderr => Message::Stderr,
        };
        for client in &mut self.clients {
            for piece in bytes.chunks(PAYLOAD_BYTES_MAX) {
                client.show(&message(piece), piece.len());
            }
        }
        Ok(())
    }

    /// Reads what the process left in its pipes.
    fn drain(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        for index in 0..self.streams.outputs.len() {
            for _ in 0..DRAIN_READS_MAX {
                let Some(fd) = &self.streams.outputs[index].fd else { break };
                let mut set = [PollFd::new(fd, PollFlags::IN)];
                let now = rustix::event::Timespec::default();
                if poll(&mut set, Some(&now))? == 0 {
                    break;
                }
                self.output(index, buffer)?;
            }
        }
        if let Some(log) = &mut self.log {
            // As in `deliver`.
            let _ = log.finish();
        }
        Ok(())
    }

    /// Takes bytes for standard input.
    fn input(&mut self, bytes: &[u8]) {
        self.backlog.extend_from_slice(bytes);
        self.feed();
    }

    /// Writes as much of the backlog as standard input accepts.
    fn feed(&mut self) {
        let Some(input) = &self.streams.input else {
            self.backlog.clear();
            return;
        };
        match rustix::io::write(input, &self.backlog) {
            Ok(written) => drop(self.backlog.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The process has closed its standard input.
            Err(_) => {
                self.backlog.clear();
                self.streams.input = None;
            }
        }
        if self.input_ended && self.backlog.is_empty() && self.streams.terminal.is_none() {
            self.streams.input = None;
        }
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        if self.backlog.is_empty() && self.streams.terminal.is_none() {
            self.streams.input = None;
        }
    }

    fn own_stdin(&mut self, buffer: &mut Vec<u8>) {
        buffer.resize(PAYLOAD_BYTES_MAX, 0);
        match rustix::io::read(rustix::stdio::stdin(), buffer.as_mut_slice()) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => {
                self.own = self.own.map(|own| Attached { stdin: false, ..own });
                self.end_input();
            }
            Ok(read) => {
                let typed = &buffer[..read];
                let Some(keys) = &mut self.keys else { return self.input(typed) };
                let (passed, detached) = keys.filter(typed);
                self.detached = detached;
                self.input(&passed);
            }
        }
    }

    /// Passes a signal on to the process; a change of our terminal's size to its terminal.
    fn signal(&mut self) {
        let Some(Ok(signal)) = self.signals.as_mut().map(SignalFd::read) else { return };
        if signal != Signal::WINCH {
            // A process that has just ended needs no signal.
            let _ = self.process.signal(signal.as_raw());
            return;
        }
        if let (Some(terminal), Ok(size)) =
            (&self.streams.terminal, tcgetwinsize(rustix::stdio::stdin()))
        {
            let _ = tcsetwinsize(terminal, size);
        }
    }

    fn greet(&mut self) {
        let Some(listener) = &self.listener else { return };
        if let Ok(socket) = attach::accept(listener) {
            self.clients.push(Client::guest(socket));
        }
    }

    fn client(&mut self, index: usize, ready: PollFlags) {
        if ready.contains(PollFlags::OUT) {
            self.clients[index].flush();
        }
        if !ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        // One byte more than a payload: the kind.
        let mut packet = vec![0; PAYLOAD_BYTES_MAX + 1];
        let message = attach::receive(&self.clients[index].socket, &mut packet);
        let message = message.ok().and_then(Message::decode);
        match message {
            Some(Message::Input(bytes)) => self.input(bytes),
            Some(Message::InputEnd) if self.input_once => self.end_input(),
            Some(Message::InputEnd) => {}
            Some(Message::Resize(rows, columns)) => self.resize(rows, columns),
            Some(Message::Quiet) => self.clients[index].quiet = true,
            _ => self.clients[index].gone = true,
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.streams.terminal {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that has just been closed needs no size.
            let _ = tcsetwinsize(terminal, size);
        }
    }
}

impl Attached {
    fn takes(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

fn own_write(stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = match stream {
            Stream::Stdout => rustix::io::write(rustix::stdio::stdout(), bytes),
            Stream::Stderr => rustix::io::write(rustix::stdio::stderr(), bytes),
        };
        match written {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Somebody else made our output non-blocking; wait until it takes more.
            Err(Errno::AGAIN) => {
                let stdout = rustix::stdio::stdout();
                let stderr = rustix::stdio::stderr();
                let fd = if stream == Stream::Stdout { stdout } else { stderr };
                poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
