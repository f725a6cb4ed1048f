//! One request, and the ways to answer it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::body::{Body, Input};
use crate::head::Head;
use crate::place::Guest;
use crate::reply::Reply;
use crate::server::Limits;
use crate::stream::Peer;

/// What is passed on at a time.
const JOIN_BYTES: usize = 32 << 10;

/// What is served.
pub trait Service: Send + Sync + 'static {
    /// Answers a request. Where it does not, the client is hung up on.
    fn serve(&self, exchange: &mut Exchange<'_>);

    /// The answer to what is no request, with its status and why.
    fn refuse(&self, status: u16, why: &'static str, peer: Peer) -> Reply;

    /// The plain answer to a client that does not speak TLS where that is spoken.
    fn refuse_plain(&self) -> &'static str;
}

/// A request that is to be answered once, by [`Exchange::send`], [`Exchange::chunks`] or
/// [`Exchange::upgrade`].
#[derive(Debug)]
pub struct Exchange<'a> {
    head: &'a Head,
    peer: Peer,
    body: Body<'a>,
    guest: &'a Guest,
    goes_on: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(input: &'a mut Input, head: &'a Head, peer: Peer, guest: &'a Guest) -> Self {
        Self { head, peer, body: Body::new(input, head), guest, goes_on: false }
    }

    /// What was asked.
    #[must_use]
    pub fn head(&self) -> &'a Head {
        self.head
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The certificate that the client has proved to have, in DER; `None` without one.
    #[must_use]
    pub fn certificate(&self) -> Option<Vec<u8>> {
        self.body.input.wire.certificate()
    }

    /// What was sent along.
    pub fn body(&mut self) -> &mut Body<'a> {
        &mut self.body
    }

    /// Whether another request may follow on the connection.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Answers: the bytes of content that were written.
    ///
    /// # Errors
    /// The client is gone or too slow, or the content cannot be read.
    pub fn send(&mut self, reply: Reply) -> io::Result<u64> {
        let closes = self.settle();
        let is_head = self.head.method == "HEAD";
        let wire = &mut self.body.input.wire;
        let written = reply.write(wire, is_head, closes, self.head.is_current);
        self.goes_on = written.is_ok() && !closes;
        written
    }

    /// Answers with what comes bit by bit, each of which is sent at once. The client may take its
    /// time.
    ///
    /// # Errors
    /// The client is gone.
    pub fn chunks(&mut self, reply: &Reply) -> io::Result<Chunks<'_>> {
        let is_chunked = self.head.is_current;
        let closes = self.settle() || !is_chunked;
        let text = reply.head(None, closes, is_chunked);
        self.guest.is_watching();
        let wire = &mut self.body.input.wire;
        let limits = wire.limits();
        wire.be_patient()?;
        wire.write_all(text.as_bytes())?;
        wire.flush()?;
        let goes_on = (!closes).then_some(&mut self.goes_on);
        Ok(Chunks { input: self.body.input, is_chunked, limits, goes_on })
    }

    /// Answers that another protocol is spoken from now on, and leaves it at that. It begins behind the
    /// body, if one was announced.
    ///
    /// # Errors
    /// The client is gone, or what it announced is too long to be skipped.
    pub fn upgrade(&mut self, reply: &Reply) -> io::Result<Upgraded<'_>> {
        if self.body.announced().is_some() && !self.body.finish() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is too long"));
        }
        let text = reply.head(None, true, false);
        self.guest.is_watching();
        let wire = &mut self.body.input.wire;
        wire.be_patient()?;
        wire.write_all(text.as_bytes())?;
        wire.flush()?;
        self.goes_on = false;
        Ok(Upgraded::new(self.body.input))
    }

    /// What becomes ready when the client may be gone.
    #[must_use]
    pub fn client(&self) -> BorrowedFd<'_> {
        self.body.input.wire.stream().as_fd()
    }

    /// Whether the client has hung up.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        is_gone(self.client(), PollFlags::RDHUP)
    }

    /// Skips what nobody read: whether the connection ends.
    fn settle(&mut self) -> bool {
        let is_clean = self.body.finish();
        !is_clean || !self.head.keeps_alive || self.guest.is_stopping()
    }
}

/// Whether whoever is at the other end of a socket has hung up, or will send nothing more.
fn is_gone(socket: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut set = [PollFd::from_borrowed_fd(socket, flags)];
    let polled = rustix::io::retry_on_intr(|| poll(&mut set, Some(&Timespec::default())));
    polled.is_ok() && set[0].revents().intersects(flags | PollFlags::HUP | PollFlags::ERR)
}

/// An answer that grows.
#[derive(Debug)]
pub struct Chunks<'a> {
    input: &'a mut Input,
    is_chunked: bool,
    /// As they are for everything else.
    limits: Limits,
    /// Whether another request may follow; `None` if none may in any case.
    goes_on: Option<&'a mut bool>,
}

impl Chunks<'_> {
    /// Says that this is all.
    ///
    /// # Errors
    /// The client is gone.
    pub fn end(self) -> io::Result<()> {
        if self.is_chunked {
            self.input.wire.write_all(b"0\r\n\r\n")?;
        }
        self.input.wire.flush()?;
        self.input.wire.hold_to(self.limits)?;
        if let Some(goes_on) = self.goes_on {
            *goes_on = true;
        }
        Ok(())
    }

    /// Whether the client has hung up.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        is_gone(self.as_fd(), PollFlags::RDHUP)
    }
}

/// The client's socket, which is ready to be read when it has hung up.
impl AsFd for Chunks<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.wire.stream().as_fd()
    }
}

/// Each call is a piece of its own (RFC 9112, section 7.1).
impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if !self.is_chunked {
            self.input.wire.write_all(bytes)?;
            return Ok(bytes.len());
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.input.wire.write_all(&chunk)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.wire.flush()
    }
}

/// A connection on which another protocol is spoken.
#[derive(Debug)]
pub struct Upgraded<'a> {
    input: &'a mut Input,
}

impl<'a> Upgraded<'a> {
    pub(crate) fn new(input: &'a mut Input) -> Self {
        Self { input }
    }

    /// Passes on what either side says to the other, until both have said all.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn join(&mut self, other: &mut Upgraded<'_>) -> io::Result<()> {
        let mut buffer = vec![0; JOIN_BYTES];
        let (mut here, mut there) = (true, true);
        while here && there {
            let at_once = self.has_more() || other.has_more();
            let mut set = [PollFd::new(self, PollFlags::IN), PollFd::new(other, PollFlags::IN)];
            let patience = Timespec::default();
            rustix::io::retry_on_intr(|| poll(&mut set, at_once.then_some(&patience)))?;
            let (ours, theirs) = (!set[0].revents().is_empty(), !set[1].revents().is_empty());
            if ours || self.has_more() {
                here = self.pass_on(other, &mut buffer)?;
            }
            if theirs || other.has_more() {
                there = other.pass_on(self, &mut buffer)?;
            }
        }
        // Whoever is left may still have something to say.
        while here && self.pass_on(other, &mut buffer)? {}
        while there && other.pass_on(self, &mut buffer)? {}
        Ok(())
    }

    /// Passes on what comes next: whether it is not the end.
    fn pass_on(&mut self, to: &mut Upgraded<'_>, buffer: &mut [u8]) -> io::Result<bool> {
        let n = self.read(buffer)?;
        match n {
            0 => to.end_writing()?,
            _ => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
            }
        }
        Ok(n > 0)
    }

    /// Says that nothing more is coming.
    ///
    /// # Errors
    /// The client is gone.
    pub fn end_writing(&mut self) -> io::Result<()> {
        self.input.wire.end_writing()
    }

    /// Whether something was read ahead, so that it need not be waited for.
    pub fn has_more(&mut self) -> bool {
        !self.input.held().is_empty() || self.input.wire.has_plain_text()
    }
}

impl AsFd for Upgraded<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.wire.stream().as_fd()
    }
}

impl Read for Upgraded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let held = self.input.held();
        if held.is_empty() {
            return self.input.wire.read(buffer);
        }
        let n = held.len().min(buffer.len());
        buffer[..n].copy_from_slice(&held[..n]);
        self.input.consume(n);
        Ok(n)
    }
}

impl Write for Upgraded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.wire.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.wire.flush()
    }
}
