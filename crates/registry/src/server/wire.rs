//! A client's connection, plain or over TLS, with limits of time on everything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

/// Longest silence of a client in the middle of something.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A client that is slower than this on the average, after [`SILENCE_MAX`], is hung up on.
pub(super) const BYTES_PER_SECOND_MIN: u64 = 1024;
/// What the kernel is asked to send at a time.
const SEND_BYTES: u64 = 1 << 20;
/// What is encrypted at a time.
const COPY_BYTES: usize = 64 << 10;

/// A socket whose reads end at a deadline, whatever trickles in.
#[derive(Debug)]
pub(super) struct Socket {
    /// Shared with whoever hangs up when the server stops.
    stream: Arc<TcpStream>,
    deadline: Option<Instant>,
    timeout: Duration,
}

impl Socket {
    pub(super) fn new(stream: Arc<TcpStream>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream, deadline: None, timeout: SILENCE_MAX })
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut timeout = SILENCE_MAX;
        if let Some(deadline) = self.deadline {
            timeout = deadline.saturating_duration_since(Instant::now());
            if timeout.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        if timeout != self.timeout {
            self.stream.set_read_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        match (&*self.stream).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            read => read,
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (&*self.stream).write(bytes) {
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
pub(super) enum Wire {
    Plain(Socket),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

impl Wire {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        }
    }

    /// Until when everything that is read from now on must have come; `None` for no other limit
    /// than [`SILENCE_MAX`] for each read.
    pub(super) fn expect_by(&mut self, deadline: Option<Instant>) {
        self.socket().deadline = deadline;
    }

    /// Sends a part of a file: by the kernel alone where nothing has to be encrypted.
    pub(super) fn send_file(&mut self, file: &File, from: u64, length: u64) -> io::Result<()> {
        let pace = Pace::new();
        let (mut at, end) = (from, from + length);
        let mut buffer = Vec::new();
        while at < end {
            let n = match self {
                Self::Plain(socket) => {
                    let count = usize::try_from((end - at).min(SEND_BYTES)).unwrap_or(COPY_BYTES);
                    send(socket, file, at, count)?
                }
                Self::Tls(stream) => {
                    buffer.resize(COPY_BYTES, 0);
                    let wanted = usize::try_from(end - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
                    let n = file.read_at(&mut buffer[..wanted], at)?;
                    stream.write_all(&buffer[..n])?;
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
    pub(super) fn close(&mut self) {
        const LINGER: Duration = Duration::from_secs(2);
        const LINGER_BYTES_MAX: usize = 64 << 20;
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let socket = self.socket();
        if socket.stream.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
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
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Watches over a transfer, so that a client that trickles does not hold a thread for ever.
#[derive(Debug)]
pub(super) struct Pace(Instant);

impl Pace {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Fails if `bytes` since the start are too few.
    pub(super) fn check(&self, bytes: u64) -> io::Result<()> {
        let elapsed = self.0.elapsed();
        if elapsed > SILENCE_MAX && bytes / elapsed.as_secs().max(1) < BYTES_PER_SECOND_MIN {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow"));
        }
        Ok(())
    }
}
