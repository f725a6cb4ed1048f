//! The host's end of a network.

use rustix::io::Errno;

use crate::link::{self, Link, ROUTE};
use crate::netlink::{Batch, Socket};
use crate::{
    Error, MacAddress, Network, Owner, Result, address, filter, neighbour, stacked, sysctl,
};

/// Networks that are removed at once: as many as the socket's buffer (`net.core.wmem_default`) has
/// room for the requests of.
const AT_ONCE_MAX: usize = 200;

/// Makes the network exist on this host: its bridge with the gateway's address, up; its rules in
/// the owner's nftables table (one per state root, such as `cais`); forwarding on, of IPv6 only if
/// the network has it.
///
/// Of a network [without a bridge](crate::Stacked), it makes sure that the parent interface is
/// there.
///
/// Does nothing to what is right already, so every start of a container may call it, and any
/// number of processes at once. It takes down no rule of others: see the crate's documentation for
/// a host whose own firewall drops forwarded packets.
///
/// # Errors
/// [`Error::Invalid`] for a network that cannot be; [`Error::Missing`] without its parent
/// interface; [`Error::Conflict`] if the bridge's name is
/// taken by an interface that is not this network's bridge; [`Error::Denied`] without
/// CAP_NET_ADMIN; [`Error::Unsupported`] if the kernel lacks bridges or nf_tables; [`Error::Io`] if
/// forwarding cannot be switched on.
pub fn ensure_bridge<'a>(network: &Network, owner: impl Into<Owner<'a>>) -> Result<()> {
    if let Some(stacked) = network.stacked {
        return stacked::ensure(network, stacked);
    }
    let owner = owner.into();
    network.validate()?;
    let socket = Socket::open(&ROUTE)?;
    let bridge = match link::find(&socket, &network.bridge)? {
        Some(bridge) => bridge,
        None => create(&socket, network, &owner)?,
    };
    refuse_foreign(&bridge, network)?;
    match network.v6 {
        None => sysctl::disable_ipv6(&network.bridge)?,
        Some(_) => sysctl::enable_ipv6(&network.bridge)?,
    }
    let mut batch = Batch::default();
    address::add(&mut batch, bridge.index, network.gateway.into(), network.subnet.prefix())
        .tolerate(Errno::EXIST);
    if let Some(v6) = &network.v6 {
        address::add(&mut batch, bridge.index, v6.gateway.into(), v6.subnet.prefix())
            .tolerate(Errno::EXIST);
    }
    link::set_up(&mut batch, bridge.index, &network.bridge);
    socket.transact(batch)?;
    // The rules come before forwarding, so that no container is ever reachable without them.
    filter::ensure_network(&owner, network)?;
    if network.v6.is_some() {
        sysctl::forward_ipv6()?;
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
    if let Some(stacked) = network.stacked {
        return stacked::remove(network, stacked);
    }
    network.validate()?;
    let socket = Socket::open(&ROUTE)?;
    let bridge = link::find(&socket, &network.bridge)?;
    if let Some(bridge) = &bridge {
        refuse_foreign(bridge, network)?;
        link::delete(&socket, &network.bridge)?;
    }
    link::delete(&socket, &neighbour::tunnel(network))?;
    filter::remove_networks(table, &[network])
}

/// Removes many networks, as [`remove_bridge`] does one. To delete one interface takes the kernel some
/// ten milliseconds, in which it waits for every processor; to delete a hundred at once takes no more.
///
/// # Errors
/// As of [`remove_bridge`]; then none of them is removed, or the rules of some still are there.
pub fn remove_bridges(networks: &[Network], table: &str) -> Result<()> {
    let (stacked, bridged): (Vec<_>, Vec<_>) =
        networks.iter().partition(|network| network.stacked.is_some());
    for network in stacked {
        remove_bridge(network, table)?;
    }
    for some in bridged.chunks(AT_ONCE_MAX) {
        let socket = Socket::open(&ROUTE)?;
        let mut batch = Batch::default();
        let group = random_group()?;
        let mut is_empty = true;
        for network in some {
            network.validate()?;
            if let Some(bridge) = link::find(&socket, &network.bridge)? {
                refuse_foreign(&bridge, network)?;
                link::set_group(&mut batch, bridge.index, group);
                is_empty = false;
            }
        }
        if !is_empty {
            socket.transact(batch)?;
            link::delete_group(&socket, group)?;
        }
        filter::remove_networks(table, some)?;
    }
    Ok(())
}

/// A group that nobody has put an interface into: of the first, 0, all are that were put into none.
fn random_group() -> Result<u32> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("choose a group of interfaces", e))?;
    Ok(u32::from_ne_bytes(bytes) | 1)
}

/// Creates the bridge, or finds the one that another process has created meanwhile.
fn create(socket: &Socket, network: &Network, owner: &Owner<'_>) -> Result<Link> {
    let mut batch = Batch::default();
    link::create_bridge(&mut batch, &network.bridge, mac(network), network.mtu)
        .tolerate(Errno::EXIST);
    if let Some(note) = owner.note() {
        link::set_alias(&mut batch, &network.bridge, &note);
    }
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
