//! Questions and answers of the Domain Name System (RFC 1035), as far as a name server for
//! containers needs them, and the sockets that it listens on.
//!
//! A question is read to decide who answers it: what is not about a container is passed on as it
//! came. So nothing here needs to understand other servers' answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{self as socket, AddressFamily, SocketFlags, SocketType};

use crate::nftables::{Chain, Element, Key, Set, Step, Transaction};
use crate::{Error, Result, namespace};

/// The largest message over UDP without an extension (RFC 1035, 4.2.1).
pub const DATAGRAM_MAX: usize = 512;
/// Bytes of a message's header.
const HEADER_LEN: usize = 12;
/// Bytes of a name, dots for lengths (RFC 1035, 2.3.4).
const NAME_MAX: usize = 255;
/// Seconds that an answer may be kept: a container that is started anew may have another address.
const TTL_S: u32 = 5;
/// The port of name servers.
const PORT: u16 = 53;

/// Flags of the header (RFC 1035, 4.1.1).
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const SERVER_FAILURE: u16 = 2;
const NAME_ERROR: u16 = 3;

/// The class of the Internet.
const INTERNET: u16 = 1;
/// Types of records (RFC 1035, 3.2.2).
const A: u16 = 1;
const CNAME: u16 = 5;
const PTR: u16 = 12;
/// RFC 2782.
const SRV: u16 = 33;
/// RFC 3596, 2.1.
const AAAA: u16 = 28;

/// A question that could be about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Chosen by whoever asks, and repeated in the answer.
    pub id: u16,
    /// The name, as it was spelled, without the last dot.
    pub name: String,
    kind: u16,
    flags: u16,
    /// Where the question ends in the message.
    end: usize,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name has these addresses, of which those of the type that is asked for are told; to a
    /// question of another type, that there are none of it.
    Addresses(Vec<IpAddr>),
    /// The address that was asked about has this name.
    Name(String),
    /// The name stands for another one, which whoever asks has to ask about (CNAME).
    Alias(String),
    /// A service is provided by these (SRV, RFC 2782).
    Services(Vec<Target>),
    /// There is no such name (NXDOMAIN).
    NotFound,
    /// Nobody could be asked.
    Failure,
}

/// One who provides a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// Addresses of the name, so that nobody has to ask.
    pub addresses: Vec<IpAddr>,
}

/// A record of an answer.
struct Record {
    /// As a message holds it.
    name: Vec<u8>,
    kind: u16,
    data: Vec<u8>,
}

impl Question {
    /// Reads a message with one question; `None` for anything else.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Question> {
        let [id, flags, questions] = [0, 2, 4].map(|at| u16_at(message, at));
        let (id, flags, questions) = (id?, flags?, questions?);
        if flags & (RESPONSE | OPCODE) != 0 || questions != 1 {
            return None;
        }
        let (name, end) = name(message, HEADER_LEN)?;
        let (kind, class) = (u16_at(message, end)?, u16_at(message, end + 2)?);
        (class == INTERNET).then_some(Question { id, name, kind, flags, end: end + 4 })
    }

    /// The address whose name is asked for: `4.3.2.1.in-addr.arpa` for 1.2.3.4, and 32 digits
    /// before `ip6.arpa` (RFC 3596, 2.5).
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let lower = self.name.to_ascii_lowercase();
        if self.kind != PTR {
            return None;
        }
        if let Some(digits) = lower.strip_suffix(".ip6.arpa") {
            return reversed_v6(digits).map(IpAddr::from);
        }
        let reversed: Ipv4Addr = lower.strip_suffix(".in-addr.arpa")?.parse().ok()?;
        let [a, b, c, d] = reversed.octets();
        Some(Ipv4Addr::new(d, c, b, a).into())
    }

    /// The answer to this question, which `message` began with, in at most `len_max` bytes.
    #[must_use]
    pub fn answer(&self, message: &[u8], answer: &Answer, len_max: usize) -> Vec<u8> {
        let mut flags = RESPONSE | RECURSION_AVAILABLE | (self.flags & RECURSION_DESIRED);
        flags |= match answer {
            Answer::Failure => SERVER_FAILURE,
            Answer::NotFound => AUTHORITATIVE | NAME_ERROR,
            _ => AUTHORITATIVE,
        };
        let question = message.get(HEADER_LEN..self.end).unwrap_or_default();
        let mut reply = vec![0; HEADER_LEN];
        reply.extend_from_slice(question);
        let records = self.records(answer);
        let count = append(&mut reply, &records, len_max);
        if usize::from(count) < records.len() {
            flags |= TRUNCATED;
        }
        // What is told beyond what was asked may be left out (RFC 2181, 9).
        let more = if flags & TRUNCATED == 0 { self.more(answer) } else { Vec::new() };
        let more = append(&mut reply, &more, len_max);
        for (at, word) in [(0, self.id), (2, flags), (4, 1), (6, count), (10, more)] {
            reply[at..at + 2].copy_from_slice(&word.to_be_bytes());
        }
        reply
    }

    /// The records that were asked for.
    fn records(&self, answer: &Answer) -> Vec<Record> {
        // A pointer to the question's name.
        let own = |kind: u16, data: Vec<u8>| Record { name: vec![0xc0, 12], kind, data };
        match answer {
            Answer::Addresses(all) => {
                let wanted = all.iter().filter_map(|address| octets(*address, self.kind));
                let mut wanted: Vec<Record> = wanted.map(|data| own(self.kind, data)).collect();
                // Those who take the first are spread over all.
                let first = usize::from(self.id) % wanted.len().max(1);
                wanted.rotate_left(first);
                wanted
            }
            Answer::Name(name) if self.kind == PTR => {
                encode(name).into_iter().map(|data| own(PTR, data)).collect()
            }
            Answer::Alias(name) => encode(name).into_iter().map(|data| own(CNAME, data)).collect(),
            Answer::Services(all) if self.kind == SRV => {
                let weight = u16::try_from(100 / all.len().max(1)).unwrap_or(0).max(1);
                let data = |target: &Target| {
                    let words = [0, weight, target.port].map(u16::to_be_bytes);
                    Some([words.as_flattened(), &encode(&target.name)?].concat())
                };
                all.iter().filter_map(data).map(|data| own(SRV, data)).collect()
            }
            Answer::Name(_) | Answer::Services(_) | Answer::NotFound | Answer::Failure => {
                Vec::new()
            }
        }
    }

    /// Records that will be asked for next.
    fn more(&self, answer: &Answer) -> Vec<Record> {
        let Answer::Services(all) = answer else { return Vec::new() };
        if self.kind != SRV {
            return Vec::new();
        }
        let records = all.iter().flat_map(|target| {
            target.addresses.iter().filter_map(|address| {
                let kind = if address.is_ipv4() { A } else { AAAA };
                Some(Record { name: encode(&target.name)?, kind, data: octets(*address, kind)? })
            })
        });
        records.collect()
    }

    /// Whether `reply` is an answer, with this id, to the question that `message` began with.
    #[must_use]
    pub fn is_answered_by(&self, message: &[u8], id: u16, reply: &[u8]) -> bool {
        let response = u16_at(reply, 2).is_some_and(|flags| flags & RESPONSE != 0);
        let same = match (reply.get(HEADER_LEN..self.end), message.get(HEADER_LEN..self.end)) {
            (Some(own), Some(asked)) => own.eq_ignore_ascii_case(asked),
            // A server that could not even read it repeats nothing.
            (reply, _) => reply.is_none(),
        };
        response && same && u16_at(reply, 0) == Some(id)
    }
}

/// Appends records as long as there is room; how many.
fn append(reply: &mut Vec<u8>, records: &[Record], len_max: usize) -> u16 {
    let mut count = 0;
    for Record { name, kind, data } in records {
        // Type, class, lifetime, length.
        if reply.len() + name.len() + 10 + data.len() > len_max {
            break;
        }
        let len = u16::try_from(data.len()).expect("a name or an address is short");
        reply.extend_from_slice(name);
        for word in [*kind, INTERNET] {
            reply.extend(word.to_be_bytes());
        }
        reply.extend(TTL_S.to_be_bytes());
        reply.extend(len.to_be_bytes());
        reply.extend_from_slice(data);
        count += 1;
    }
    count
}

/// The data of a record of this type about the address, if it has such a record.
fn octets(address: IpAddr, kind: u16) -> Option<Vec<u8>> {
    match (address, kind) {
        (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
        (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
        _ => None,
    }
}

/// The address of 32 hexadecimal digits, the last first, with dots between them.
fn reversed_v6(digits: &str) -> Option<Ipv6Addr> {
    let (mut bits, mut count) = (0_u128, 0);
    for digit in digits.split('.').rev() {
        let digit = match digit.as_bytes() {
            [digit] => char::from(*digit).to_digit(16)?,
            _ => return None,
        };
        count += 1;
        bits = bits.checked_mul(16).filter(|_| count <= 32)? | u128::from(digit);
    }
    (count == 32).then_some(Ipv6Addr::from_bits(bits))
}

/// Whether an answer is that the server failed (2), or does not want to be asked (5): another may
/// know (RFC 1035, 4.1.1).
#[must_use]
pub fn is_failure(reply: &[u8]) -> bool {
    const CODE: u16 = 0x000f;
    const REFUSED: u16 = 5;
    u16_at(reply, 2).is_some_and(|flags| matches!(flags & CODE, SERVER_FAILURE | REFUSED))
}

/// Replaces the id of a message.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// The name at `at`, and where it ends. A question's name points nowhere (RFC 1035, 4.1.4): there
/// is nothing before it.
fn name(message: &[u8], at: usize) -> Option<(String, usize)> {
    let (mut name, mut at) = (String::new(), at);
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            return Some((name, at));
        }
        let label = message.get(at..at + len).filter(|_| len < 64)?;
        if !name.is_empty() {
            name.push('.');
        }
        // What is neither letter nor digit is nobody's name; it is passed on untouched.
        let plain = |b: &u8| b.is_ascii_graphic() && *b != b'.';
        name.extend(label.iter().map(|b| if plain(b) { char::from(*b) } else { '\u{fffd}' }));
        at += len;
        if name.len() > NAME_MAX * 3 || at > HEADER_LEN + NAME_MAX {
            return None;
        }
    }
}

/// A name as a message holds it; `None` for what is none.
fn encode(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len))?;
        bytes.push(len);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= NAME_MAX).then_some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// The table in a container's own namespace.
const TABLE: &str = "cais-names";
const SERVERS: Set = Set { name: "servers", key: Key::Published };
const OUTPUT: Chain = Chain {
    name: "output",
    kind: "nat",
    hook: libc::NF_INET_LOCAL_OUT.cast_unsigned(),
    priority: libc::NF_IP_PRI_NAT_DST,
    rules: &[&[Step::ToLoopback, Step::RedirectAddress(SERVERS.name)]],
};

/// Where a container's questions arrive; neither socket ever waits.
#[derive(Debug)]
pub struct Listeners {
    /// Datagrams.
    pub udp: OwnedFd,
    /// Connections.
    pub tcp: OwnedFd,
}

/// Listens inside the network namespace `netns`, whose loopback interface is up, for questions to
/// port 53 of `address`, one of 127.0.0.0/8.
///
/// The sockets have ports that the kernel chooses, and a rule in the namespace leads there, so that
/// a name server in the container can have port 53 of every address.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN in `netns` and CAP_SYS_ADMIN to enter it;
/// [`Error::Unsupported`] if the kernel lacks nf_tables; [`Error::Io`].
pub fn listen(netns: BorrowedFd<'_>, address: Ipv4Addr) -> Result<Listeners> {
    namespace::inside(netns, || {
        let open = |kind| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let fd = socket::socket_with(AddressFamily::INET, kind, flags, None)?;
            socket::bind(&fd, &SocketAddrV4::new(address, 0))?;
            if kind == SocketType::STREAM {
                socket::listen(&fd, 16)?;
            }
            let bound = SocketAddrV4::try_from(socket::getsockname(&fd)?)?;
            Ok((fd, bound.port()))
        };
        let doing = |e: rustix::io::Errno| Error::io(format!("listen on {address}"), e);
        let (udp, udp_port) = open(SocketType::DGRAM).map_err(doing)?;
        let (tcp, tcp_port) = open(SocketType::STREAM).map_err(doing)?;
        let elements = [(17, udp_port), (6, tcp_port)].map(|(protocol, port)| {
            Element::port(protocol, Some(address.into()), PORT).to(address.into(), port)
        });
        let lead = |anew: bool| {
            let mut change = Transaction::on(TABLE);
            if anew {
                change.delete_table();
            }
            change.add_table(None);
            change.add_set(SERVERS, 1);
            change.add_elements(SERVERS, &elements);
            change.replace_chain(&OUTPUT);
            change.commit()
        };
        match lead(false) {
            // They lead to the sockets of somebody who was killed.
            Err(e) if e.errno() == Some(rustix::io::Errno::EXIST) => lead(true)?,
            led => led?,
        }
        Ok(Listeners { udp, tcp })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A question as resolvers ask it.
    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(encode(name).unwrap());
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_name_is_answered_with_its_addresses() {
        let message = question("Db.back", A);
        let asked = Question::parse(&message).unwrap();
        assert_eq!((asked.id, asked.name.as_str()), (0x1234, "Db.back"));
        let answer = Answer::Addresses(vec![Ipv4Addr::new(10, 0, 0, 2).into()]);
        let reply = asked.answer(&message, &answer, DATAGRAM_MAX);
        assert_eq!(reply[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(reply[12..message.len()], message[12..]);
        assert_eq!(reply[message.len()..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 2]);
        assert!(asked.is_answered_by(&message, 0x1234, &reply));
        assert!(!asked.is_answered_by(&message, 0x1235, &reply));
        let other = question("other", A);
        assert!(!Question::parse(&other).unwrap().is_answered_by(&other, 0x1234, &reply));
    }

    #[test]
    fn a_known_name_has_no_other_records() {
        let message = question("db", 28);
        let answer = Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()]);
        let reply = Question::parse(&message).unwrap().answer(&message, &answer, DATAGRAM_MAX);
        assert_eq!(reply[2..8], [0x85, 0x80, 0, 1, 0, 0]);
        let reply =
            Question::parse(&message).unwrap().answer(&message, &Answer::Failure, DATAGRAM_MAX);
        assert_eq!(reply[2..8], [0x81, 0x82, 0, 1, 0, 0]);
    }

    #[test]
    fn an_address_is_answered_with_its_name() {
        let message = question("2.0.77.10.in-addr.arpa", PTR);
        let asked = Question::parse(&message).unwrap();
        assert_eq!(asked.address(), Some(Ipv4Addr::new(10, 77, 0, 2).into()));
        let reply = asked.answer(&message, &Answer::Name("db.back".into()), DATAGRAM_MAX);
        assert!(reply.ends_with(b"\x02db\x04back\0"));
        let plain = question("2.0.77.10.in-addr.arpa", A);
        assert_eq!(Question::parse(&plain).unwrap().address(), None);
    }

    #[test]
    fn each_type_has_its_addresses() {
        let v6: IpAddr = "fd00::2".parse().unwrap();
        let all = Answer::Addresses(vec![Ipv4Addr::new(10, 0, 0, 2).into(), v6]);
        for (kind, len) in [(A, 4), (AAAA, 16)] {
            let message = question("db", kind);
            let asked = Question::parse(&message).unwrap();
            let reply = asked.answer(&message, &all, DATAGRAM_MAX);
            assert_eq!(reply[7], 1, "one answer of type {kind}");
            assert_eq!(reply.len(), message.len() + 12 + len);
        }
        let reply = Question::parse(&question("db", AAAA)).unwrap();
        let reply = reply.answer(&question("db", AAAA), &all, DATAGRAM_MAX);
        assert!(reply.ends_with(&[
            0, 28, 0, 1, 0, 0, 0, 5, 0, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2
        ]));
    }

    #[test]
    fn an_address_of_ipv6_is_asked_for_digit_by_digit() {
        let check = |name: &str, expected: Option<&str>| {
            let asked = Question::parse(&question(name, PTR)).unwrap();
            let expected = expected.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(asked.address(), expected, "{name}");
        };
        let zeros = |count: usize| "0.".repeat(count);
        check(&format!("2.{}d.F.ip6.arpa", zeros(29)), Some("fd00::2"));
        check(&format!("f.e.{}d.f.ip6.arpa", zeros(28)), Some("fd00::ef"));
        check(&format!("2.{}d.f.ip6.arpa", zeros(28)), None);
        check(&format!("2.{}d.f.ip6.arpa", zeros(30)), None);
        check(&format!("2.{}df.ip6.arpa", zeros(29)), None);
        check(&format!("g.{}d.f.ip6.arpa", zeros(29)), None);
        check("ip6.arpa", None);
    }

    #[test]
    fn services_come_with_their_addresses_and_aliases_without() {
        let message = question("_http._tcp.web", SRV);
        let asked = Question::parse(&message).unwrap();
        let target = Target {
            name: "a.web".into(),
            port: 80,
            addresses: vec![Ipv4Addr::new(10, 0, 0, 2).into()],
        };
        let answer = Answer::Services(vec![target]);
        let reply = asked.answer(&message, &answer, DATAGRAM_MAX);
        assert_eq!(reply[4..12], [0, 1, 0, 1, 0, 0, 0, 1]);
        let data = [0, 0, 0, 100, 0, 80, 1, b'a', 3, b'w', b'e', b'b', 0];
        assert!(reply.windows(data.len()).any(|window| window == data));
        assert!(reply.ends_with(&[0, 4, 10, 0, 0, 2]));
        let message = question("web", A);
        let asked = Question::parse(&message).unwrap();
        assert_eq!(asked.answer(&message, &answer, DATAGRAM_MAX)[2..8], [0x85, 0x80, 0, 1, 0, 0]);
        let reply = asked.answer(&message, &Answer::Alias("b.c".into()), DATAGRAM_MAX);
        assert!(reply.ends_with(b"\0\x05\x01b\x01c\0"));
        let reply = asked.answer(&message, &Answer::NotFound, DATAGRAM_MAX);
        assert_eq!(reply[2..8], [0x85, 0x83, 0, 1, 0, 0]);
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_cut() {
        let message = question("many", A);
        let all: Vec<IpAddr> = (0..100).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        let asked = Question::parse(&message).unwrap();
        let reply = asked.answer(&message, &Answer::Addresses(all.clone()), DATAGRAM_MAX);
        assert!(reply.len() <= DATAGRAM_MAX && reply[2] & 2 != 0);
        let reply = asked.answer(&message, &Answer::Addresses(all), usize::from(u16::MAX));
        assert_eq!((reply[2] & 2, reply[7]), (0, 100));
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = Question::parse(&bytes) {
                let answer = Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into(); 40]);
                let reply = question.answer(&bytes, &answer, DATAGRAM_MAX);
                prop_assert!(reply.len() <= DATAGRAM_MAX);
                prop_assert!(question.is_answered_by(&bytes, question.id, &reply));
            }
        }

        #[test]
        fn odd_questions_are_read_to_their_end(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..70), 0..8),
            rest in proptest::collection::vec(any::<u8>(), 0..16),
        ) {
            let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in &labels {
                bytes.push(u8::try_from(label.len()).unwrap());
                bytes.extend(label);
            }
            bytes.push(0);
            bytes.extend([0, 1, 0, 1]);
            let end = bytes.len();
            bytes.extend(rest);
            if let Some(question) = Question::parse(&bytes) {
                prop_assert!(question.end <= bytes.len());
                let short = labels.iter().all(|label| label.len() < 64);
                prop_assert!(!short || question.end == end);
            }
        }
    }
}
