//! Links, addresses, address leases and nftables rule sets of this host.
//!
//! **What it is.** A bridge network as Docker has it: one Linux bridge per network, one veth pair
//! per container, addresses leased as files, masquerading and isolation in one nftables table
//! of our own. Everything is a synchronous, batched netlink conversation; nothing is executed.
//!
//! **What it must not know.** Containers, images, processes, async, Docker's JSON. It sees a
//! network namespace as a file descriptor, and an owner as an opaque word.
//!
//! **Front doors.** [`ensure_bridge`], [`ipam::allocate`], [`attach`], [`loopback_up`],
//! [`remove_bridge`].
//!
//! **How to test it.** `cargo test -p net` as root: every kernel test is its own fake host, a fresh
//! network namespace that dies with the test's thread.
//!
//! # A container's way in and out
//!
//! ```text
//!  container namespace │ host namespace
//!   eth0 ──── veth ────┼── veth1a2b… ── cais0 (gateway) ── forward ── postrouting ── eth0
//!                      │                                    isolate     masquerade
//! ```
//!
//! # Living beside another firewall
//!
//! A packet is forwarded only if *every* base chain at the forward hook lets it pass, so an accept
//! in our table cannot overrule a drop in another one. A host whose own firewall drops forwarded
//! packets by policy (ufw does, and so does Docker's `FORWARD` chain) needs an accept rule for the
//! bridge in *that* firewall; for Docker's, in its `DOCKER-USER` chain, which Docker leaves to the
//! administrator. [`walls`] names such chains. They are not changed from here: a rule in
//! nftables' own words inside a table of iptables makes `iptables` refuse to show the table.

#![forbid(unsafe_code)]

mod address;
mod attach;
mod bridge;
mod conntrack;
pub mod dns;
mod error;
mod filter;
mod firewall;
pub mod ipam;
mod link;
mod namespace;
mod neighbour;
mod netlink;
mod network;
mod nftables;
mod owner;
pub mod port;
pub mod service;
mod stacked;
mod subnet;
mod sysctl;

pub use address::{in_use, in_use_v6};
pub use attach::{attach, detach, detach_inside, lead_out, loopback_up};
pub use bridge::{ensure_bridge, remove_bridge, remove_bridges};
pub use error::{Error, KernelError, Result};
pub use filter::remove_table;
pub use firewall::{Hook, Wall, walls};
pub use neighbour::{Neighbour, meet};
pub use network::{Endpoint, EndpointV6, INTERFACE_NAME_MAX, MacAddress, Network, NetworkV6};
pub use owner::{Belongings, Owner, belongings, remove_belongings};
pub use stacked::{IpvlanFlag, IpvlanMode, MacvlanMode, Stacked, StackedKind};
pub use subnet::{Address, Prefix, Subnet, Subnet6};
