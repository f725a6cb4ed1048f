//! A connection, plain or over TLS, with limits of time on everything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, ServerConnection, StreamOwned};

use crate::server::Limits;
use crate::stream::Stream;

/// What the kernel is asked to send at a time.
const SEND_BYTES: u64 = 1 << 20;
/// What is encrypted at a time.
const COPY_BYTES: usize = 64 << 10;

/// A socket whose reads end at a deadline, whatever trickles in.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Shared with whoever hangs up when the server stops.
    stream: Arc<Stream>,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    limits: Limits,
}

impl Socket {
    pub(crate) fn new(stream: Arc<Stream>, limits: Limits) -> io::Result<Self> {
        stream.set_nodelay()?;
        let timeout = Some(limits.silence);
        stream.set_write_timeout(timeout)?;
        stream.set_read_timeout(timeout)?;
        Ok(Self { stream, deadline: None, timeout, limits })
    }

    /// The same, of which everything that is read has come until then.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    fn hold_to(&mut self, limits: Limits) -> io::Result<()> {
        self.limits = limits;
        self.timeout = Some(limits.silence);
        self.stream.set_write_timeout(self.timeout)?;
        self.stream.set_read_timeout(self.timeout)
    }

    /// Lets the client take its time from now on.
    fn be_patient(&mut self) -> io::Result<()> {
        self.deadline = None;
        self.timeout = None;
        self.limits.silence = Duration::MAX;
        self.stream.set_write_timeout(None)?;
        self.stream.set_read_timeout(None)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut timeout = Some(self.limits.silence).filter(|silence| *silence != Duration::MAX);
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            timeout = Some(left);
        }
        if timeout != self.timeout {
            self.stream.set_read_timeout(timeout)?;
            self.timeout = timeout;
        }
        match self.stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            read => read,
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(Socket),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
    /// Of which ours is the client's end.
    Outgoing(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Wire {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
            Self::Outgoing(stream) => &mut stream.sock,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        match self {
            Self::Plain(socket) => socket.limits,
            Self::Tls(stream) => stream.sock.limits,
            Self::Outgoing(stream) => stream.sock.limits,
        }
    }

    /// Lets the client take its time from now on: it watches something that may take for ever.
    pub(crate) fn be_patient(&mut self) -> io::Result<()> {
        self.socket().be_patient()
    }

    /// Takes [`Wire::be_patient`] back.
    pub(crate) fn hold_to(&mut self, limits: Limits) -> io::Result<()> {
        self.socket().hold_to(limits)
    }

    /// The certificate that the client has proved to have, in DER.
    pub(crate) fn certificate(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) | Self::Outgoing(_) => None,
            Self::Tls(stream) => {
                let chain = stream.conn.peer_certificates()?;
                chain.first().map(|certificate| certificate.to_vec())
            }
        }
    }

    /// The socket, to wait for it.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        match self {
            Self::Plain(socket) => &socket.stream,
            Self::Tls(stream) => &stream.sock.stream,
            Self::Outgoing(stream) => &stream.sock.stream,
        }
    }

    /// Whether something can be read although the socket has nothing.
    pub(crate) fn has_plain_text(&mut self) -> bool {
        let state = match self {
            Self::Plain(_) => return false,
            // That nothing more comes may have come with what was read last.
            Self::Tls(stream) => stream.conn.process_new_packets(),
            Self::Outgoing(stream) => stream.conn.process_new_packets(),
        };
        state.is_ok_and(|state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
    }

    /// Says that nothing more is coming.
    pub(crate) fn end_writing(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => {}
            Self::Tls(stream) => stream.conn.send_close_notify(),
            Self::Outgoing(stream) => stream.conn.send_close_notify(),
        }
        self.flush()?;
        self.stream().shutdown(std::net::Shutdown::Write)
    }

    /// Until when everything that is read from now on must have come; `None` for no other limit
    /// than that for silence.
    pub(crate) fn expect_by(&mut self, deadline: Option<Instant>) {
        self.socket().deadline = deadline;
    }

    /// Sends a part of a file: by the kernel alone where nothing has to be encrypted.
    pub(crate) fn send_file(&mut self, file: &File, from: u64, length: u64) -> io::Result<()> {
        let pace = Pace::new(self.limits());
        let (mut at, end) = (from, from + length);
        let mut buffer = Vec::new();
        while at < end {
            let n = match &mut *self {
                Self::Plain(socket) => {
                    let count = usize::try_from((end - at).min(SEND_BYTES)).unwrap_or(COPY_BYTES);
                    send(socket, file, at, count)?
                }
                Self::Tls(_) | Self::Outgoing(_) => {
                    buffer.resize(COPY_BYTES, 0);
                    let wanted = usize::try_from(end - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
                    let n = file.read_at(&mut buffer[..wanted], at)?;
                    self.write_all(&buffer[..n])?;
                    n
                }
            };
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += n as u64;
            pace.check(at - from)?;
        }
        self.flush()
    }

    /// Says that nothing more is coming, and waits for the client to hang up, within bounds: a
    /// client that is still sending would otherwise lose our last answer to a reset.
    pub(crate) fn close(&mut self) {
        const LINGER: Duration = Duration::from_secs(2);
        const LINGER_BYTES_MAX: usize = 64 << 20;
        if self.end_writing().is_err() {
            return;
        }
        let socket = self.socket();
        socket.deadline = Some(Instant::now() + LINGER);
        let mut buffer = vec![0; 16 << 10];
        let mut seen = 0;
        while let Ok(n) = socket.read(&mut buffer) {
            seen += n;
            if n == 0 || seen > LINGER_BYTES_MAX {
                break;
            }
        }
    }
}

fn send(socket: &Socket, file: &File, at: u64, count: usize) -> io::Result<usize> {
    let mut offset = at;
    loop {
        match rustix::fs::sendfile(&*socket.stream, file, Some(&mut offset), count) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            sent => return Ok(sent?),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Outgoing(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Outgoing(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
            Self::Outgoing(stream) => stream.flush(),
        }
    }
}

/// Watches over a transfer, so that a client that trickles does not hold a thread for ever.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    limits: Limits,
}

impl Pace {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { begun: Instant::now(), limits }
    }

    /// Fails if `bytes` since the start are too few.
    pub(crate) fn check(&self, bytes: u64) -> io::Result<()> {
        let elapsed = self.begun.elapsed();
        let Limits { silence, bytes_per_second, .. } = self.limits;
        if elapsed > silence && bytes / elapsed.as_secs().max(1) < bytes_per_second {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow"));
        }
        Ok(())
    }
}
