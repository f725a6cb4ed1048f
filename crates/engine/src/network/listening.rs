//! Sockets that listen, as the kernel lists them (`/proc/<pid>/net/tcp` and the others, proc(5)).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::port::Protocol;

/// The state of a TCP socket that listens, and of a UDP socket that nobody is connected to
/// (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";
const CLOSE: &str = "07";

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) protocol: Protocol,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) inode: u64,
}

impl Listening {
    /// Whether it hears what comes to this address and port.
    pub(crate) fn hears(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        // A socket of every IPv6 address hears IPv4, too, unless it was told not to, which is not
        // listed.
        let anywhere =
            self.address.is_unspecified() && (self.address.is_ipv6() || address.is_ipv4());
        self.protocol == protocol && self.port == port && (anywhere || self.address == address)
    }
}

/// What listens in the network namespace of the process, over TCP and UDP.
pub(crate) fn in_network_of(pid: i32) -> Vec<Listening> {
    let files = [
        ("tcp", Protocol::Tcp, LISTEN),
        ("tcp6", Protocol::Tcp, LISTEN),
        ("udp", Protocol::Udp, CLOSE),
        ("udp6", Protocol::Udp, CLOSE),
    ];
    let mut all = Vec::new();
    for (name, protocol, state) in files {
        // One who has just ended listens nowhere; a kernel without IPv6 has no such file.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        all.extend(text.lines().filter_map(|line| parse(line, protocol, state)));
    }
    all
}

/// The process among these that holds the socket, and what it is called.
pub(crate) fn holder(pids: &[i32], inode: u64) -> Option<(i32, String)> {
    let target = format!("socket:[{inode}]");
    let holds = |pid: &&i32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        { entries }.any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == target.as_str())
        })
    };
    let pid = *pids.iter().find(holds)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((pid, name.trim_end().to_owned()))
}

fn parse(line: &str, protocol: Protocol, state: &str) -> Option<Listening> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != state {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Listening {
        protocol,
        address: self::address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode,
    })
}

/// Words of four bytes, each printed as a number of the machine's.
fn address(text: &str) -> Option<IpAddr> {
    let word = |n: usize| {
        let number = u32::from_str_radix(text.get(n * 8..n * 8 + 8)?, 16).ok()?;
        Some(number.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let octets: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_is_read() {
        let check = |line: &str, state: &str, expected: Option<(&str, u16, u64)>| {
            let got = parse(line, Protocol::Tcp, state);
            let got = got.map(|l| (l.address.to_string(), l.port, l.inode));
            assert_eq!(
                got,
                expected.map(|(at, port, inode)| (at.to_owned(), port, inode)),
                "{line}"
            );
        };
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 123456 1 ffff 100 0 0 10 0";
        check(line, LISTEN, Some(("127.0.0.1", 8080, 123_456)));
        check(line, CLOSE, None);
        let line = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 \
                    0A 00000000:00000000 00:00000000 00000000     0        0 77 1";
        check(line, LISTEN, Some(("::1", 80, 77)));
        check("  sl  local_address rem_address   st tx_queue rx_queue", LISTEN, None);
        check("   0: 0100007:1F90 0:0 0A 0 0 0 0 0 1", LISTEN, None);
        check("", LISTEN, None);
    }

    #[test]
    fn a_socket_hears_what_is_for_it() {
        let check = |own: &str, at: &str, expected: bool| {
            let socket = Listening {
                protocol: Protocol::Tcp,
                address: own.parse().unwrap(),
                port: 80,
                inode: 1,
            };
            let at = at.parse().unwrap();
            assert_eq!(socket.hears(Protocol::Tcp, at, 80), expected, "{own} {at}");
            assert!(!socket.hears(Protocol::Udp, at, 80) && !socket.hears(Protocol::Tcp, at, 81));
        };
        check("0.0.0.0", "10.0.0.2", true);
        check("::", "10.0.0.2", true);
        check("::", "fd00::2", true);
        check("0.0.0.0", "fd00::2", false);
        check("10.0.0.2", "10.0.0.2", true);
        check("127.0.0.1", "10.0.0.2", false);
    }

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::new(127, 83, 19, 9), 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let hears = |l: &&Listening| l.hears(Protocol::Tcp, at.ip(), at.port());
        let found = in_network_of(own).iter().find(hears).copied().unwrap();
        assert_eq!(found.address, at.ip());
        assert_eq!(holder(&[own], found.inode).unwrap().0, own);
        assert_eq!(holder(&[], found.inode), None);
        drop(listener);
        assert!(!in_network_of(own).iter().any(|l| l.inode == found.inode));
    }
}
