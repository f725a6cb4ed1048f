//! A connection, encrypted or not.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// A peer that is silent for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(15);
/// How often it is asked.
const PROBES: u32 = 4;
/// How long between two questions.
const PROBE: Duration = Duration::from_secs(5);

/// A connection to a server.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub(super) fn new(
        socket: TcpStream,
        tls: Option<&(Arc<ClientConfig>, ServerName<'static>)>,
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(timeout)?;
        // Without this a watch of a server that has lost its power would wait for ever.
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, SILENCE)?;
        sockopt::set_tcp_keepintvl(&socket, PROBE)?;
        sockopt::set_tcp_keepcnt(&socket, PROBES)?;
        let Some((config, name)) = tls else { return Ok(Self::Plain(socket)) };
        let connection = ClientConnection::new(config.clone(), name.clone());
        let mut stream = StreamOwned::new(connection.map_err(io::Error::other)?, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// How long reading waits; for ever without a time.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket().set_read_timeout(timeout)
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        self.socket().set_nonblocking(true)
    }

    /// Whether an idle connection is still one: a server that says something has hung up.
    pub(super) fn is_open(&self) -> bool {
        let mut set = [PollFd::new(self.socket(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut set, Some(&now)), Ok(0))
    }

    /// Sends bytes, however long the server takes to take them.
    pub(super) fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(error) => self.wait(error)?,
            }
        }
        while let Err(error) = self.flush() {
            self.wait(error)?;
        }
        Ok(())
    }

    /// Waits until more can be written.
    fn wait(&self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => {
                let mut set = [PollFd::new(self.socket(), PollFlags::OUT)];
                rustix::io::retry_on_intr(|| poll(&mut set, None))?;
                Ok(())
            }
            _ => Err(error),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        };
        match read {
            // It has hung up without a word, as after the end of a process.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
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
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
