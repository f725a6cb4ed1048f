//! What the kernel remembers of conversations (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Rules that rewrite destinations are asked for the first packet of a conversation only. Over UDP
//! that may have begun before its port was published, or with a container that is gone, and it
//! lasts as long as somebody sends: what is remembered of it has to be forgotten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use crate::netlink::{self, Batch, Body, DUMP, Socket, Subsystem};
use crate::port::Port;
use crate::{Error, Result, address};

static CONNECTIONS: Subsystem = Subsystem {
    protocol: libc::NETLINK_NETFILTER as isize,
    unsupported: &[Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::INVAL],
    hint: "the kernel lacks conntrack's netlink interface: load the module `nf_conntrack_netlink` (CONFIG_NF_CT_NETLINK)",
};

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

/// `CTA_TUPLE_ORIG`: the first packet's addresses and ports.
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`: those of an answer.
const REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_V4_SOURCE: u16 = 1;
const IP_V4_DESTINATION: u16 = 2;
const IP_V6_SOURCE: u16 = 3;
const IP_V6_DESTINATION: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// `CTA_FILTER_ORIG_FLAGS`, `CTA_FILTER_REPLY_FLAGS`: which fields of the tuples are compared.
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
/// `CTA_FILTER_F_CTA_PROTO_NUM`, `CTA_FILTER_F_CTA_PROTO_DST_PORT`.
const BY_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;

/// Forgets conversations of this host's `port`, whoever they are with: the next packet of each asks
/// the rules anew. What only passes through to the same port elsewhere is not touched.
///
/// A kernel without the interface forgets by itself, once nobody has sent for half a minute or two.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN.
pub(crate) fn forget(port: &Port) -> Result<()> {
    match try_forget(port) {
        Err(Error::Unsupported { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// As [`forget`], but only conversations that are with the endpoint that `port` stands for.
pub(crate) fn forget_with(port: &Port) -> Result<()> {
    match try_forget_those(port, &|object| is_with(object, port)) {
        Err(Error::Unsupported { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// As [`forget`], except conversations with one of these endpoints.
pub(crate) fn forget_unless(port: &Port, endpoints: &[SocketAddr]) -> Result<()> {
    let is_meant = |object: &[u8]| {
        let to = |to: &SocketAddr| Port { to: to.ip(), to_port: to.port(), ..*port };
        !endpoints.iter().any(|endpoint| is_with(object, &to(endpoint)))
    };
    match try_forget_those(port, &is_meant) {
        Err(Error::Unsupported { .. }) => Ok(()),
        outcome => outcome,
    }
}

fn try_forget(port: &Port) -> Result<()> {
    try_forget_those(port, &|_| true)
}

fn try_forget_those(port: &Port, is_meant: &dyn Fn(&[u8]) -> bool) -> Result<()> {
    let own = match port.address.is_unspecified() {
        true => address::own(port.address.is_ipv4())?,
        false => vec![port.address],
    };
    let socket = Socket::open(&CONNECTIONS)?;
    let found = socket.dump(|| list(port))?;
    let mut batch = Batch::default();
    let mut is_empty = true;
    let is_meant = |object: &&Vec<u8>| is_of(object, port, &own) && is_meant(object);
    for object in found.iter().filter(is_meant) {
        let attributes = object.get(4..).unwrap_or_default();
        let (Some(tuple), Some(id)) =
            (netlink::attribute(attributes, ORIGINAL), netlink::attribute(attributes, ID))
        else {
            continue;
        };
        is_empty = false;
        batch.request("forget a conversation", (SUBSYSTEM << 8 | DELETE, 0), |body| {
            header(body, port.address);
            body.nested(ORIGINAL, |body| {
                body.raw(tuple);
            });
            body.attribute(ID, id);
        });
        // It was over by itself.
        batch.tolerate(Errno::NOENT);
    }
    if is_empty { Ok(()) } else { socket.transact(batch).map(drop) }
}

/// Asks for the conversations of any address's port; a kernel before 5.8 lists all there are.
fn list(port: &Port) -> Batch {
    let mut batch = Batch::default();
    batch.request("list conversations", (SUBSYSTEM << 8 | GET, DUMP), |body| {
        header(body, port.address);
        body.nested(ORIGINAL, |tuple| {
            tuple.nested(TUPLE_PROTOCOL, |protocol| {
                protocol.attribute(PROTOCOL_NUMBER, &[port.protocol.number()]);
                protocol.attribute(DESTINATION_PORT, &port.port.to_be_bytes());
            });
        });
        body.nested(FILTER, |filter| {
            filter.u32(FILTER_ORIGINAL, BY_PROTOCOL_AND_PORT).u32(FILTER_REPLY, 0);
        });
    });
    batch
}

/// Whether it began with a packet to the port of one of these addresses.
fn is_of(object: &[u8], port: &Port, own: &[IpAddr]) -> bool {
    let matches = || {
        let tuple = netlink::attribute(object.get(4..)?, ORIGINAL)?;
        let (ip, protocol) =
            (netlink::attribute(tuple, TUPLE_IP)?, netlink::attribute(tuple, TUPLE_PROTOCOL)?);
        let to = address_in(ip, IP_V4_DESTINATION, IP_V6_DESTINATION)?;
        let number = netlink::attribute(protocol, PROTOCOL_NUMBER)?;
        let own_port = netlink::attribute(protocol, DESTINATION_PORT)?;
        let same = number == [port.protocol.number()] && own_port == port.port.to_be_bytes();
        Some(same && own.contains(&to))
    };
    matches().unwrap_or(false)
}

/// Whether its answers come from the endpoint that the port stands for.
fn is_with(object: &[u8], port: &Port) -> bool {
    let matches = || {
        let tuple = netlink::attribute(object.get(4..)?, REPLY)?;
        let (ip, protocol) =
            (netlink::attribute(tuple, TUPLE_IP)?, netlink::attribute(tuple, TUPLE_PROTOCOL)?);
        let from = address_in(ip, IP_V4_SOURCE, IP_V6_SOURCE)?;
        let from_port = netlink::attribute(protocol, SOURCE_PORT)?;
        Some(from == port.to && from_port == port.to_port.to_be_bytes())
    };
    matches().unwrap_or(false)
}

/// The address in a tuple, of either family.
fn address_in(ip: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    Some(match netlink::attribute(ip, v4) {
        Some(octets) => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        None => Ipv6Addr::from(<[u8; 16]>::try_from(netlink::attribute(ip, v6)?).ok()?).into(),
    })
}

/// A `struct nfgenmsg`.
fn header(body: &mut Body<'_>, address: IpAddr) {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let family = u8::try_from(family).expect("an address family is a small number");
    body.raw(&[family, 0, 0, 0]);
}
