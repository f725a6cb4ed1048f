//! Addresses and routes, as rtnetlink requests (rtnetlink(7)).

use std::net::Ipv4Addr;

use crate::link::ROUTE;
use crate::netlink::{self, Batch, Body, CREATE, DUMP, EXCLUSIVE, Socket};
use crate::{Result, Subnet};

const INET: u8 = libc::AF_INET as u8;
/// `RTPROT_BOOT`: a route set by an administrator's tool, as `ip route` does.
const PROTOCOL_BOOT: u8 = 3;

/// Gives the interface an address, and with it the route to its subnet.
pub(crate) fn add(batch: &mut Batch, index: u32, address: Ipv4Addr, prefix: u8) -> &mut Batch {
    let request = (libc::RTM_NEWADDR, CREATE | EXCLUSIVE);
    batch.request(format!("add address {address}/{prefix}"), request, |body| {
        body.raw(&[INET, prefix, 0, 0]).raw(&index.to_ne_bytes());
        body.attribute(libc::IFA_LOCAL, &address.octets());
        body.attribute(libc::IFA_ADDRESS, &address.octets());
        let broadcast = Subnet::containing(address, prefix).broadcast();
        body.attribute(libc::IFA_BROADCAST, &broadcast.octets());
    })
}

/// Adds the default route.
pub(crate) fn add_default_route(batch: &mut Batch, index: u32, gateway: Ipv4Addr) -> &mut Batch {
    let request = (libc::RTM_NEWROUTE, CREATE | EXCLUSIVE);
    batch.request(format!("add route default via {gateway}"), request, |body| {
        let scope = libc::RT_SCOPE_UNIVERSE;
        route_header(body, [libc::RT_TABLE_MAIN, PROTOCOL_BOOT, scope, libc::RTN_UNICAST]);
        body.attribute(libc::RTA_GATEWAY, &gateway.octets()).u32(libc::RTA_OIF, index);
    })
}

/// A `struct rtmsg` for a destination of all addresses: family, three lengths and a type of
/// service of zero; then table, protocol, scope, type; then flags.
fn route_header(body: &mut Body<'_>, table_to_type: [u8; 4]) {
    body.raw(&[INET, 0, 0, 0]).raw(&table_to_type).raw(&[0; 4]);
}

/// The subnets that this host's addresses and routes cover, in every routing table: what a new
/// network must stay clear of. Default routes are left out, since they cover everything.
///
/// # Errors
/// [`Error::Kernel`](crate::Error::Kernel) if the kernel does not list them.
pub fn in_use() -> Result<Vec<Subnet>> {
    let socket = Socket::open(&ROUTE)?;
    let addresses = socket.dump(|| list("list addresses", libc::RTM_GETADDR, 8))?;
    let routes = socket.dump(|| list("list routes", libc::RTM_GETROUTE, 12))?;
    let addresses = addresses.iter().filter_map(|object| subnet(object, 8, libc::IFA_ADDRESS));
    let routes = routes.iter().filter_map(|object| subnet(object, 12, libc::RTA_DST));
    let mut subnets: Vec<Subnet> = addresses.chain(routes).collect();
    subnets.sort_unstable();
    subnets.dedup();
    Ok(subnets)
}

fn list(doing: &str, kind: u16, header_len: usize) -> Batch {
    let mut batch = Batch::default();
    batch.request(doing, (kind, DUMP), |body| {
        let mut header = vec![0; header_len];
        header[0] = INET;
        body.raw(&header);
    });
    batch
}

/// The subnet of an address or a route: both headers have the prefix in the second byte.
fn subnet(object: &[u8], header_len: usize, attribute: u16) -> Option<Subnet> {
    let (family, prefix) = (*object.first()?, *object.get(1)?);
    let octets = netlink::attribute(object.get(header_len..)?, attribute)?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    (family == INET && prefix > 0).then(|| Subnet::containing(octets.into(), prefix))
}
