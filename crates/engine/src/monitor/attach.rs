//! What an attached client and a monitor say to each other.
//!
//! A `SOCK_SEQPACKET` socket in the container's run directory: one packet, one message; the first
//! byte is its kind. The socket's mode lets only its owner connect.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, listen, recv, send, socket_with,
};

/// The largest payload of a packet, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
/// Clients waiting to be accepted.
const BACKLOG: i32 = 16;

/// One message, borrowed from the buffer that it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Client to monitor: bytes for standard input.
    Input(&'a [u8]),
    /// Client to monitor: standard input has ended.
    InputEnd,
    /// Client to monitor: the size of the terminal, rows and columns.
    Resize(u16, u16),
    /// Client to monitor: only the end is wanted, no output.
    Quiet,
    /// Monitor to client: bytes of standard output, or of the terminal.
    Stdout(&'a [u8]),
    /// Monitor to client: bytes of standard error.
    Stderr(&'a [u8]),
    /// Monitor to client: the container has ended with this code.
    Exit(i32),
}

impl<'a> Message<'a> {
    pub(crate) fn encode(self) -> Vec<u8> {
        let packet = |kind: u8, payload: &[u8]| [&[kind], payload].concat();
        match self {
            Self::Input(bytes) => packet(b'i', bytes),
            Self::InputEnd => packet(b'e', &[]),
            Self::Resize(rows, columns) => {
                packet(b'w', &[rows.to_be_bytes(), columns.to_be_bytes()].concat())
            }
            Self::Quiet => packet(b'q', &[]),
            Self::Stdout(bytes) => packet(b'1', bytes),
            Self::Stderr(bytes) => packet(b'2', bytes),
            Self::Exit(code) => packet(b'x', &code.to_be_bytes()),
        }
    }

    /// Reads a packet; `None` if it is malformed.
    pub(crate) fn decode(packet: &'a [u8]) -> Option<Self> {
        let (kind, payload) = packet.split_first()?;
        Some(match kind {
            b'i' => Self::Input(payload),
            b'e' => Self::InputEnd,
            b'w' => {
                let [a, b, c, d] = payload.try_into().ok()?;
                Self::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            b'q' => Self::Quiet,
            b'1' => Self::Stdout(payload),
            b'2' => Self::Stderr(payload),
            b'x' => Self::Exit(i32::from_be_bytes(payload.try_into().ok()?)),
            _ => return None,
        })
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// `sun_path` holds 107 bytes; a longer path is reached through its directory's descriptor.
fn address(path: &Path) -> io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok((address, None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, rustix::fs::Mode::empty())?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
    let short = Path::new("/proc/self/fd").join(fd.to_string()).join(name);
    Ok((SocketAddrUnix::new(short)?, Some(dir)))
}

pub(crate) fn listener(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let (address, _dir) = address(path)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A client's socket, connected to the monitor that listens at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let (address, _dir) = address(path)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// A client's socket and the monitor's, connected before the monitor is forked.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

pub(crate) fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, SocketFlags::CLOEXEC)?)
}

/// Sends one packet. Fails with `WouldBlock` rather than wait where `wait` is false.
pub(crate) fn send_packet(socket: impl AsFd, packet: &[u8], wait: bool) -> io::Result<()> {
    let patience = if wait { SendFlags::empty() } else { SendFlags::DONTWAIT };
    rustix::io::retry_on_intr(|| send(&socket, packet, SendFlags::NOSIGNAL | patience))?;
    Ok(())
}

/// Receives one packet into `buffer`; an empty one means that the other side has gone.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<&[u8]> {
    let read = loop {
        match recv(&socket, &mut *buffer, RecvFlags::empty()) {
            // It went without reading all of ours (unix(7)): what it said before that comes next.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            received => break received?.0,
        }
    };
    Ok(&buffer[..read])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let all = [
            Message::Input(b"abc"),
            Message::InputEnd,
            Message::Resize(24, 80),
            Message::Quiet,
            Message::Stdout(b""),
            Message::Stderr(b"x"),
            Message::Exit(-1),
        ];
        for message in all {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for packet in [&b""[..], b"?", b"w", b"x12"] {
            assert_eq!(Message::decode(packet), None);
        }
    }

    #[test]
    fn a_path_too_long_for_an_address_still_works() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("attach");
        let listening = listener(&path).unwrap();
        let client = connect(&path).unwrap();
        let served = accept(&listening).unwrap();
        send_packet(&client, &Message::InputEnd.encode(), true).unwrap();
        let mut buffer = [0; 16];
        let packet = receive(&served, &mut buffer).unwrap();
        assert_eq!(Message::decode(packet), Some(Message::InputEnd));
    }
}
