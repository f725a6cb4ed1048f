//! Addresses and routes, as rtnetlink requests (rtnetlink(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::link::ROUTE;
use crate::netlink::{self, Batch, Body, CREATE, DUMP, EXCLUSIVE, Socket};
use crate::{Address, Prefix, Result, Subnet, Subnet6};

const INET: u8 = libc::AF_INET as u8;
const INET6: u8 = libc::AF_INET6 as u8;
/// `RTPROT_BOOT`: a route set by an administrator's tool, as `ip route` does.
const PROTOCOL_BOOT: u8 = 3;
/// `IFA_F_NODAD`: the address is used at once, without asking neighbours whether it is theirs: it
/// is leased, and a container that listens on it must not find it tentative.
const NO_DETECTION: u8 = 2;

/// The octets of an address, and its family.
fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (INET, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, address.octets().to_vec()),
    }
}

/// Gives the interface an address, and with it the route to its subnet.
pub(crate) fn add(batch: &mut Batch, index: u32, address: IpAddr, prefix: u8) -> &mut Batch {
    let request = (libc::RTM_NEWADDR, CREATE | EXCLUSIVE);
    let (family, own) = octets(address);
    batch.request(format!("add address {address}/{prefix}"), request, |body| {
        let flags = if family == INET6 { NO_DETECTION } else { 0 };
        body.raw(&[family, prefix, flags, 0]).raw(&index.to_ne_bytes());
        body.attribute(libc::IFA_LOCAL, &own);
        body.attribute(libc::IFA_ADDRESS, &own);
        if let IpAddr::V4(address) = address {
            let broadcast = Subnet::containing(address, prefix).broadcast();
            body.attribute(libc::IFA_BROADCAST, &broadcast.octets());
        }
    })
}

/// Adds the default route of the gateway's family; through the interface itself where the gateway is
/// unspecified.
pub(crate) fn add_default_route(batch: &mut Batch, index: u32, gateway: IpAddr) -> &mut Batch {
    let request = (libc::RTM_NEWROUTE, CREATE | EXCLUSIVE);
    let (family, own) = octets(gateway);
    batch.request(format!("add route default via {gateway}"), request, |body| {
        let direct = gateway.is_unspecified();
        let scope = if direct { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
        let what = [libc::RT_TABLE_MAIN, PROTOCOL_BOOT, scope, libc::RTN_UNICAST];
        route_header(body, family, what);
        if !direct {
            body.attribute(libc::RTA_GATEWAY, &own);
        }
        body.u32(libc::RTA_OIF, index);
    })
}

/// Adds a route to a subnet through an interface, which is left under the address `from`.
pub(crate) fn add_route(batch: &mut Batch, index: u32, to: Subnet, from: Ipv4Addr) -> &mut Batch {
    let request = (libc::RTM_NEWROUTE, CREATE | EXCLUSIVE);
    let (family, own) = octets(from.into());
    batch.request(format!("add route {to}"), request, |body| {
        let scope = libc::RT_SCOPE_LINK;
        body.raw(&[family, to.prefix(), 0, 0]);
        body.raw(&[libc::RT_TABLE_MAIN, PROTOCOL_BOOT, scope, libc::RTN_UNICAST]).raw(&[0; 4]);
        body.attribute(libc::RTA_DST, &to.address().octets());
        body.attribute(libc::RTA_PREFSRC, &own).u32(libc::RTA_OIF, index);
    })
}

/// Routes to other hosts' networks (`rtm_protocol`): free for anybody's use, so that ours are known
/// from those of others.
const PROTOCOL_NEIGHBOURS: u8 = 99;

/// A route to another host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) to: Subnet,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) index: u32,
}

impl Way {
    /// Adds the route, in the place of another to the same subnet; what this host itself sends there
    /// is from the address `from`, and with that the route ends.
    pub(crate) fn add(self, batch: &mut Batch, from: Ipv4Addr, is_on_link: bool) {
        const ON_LINK: u32 = 4;
        const REPLACE: u16 = 0x100;
        let request = (libc::RTM_NEWROUTE, CREATE | REPLACE);
        batch.request(format!("add route {} via {}", self.to, self.gateway), request, |body| {
            self.header(body, if is_on_link { ON_LINK } else { 0 });
            body.attribute(libc::RTA_GATEWAY, &self.gateway.octets());
            body.attribute(libc::RTA_PREFSRC, &from.octets()).u32(libc::RTA_OIF, self.index);
        });
    }

    pub(crate) fn delete(self, batch: &mut Batch) {
        let doing = format!("delete route {} via {}", self.to, self.gateway);
        let batch = batch.request(doing, (libc::RTM_DELROUTE, 0), |body| {
            self.header(body, 0);
            body.attribute(libc::RTA_GATEWAY, &self.gateway.octets());
            body.u32(libc::RTA_OIF, self.index);
        });
        batch.tolerate(rustix::io::Errno::SRCH);
    }

    fn header(self, body: &mut Body<'_>, flags: u32) {
        let scope = libc::RT_SCOPE_UNIVERSE;
        body.raw(&[INET, self.to.prefix(), 0, 0]);
        body.raw(&[libc::RT_TABLE_MAIN, PROTOCOL_NEIGHBOURS, scope, libc::RTN_UNICAST]);
        body.raw(&flags.to_ne_bytes());
        body.attribute(libc::RTA_DST, &self.to.address().octets());
    }

    /// Those there are whose packets are from the address `from`.
    pub(crate) fn all(from: Ipv4Addr) -> Result<Vec<Way>> {
        let list = list("list routes", libc::RTM_GETROUTE, 12);
        let found = Socket::open(&ROUTE)?.dump(|| list(INET))?;
        let read = |object: &Vec<u8>| {
            if *object.get(5)? != PROTOCOL_NEIGHBOURS || *object.get(4)? != libc::RT_TABLE_MAIN {
                return None;
            }
            let attributes = object.get(12..)?;
            let is_own = ipv4(attributes, libc::RTA_PREFSRC) == Some(from);
            let to = Subnet::containing(ipv4(attributes, libc::RTA_DST)?, *object.get(1)?);
            let gateway = ipv4(attributes, libc::RTA_GATEWAY)?;
            let index = netlink::u32_at(netlink::attribute(attributes, libc::RTA_OIF)?, 0)?;
            is_own.then_some(Way { to, gateway, index })
        };
        Ok(found.iter().filter_map(read).collect())
    }
}

fn ipv4(attributes: &[u8], kind: u16) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(netlink::attribute(attributes, kind)?).ok().map(Ipv4Addr::from)
}

/// How this host reaches an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is its own.
    Own,
    /// On the link of this interface.
    OnLink(u32),
    /// By others.
    Further,
}

/// How this host reaches an address; an error where it does not.
pub(crate) fn reach(socket: &Socket, address: Ipv4Addr) -> Result<Reach> {
    let mut batch = Batch::default();
    batch.request(format!("find the route to {address}"), (libc::RTM_GETROUTE, 0), |body| {
        body.raw(&[INET, 32, 0, 0]).raw(&[0; 8]);
        body.attribute(libc::RTA_DST, &address.octets());
    });
    let found = socket.transact(batch)?;
    let object = found.first().map(Vec::as_slice).unwrap_or_default();
    let attributes = object.get(12..).unwrap_or_default();
    let index = netlink::attribute(attributes, libc::RTA_OIF).and_then(|o| netlink::u32_at(o, 0));
    Ok(match (object.get(7), ipv4(attributes, libc::RTA_GATEWAY), index) {
        (Some(&libc::RTN_LOCAL), ..) => Reach::Own,
        (_, None, Some(index)) => Reach::OnLink(index),
        _ => Reach::Further,
    })
}

/// A `struct rtmsg` for a destination of all addresses: family, three lengths and a type of
/// service of zero; then table, protocol, scope, type; then flags.
fn route_header(body: &mut Body<'_>, family: u8, table_to_type: [u8; 4]) {
    body.raw(&[family, 0, 0, 0]).raw(&table_to_type).raw(&[0; 4]);
}

/// The IPv4 subnets that this host's addresses and routes cover, in every routing table: what a new
/// network must stay clear of. Default routes are left out, since they cover everything.
///
/// # Errors
/// [`Error::Kernel`](crate::Error::Kernel) if the kernel does not list them.
pub fn in_use() -> Result<Vec<Subnet>> {
    used(INET, |octets| Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)))
}

/// The IPv6 subnets that this host's addresses and routes cover, as [`in_use`] has those of IPv4;
/// none where the kernel has no IPv6.
///
/// # Errors
/// As of [`in_use`].
pub fn in_use_v6() -> Result<Vec<Subnet6>> {
    used(INET6, |octets| Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)))
}

/// This host's addresses of one family, on every interface.
pub(crate) fn own(v4: bool) -> Result<Vec<IpAddr>> {
    let family = if v4 { INET } else { INET6 };
    let list = list("list addresses", libc::RTM_GETADDR, 8);
    let found = Socket::open(&ROUTE)?.dump(|| list(family))?;
    // `IFA_LOCAL` is the interface's own address where `IFA_ADDRESS` is its peer's; IPv6 has it only
    // then.
    let address = |object: &Vec<u8>| {
        let attributes = object.get(8..)?;
        let octets = netlink::attribute(attributes, libc::IFA_LOCAL)
            .or_else(|| netlink::attribute(attributes, libc::IFA_ADDRESS))?;
        match <[u8; 4]>::try_from(octets) {
            Ok(octets) => Some(IpAddr::from(octets)),
            Err(_) => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        }
    };
    Ok(found.iter().filter_map(address).collect())
}

fn used<A: Address>(family: u8, read: fn(&[u8]) -> Option<A>) -> Result<Vec<Prefix<A>>> {
    let objects = [
        (list("list addresses", libc::RTM_GETADDR, 8), 8, libc::IFA_ADDRESS),
        (list("list routes", libc::RTM_GETROUTE, 12), 12, libc::RTA_DST),
    ];
    let socket = Socket::open(&ROUTE)?;
    let mut subnets = Vec::new();
    for (list, header_len, attribute) in objects {
        let found = socket.dump(|| list(family))?;
        // Both headers begin with the family and the length of the prefix.
        subnets.extend(found.iter().filter_map(|object| {
            let (of, prefix) = (*object.first()?, *object.get(1)?);
            let octets = netlink::attribute(object.get(header_len..)?, attribute)?;
            let subnet = Prefix::containing(read(octets)?, prefix);
            (of == family && prefix > 0).then_some(subnet)
        }));
    }
    subnets.sort_unstable();
    subnets.dedup();
    Ok(subnets)
}

fn list(doing: &'static str, kind: u16, header_len: usize) -> impl Fn(u8) -> Batch {
    move |family| {
        let mut batch = Batch::default();
        batch.request(doing, (kind, DUMP), |body| {
            let mut header = vec![0; header_len];
            header[0] = family;
            body.raw(&header);
        });
        batch
    }
}
