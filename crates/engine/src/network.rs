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
mod file;
mod names;

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::Endpoint;
use rustix::fs::FlockOperation;

use crate::Engine;
use crate::container::{Container, Placement};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock, read_json, write_json};
use crate::settings::{Membership, NetworkMode};

pub use definition::{Network, NetworkOptions};
pub(crate) use file::{name_server, write_files};
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
        let (mtu, range, internal) = (None, None, false);
        let name = DEFAULT.into();
        let network = net::Network { name, bridge, subnet, gateway, mtu, range, internal };
        create_dir(&self.network_dir())?;
        write_json(&self.network_dir(), BRIDGE_FILE, &network)?;
        net::ensure_bridge(&network, &self.table()).map_err(from_net)?;
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
        let lease = || match attachment.address {
            Some(address) => net::ipam::claim(&leases, &network, address, id).map(|()| address),
            None => net::ipam::allocate(&leases, &network, id),
        };
        let address = match lease() {
            Err(net::Error::Exhausted(_) | net::Error::Conflict(_)) => {
                let alive = |id: &str| self.root.join("containers").join(id).exists();
                net::ipam::reclaim(&leases, &alive).map_err(from_net)?;
                lease()
            }
            outcome => outcome,
        };
        let mut endpoint = Endpoint::new(&network, address.map_err(from_net)?, id);
        let places = &container.state.places;
        endpoint.mac = attachment.mac.unwrap_or(endpoint.mac);
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

    /// Ends a place's lease and names.
    pub(crate) fn leave_place(&self, place: &Placement, id: &str) {
        self.forget_names(place);
        let leases = self.leases_dir(&place.network, &place.network_id);
        // A lease that cannot be ended now is reclaimed when addresses run out.
        let _ = net::ipam::release(&leases, place.endpoint.address, id);
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
        if matches!(mode, NetworkMode::Host | NetworkMode::Container(_)) {
            return Ok(None);
        }
        let namespace = namespaces.net().doing(|| "open the network namespace".into())?;
        let Some(way_out) = way_out(places) else {
            return net::loopback_up(namespace.as_fd()).map_err(from_net).map(|()| None);
        };
        for place in places {
            self.attach_place(place, namespace.as_fd())?;
        }
        if !ports.is_empty() {
            let (network, _) = self.bridge_of(&way_out.network)?;
            net::port::publish(&self.table(), &network, &way_out.endpoint, ports)
                .map_err(from_net)?;
        }
        if places.iter().all(|place| place.network_id.is_empty()) {
            return Ok(None);
        }
        net::dns::listen(namespace.as_fd(), file::OWN_SERVER).map_err(from_net).map(Some)
    }

    fn attach_place(&self, place: &Placement, namespace: BorrowedFd<'_>) -> Result<()> {
        let (network, _) = self.bridge_of(&place.network)?;
        net::ensure_bridge(&network, &self.table()).map_err(from_net)?;
        net::attach(&network, namespace, &place.endpoint).map_err(from_net)
    }

    /// The network namespace of the container that this one shares it with: open, and a path that
    /// leads to it as long as it is.
    pub(crate) fn joined_network(&self, container: &Container) -> Result<Option<(File, PathBuf)>> {
        let NetworkMode::Container(id) = &container.record.settings.network else {
            return Ok(None);
        };
        let other = self.find(id)?;
        if !other.is_running() {
            return Err(Error::new(
                Kind::Conflict,
                format!("cannot join network of a non running container: {}", other.record.name),
            )
            .hint(format!("`cais start {}` starts it", other.record.name)));
        }
        let namespace = namespace_of(&other)?;
        let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        Ok(Some((namespace, path.into())))
    }
}

/// The place that leads out of the machine, else the first: what ports are published for.
pub(crate) fn way_out(places: &[Placement]) -> Option<&Placement> {
    places.iter().find(|place| place.endpoint.is_way_out).or(places.first())
}

/// The network namespace of a running container.
fn namespace_of(container: &Container) -> Result<File> {
    let process = crate::stop::running(container)?;
    let doing = || format!("open the network of container {}", container.record.name);
    let namespace = File::open(format!("/proc/{}/ns/net", container.state.pid)).doing(doing)?;
    // While the process is there, nothing else has its number: the namespace is its own.
    if crate::stop::ends_within(&process, Some(Duration::ZERO)).doing(doing)? {
        return Err(crate::stop::not_running(container));
    }
    Ok(namespace)
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
        _ => Kind::Internal,
    };
    if kind != Kind::Internal {
        return Error::new(kind, error.to_string());
    }
    let hint = error.hint();
    let failure = Error::caused(kind, "set up the container's network", error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure.hint("--network host and --network none need no bridge"),
    }
}
