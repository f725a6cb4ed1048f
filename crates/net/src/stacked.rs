//! Networks without a bridge: containers' interfaces stand on one of the host's, their parent, and
//! speak for themselves on the wire it is on (macvlan, ipvlan).
//!
//! The host has no part in what such containers say: no rule of ours sees it, no port is published,
//! and the host cannot reach them by its parent interface, which is how the kernel builds them.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::link::{self, Link, ROUTE};
use crate::netlink::{Batch, Socket};
use crate::{Error, MacAddress, Network, Result, sysctl};

/// The interfaces of a network without a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacked {
    /// What they are.
    pub kind: StackedKind,
    /// Whether the parent was made for this network, and goes with it: one that leads nowhere.
    pub owns_parent: bool,
}

/// What an interface is that stands on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackedKind {
    /// Each has a hardware address of its own.
    Macvlan(MacvlanMode),
    /// All have the parent's.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// How interfaces on one parent see each other (`IFLA_MACVLAN_MODE`,
/// `include/uapi/linux/if_link.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Not at all.
    Private = 1,
    /// By way of a switch outside that sends back what is for them.
    Vepa = 2,
    /// Directly.
    #[default]
    Bridge = 4,
    /// There is one only, which has the parent for itself.
    Passthru = 8,
}

/// What is done with packets (`IFLA_IPVLAN_MODE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// They are switched, and what is for everybody goes to everybody.
    #[default]
    L2 = 0,
    /// They are routed by the host.
    L3 = 1,
    /// They are routed by the host, whose connection tracking sees them.
    L3s = 2,
}

/// How interfaces on one parent see each other (`IFLA_IPVLAN_FLAGS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanFlag {
    /// Directly.
    #[default]
    Bridge = 0,
    /// Not at all.
    Private = 1,
    /// By way of a switch outside that sends back what is for them.
    Vepa = 2,
}

/// Makes sure that the parent of the network's interfaces is there and up; makes it if it is the
/// network's own.
///
/// # Errors
/// [`Error::Missing`] if a parent of the host's is not there or is down; [`Error::Conflict`] if the
/// name of an own one is taken; [`Error::Denied`] without CAP_NET_ADMIN.
pub(crate) fn ensure(network: &Network, stacked: Stacked) -> Result<()> {
    network.validate()?;
    let socket = Socket::open(&ROUTE)?;
    let found = link::find(&socket, &network.bridge)?;
    match (found, stacked.owns_parent) {
        (None, false) => Err(missing(network, "does not exist on this host")),
        (Some(parent), false) if !parent.is_up => Err(missing(network, "is down")),
        (Some(_), false) => Ok(()),
        (parent, true) => ensure_own(&socket, network, parent),
    }
}

/// Makes the parent that leads nowhere: a wire, since a bridge without ports has no carrier, and
/// not every kernel has the dummy interface that Docker takes.
fn ensure_own(socket: &Socket, network: &Network, parent: Option<Link>) -> Result<()> {
    let (name, other) = (network.bridge.as_str(), other_end(&network.bridge));
    if parent.is_none() {
        let mut batch = Batch::default();
        let own = (name, MacAddress::of(network.gateway));
        link::create_wire(&mut batch, own, &other, network.mtu).tolerate(Errno::EXIST);
        socket.transact(batch)?;
    }
    let parent = match parent {
        Some(parent) => Some(parent),
        None => link::find(socket, name)?,
    };
    refuse_foreign(parent.as_ref(), network)?;
    for end in [name, &other] {
        sysctl::disable_ipv6(end)?;
    }
    let mut batch = Batch::default();
    link::set_up_named(&mut batch, name);
    link::set_up_named(&mut batch, &other);
    socket.transact(batch).map(drop)
}

/// The name of the wire's other end, which nobody looks for.
fn other_end(name: &str) -> String {
    let mut other = name.to_owned();
    other.replace_range(..1, if name.starts_with('x') { "y" } else { "x" });
    other
}

fn refuse_foreign(parent: Option<&Link>, network: &Network) -> Result<()> {
    let own = MacAddress::of(network.gateway);
    match parent {
        Some(parent) if parent.kind == "veth" && parent.mac == Some(own) => Ok(()),
        _ => Err(Error::Conflict(format!(
            "interface `{}` exists, and is not the parent of network `{}`",
            network.bridge, network.name
        ))),
    }
}

/// Removes the parent if it is the network's own; that it is gone is well.
pub(crate) fn remove(network: &Network, stacked: Stacked) -> Result<()> {
    if !stacked.owns_parent {
        return Ok(());
    }
    let socket = Socket::open(&ROUTE)?;
    let found = link::find(&socket, &network.bridge)?;
    if found.is_none() {
        return Ok(());
    }
    refuse_foreign(found.as_ref(), network)?;
    link::delete(&socket, &network.bridge)
}

fn missing(network: &Network, what: &str) -> Error {
    let Network { name, bridge, .. } = network;
    Error::Missing(format!("parent interface `{bridge}` of network `{name}` {what}"))
}
