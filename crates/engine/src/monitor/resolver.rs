//! The name server of a container on networks that users made: it answers for the containers
//! there, and passes every other question on to the host's name servers.
//!
//! The container's questions arrive at sockets in its own network namespace; ours are in the
//! host's. Everything is bounded: questions that wait, connections, and how long both do.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use net::dns::{self, Answer, DATAGRAM_MAX, Listeners, Question};
use rustix::event::{PollFd, PollFlags};

use self::stream::Stream;
pub(super) use self::stream::{connect, is_early};
use crate::id;

mod stream;

/// How long one name server may take before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each server is asked over UDP: one question or answer may be lost. With one server that
/// is less than the five seconds after which resolvers ask us again (resolv.conf(5)).
const ROUNDS: usize = 2;
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
    servers: Servers,
    pending: Vec<Pending>,
    streams: Vec<Stream>,
}

/// Who is asked what we do not know.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Those that the container was given; the host's where empty.
    pub(crate) given: Vec<SocketAddr>,
    /// How long each may take.
    patience: Duration,
}

impl Servers {
    /// Those of these addresses that can be asked.
    pub(crate) fn given<'a>(addresses: impl Iterator<Item = &'a str>) -> Self {
        Self { given: addresses.filter_map(server).collect(), patience: PATIENCE }
    }

    /// The servers to ask: those that were given, else the host's as they are now.
    fn list(&self) -> Vec<SocketAddr> {
        if !self.given.is_empty() {
            return self.given.clone();
        }
        let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let servers = text.lines().filter_map(crate::network::name_server);
        servers.filter_map(server).take(SERVERS_MAX).collect()
    }
}

/// Where a name server is asked. A link-local address comes with its interface, as in `fe80::1%eth0`
/// (RFC 4007, 11), whose number is looked up.
fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    let (address, interface) = text.split_once('%')?;
    let is_name = !interface.contains('/') && interface != "." && interface != "..";
    let index = || {
        let text = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok()?;
        text.trim_end().parse().ok()
    };
    let scope = interface.parse().ok().or_else(|| if is_name { index() } else { None })?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

/// A question that was passed on.
struct Pending {
    upstream: UdpSocket,
    id: u16,
    question: Question,
    message: Vec<u8>,
    from: SocketAddr,
    /// Servers that are still to be asked.
    rest: Vec<SocketAddr>,
    deadline: Instant,
}

impl fmt::Debug for Resolver<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Resolver").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(listeners: Listeners, servers: Servers, judge: Judge<'a>) -> Self {
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
        pending.chain(self.streams.iter().map(Stream::deadline)).min()
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
                let rest = self.servers.list().repeat(ROUNDS);
                match Pending::begin(&question, message, from, rest, self.servers.patience) {
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
        let (udp, patience) = (&self.udp, self.servers.patience);
        let now = Instant::now();
        self.pending.retain_mut(|pending| {
            let mut reply = [0; REPLY_MAX];
            let failed = match pending.upstream.recv(&mut reply) {
                Ok(len) => {
                    let reply = &mut reply[..len];
                    let is_answer =
                        pending.question.is_answered_by(&pending.message, pending.id, reply);
                    // One that cannot, or will not, tell is no better than one that is not there,
                    // as long as there is another.
                    let is_last = pending.rest.is_empty();
                    if is_answer && !is_last && dns::is_failure(reply) {
                        true
                    } else if is_answer {
                        dns::set_id(reply, pending.question.id);
                        let _ = udp.send_to(reply, pending.from);
                        return false;
                    } else {
                        // Not an answer to what was asked, so from nobody who was.
                        false
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                // Nobody listens there.
                Err(_) => true,
            };
            if !failed && now < pending.deadline {
                return true;
            }
            if pending.ask_next(patience).is_some() {
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
        rest: Vec<SocketAddr>,
        patience: Duration,
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
            deadline: Instant::now() + patience,
        })
    }

    fn ask_next(&mut self, patience: Duration) -> Option<()> {
        (self.upstream, self.id) = ask_first(&self.message, &mut self.rest)?;
        self.deadline = Instant::now() + patience;
        Some(())
    }
}

/// Asks the first server that can be, under an id and from a port that nobody can guess.
fn ask_first(message: &[u8], rest: &mut Vec<SocketAddr>) -> Option<(UdpSocket, u16)> {
    while !rest.is_empty() {
        let server = rest.remove(0);
        let ask = || -> io::Result<(UdpSocket, u16)> {
            let own: IpAddr = match server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect(server)?;
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use rustix::event::{Timespec, poll};

    use super::*;

    /// Where nobody listens.
    fn nobody() -> Ipv4Addr {
        own(8)
    }

    /// An address of this process's own: the same tests may run elsewhere at the same time.
    fn own(last: u8) -> Ipv4Addr {
        let [.., high, low] = std::process::id().to_be_bytes();
        Ipv4Addr::new(127, 64 | high & 63, low, last)
    }

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
            "db" => Verdict::Known(Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()])),
            "inside" => Verdict::Refused,
            _ => Verdict::PassOn,
        }
    }

    fn resolver(servers: &[Ipv4Addr]) -> (Resolver<'static>, SocketAddr, SocketAddr) {
        patient(servers, Duration::from_millis(200))
    }

    fn patient(
        servers: &[Ipv4Addr],
        patience: Duration,
    ) -> (Resolver<'static>, SocketAddr, SocketAddr) {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (at_udp, at_tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let listeners = Listeners { udp: udp.into(), tcp: tcp.into() };
        let given = servers.iter().map(|server| ((*server), PORT).into()).collect();
        let servers = Servers { given, patience };
        (Resolver::new(listeners, servers, Box::new(judge)), at_udp, at_tcp)
    }

    /// Lets it do what there is to do once.
    fn turn(resolver: &mut Resolver<'_>) {
        let left = resolver.deadline().map_or(Duration::from_secs(60), |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let limit = Timespec::try_from(left).unwrap();
        let mut set: Vec<_> = resolver.sources().collect();
        let ready = poll(&mut set, Some(&limit)).unwrap();
        assert!(ready > 0 || resolver.deadline().is_some(), "nothing happened");
        drop(set);
        resolver.advance();
    }

    fn client(to: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.connect(to).unwrap();
        client
    }

    /// The answer's flags' second byte, which ends with the code, and how many records it has.
    fn summary(reply: &[u8]) -> (u8, u8) {
        (reply[3] & 15, reply[7])
    }

    #[test]
    fn what_is_known_is_answered_and_the_rest_passed_on() {
        let (mut resolver, at, _) = patient(&[nobody(), own(7)], Duration::from_secs(60));
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

        let server = UdpSocket::bind((own(7), PORT)).unwrap();
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
        let (mut resolver, at, _) = resolver(&[nobody()]);
        let client = client(at);
        client.send(&question("example.com", 9)).unwrap();
        client.send(b"odd").unwrap();
        turn(&mut resolver);
        while resolver.deadline().is_some() {
            turn(&mut resolver);
        }
        let mut reply = [0; 512];
        let len = client.recv(&mut reply).unwrap();
        assert_eq!(summary(&reply[..len]), (2, 0));
    }

    #[test]
    fn connections_are_answered_and_bounded() {
        let (mut resolver, _, at) = resolver(&[nobody()]);
        let mut client = TcpStream::connect(at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
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

    /// Waits until the server was asked, and says what and by whom.
    fn hear(resolver: &mut Resolver<'_>, server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        server.set_nonblocking(true).unwrap();
        let mut message = [0; 512];
        loop {
            if let Ok((len, from)) = server.recv_from(&mut message) {
                return (message[..len].to_vec(), from);
            }
            turn(resolver);
        }
    }

    fn reply(server: &UdpSocket, message: &[u8], to: SocketAddr, code: u8) {
        let mut answer = message.to_vec();
        answer[2] |= 0x80;
        answer[3] = answer[3] & 0xf0 | code;
        server.send_to(&answer, to).unwrap();
    }

    #[test]
    fn what_is_lost_is_asked_again_and_a_server_that_fails_makes_room() {
        let first = UdpSocket::bind((own(17), PORT)).unwrap();
        let second = UdpSocket::bind((own(18), PORT)).unwrap();
        let (mut resolver, at, _) = resolver(&[own(17), own(18)]);
        let client = client(at);
        let mut got = [0; 512];
        // The first says nothing, the second refuses, and the first is asked once more.
        client.send(&question("example.com", 4)).unwrap();
        hear(&mut resolver, &first);
        let (asked, from) = hear(&mut resolver, &second);
        reply(&second, &asked, from, 5);
        let (asked, from) = hear(&mut resolver, &first);
        reply(&first, &asked, from, 0);
        turn(&mut resolver);
        let len = client.recv(&mut got).unwrap();
        assert_eq!(summary(&got[..len]), (0, 0));
        // Nobody is left: what the last one says is the answer, be it that there is no such name.
        client.send(&question("example.com", 5)).unwrap();
        for code in [2, 5, 2] {
            let server = if code == 5 { &second } else { &first };
            let (asked, from) = hear(&mut resolver, server);
            reply(server, &asked, from, code);
            turn(&mut resolver);
        }
        let (asked, from) = hear(&mut resolver, &second);
        reply(&second, &asked, from, 3);
        turn(&mut resolver);
        let len = client.recv(&mut got).unwrap();
        assert_eq!((got[1], summary(&got[..len]).0), (5, 3));
        assert_eq!(resolver.deadline(), None);
    }

    #[test]
    fn a_connection_goes_to_the_next_server_if_the_first_is_not_there() {
        let _silent = TcpListener::bind((own(27), PORT)).unwrap();
        let second = TcpListener::bind((own(28), PORT)).unwrap();
        second.set_nonblocking(true).unwrap();
        let (mut resolver, _, at) = resolver(&[nobody(), own(27), own(28)]);
        let mut client = TcpStream::connect(at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let message = question("example.com", 3);
        let len = u16::try_from(message.len()).unwrap().to_be_bytes();
        client.write_all(&[&len[..], &message].concat()).unwrap();
        let mut server = loop {
            turn(&mut resolver);
            if let Ok((server, _)) = second.accept() {
                break server;
            }
        };
        server.set_nonblocking(false).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut asked = vec![0; message.len() + 2];
        server.read_exact(&mut asked).unwrap();
        assert_eq!(asked[2..], message);
        asked[4] |= 0x80;
        server.write_all(&asked).unwrap();
        turn(&mut resolver);
        let mut got = vec![0; asked.len()];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, asked);
        drop((client, server));
        turn(&mut resolver);
    }

    #[test]
    fn servers_are_addresses_of_both_families() {
        let check = |text: &str, expected: Option<&str>| {
            let expected = expected.map(|text| text.parse::<SocketAddr>().unwrap());
            assert_eq!(server(text), expected, "{text}");
        };
        check("10.0.0.1", Some("10.0.0.1:53"));
        check("2001:db8::1", Some("[2001:db8::1]:53"));
        check("fe80::1%7", Some("[fe80::1%7]:53"));
        check("fe80::1%lo", Some("[fe80::1%1]:53"));
        check("fe80::1%../lo", None);
        check("fe80::1%no-such-one", None);
        check("10.0.0.1%lo", None);
        check("name", None);
    }
}
