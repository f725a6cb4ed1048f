//! Connections that become the streams of a process.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use engine::{Attached, Conversation, DetachKeys, Said, Stream};
use httpd::{Reply, Upgraded};
use rustix::event::{PollFd, PollFlags, poll};

use super::call::Call;
use super::failure::Failure;
use super::frame;
use crate::grammar;

/// The keys that end an attachment unless others are asked for.
const KEYS: &str = "ctrl-p,ctrl-q";
/// What is read of a client at a time.
const INPUT_BYTES: usize = 32 << 10;
/// How long a client may take to read the head of an answer before the rest comes all the same.
const TAKEN_MAX: Duration = Duration::from_secs(1);
/// Between two looks at whether it has.
const TAKEN_POLL: Duration = Duration::from_micros(100);

/// A connection that has become a process' streams.
pub(super) trait Client: Read + Write + AsFd {
    /// Whether something was read ahead, so that it need not be waited for.
    fn has_more(&mut self) -> bool;
}

impl Client for Upgraded<'_> {
    fn has_more(&mut self) -> bool {
        Upgraded::has_more(self)
    }
}

/// How a client is connected with a process.
#[derive(Debug)]
pub(super) struct Streams {
    /// Which of its streams are the client's.
    pub(super) wanted: Attached,
    /// Whether it has a terminal.
    is_terminal: bool,
    /// Whether both outputs are one stream: a terminal's, and where messages have ends by themselves.
    pub(super) is_raw: bool,
    pub(super) keys: DetachKeys,
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The process has.
    Exited,
    /// Whoever holds the process has gone without a word.
    Gone,
    /// The client has hung up, or typed the keys for it.
    Left,
}

impl Streams {
    pub(super) fn new(wanted: Attached, is_terminal: bool, keys: &str) -> Result<Self, Failure> {
        let keys = if keys.is_empty() { KEYS } else { keys };
        let keys = DetachKeys::new(&grammar::detach_keys(keys)?);
        Ok(Self { wanted, is_terminal, is_raw: is_terminal, keys })
    }

    /// Passes on what both sides say until one of them has had enough.
    pub(super) fn talk(
        &mut self,
        client: &mut impl Client,
        conversation: &mut Conversation,
    ) -> End {
        let mut input = Input { bytes: Vec::new(), is_open: true, has_ended: false };
        loop {
            match self.turn(client, conversation, &mut input) {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(_) => return End::Left,
            }
        }
    }

    fn turn(
        &mut self,
        client: &mut impl Client,
        conversation: &mut Conversation,
        input: &mut Input,
    ) -> io::Result<Option<End>> {
        let waits = !input.bytes.is_empty() || input.has_ended;
        let reads = input.is_open && !waits;
        let at_once = reads && client.has_more();
        let mut said = PollFlags::IN;
        said.set(PollFlags::OUT, waits);
        let mut heard = PollFlags::empty();
        heard.set(PollFlags::IN, reads);
        let mut set = [PollFd::new(conversation, said), PollFd::new(client, heard)];
        let patience = rustix::event::Timespec::default();
        rustix::io::retry_on_intr(|| poll(&mut set, at_once.then_some(&patience)))?;
        let (said, heard) = (set[0].revents(), set[1].revents());
        // What it says to the end comes before that there is nobody to hear it.
        if said.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && let Some(end) = self.hear(client, conversation)?
        {
            return Ok(Some(end));
        }
        if waits && said.contains(PollFlags::OUT) {
            input.give(conversation);
        }
        if at_once || reads && heard.intersects(PollFlags::IN | PollFlags::HUP) {
            return self.read(client, conversation, input);
        }
        let is_gone = heard.intersects(PollFlags::HUP | PollFlags::ERR);
        Ok(is_gone.then_some(End::Left))
    }

    /// Takes what the client sends.
    fn read(
        &mut self,
        client: &mut impl Client,
        conversation: &Conversation,
        input: &mut Input,
    ) -> io::Result<Option<End>> {
        let mut buffer = vec![0; INPUT_BYTES];
        let read = match client.read(&mut buffer) {
            // What came is no input.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            read => read?,
        };
        if read == 0 {
            input.is_open = false;
            input.has_ended = self.wanted.stdin;
            input.give(conversation);
            return Ok(None);
        }
        if !self.wanted.stdin {
            return Ok(None);
        }
        let mut left = false;
        input.bytes = match self.is_terminal {
            false => buffer[..read].to_vec(),
            true => {
                let (passed, typed) = self.keys.filter(&buffer[..read]);
                left = typed;
                passed
            }
        };
        input.give(conversation);
        Ok(left.then_some(End::Left))
    }

    /// Passes on what the process says.
    fn hear(
        &self,
        client: &mut impl Client,
        conversation: &mut Conversation,
    ) -> io::Result<Option<End>> {
        let (stream, bytes, wanted) = match conversation.listen() {
            Said::Stdout(bytes) => (Stream::Stdout, bytes, self.wanted.stdout),
            Said::Stderr(bytes) => (Stream::Stderr, bytes, self.wanted.stderr),
            Said::Exit(_) => return Ok(Some(End::Exited)),
            Said::Gone => return Ok(Some(End::Gone)),
        };
        if wanted {
            frame::write(client, stream, bytes, self.is_raw)?;
        }
        Ok(None)
    }
}

/// What the client has sent and the process has not taken.
#[derive(Debug)]
struct Input {
    bytes: Vec<u8>,
    /// Whether more may come.
    is_open: bool,
    /// Whether the process is to be told, behind the bytes, that nothing more comes.
    has_ended: bool,
}

impl Input {
    /// Passes on what is taken now. If the other side has gone, what it said last is still to be
    /// heard.
    fn give(&mut self, conversation: &Conversation) {
        while !self.bytes.is_empty() {
            match conversation.try_input(&self.bytes) {
                Ok(0) => return,
                Ok(taken) => drop(self.bytes.drain(..taken)),
                Err(_) => {
                    self.bytes.clear();
                    self.has_ended = false;
                    return;
                }
            }
        }
        if self.has_ended {
            self.has_ended = matches!(conversation.try_end_input(), Ok(false));
        }
    }
}

/// Makes a request's connection one of a process' streams.
pub(super) fn upgrade<'a>(
    call: &'a mut Call<'_, '_>,
    is_terminal: bool,
) -> io::Result<Upgraded<'a>> {
    let media_type = frame::media_type(call.version, is_terminal);
    let asked = call.exchange.head().upgrade.is_some();
    let reply = match asked {
        true => Reply::new(101).header("Connection", "Upgrade").header("Upgrade", "tcp"),
        // As it was before there was a word for it.
        false => Reply::new(200),
    };
    let reply = call.api.signed(reply.header("Content-Type", media_type));
    let upgraded = call.exchange.upgrade(&reply)?;
    wait_until_taken(&upgraded);
    Ok(upgraded)
}

/// Some clients (Python's `docker`) read the head of the answer with a buffer that they then forget:
/// what comes together with it is lost on them. So nothing does, as long as they read at all.
fn wait_until_taken(client: &impl AsFd) {
    let deadline = Instant::now() + TAKEN_MAX;
    while Instant::now() < deadline && matches!(engine::is_taken(client.as_fd()), Ok(false)) {
        std::thread::sleep(TAKEN_POLL);
    }
}

/// Whether a client at the other end has hung up altogether.
pub(super) fn has_left(client: &impl AsFd) -> bool {
    let mut set = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::empty())];
    let now = rustix::event::Timespec::default();
    poll(&mut set, Some(&now)).is_ok()
        && set[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
