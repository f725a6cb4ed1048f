//! A container's end of a network.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::link::{self, LOOPBACK, ROUTE, Veth};
use crate::netlink::{Batch, Socket};
use crate::{Endpoint, Error, Network, Result, address, namespace, sysctl};

/// Connects the network namespace `netns` to the network's bridge, which exists
/// ([`ensure_bridge`](crate::ensure_bridge)): in it the loopback interface is up afterwards, and an
/// interface with the endpoint's address and a default route.
///
/// A veth of the same name is a leftover of this container's former life, whose namespace the
/// kernel has not finished taking down: it is deleted first.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN here and in `netns`, or CAP_SYS_ADMIN to enter it;
/// [`Error::Kernel`] if the bridge does not exist (`ENODEV`) or `netns` has such an interface
/// already (`EEXIST`); [`Error::Unsupported`] if the kernel has no veth. Of what was done by then,
/// the veth goes with the namespace, or with [`detach`].
pub fn attach(network: &Network, netns: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<()> {
    create_veth(network, netns, endpoint)?;
    let socket = namespace::inside(netns, || {
        // Before the interface is up, so that it never has an address to lose.
        sysctl::disable_ipv6(&endpoint.interface)?;
        Socket::open(&ROUTE)
    })?;
    configure(&socket, endpoint)
}

/// Sets the loopback interface of `netns` up: all there is of `--network none`.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN in `netns` and CAP_SYS_ADMIN to enter it.
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<()> {
    let socket = namespace::inside(netns, || Socket::open(&ROUTE))?;
    let mut batch = Batch::default();
    link::set_up(&mut batch, LOOPBACK, "lo");
    socket.transact(batch).map(drop)
}

/// Deletes the endpoint's veth pair; that there is none is well.
///
/// The kernel does as much when the last process of the namespace is gone, in the background.
/// Asking for it waits for the kernel to be sure that no processor still uses the interface, which
/// takes a dozen milliseconds or more: keep this off any path that somebody waits for.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN.
pub fn detach(endpoint: &Endpoint) -> Result<()> {
    link::delete(&Socket::open(&ROUTE)?, &endpoint.host_interface)
}

/// Makes the endpoint, which is attached, the way out of the network namespace `netns`.
///
/// # Errors
/// As of [`attach`]; [`Error::Kernel`] (`EEXIST`) if it has a way out.
pub fn lead_out(netns: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<()> {
    let socket = namespace::inside(netns, || Socket::open(&ROUTE))?;
    let mut batch = Batch::default();
    link::get(&mut batch, &endpoint.interface);
    let found = socket.transact(batch)?;
    let index = link::parse(&found, &endpoint.interface)?.index;
    let mut batch = Batch::default();
    address::add_default_route(&mut batch, index, endpoint.gateway);
    socket.transact(batch).map(drop)
}

fn create_veth(network: &Network, netns: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<()> {
    let socket = Socket::open(&ROUTE)?;
    let mut batch = Batch::default();
    link::get(&mut batch, &network.bridge);
    let found = socket.transact(batch)?;
    let bridge = link::parse(&found, &network.bridge)?;
    let veth = Veth {
        name: &endpoint.host_interface,
        bridge: bridge.index,
        mtu: network.mtu,
        peer: &endpoint.interface,
        peer_mac: endpoint.mac,
        netns,
    };
    let create = || {
        let mut batch = Batch::default();
        link::create_veth(&mut batch, &veth);
        socket.transact(batch).map(drop)
    };
    match create() {
        Err(Error::Kernel { source, .. }) if source.errno == Errno::EXIST => {
            link::delete(&socket, veth.name)?;
            create()
        }
        other => other,
    }
}

/// Configures the container's end through a socket of its namespace.
fn configure(socket: &Socket, endpoint: &Endpoint) -> Result<()> {
    let mut batch = Batch::default();
    link::set_up(&mut batch, LOOPBACK, "lo");
    link::get(&mut batch, &endpoint.interface);
    let found = socket.transact(batch)?;
    let index = link::parse(&found, &endpoint.interface)?.index;
    let mut batch = Batch::default();
    address::add(&mut batch, index, endpoint.address, endpoint.prefix);
    link::set_up(&mut batch, index, &endpoint.interface);
    if endpoint.is_way_out {
        // The gateway is reachable only once the interface is up.
        address::add_default_route(&mut batch, index, endpoint.gateway);
    }
    socket.transact(batch).map(drop)
}
