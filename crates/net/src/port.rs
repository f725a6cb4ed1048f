//! Published ports: the destination of a packet to the host is rewritten to a container's.
//!
//! The rules are the same for any number of ports, which are elements of two maps: those of one
//! address of the host, and those of any. They are made with the first port that is published.
//!
//! # Reached from where
//!
//! From outside and from containers, packets are rewritten at the prerouting hook; from the host
//! itself, its loopback address too, at the output hook. A packet from 127.0.0.1 may leave through
//! a bridge only if the bridge's `route_localnet` is on, and then the kernel would also take
//! packets to 127.0.0.0/8 that a container sends: the chain `guard`, which every host of networks
//! has, drops them (CVE-2020-8558). A
//! packet from outside to 127.0.0.0/8 is not rewritten, so a port published on 127.0.0.1 is not a
//! neighbour's to reach, who may send such packets to our hardware address.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self as socket, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use serde::{Deserialize, Serialize};

use crate::conntrack;
use crate::filter;
use crate::link::{self, ROUTE};
use crate::netlink::Socket;
use crate::nftables::{Chain, Element, Family, Key, Set, Step, Transaction};
use crate::{Endpoint, Error, Network, Result, sysctl};

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Its number in the header of a packet (IANA, Protocol Numbers).
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A port of the host that stands for a port of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Of both ports.
    pub protocol: Protocol,
    /// The host's address; 0.0.0.0 or :: for all of that family.
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
    /// The container's address, of the same family.
    pub to: IpAddr,
    /// The container's port.
    pub to_port: u16,
}

/// Says which rules the table holds, as `RULES` does of the rules of networks.
const PORTS: Set = Set { name: "ports-1", key: Key::InterfaceName };
const PUBLISHED: Set = Set { name: "published", key: Key::Published };
const ANYWHERE: Set = Set { name: "published-anywhere", key: Key::PublishedAnywhere };

const PREROUTING: Chain = Chain {
    name: "prerouting",
    kind: "nat",
    hook: libc::NF_INET_PRE_ROUTING.cast_unsigned(),
    priority: libc::NF_IP_PRI_NAT_DST,
    rules: &[
        &[Step::ToLoopback, Step::Return],
        &[Step::ToHost, Step::RedirectAddress(PUBLISHED.name)],
        &[Step::ToHost, Step::RedirectPort(ANYWHERE.name)],
    ],
};

const OUTPUT: Chain = Chain {
    name: "output",
    kind: "nat",
    hook: libc::NF_INET_LOCAL_OUT.cast_unsigned(),
    priority: libc::NF_IP_PRI_NAT_DST,
    rules: &[
        &[Step::ToHost, Step::RedirectAddress(PUBLISHED.name)],
        &[Step::ToHost, Step::RedirectPort(ANYWHERE.name)],
    ],
};

/// What goes to ::1 comes to whoever holds the port: an answer to it would be lost, since the kernel
/// looks for ::1 on the loopback interface alone (`rt6_need_strict`).
const OUTPUT_V6: Chain = Chain { rules: PREROUTING.rules, ..OUTPUT };

/// Takes a port of this host, so that no process can, and no other container: the kernel refuses
/// to give it twice as long as the descriptor is open. Port 0 is one that the kernel chooses
/// (`net.ipv4.ip_local_port_range`). Returns the port.
///
/// A port of an IPv6 address is not that of the same number of an IPv4 address: `::` is every IPv6
/// address, and no other.
///
/// # Errors
/// [`Error::Io`]: of kind `AddrInUse` if it is taken, `AddrNotAvailable` if the host does not have
/// the address, `Unsupported` if the kernel lacks the protocol.
pub fn reserve(protocol: Protocol, address: IpAddr, port: u16) -> Result<(OwnedFd, u16)> {
    let name = protocol.name();
    let doing = |e: Errno| match e {
        Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT => Error::io(
            format!("publish a port of {name}, which this kernel lacks"),
            std::io::Error::from(std::io::ErrorKind::Unsupported),
        ),
        e => Error::io(format!("take port {port}/{name} of {address}"), e),
    };
    let reserve = || {
        let (kind, number) = match protocol {
            Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
            Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
            Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
        };
        let flags = SocketFlags::CLOEXEC;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = socket::socket_with(family, kind, flags, Some(number))?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        if protocol != Protocol::Udp {
            // Connections that a former listener left in TIME_WAIT are not in the way.
            sockopt::set_socket_reuseaddr(&fd, true)?;
        }
        socket::bind(&fd, &SocketAddr::new(address, port))?;
        if protocol != Protocol::Udp {
            // A bound socket that does not listen could be bound twice. One of SCTP does not with a
            // backlog of zero (`sctp_inet_listen`).
            socket::listen(&fd, 1)?;
        }
        let bound = SocketAddr::try_from(socket::getsockname(&fd)?);
        Ok((fd, bound.map_or(port, |bound| bound.port())))
    };
    reserve().map_err(doing)
}

/// Makes the ports of this host stand for the container's, in the nftables table `table` of
/// `network`, to which the container is attached at `endpoint`. Whoever held one of them before, and is gone, holds it no longer: the caller has
/// [reserved](reserve) them.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN; [`Error::Unsupported`] if the kernel lacks what the
/// rules need; [`Error::Io`] if the bridge's settings cannot be changed.
pub fn publish(table: &str, network: &Network, endpoint: &Endpoint, ports: &[Port]) -> Result<()> {
    filter::refuse_bad_name(table)?;
    // Where the kernel has bridges pass packets through nftables (`bridge-nf-call-iptables`), a
    // container that asks for its own port by the host's address is answered by the bridge.
    link::reflect(&Socket::open(&ROUTE)?, &endpoint.host_interface)?;
    match add(table, ports, false) {
        Err(e) if e.errno() == Some(Errno::NOENT) => add(table, ports, true)?,
        // The kernel says so of a key that stands for something else.
        Err(e) if matches!(e.errno(), Some(Errno::EXIST | Errno::BUSY)) => {
            unpublish(table, ports)?;
            add(table, ports, false)?;
        }
        other => other?,
    }
    forget(ports)?;
    if ports.iter().all(|port| port.address.is_ipv6()) {
        return Ok(());
    }
    // The guard, which makes it harmless, is there since the network was made.
    sysctl::set(&format!("ipv4/conf/{}/route_localnet", network.bridge), "1")
}

/// Ends what [`publish`] began; that a port is not published is well.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN.
pub fn unpublish(table: &str, ports: &[Port]) -> Result<()> {
    filter::refuse_bad_name(table)?;
    // Each for itself: one that is not there would undo a transaction.
    ports.iter().try_for_each(|port| {
        let (set, element) = element(port);
        let mut change = Transaction::on(table);
        change.turn_to(Family::of(port.address));
        change.forget_elements(set, &[element]);
        change.commit()
    })?;
    forget(ports)
}

/// Conversations over UDP go on with whoever they are with until nobody speaks any more; those over
/// TCP end with their connection.
fn forget(ports: &[Port]) -> Result<()> {
    ports.iter().filter(|port| port.protocol == Protocol::Udp).try_for_each(conntrack::forget)
}

/// Adds the ports; with the rules that they need, if those are not there.
fn add(table: &str, ports: &[Port], rules: bool) -> Result<()> {
    let mut change = Transaction::on(table);
    for family in [Family::V4, Family::V6] {
        let own = |port: &&Port| Family::of(port.address) == family;
        let mut ports = ports.iter().filter(own).peekable();
        if ports.peek().is_none() {
            continue;
        }
        change.turn_to(family);
        if rules {
            change.add_table(None);
            for (set, id) in [(PORTS, 1), (PUBLISHED, 2), (ANYWHERE, 3)] {
                change.add_set(set, id);
            }
        }
        change.add_elements(PORTS, &Element::names(&[PORTS.name]));
        for port in ports {
            let (set, element) = element(port);
            change.add_elements(set, &[element.to(port.to, port.to_port)]);
        }
        if rules {
            change.replace_chain(&PREROUTING);
            change.replace_chain(if family == Family::V4 { &OUTPUT } else { &OUTPUT_V6 });
        }
    }
    change.commit()
}

fn element(port: &Port) -> (Set, Element) {
    let number = port.protocol.number();
    match port.address.is_unspecified() {
        true => (ANYWHERE, Element::port(number, None, port.port)),
        false => (PUBLISHED, Element::port(number, Some(port.address), port.port)),
    }
}
