//! The few words of rtnetlink(7) that bring a link into a network namespace.
//!
//! One request after the other, each waited for; listings are read to their end.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const IFF_UP: u32 = 1;
/// `IFA_F_PERMANENT`: nobody takes the address away after a while.
const IFA_F_PERMANENT: u8 = 0x80;
/// `RT_SCOPE_UNIVERSE`.
const SCOPE_UNIVERSE: u8 = 0;

/// `struct nlmsghdr`, `struct ifinfomsg`, `struct ifaddrmsg`, `struct rtattr`.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ATTRIBUTE_HEADER: usize = 4;

/// The largest answer: the kernel cuts listings to the size that it is read with.
const ANSWER_MAX: usize = 32 << 10;

/// A conversation with the network namespace in which the socket was made.
#[derive(Debug)]
pub(crate) struct Conversation {
    socket: OwnedFd,
    answer: Vec<u8>,
}

/// A link as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
}

/// An address that outlives a move: permanent, and known everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    family: u8,
    prefix: u8,
    /// `IFA_ADDRESS`, `IFA_LOCAL` and `IFA_BROADCAST` as they are.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A socket in this process' network namespace.
///
/// # Errors
/// Those of socket(2).
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    // The first protocol, `NETLINK_ROUTE`.
    Ok(socket_with(family, SocketType::RAW, flags, None)?)
}

impl Conversation {
    /// Over a socket, whichever namespace it is of.
    pub(crate) fn new(socket: OwnedFd) -> Conversation {
        Conversation { socket, answer: vec![0; ANSWER_MAX] }
    }

    /// Every link by its name.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn links(&mut self) -> io::Result<HashMap<String, Link>> {
        let mut links = HashMap::new();
        self.list(RTM_GETLINK, &[0; LINK_HEADER], |body| links.extend(read_link(body)))?;
        Ok(links)
    }

    /// The addresses of a link that are to be kept.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn addresses(&mut self, link: u32) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        self.list(RTM_GETADDR, &[0; ADDRESS_HEADER], |body| {
            addresses.extend(read_address(body, link));
        })?;
        Ok(addresses)
    }

    /// Switches a link on or off.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn switch(&mut self, link: u32, up: bool) -> io::Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        self.request(RTM_NEWLINK, 0, &link_header(link, flags, IFF_UP), &[])
    }

    /// Moves a link into a namespace, under a name.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn give(&mut self, link: u32, to: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let namespace = (to.as_raw_fd() as u32).to_ne_bytes();
        let name = [name.as_bytes(), b"\0"].concat();
        let attributes = [(IFLA_IFNAME, &name[..]), (IFLA_NET_NS_FD, &namespace[..])];
        self.request(RTM_NEWLINK, 0, &link_header(link, 0, 0), &attributes)
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn add_address(&mut self, link: u32, address: &Address) -> io::Result<()> {
        let mut header = [address.family, address.prefix, 0, SCOPE_UNIVERSE, 0, 0, 0, 0];
        header[4..].copy_from_slice(&link.to_ne_bytes());
        let attributes: Vec<(u16, &[u8])> =
            address.attributes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header, &attributes)
    }

    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: &[(u16, &[u8])],
    ) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        send(&self.socket, &message((kind, flags), header, attributes), SendFlags::empty())?;
        self.hear(&mut |_| {})
    }

    fn list(&mut self, kind: u16, header: &[u8], mut found: impl FnMut(&[u8])) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        send(&self.socket, &message((kind, flags), header, &[]), SendFlags::empty())?;
        self.hear(&mut found)
    }

    /// Reads until an acknowledgement, an error or the end of a listing.
    fn hear(&mut self, found: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        loop {
            let (length, _) = rustix::io::retry_on_intr(|| {
                recv(&self.socket, &mut self.answer[..], RecvFlags::empty())
            })?;
            for (kind, body) in messages(&self.answer[..length]) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return acknowledged(body),
                    _ => found(body),
                }
            }
        }
    }
}

fn acknowledged(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map_or(-libc::EPROTO, |code| i32::from_ne_bytes(*code));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

fn link_header(link: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Messages and attributes begin at multiples of four.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn message((kind, flags): (u16, u16), header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_HEADER];
    bytes.extend_from_slice(header);
    for (kind, value) in attributes {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(aligned(bytes.len()), 0);
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The kinds and bodies of the messages of a datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let (kind, body) = (u16_at(bytes, 4)?, bytes.get(MESSAGE_HEADER..length)?);
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The kinds and values of the attributes behind a header.
fn attributes(body: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = body.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u16_at(bytes, 0)? as usize;
        let (kind, value) = (u16_at(bytes, 2)?, bytes.get(ATTRIBUTE_HEADER..length)?);
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn read_link(body: &[u8]) -> Option<(String, Link)> {
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let (_, name) = attributes(body, LINK_HEADER).find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = String::from_utf8(name.strip_suffix(b"\0")?.to_vec()).ok()?;
    Some((name, Link { index, up: flags & IFF_UP != 0 }))
}

fn read_address(body: &[u8], link: u32) -> Option<Address> {
    let [family, prefix, flags, scope] = *body.first_chunk::<4>()?;
    let kept = u32_at(body, 4)? == link && flags & IFA_F_PERMANENT != 0 && scope == SCOPE_UNIVERSE;
    let wanted = |kind: &u16| matches!(*kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST);
    let attributes = attributes(body, ADDRESS_HEADER).filter(|(kind, _)| wanted(kind));
    let attributes = attributes.map(|(kind, value)| (kind, value.to_vec())).collect();
    kept.then_some(Address { family, prefix, attributes })
}

/// Switches on the loopback link of this process' network namespace, which has the index 1.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn switch_loopback_on() -> io::Result<()> {
    let socket = socket()?;
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    let request = message((RTM_NEWLINK, flags), &link_header(1, IFF_UP, IFF_UP), &[]);
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) =
        rustix::io::retry_on_intr(|| recv(&socket, &mut answer[..], RecvFlags::empty()))?;
    match messages(&answer[..length]).next() {
        Some((NLMSG_ERROR, body)) => acknowledged(body),
        _ => Err(Errno::PROTO.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let attributes = [(IFLA_IFNAME, &b"eth0\0"[..]), (IFLA_NET_NS_FD, &[7, 0, 0, 0][..])];
        let bytes = message((RTM_NEWLINK, NLM_F_REQUEST), &link_header(3, IFF_UP, 0), &attributes);
        assert_eq!(bytes.len() % 4, 0);
        let two = [bytes.clone(), bytes].concat();
        let read: Vec<_> = messages(&two).map(|(kind, body)| (kind, read_link(body))).collect();
        let link = Some(("eth0".to_owned(), Link { index: 3, up: true }));
        assert_eq!(read, [(RTM_NEWLINK, link.clone()), (RTM_NEWLINK, link)]);
        assert_eq!(messages(&two[..20]).count(), 0);
    }

    #[test]
    fn only_lasting_addresses_are_kept() {
        let body = |flags, scope| {
            let value = [(IFA_ADDRESS, &[10, 0, 0, 1][..]), (9, &[1][..])];
            message((0, 0), &[2, 24, flags, scope, 5, 0, 0, 0], &value)[MESSAGE_HEADER..].to_vec()
        };
        let kept = read_address(&body(IFA_F_PERMANENT, SCOPE_UNIVERSE), 5).unwrap();
        let expected = vec![(IFA_ADDRESS, vec![10, 0, 0, 1])];
        assert_eq!(kept, Address { family: 2, prefix: 24, attributes: expected });
        assert_eq!(read_address(&body(0, SCOPE_UNIVERSE), 5), None);
        assert_eq!(read_address(&body(IFA_F_PERMANENT, 254), 5), None);
        assert_eq!(read_address(&body(IFA_F_PERMANENT, SCOPE_UNIVERSE), 6), None);
    }

    #[test]
    fn the_loopback_link_is_listed() {
        let mut conversation = Conversation::new(socket().unwrap());
        assert_eq!(conversation.links().unwrap()["lo"].index, 1);
        let error = conversation.switch(u32::MAX >> 1, true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
