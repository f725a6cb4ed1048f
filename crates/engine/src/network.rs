//! A container's places on networks.
//!
//! ```text
//! <root>/network/bridge.json   the default bridge: chosen when the first container needs it
//! <run root>/network/leases/<ip>   symbolic link to the id of the container that has the address
//! <run root>/network/<id>/leases/<ip>   the same, of a network that a user made
//! <run root>/network/<id>/names/<name>/<ip>   symbolic link to the id of the container that has
//!                                             this alias, and the address, there
//! ```

mod connect;
mod definition;
pub(crate) mod driver;
mod exposure;
mod file;
mod listening;
mod names;
pub mod service;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use net::{Endpoint, StackedKind};
use rustix::fs::FlockOperation;

use crate::Engine;
use crate::container::{Container, Placement};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock, read_json, write_json};
use crate::settings::{Membership, NetworkMode};

pub use definition::{Network, NetworkOptions};
pub use exposure::{Exposure, Way};
pub(crate) use file::{OWN_SERVER, name_server, write_files};
pub use names::validate_alias;

/// The root that has the plain names `cais0` and `cais`; others get names of their own, so that
/// two roots never see each other's bridges and rules.
const DEFAULT_ROOT: &str = "/var/lib/cais";
const BRIDGE_FILE: &str = "bridge.json";
/// The name of the default bridge's network.
const DEFAULT: &str = "bridge";
const NETWORK_NAMESPACE: &str = "/proc/self/ns/net";

impl Engine {
    fn network_dir(&self) -> PathBuf {
        self.root.join("network")
    }

    /// What ends with the machine of a network that a user made.
    fn network_run_dir(&self, id: &str) -> PathBuf {
        self.containers.run_dir("network").join(id)
    }

    /// Addresses end with the machine.
    fn leases_dir(&self, network: &str, id: &str) -> PathBuf {
        match network {
            DEFAULT => self.containers.run_dir("network").join("leases"),
            _ => self.network_run_dir(id).join("leases"),
        }
    }

    /// The global id of this root's unique local addresses (RFC 4193, 3.2.2): of this machine, and
    /// apart from those of other roots.
    fn unique_local_seed(&self) -> [u8; 5] {
        let machine = ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"];
        let machine = machine.into_iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
        let root = self.root.as_os_str().as_encoded_bytes();
        let digest = oci::Digest::of(&[&machine, b"\0".as_slice(), root].concat());
        let mut seed = [0; 5];
        for (byte, digits) in seed.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("a digest is of ASCII digits");
            *byte = u8::from_str_radix(digits, 16).expect("a digest is of hexadecimal digits");
        }
        seed
    }

    /// What the interfaces and rules of this root are called after `cais`.
    fn suffix(&self) -> String {
        if self.root == Path::new(DEFAULT_ROOT) {
            return String::new();
        }
        let digest = oci::Digest::of(self.root.as_os_str().as_encoded_bytes());
        format!("-{}", &digest.hex()[..8])
    }

    pub(crate) fn table(&self) -> String {
        format!("cais{}", self.suffix())
    }

    /// Makes sure that a network's bridge and rules are there, and carry our root.
    pub(crate) fn ensure_bridge(&self, network: &net::Network) -> Result<()> {
        let table = self.table();
        let root = self.root.to_str().unwrap_or_default();
        net::ensure_bridge(network, net::Owner { table: &table, root }).map_err(from_net)
    }

    /// The default bridge: as it was chosen, or chosen and made now.
    fn bridge(&self) -> Result<net::Network> {
        if let Some(network) = self.chosen_bridge()? {
            return Ok(network);
        }
        // One root at a time, since what a subnet's choice goes by is the bridges there are. The
        // network namespace is what all who could choose the same have in common.
        let namespace = File::open(NETWORK_NAMESPACE).doing(|| "open our network".into())?;
        flock(&namespace, FlockOperation::LockExclusive)?;
        if let Some(network) = self.chosen_bridge()? {
            return Ok(network);
        }
        self.choose_bridge()
    }

    /// Makes a bridge on a subnet that neither the host nor its name servers are in.
    fn choose_bridge(&self) -> Result<net::Network> {
        let mut in_use = host_subnets()?;
        let named = self.networks()?;
        in_use.extend(named.iter().filter_map(|network| Some(network.bridge.as_ref()?.subnet)));
        let subnet = net::ipam::choose_subnet(&in_use).map_err(from_net)?;
        let gateway = Ipv4Addr::from_bits(subnet.address().to_bits() + 1);
        let suffix = self.suffix();
        let bridge = if suffix.is_empty() { "cais0".into() } else { format!("cais{suffix}") };
        let network = net::Network {
            name: DEFAULT.into(),
            bridge,
            subnet,
            gateway,
            mtu: None,
            range: None,
            internal: false,
            v6: None,
            reserved: BTreeMap::new(),
            stacked: None,
        };
        create_dir(&self.network_dir())?;
        write_json(&self.network_dir(), BRIDGE_FILE, &network)?;
        self.ensure_bridge(&network)?;
        Ok(network)
    }

    fn chosen_bridge(&self) -> Result<Option<net::Network>> {
        match read_json(&self.network_dir().join(BRIDGE_FILE)) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// The bridge of a network, and the network's id where a user made it.
    fn bridge_of(&self, name: &str) -> Result<(net::Network, String)> {
        if name == DEFAULT {
            return Ok((self.bridge()?, String::new()));
        }
        let network = self.named_network(name)?.ok_or_else(|| definition::no_such(name))?;
        let bridge = network.bridge.ok_or_else(|| definition::no_such(name))?;
        Ok((bridge, network.id))
    }

    /// Gives the container its places on networks, which are written into its state one by one.
    pub(crate) fn take_places(&self, container: &mut Container) -> Result<()> {
        container.state.places.clear();
        for attachment in container.record.settings.networks() {
            let place = self.take_place(container, &attachment)?;
            container.state.places.push(place);
        }
        Ok(())
    }

    /// A further place for the container.
    fn take_place(&self, container: &Container, attachment: &Membership) -> Result<Placement> {
        let name = &attachment.network;
        let (network, network_id) = self.bridge_of(name)?;
        let leases = self.leases_dir(name, &network_id);
        let id = &container.record.id;
        let address = self.lease(&leases, &network.pool(), attachment.address, id)?;
        let mut endpoint = Endpoint::new(&network, address, id);
        match (network.pool_v6(), attachment.address_v6) {
            (Some(pool), asked) => {
                let address = self.lease(&leases, &pool, asked, id)?;
                endpoint = endpoint.with_v6(&network, address);
            }
            (None, None) => {}
            (None, Some(asked)) => {
                let message = format!("network {name} has no IPv6, so no container has {asked}");
                return Err(Error::new(Kind::Invalid, message)
                    .hint("`cais network create --ipv6` makes networks that have"));
            }
        }
        let places = &container.state.places;
        if let (Some(_), Some(StackedKind::Ipvlan(..))) =
            (attachment.mac, network.stacked.map(|stacked| stacked.kind))
        {
            let message = format!("no container of network {name} has a mac address of its own");
            return Err(Error::new(Kind::Invalid, message)
                .hint("interfaces of driver ipvlan have that of their parent"));
        }
        endpoint.mac = attachment.mac.unwrap_or(endpoint.mac);
        endpoint.link_local = link_local(name, attachment, endpoint.v6.is_some())?;
        endpoint.interface = free_interface(places);
        endpoint.is_way_out &= !places.iter().any(|place| place.endpoint.is_way_out);
        let place = Placement {
            network: name.clone(),
            network_id,
            endpoint,
            aliases: attachment.aliases.clone(),
        };
        self.note_names(&place, id)?;
        Ok(place)
    }

    /// The address that was asked for, or any; those of containers that are gone are taken back
    /// first if need be.
    fn lease<A: net::Address>(
        &self,
        leases: &Path,
        pool: &net::ipam::Pool<'_, A>,
        asked: Option<A>,
        id: &str,
    ) -> Result<A>
    where
        IpAddr: From<A>,
    {
        let lease = || match asked {
            Some(address) => net::ipam::claim(leases, pool, address, id).map(|()| address),
            None => net::ipam::allocate(leases, pool, id),
        };
        let address = match lease() {
            Err(net::Error::Exhausted(_) | net::Error::Conflict(_)) => {
                let alive = |id: &str| {
                    let places =
                        ["containers", "build/run"].map(|place| self.root.join(place).join(id));
                    places.iter().any(|place| place.exists())
                };
                net::ipam::reclaim(leases, &alive).map_err(from_net)?;
                lease()
            }
            outcome => outcome,
        };
        address.map_err(from_net)
    }

    /// Ends a place's lease and names.
    pub(crate) fn leave_place(&self, place: &Placement, id: &str) {
        self.forget_names(place);
        let leases = self.leases_dir(&place.network, &place.network_id);
        // A lease that cannot be ended now is reclaimed when addresses run out.
        for address in place.endpoint.addresses() {
            let _ = net::ipam::release(&leases, address, id);
        }
    }

    /// Gives a new network namespace what its mode promises, and publishes its ports; where names
    /// are asked for, if the container is on a network that a user made.
    pub(crate) fn attach_network(
        &self,
        mode: &NetworkMode,
        namespaces: &runtime::Namespaces,
        places: &[Placement],
        ports: &[net::port::Port],
    ) -> Result<Option<net::dns::Listeners>> {
        // The loopback link is the runtime's to switch on.
        if places.is_empty() || matches!(mode, NetworkMode::Host | NetworkMode::Container(_)) {
            return Ok(None);
        }
        let namespace = namespaces.net().doing(|| "open the network namespace".into())?;
        self.attach_places(namespace.as_fd(), places, ports)?;
        if places.iter().all(|place| place.network_id.is_empty()) {
            return Ok(None);
        }
        net::dns::listen(namespace.as_fd(), file::OWN_SERVER).map_err(from_net).map(Some)
    }

    /// Joins a network namespace to networks, and publishes its ports.
    pub(crate) fn attach_places(
        &self,
        namespace: BorrowedFd<'_>,
        places: &[Placement],
        ports: &[net::port::Port],
    ) -> Result<()> {
        for place in places {
            self.attach_place(place, namespace)?;
        }
        if let Some(place) = published_at(places).filter(|_| !ports.is_empty()) {
            let (network, _) = self.bridge_of(&place.network)?;
            net::port::publish(&self.table(), &network, &place.endpoint, ports)
                .map_err(from_net)?;
        }
        Ok(())
    }

    fn attach_place(&self, place: &Placement, namespace: BorrowedFd<'_>) -> Result<()> {
        let (network, _) = self.bridge_of(&place.network)?;
        self.ensure_bridge(&network)?;
        net::attach(&network, namespace, &place.endpoint).map_err(from_net)
    }
}

/// The link-local addresses that are asked for, if the kernel will take them.
fn link_local(network: &str, asked: &Membership, has_v6: bool) -> Result<Vec<IpAddr>> {
    for address in &asked.link_local {
        let (is_link_local, is_possible) = match address {
            IpAddr::V4(address) => (address.is_link_local(), true),
            IpAddr::V6(address) => (address.is_unicast_link_local(), has_v6),
        };
        if !is_link_local {
            return Err(Error::invalid(format!("{address} is no link-local address"))
                .hint("those are in 169.254.0.0/16 and fe80::/10"));
        }
        if !is_possible {
            let text = format!("network {network} has no IPv6, so no container has {address}");
            return Err(
                Error::invalid(text).hint("`cais network create --ipv6` makes networks that have")
            );
        }
    }
    Ok(asked.link_local.clone())
}

/// What ports are published for: of the places on bridges the one that leads out of the machine, else
/// the first.
pub(crate) fn published_at(places: &[Placement]) -> Option<&Placement> {
    let mut bridged = places.iter().filter(|place| place.endpoint.is_bridged());
    let first = bridged.clone().next();
    bridged.find(|place| place.endpoint.is_way_out).or(first)
}

/// The first of `eth0`, `eth1`, … that none of the places has.
fn free_interface(places: &[Placement]) -> String {
    let taken = |name: &String| places.iter().any(|place| place.endpoint.interface == *name);
    let mut names = (0..=places.len()).map(|n| format!("eth{n}"));
    names.find(|name| !taken(name)).expect("there is one name more than places")
}

/// The subnets of the host's addresses and routes, and its name servers.
fn host_subnets() -> Result<Vec<net::Subnet>> {
    let mut in_use = net::in_use().map_err(from_net)?;
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = resolv.lines().filter_map(file::name_server).filter_map(|s| s.parse().ok());
    in_use.extend(servers.map(|server| net::Subnet::containing(server, 32)));
    Ok(in_use)
}

pub(crate) fn from_net(error: net::Error) -> Error {
    let kind = match &error {
        net::Error::Invalid(_) => Kind::Invalid,
        net::Error::Conflict(_) | net::Error::Exhausted(_) => Kind::Conflict,
        net::Error::Missing(_) => Kind::NotFound,
        _ => Kind::Internal,
    };
    let hint = error.hint();
    if kind != Kind::Internal {
        let refusal = Error::new(kind, error.to_string());
        return match hint {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        };
    }
    let failure = Error::caused(kind, "set up the container's network", error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure.hint("--network host and --network none need no bridge"),
    }
}
