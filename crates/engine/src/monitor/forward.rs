//! Passing on what comes to a container's published ports by `::1`.
//!
//! Every other packet to a published port is rewritten by the kernel ([`net::port`]). What the host
//! sends to its own `::1` cannot be: the answer would come back through the bridge to `::1`, and
//! the kernel looks for that address on the loopback interface only (`ip6_route_input` with
//! `rt6_need_strict`; there is no `route_localnet` of IPv6). So those connections reach the socket
//! that keeps the port ours, and the monitor passes their bytes on. Who speaks is the host itself:
//! nobody's address is lost.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};

use super::resolver::{connect, is_early};

/// Connections at once; further ones wait until the kernel's queue is full, too.
const FLOWS_MAX: usize = 256;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// What is read at once, and what one direction holds at most.
const BUFFER_BYTES: usize = 16 * 1024;
/// Buffers that one direction moves before others have their turn.
const TURNS: usize = 16;

/// All doors of one container, and the connections through them.
#[derive(Debug)]
pub(crate) struct Forwarder {
    doors: Vec<(TcpListener, SocketAddr)>,
    flows: Vec<Flow>,
}

#[derive(Debug)]
struct Flow {
    client: TcpStream,
    server: TcpStream,
    up: Way,
    down: Way,
}

/// One direction of a flow.
#[derive(Debug, Default)]
struct Way {
    held: Vec<u8>,
    /// Whether nothing more will come.
    ended: bool,
    /// Whether the other side was told so.
    told: bool,
}

impl Forwarder {
    /// Passes on what comes to each of the listening sockets to the address beside it.
    ///
    /// # Errors
    /// If the sockets cannot listen.
    pub(crate) fn new(doors: Vec<(OwnedFd, SocketAddr)>) -> io::Result<Self> {
        let open = |(fd, to): (OwnedFd, SocketAddr)| {
            rustix::net::listen(&fd, BACKLOG)?;
            let listener = TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            Ok((listener, to))
        };
        let doors = doors.into_iter().map(open).collect::<io::Result<_>>()?;
        Ok(Self { doors, flows: Vec::new() })
    }

    /// What to wait for.
    pub(crate) fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        let doors = self.doors.iter().filter(|_| self.flows.len() < FLOWS_MAX);
        let doors = doors.map(|(door, _)| PollFd::new(door, PollFlags::IN));
        doors.chain(self.flows.iter().flat_map(Flow::sources))
    }

    /// Does what can be done without waiting.
    pub(crate) fn advance(&mut self) {
        for (door, to) in &self.doors {
            while self.flows.len() < FLOWS_MAX
                && let Ok((client, from)) = door.accept()
            {
                // Others' packets are rewritten; if they are not any more, the port is not published.
                if from.ip().is_loopback()
                    && let Ok(flow) = Flow::begin(client, *to)
                {
                    self.flows.push(flow);
                }
            }
        }
        self.flows.retain_mut(|flow| flow.advance().unwrap_or(false));
        // What is over needs no memory.
        self.flows.shrink_to(0);
    }
}

impl Flow {
    fn begin(client: TcpStream, to: SocketAddr) -> io::Result<Flow> {
        client.set_nonblocking(true)?;
        let server = connect(to)?;
        Ok(Flow { client, server, up: Way::default(), down: Way::default() })
    }

    /// A socket that there is nothing to wait for is left out: its errors would be reported again
    /// and again.
    fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        let flags = |from: &Way, to: &Way| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, from.held.is_empty() && !from.ended);
            flags.set(PollFlags::OUT, !to.held.is_empty());
            flags
        };
        let client = (&self.client, flags(&self.up, &self.down));
        let server = (&self.server, flags(&self.down, &self.up));
        let both = [client, server].into_iter().filter(|(_, flags)| !flags.is_empty());
        both.map(|(socket, flags)| PollFd::new(socket, flags))
    }

    /// Whether it goes on.
    fn advance(&mut self) -> io::Result<bool> {
        self.up.advance(&mut self.client, &mut self.server)?;
        self.down.advance(&mut self.server, &mut self.client)?;
        Ok(!(self.up.told && self.down.told))
    }
}

impl Way {
    fn advance(&mut self, from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
        for _ in 0..TURNS {
            if self.held.is_empty() && !self.ended && !self.read(from)? {
                break;
            }
            if !self.write(to)? {
                break;
            }
            if self.ended {
                if !self.told {
                    to.shutdown(Shutdown::Write)?;
                    self.told = true;
                }
                break;
            }
        }
        Ok(())
    }

    /// Whether something was read, or will never be.
    fn read(&mut self, from: &mut TcpStream) -> io::Result<bool> {
        let mut buffer = [0; BUFFER_BYTES];
        match from.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(len) => self.held = buffer[..len].to_vec(),
            Err(error) if is_early(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Whether everything was written.
    fn write(&mut self, to: &mut TcpStream) -> io::Result<bool> {
        while !self.held.is_empty() {
            match to.write(&self.held) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => drop(self.held.drain(..len)),
                Err(error) if is_early(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.held = Vec::new();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::event::{Timespec, poll};
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

    use super::*;

    /// A forwarder from ::1 to `to`, and its address.
    fn forwarder(to: SocketAddr) -> (Forwarder, SocketAddr) {
        let door = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let at = door.local_addr().unwrap();
        (Forwarder::new(vec![(door.into(), to)]).unwrap(), at)
    }

    /// Lets it work until something is so.
    fn turn_until(forwarder: &mut Forwarder, is_so: impl Fn(&Forwarder) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let limit = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !is_so(forwarder) {
            assert!(Instant::now() < deadline, "nothing happens");
            let mut set: Vec<_> = forwarder.sources().collect();
            poll(&mut set, Some(&limit)).unwrap();
            drop(set);
            forwarder.advance();
        }
    }

    #[test]
    fn bytes_pass_both_ways_and_each_end_is_passed_on() {
        const LEN: usize = 3 << 20;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (mut forwarder, at) = forwarder(listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            // The end of the client's bytes comes before the first of ours.
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let sent: Vec<u8> = (0..LEN).map(|n| (n % 251) as u8).collect();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert!(got == sent, "{} of {LEN} bytes came back, or others", got.len());
        });
        turn_until(&mut forwarder, |_| client.is_finished());
        client.join().unwrap();
        server.join().unwrap();
        turn_until(&mut forwarder, |forwarder| forwarder.flows.is_empty());
    }

    #[test]
    fn who_is_not_there_is_told_by_the_end() {
        // Bound, so that the port is nobody else's, and not listening.
        let closed = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&closed, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let to = SocketAddr::try_from(getsockname(&closed).unwrap()).unwrap();
        let (mut forwarder, at) = forwarder(to);
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let told = thread::spawn(move || stream.read(&mut [0]).unwrap_or(0));
        turn_until(&mut forwarder, |_| told.is_finished());
        assert_eq!(told.join().unwrap(), 0);
    }
}
