//! A container's end of a network.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::link::{self, LOOPBACK, OnParent, ROUTE, Veth};
use crate::netlink::{Batch, Socket};
use crate::stacked::Stacked;
use crate::{Endpoint, Error, Network, Result, address, namespace, sysctl};

/// How long the kernel may take to take a namespace down, and how often it is asked.
const FORMER_LIFE_MAX: Duration = Duration::from_secs(30);
const FORMER_LIFE_STEP: Duration = Duration::from_millis(5);

/// What a bridge has room for: it numbers its ports with ten bits, from 1 on (`BR_PORT_BITS` in the
/// kernel's `net/bridge/br_private.h`).
const PORTS_MAX: u32 = (1 << 10) - 1;

/// Connects the network namespace `netns` to the network's bridge or parent interface, which exists
/// ([`ensure_bridge`](crate::ensure_bridge)): in it the loopback interface is up afterwards, and an
/// interface with the endpoint's address and a default route.
///
/// A veth of the same name is a leftover of this container's former life, whose namespace the
/// kernel has not finished taking down: it is deleted first.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN here and in `netns`, or CAP_SYS_ADMIN to enter it;
/// [`Error::Exhausted`] if the bridge has no room for a further port; [`Error::Kernel`] if the bridge does not exist (`ENODEV`) or `netns` has such an interface
/// already (`EEXIST`); [`Error::Unsupported`] if the kernel has no veth. Of what was done by then,
/// the veth goes with the namespace, or with [`detach`].
pub fn attach(network: &Network, netns: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<()> {
    match network.stacked {
        None => create_veth(network, netns, endpoint)?,
        Some(stacked) => create_on_parent(network, stacked, netns, endpoint)?,
    }
    let socket = namespace::inside(netns, || {
        // Before the interface is up, so that it never has an address to lose.
        match endpoint.v6 {
            None => sysctl::disable_ipv6(&endpoint.interface)?,
            Some(_) => sysctl::enable_ipv6(&endpoint.interface)?,
        }
        Socket::open(&ROUTE)
    })?;
    let deadline = Instant::now() + FORMER_LIFE_MAX;
    let mut again = false;
    loop {
        match configure(&socket, endpoint, again) {
            // A macvlan interface with this hardware address, or one of ipvlan with this address, of
            // this container's former life, whose namespace the kernel has not finished taking down:
            // nothing tells when it has.
            Err(e) if e.errno() == Some(Errno::ADDRINUSE) && Instant::now() < deadline => {
                again = true;
                std::thread::sleep(FORMER_LIFE_STEP);
            }
            outcome => return outcome,
        }
    }
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

/// Deletes the endpoint's interface in the network namespace `netns`: the end of an endpoint that has
/// none on the host's side. That there is none is well.
///
/// # Errors
/// As of [`attach`].
pub fn detach_inside(netns: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<()> {
    let socket = namespace::inside(netns, || Socket::open(&ROUTE))?;
    link::delete(&socket, &endpoint.interface)
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
    add_ways_out(&mut batch, index, endpoint, false);
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
    let created = match create() {
        Err(Error::Kernel { source, .. }) if source.errno == Errno::EXIST => {
            link::delete(&socket, veth.name)?;
            create()
        }
        other => other,
    };
    created.map_err(|error| match error.errno() {
        Some(Errno::XFULL) => Error::Exhausted(format!(
            "the bridge of network `{}` is full: no bridge of Linux has more than {PORTS_MAX} ports, \
             so further containers need another network",
            network.name
        )),
        _ => error,
    })
}

fn create_on_parent(
    network: &Network,
    stacked: Stacked,
    netns: BorrowedFd<'_>,
    endpoint: &Endpoint,
) -> Result<()> {
    let socket = Socket::open(&ROUTE)?;
    let mut batch = Batch::default();
    link::get(&mut batch, &network.bridge);
    let found = socket.transact(batch)?;
    let link = OnParent {
        kind: stacked.kind,
        parent: link::parse(&found, &network.bridge)?.index,
        mtu: network.mtu,
        name: &endpoint.interface,
        mac: endpoint.mac,
        netns,
    };
    let mut batch = Batch::default();
    link::create_on_parent(&mut batch, &link);
    socket.transact(batch).map(drop)
}

/// Configures the container's end through a socket of its namespace. If it is tried `again`, some of
/// it may be so already: the kernel goes on behind a request that fails.
fn configure(socket: &Socket, endpoint: &Endpoint, again: bool) -> Result<()> {
    let mut batch = Batch::default();
    link::set_up(&mut batch, LOOPBACK, "lo");
    link::get(&mut batch, &endpoint.interface);
    let found = socket.transact(batch)?;
    let index = link::parse(&found, &endpoint.interface)?.index;
    let mut batch = Batch::default();
    let v4 = (endpoint.address.into(), endpoint.prefix);
    let v6 = endpoint.v6.map(|v6| (v6.address.into(), v6.prefix));
    let link_local = endpoint.link_local.iter().map(|address| (*address, link_prefix(address)));
    for (address, prefix) in [v4].into_iter().chain(v6).chain(link_local) {
        address::add(&mut batch, index, address, prefix);
        if again {
            batch.tolerate(Errno::EXIST);
        }
    }
    link::set_up(&mut batch, index, &endpoint.interface);
    if endpoint.is_way_out {
        // The gateway is reachable only once the interface is up.
        add_ways_out(&mut batch, index, endpoint, again);
    }
    socket.transact(batch).map(drop)
}

/// The bits that all link-local addresses of a link have in common (RFC 3927, 2.8; RFC 4291, 2.5.6).
fn link_prefix(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 16,
        IpAddr::V6(_) => 64,
    }
}

fn add_ways_out(batch: &mut Batch, index: u32, endpoint: &Endpoint, again: bool) {
    let v6 = endpoint.v6.map(|v6| v6.gateway.into());
    for gateway in [endpoint.gateway.into()].into_iter().chain(v6) {
        address::add_default_route(batch, index, gateway);
        if again {
            batch.tolerate(Errno::EXIST);
        }
    }
}
