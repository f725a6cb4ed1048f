//! A connection: one thread reads and writes it, and any number make calls or answer them.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::proto::Message;
use crate::state::{End, State};
use crate::status::{Code, Status};
use crate::stream::Stream;

/// What is read or written at a time.
const PIECE_BYTES: usize = 32 << 10;

/// One end of a connection, for whoever makes calls, or waits for something in those that came.
#[derive(Debug, Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    end: End,
}

/// What all threads of a connection have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Rung if there is something to write.
    bell: OwnedFd,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and tells everybody.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let length = state.out.len();
        let value = change(&mut state);
        self.tell(&state, length);
        value
    }

    /// Waits until `ready`, which may change what is known, has something.
    pub(crate) fn wait<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.lock();
        loop {
            let length = state.out.len();
            if let Some(value) = ready(&mut state) {
                self.tell(&state, length);
                return value;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&self, state: &State, length: usize) {
        self.changed.notify_all();
        if state.out.len() > length || state.is_closed {
            // A counter of 64 bits does not overflow.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }
}

impl Connection {
    /// The end that makes calls.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn client() -> io::Result<Self> {
        Self::new(End::Client)
    }

    /// The end that answers calls.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn server() -> io::Result<Self> {
        Self::new(End::Server)
    }

    fn new(end: End) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = Mutex::new(State::new(end));
        Ok(Self { shared: Arc::new(Shared { state, changed: Condvar::new(), bell }), end })
    }

    /// Reads and writes until one side has enough; `take` is given each call that comes, and must not
    /// wait. `has_more` says whether something can be read although the socket has nothing.
    pub fn run<W: Read + Write + AsFd>(
        &self,
        wire: &mut W,
        has_more: &dyn Fn(&mut W) -> bool,
        take: &dyn Fn(Stream),
    ) {
        // Why it has ended does not matter: whoever waits for anything is told that it has.
        let _ = self.pass_on(wire, has_more, take);
        self.close();
    }

    fn pass_on<W: Read + Write + AsFd>(
        &self,
        wire: &mut W,
        has_more: &dyn Fn(&mut W) -> bool,
        take: &dyn Fn(Stream),
    ) -> io::Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        let (mut out, mut written) = (Vec::new(), 0);
        loop {
            if written == out.len() {
                (out, written) = (self.shared.change(|state| std::mem::take(&mut state.out)), 0);
            }
            let is_closed = self.shared.lock().is_closed;
            if out.is_empty() && is_closed {
                return Ok(());
            }
            let at_once = !is_closed && has_more(wire);
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, !is_closed);
            wanted.set(PollFlags::OUT, !out.is_empty());
            let mut set =
                [PollFd::new(wire, wanted), PollFd::new(&self.shared.bell, PollFlags::IN)];
            let patience = Timespec::default();
            rustix::io::retry_on_intr(|| poll(&mut set, at_once.then_some(&patience)))?;
            let (ready, rung) = (set[0].revents(), set[1].revents());
            if !rung.is_empty() {
                let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
            }
            // What is to be said is said to those who hang up, too.
            if ready.contains(PollFlags::OUT) {
                let end = out.len().min(written + PIECE_BYTES);
                written += wire.write(&out[written..end])?;
                wire.flush()?;
            }
            if at_once || ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                match wire.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(length) => self.receive(&buffer[..length], take),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn receive(&self, bytes: &[u8], take: &dyn Fn(Stream)) {
        let calls = self.shared.change(|state| {
            state.receive(bytes);
            std::mem::take(&mut state.calls)
        });
        for number in calls {
            take(Stream::new(self.shared.clone(), number, true));
        }
    }

    /// Begins a call.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if the other side has gone.
    pub fn call(&self, path: &str, metadata: &[(&str, &str)]) -> Result<Stream, Status> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let fields: Vec<_> = fields.into_iter().chain(metadata.iter().copied()).collect();
        let number = self.shared.change(|state| state.call(&fields)).ok_or_else(Status::gone)?;
        Ok(Stream::new(self.shared.clone(), number, self.end == End::Server))
    }

    /// Calls with one message, and waits for the one that answers it.
    ///
    /// # Errors
    /// What the other side says, and [`Code::Unavailable`] if it has gone.
    pub fn ask(&self, path: &str, message: &Message) -> Result<Vec<u8>, Status> {
        let stream = self.call(path, &[])?;
        stream.send(message)?;
        stream.end()?;
        stream.receive_one()
    }

    /// Whether the other side has gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.lock().is_closed
    }

    /// Hangs up once what was sent is written.
    pub fn close(&self) {
        self.shared.change(|state| state.is_closed = true);
    }

    /// Has everybody look again who [waits](Stream::wait_for).
    pub fn wake(&self) {
        self.shared.change(|_| ());
    }
}

/// Says that nobody does what is called.
#[must_use]
pub fn unknown(path: &str) -> Status {
    let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or(("", path));
    let message = format!("unknown method {method} for service {service}");
    Status::new(Code::Unimplemented, message)
}
