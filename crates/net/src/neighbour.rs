//! Networks of several hosts: their containers reach each other under their own addresses.
//!
//! Between hosts on one link, each routes to the other's network by the other's address. Where routers
//! lie between, which know nothing of containers' addresses, packets go within UDP (VXLAN, RFC 7348):
//! one interface for each network, to which every neighbour is told. What has to be known of a
//! neighbour for that follows from its subnet and its address.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::address::{self, Reach, Way};
use crate::link::{self, ROUTE};
use crate::netlink::{Batch, CREATE, Socket};
use crate::{INTERFACE_NAME_MAX, MacAddress, Network, Owner, Result, Subnet, filter};

/// The number of the virtual network, and Linux' own port for it.
const VXLAN: (u32, u16) = (42, 8472);
/// What Ethernet, IPv4, UDP and VXLAN put in front of a packet.
const VXLAN_BYTES: u32 = 50;
/// The largest packet of most links.
const LINK_MTU: u32 = 1500;

/// Another host with containers of the same cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Where its containers have their addresses.
    pub subnet: Subnet,
    /// Its own address.
    pub address: Ipv4Addr,
}

/// Makes these all neighbours of a network on this host: packets find the way to their containers, keep
/// their addresses, and theirs are let in.
///
/// # Errors
/// [`Error::Denied`](crate::Error::Denied) without CAP_NET_ADMIN;
/// [`Error::Unsupported`](crate::Error::Unsupported) without VXLAN where that is needed;
/// [`Error::Kernel`](crate::Error::Kernel) if no route leads to a neighbour, after all others have been
/// seen to.
pub fn meet(owner: &Owner<'_>, network: &Network, all: &[Neighbour]) -> Result<()> {
    filter::let_in(owner, network, all)?;
    let socket = Socket::open(&ROUTE)?;
    let mut ways = Vec::new();
    let mut batch = Batch::default();
    let mut unreachable = None;
    let mut tunnel_index = None;
    for one in all {
        match address::reach(&socket, one.address) {
            Ok(Reach::Own) => {}
            Ok(Reach::OnLink(index)) => {
                let way = Way { to: one.subnet, gateway: one.address, index };
                way.add(&mut batch, network.gateway, false);
                ways.push(way);
            }
            Ok(Reach::Further) => {
                let index = match tunnel_index {
                    Some(index) => index,
                    None => *tunnel_index.insert(dig(&socket, network)?),
                };
                let way = Way { to: one.subnet, gateway: one.subnet.address(), index };
                lead_through(&mut batch, index, one);
                way.add(&mut batch, network.gateway, true);
                ways.push(way);
            }
            Err(error) => drop(unreachable.get_or_insert(error)),
        }
    }
    for old in Way::all(network.gateway)? {
        if !ways.contains(&old) {
            old.delete(&mut batch);
        }
    }
    if !batch.is_empty() {
        socket.transact(batch)?;
    }
    if tunnel_index.is_none() {
        link::delete(&socket, &tunnel(network))?;
    }
    unreachable.map_or(Ok(()), Err)
}

/// The interface that a network's packets to other hosts go through where they have to be wrapped.
pub(crate) fn tunnel(network: &Network) -> String {
    let bridge = network.bridge.as_str();
    let from = bridge.len().saturating_sub(INTERFACE_NAME_MAX - 3);
    format!("vx-{}", bridge.get(from..).unwrap_or(bridge))
}

/// Makes that interface, unless it is there: its index.
fn dig(socket: &Socket, network: &Network) -> Result<u32> {
    let name = tunnel(network);
    let mtu = network.mtu.unwrap_or(LINK_MTU) - VXLAN_BYTES;
    let mac = MacAddress::of(network.subnet.address());
    let mut batch = Batch::default();
    link::create_vxlan(&mut batch, (&name, mac), VXLAN, Some(mtu)).tolerate(Errno::EXIST);
    link::set_up_named(&mut batch, &name);
    link::get(&mut batch, &name);
    link::parse(&socket.transact(batch)?, &name).map(|link| link.index)
}

/// Tells the interface where a neighbour is, and who answers there.
fn lead_through(batch: &mut Batch, index: u32, one: &Neighbour) {
    const REPLACE: u16 = 0x100;
    const PERMANENT: u16 = 0x80;
    const SELF: u8 = 2;
    const DESTINATION: u16 = 1;
    const LINK_ADDRESS: u16 = 2;
    let mac = MacAddress::of(one.subnet.address());
    let to = [
        (libc::AF_INET as u8, 0, one.subnet.address()),
        // Where frames to it go: the table of a bridge port (`bridge fdb`).
        (libc::AF_BRIDGE as u8, SELF, one.address),
    ];
    for (family, flags, address) in to {
        let request = (libc::RTM_NEWNEIGH, CREATE | REPLACE);
        batch.request(format!("tell where {} is", one.subnet), request, |body| {
            // A `struct ndmsg`: family, padding, interface, state, flags, type.
            body.raw(&[family, 0, 0, 0]).raw(&index.to_ne_bytes());
            let [low, high] = PERMANENT.to_ne_bytes();
            body.raw(&[low, high, flags, 0]);
            body.attribute(DESTINATION, &address.octets()).attribute(LINK_ADDRESS, &mac.0);
        });
    }
}
