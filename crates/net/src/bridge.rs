//! The host's end of a network.

use rustix::io::Errno;

use crate::link::{self, Link, ROUTE};
use crate::netlink::{Batch, Socket};
use crate::{Error, MacAddress, Network, Result, address, filter, sysctl};

/// Makes the network exist on this host: its bridge with the gateway's address, up; its rules in
/// the nftables table `table` (one per state root, such as `cais`); IPv4 forwarding on.
///
/// Does nothing to what is right already, so every start of a container may call it, and any
/// number of processes at once. It takes down no rule of others: see the crate's documentation for
/// a host whose own firewall drops forwarded packets.
///
/// # Errors
/// [`Error::Invalid`] for a network that cannot be; [`Error::Conflict`] if the bridge's name is
/// taken by an interface that is not this network's bridge; [`Error::Denied`] without
/// CAP_NET_ADMIN; [`Error::Unsupported`] if the kernel lacks bridges or nf_tables; [`Error::Io`] if
/// forwarding cannot be switched on.
pub fn ensure_bridge(network: &Network, table: &str) -> Result<()> {
    network.validate()?;
    let socket = Socket::open(&ROUTE)?;
    let found = link::find(&socket, &network.bridge)?;
    let is_new = found.is_none();
    let bridge = match found {
        Some(bridge) => bridge,
        None => create(&socket, network)?,
    };
    refuse_foreign(&bridge, network)?;
    sysctl::disable_ipv6(&network.bridge)?;
    let mut batch = Batch::default();
    address::add(&mut batch, bridge.index, network.gateway, network.subnet.prefix())
        .tolerate(Errno::EXIST);
    link::set_up(&mut batch, bridge.index, &network.bridge);
    socket.transact(batch)?;
    // The rules come before forwarding, so that no container is ever reachable without them.
    if is_new {
        filter::add_network(table, network)?;
    } else {
        filter::ensure_network(table, network)?;
    }
    sysctl::set("ipv4/ip_forward", "1")
}

/// Removes the network from this host: its rules and its bridge; that they are gone is well. The
/// table itself stays for other networks ([`remove_table`](crate::remove_table)).
///
/// # Errors
/// [`Error::Conflict`] if the bridge's name is taken by an interface that is not this network's
/// bridge; [`Error::Denied`] without CAP_NET_ADMIN.
pub fn remove_bridge(network: &Network, table: &str) -> Result<()> {
    network.validate()?;
    let socket = Socket::open(&ROUTE)?;
    let bridge = link::find(&socket, &network.bridge)?;
    if let Some(bridge) = &bridge {
        refuse_foreign(bridge, network)?;
        link::delete(&socket, &network.bridge)?;
    }
    filter::remove_network(table, network)
}

/// Creates the bridge, or finds the one that another process has created meanwhile.
fn create(socket: &Socket, network: &Network) -> Result<Link> {
    let mut batch = Batch::default();
    link::create_bridge(&mut batch, &network.bridge, mac(network), network.mtu)
        .tolerate(Errno::EXIST);
    link::get(&mut batch, &network.bridge);
    let found = socket.transact(batch)?;
    link::parse(&found, &network.bridge)
}

/// A bridge without a hardware address of its own takes the lowest of its ports', and so changes
/// it as containers come and go, under their ARP caches. Fixed at birth, it also tells whose
/// bridge this is.
fn mac(network: &Network) -> MacAddress {
    MacAddress::of(network.gateway)
}

fn refuse_foreign(bridge: &Link, network: &Network) -> Result<()> {
    if bridge.kind == "bridge" && bridge.mac == Some(mac(network)) {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "interface `{}` exists, and is not the bridge of network `{}` with hardware address {}",
        network.bridge,
        network.name,
        mac(network)
    )))
}
