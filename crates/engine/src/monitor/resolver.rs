//! The name server of a container on networks that users made: it answers for the containers
//! there, and passes every other question on to the host's name servers.
//!
//! The container's questions arrive at sockets in its own network namespace; ours are in the
//! host's. Everything is bounded: questions that wait, connections, and how long both do.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use net::dns::{self, Answer, DATAGRAM_MAX, Listeners, Question};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::id;

/// How long one name server may take before the next is asked, and a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(3);
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Questions and connections that are passed on at once.
const PENDING_MAX: usize = 64;
const STREAMS_MAX: usize = 16;
/// Name servers of the host that are asked, as many as resolvers read.
const SERVERS_MAX: usize = 3;
/// Datagrams that are read in one go.
const BURST: usize = 32;
/// The largest datagram of a server that was told of a larger buffer (RFC 6891, 6.2.5).
const REPLY_MAX: usize = 4096;
const PORT: u16 = 53;

/// Who answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// We do.
    Known(Answer),
    /// The name servers of the host, or those that the container was given.
    PassOn,
    /// Nobody: the container's networks lead nowhere, and questions are a way out, too
    /// (CVE-2024-29018).
    Refused,
}

/// Decides who answers.
pub(crate) type Judge<'a> = Box<dyn Fn(&Question) -> Verdict + 'a>;

/// One container's name server.
pub(crate) struct Resolver<'a> {
    udp: UdpSocket,
    tcp: TcpListener,
    judge: Judge<'a>,
    /// The servers that the container was given; the host's where empty.
    servers: Vec<IpAddr>,
    pending: Vec<Pending>,
    streams: Vec<Stream>,
}

/// A question that was passed on.
struct Pending {
    upstream: UdpSocket,
    id: u16,
    question: Question,
    message: Vec<u8>,
    from: SocketAddr,
    /// Servers that are still to be asked.
    rest: Vec<IpAddr>,
    deadline: Instant,
}

/// A connection; once a question on it is not ours, its bytes are passed on.
struct Stream {
    client: TcpStream,
    upstream: Option<TcpStream>,
    /// From the client, and not passed on or answered yet.
    asked: Vec<u8>,
    /// For the client.
    replies: Vec<u8>,
    deadline: Instant,
}

impl fmt::Debug for Resolver<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Resolver").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(listeners: Listeners, servers: Vec<IpAddr>, judge: Judge<'a>) -> Self {
        let (udp, tcp) = (listeners.udp.into(), listeners.tcp.into());
        Self { udp, tcp, judge, servers, pending: Vec::new(), streams: Vec::new() }
    }

    /// What to wait for.
    pub(crate) fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listeners =
            [PollFd::new(&self.udp, PollFlags::IN), PollFd::new(&self.tcp, PollFlags::IN)];
        let pending = self.pending.iter().map(|p| PollFd::new(&p.upstream, PollFlags::IN));
        listeners.into_iter().chain(pending).chain(self.streams.iter().flat_map(Stream::sources))
    }

    /// When [`Resolver::advance`] has something to do even if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pending = self.pending.iter().map(|pending| pending.deadline);
        pending.chain(self.streams.iter().map(|stream| stream.deadline)).min()
    }

    /// Answers, passes on and gives up, whatever is due.
    pub(crate) fn advance(&mut self) {
        self.hear_servers();
        let mut message = [0; REPLY_MAX];
        for _ in 0..BURST {
            let Ok((len, from)) = self.udp.recv_from(&mut message) else { break };
            self.ask(&message[..len], from);
        }
        while let Ok((client, _)) = self.tcp.accept() {
            // One too many is told by the end of its connection.
            if self.streams.len() < STREAMS_MAX && client.set_nonblocking(true).is_ok() {
                self.streams.push(Stream::new(client));
            }
        }
        let (judge, servers) = (&self.judge, &self.servers);
        self.streams.retain_mut(|stream| stream.advance(judge, servers).is_ok());
        // What is over needs no memory.
        self.pending.shrink_to(0);
        self.streams.shrink_to(0);
    }

    fn ask(&mut self, message: &[u8], from: SocketAddr) {
        // What cannot be read is not answered: nobody knows what it would be an answer to.
        let Some(question) = Question::parse(message) else { return };
        let answer = match (self.judge)(&question) {
            Verdict::Known(answer) => answer,
            Verdict::PassOn if self.pending.len() < PENDING_MAX => {
                let rest = servers(&self.servers);
                match Pending::begin(&question, message, from, rest) {
                    Some(pending) => return self.pending.push(pending),
                    None => Answer::Failure,
                }
            }
            Verdict::PassOn | Verdict::Refused => Answer::Failure,
        };
        // A full buffer loses an answer, as networks do; the question is asked again.
        let _ = self.udp.send_to(&question.answer(message, &answer, DATAGRAM_MAX), from);
    }

    fn hear_servers(&mut self) {
        let udp = &self.udp;
        let now = Instant::now();
        self.pending.retain_mut(|pending| {
            let mut reply = [0; REPLY_MAX];
            let failed = match pending.upstream.recv(&mut reply) {
                Ok(len) => {
                    let reply = &mut reply[..len];
                    if pending.question.is_answered_by(&pending.message, pending.id, reply) {
                        dns::set_id(reply, pending.question.id);
                        let _ = udp.send_to(reply, pending.from);
                        return false;
                    }
                    // Not an answer to what was asked, so from nobody who was.
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                // Nobody listens there.
                Err(_) => true,
            };
            if !failed && now < pending.deadline {
                return true;
            }
            if pending.ask_next().is_some() {
                return true;
            }
            let answer = pending.question.answer(&pending.message, &Answer::Failure, DATAGRAM_MAX);
            let _ = udp.send_to(&answer, pending.from);
            false
        });
    }
}

impl Pending {
    fn begin(
        question: &Question,
        message: &[u8],
        from: SocketAddr,
        rest: Vec<IpAddr>,
    ) -> Option<Self> {
        let mut rest = rest;
        let (upstream, id) = ask_first(message, &mut rest)?;
        let (question, message) = (question.clone(), message.to_vec());
        Some(Self {
            upstream,
            id,
            question,
            message,
            from,
            rest,
            deadline: Instant::now() + PATIENCE,
        })
    }

    fn ask_next(&mut self) -> Option<()> {
        (self.upstream, self.id) = ask_first(&self.message, &mut self.rest)?;
        self.deadline = Instant::now() + PATIENCE;
        Some(())
    }
}

/// Asks the first server that can be, under an id and from a port that nobody can guess.
fn ask_first(message: &[u8], rest: &mut Vec<IpAddr>) -> Option<(UdpSocket, u16)> {
    while !rest.is_empty() {
        let server = rest.remove(0);
        let ask = || -> io::Result<(UdpSocket, u16)> {
            let own: IpAddr = match server {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect((server, PORT))?;
            socket.set_nonblocking(true)?;
            let id = u16::from_ne_bytes(id::random::<2>().map_err(io::Error::other)?);
            let mut message = message.to_vec();
            dns::set_id(&mut message, id);
            socket.send(&message)?;
            Ok((socket, id))
        };
        if let Ok(asked) = ask() {
            return Some(asked);
        }
    }
    None
}

/// The servers to ask: those that were given, else the host's as they are now.
fn servers(given: &[IpAddr]) -> Vec<IpAddr> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(crate::network::name_server);
    servers.filter_map(|server| server.parse().ok()).take(SERVERS_MAX).collect()
}

impl Stream {
    fn new(client: TcpStream) -> Self {
        let deadline = Instant::now() + SILENCE_MAX;
        Self { client, upstream: None, asked: Vec::new(), replies: Vec::new(), deadline }
    }

    fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
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
        let upstream = upstream.map(|server| PollFd::new(server, flags(!replies, asks)));
        [client].into_iter().chain(upstream)
    }

    /// Does what can be done; an error ends the connection.
    fn advance(&mut self, judge: &Judge<'_>, given: &[IpAddr]) -> io::Result<()> {
        let mut moved = false;
        if self.upstream.is_none() || self.asked.is_empty() {
            moved |= read(&mut self.client, &mut self.asked)?;
        }
        while self.upstream.is_none() && self.answer(judge, given)? {}
        if let Some(server) = &mut self.upstream {
            moved |= write(server, &mut self.asked)?;
            if self.replies.is_empty() {
                moved |= read(server, &mut self.replies)?;
            }
        }
        moved |= write(&mut self.client, &mut self.replies)?;
        let now = Instant::now();
        if moved {
            self.deadline = now + SILENCE_MAX;
        }
        if now >= self.deadline { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Answers the first whole question, if it is ours; else connects to who is asked.
    fn answer(&mut self, judge: &Judge<'_>, given: &[IpAddr]) -> io::Result<bool> {
        let Some(len) = self.asked.first_chunk::<2>() else { return Ok(false) };
        let end = 2 + usize::from(u16::from_be_bytes(*len));
        let Some(message) = self.asked.get(2..end) else { return Ok(false) };
        let question = Question::parse(message).ok_or(io::ErrorKind::InvalidData)?;
        let answer = match judge(&question) {
            Verdict::Known(answer) => answer,
            Verdict::PassOn => {
                self.upstream = servers(given).into_iter().find_map(|server| connect(server).ok());
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
fn connect(server: IpAddr) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&fd, &SocketAddr::new(server, PORT)) {
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
fn is_early(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | NotConnected)
}

#[cfg(test)]
mod tests {
    use rustix::event::{Timespec, poll};

    use super::*;

    /// Where the server that questions are passed on to listens.
    const SERVER: Ipv4Addr = Ipv4Addr::new(127, 83, 19, 7);
    const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 83, 19, 8);

    fn question(name: &str, id: u16) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    fn judge(question: &Question) -> Verdict {
        match question.name.as_str() {
            "db" => Verdict::Known(Answer::Addresses(vec![Ipv4Addr::LOCALHOST])),
            "inside" => Verdict::Refused,
            _ => Verdict::PassOn,
        }
    }

    fn resolver(servers: &[Ipv4Addr]) -> (Resolver<'static>, SocketAddr, SocketAddr) {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (at_udp, at_tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let listeners = Listeners { udp: udp.into(), tcp: tcp.into() };
        let servers = servers.iter().map(|server| (*server).into()).collect();
        (Resolver::new(listeners, servers, Box::new(judge)), at_udp, at_tcp)
    }

    /// Lets it do what there is to do once.
    fn turn(resolver: &mut Resolver<'_>) {
        let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
        let mut set: Vec<_> = resolver.sources().collect();
        assert!(poll(&mut set, Some(&limit)).unwrap() > 0, "nothing happened");
        drop(set);
        resolver.advance();
    }

    fn client(to: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.connect(to).unwrap();
        client
    }

    /// The answer's flags' second byte, which ends with the code, and how many records it has.
    fn summary(reply: &[u8]) -> (u8, u8) {
        (reply[3] & 15, reply[7])
    }

    #[test]
    fn what_is_known_is_answered_and_the_rest_passed_on() {
        let (mut resolver, at, _) = resolver(&[NOBODY, SERVER]);
        assert_eq!(resolver.deadline(), None);
        let client = client(at);
        let mut reply = [0; 512];
        client.send(&question("db", 7)).unwrap();
        turn(&mut resolver);
        let len = client.recv(&mut reply).unwrap();
        assert_eq!(summary(&reply[..len]), (0, 1));
        client.send(&question("inside", 7)).unwrap();
        turn(&mut resolver);
        let len = client.recv(&mut reply).unwrap();
        assert_eq!(summary(&reply[..len]), (2, 0));

        let server = UdpSocket::bind((SERVER, PORT)).unwrap();
        server.set_nonblocking(true).unwrap();
        client.send(&question("example.com", 7)).unwrap();
        let (len, from) = loop {
            // The first server refuses, then the second is asked.
            turn(&mut resolver);
            if let Ok(asked) = server.recv_from(&mut reply) {
                break asked;
            }
        };
        assert!(resolver.deadline().is_some());
        reply[2] |= 0x80;
        let real = u16::from_be_bytes([reply[0], reply[1]]);
        // A guess is not taken for an answer.
        dns::set_id(&mut reply, real.wrapping_add(1));
        server.send_to(&reply[..len], from).unwrap();
        turn(&mut resolver);
        dns::set_id(&mut reply, real);
        server.send_to(&reply[..len], from).unwrap();
        turn(&mut resolver);
        let len = client.recv(&mut reply).unwrap();
        assert_eq!((&reply[..2], len), (&[0, 7][..], question("example.com", 7).len()));
        assert_eq!(resolver.deadline(), None);
    }

    #[test]
    fn who_cannot_be_asked_is_a_failure() {
        let (mut resolver, at, _) = resolver(&[NOBODY]);
        let client = client(at);
        client.send(&question("example.com", 9)).unwrap();
        client.send(b"odd").unwrap();
        turn(&mut resolver);
        turn(&mut resolver);
        let mut reply = [0; 512];
        let len = client.recv(&mut reply).unwrap();
        assert_eq!(summary(&reply[..len]), (2, 0));
    }

    #[test]
    fn connections_are_answered_and_bounded() {
        let (mut resolver, _, at) = resolver(&[NOBODY]);
        let mut client = TcpStream::connect(at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let message = question("db", 3);
        let len = u16::try_from(message.len()).unwrap().to_be_bytes();
        // In pieces, and two in one.
        client.write_all(&len[..1]).unwrap();
        turn(&mut resolver);
        client.write_all(&[&len[1..], &message, &len, &message].concat()).unwrap();
        turn(&mut resolver);
        for _ in 0..2 {
            let mut length = [0; 2];
            client.read_exact(&mut length).unwrap();
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(summary(&reply), (0, 1));
        }
        drop(client);
        turn(&mut resolver);
        assert_eq!(resolver.deadline(), None);
        let crowd: Vec<_> = (0..STREAMS_MAX + 4).map(|_| TcpStream::connect(at)).collect();
        turn(&mut resolver);
        assert_eq!(resolver.streams.len(), STREAMS_MAX);
        drop(crowd);
    }
}
