//! The networks there are: three that are always there, and those that users make.
//!
//! ```text
//! <root>/network/named/<name>.json   a network that a user made
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use net::{NetworkV6, Subnet, Subnet6};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::driver::Driver;
use super::{NETWORK_NAMESPACE, from_net};
use crate::container::Container;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Event, Subject};
use crate::file::{create_dir, flock, read_json, write_json};
use crate::{Engine, PruneFilter, clock, id};

/// A network, as `network inspect` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, which never changes.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// `bridge`, `macvlan`, `ipvlan`, `host` or `null`.
    pub driver: String,
    /// Free-form notes.
    pub labels: BTreeMap<String, String>,
    /// What was asked of its driver.
    pub options: BTreeMap<String, String>,
    /// Whether containers may be connected by hand; that is so of every network here.
    pub attachable: bool,
    /// Its bridge, or what its containers' interfaces stand on, if it has that.
    pub bridge: Option<net::Network>,
}

/// What is asked of a new network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Its name.
    pub name: String,
    /// Where its addresses come from; chosen where `None`.
    pub subnet: Option<Subnet>,
    /// The part of the subnet that addresses are chosen from.
    pub range: Option<Subnet>,
    /// The bridge's address; the first of the subnet where `None`.
    pub gateway: Option<Ipv4Addr>,
    /// Whether it has IPv6, too; what follows is of that half.
    pub ipv6: bool,
    /// Where its IPv6 addresses come from; chosen where `None`.
    pub subnet_v6: Option<Subnet6>,
    /// The part of it that addresses are chosen from.
    pub range_v6: Option<Subnet6>,
    /// The bridge's IPv6 address; the first of the subnet where `None`.
    pub gateway_v6: Option<Ipv6Addr>,
    /// Addresses that no container gets, by the names that users know them by.
    pub reserved: BTreeMap<String, IpAddr>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether containers may be connected by hand.
    pub attachable: bool,
    /// Free-form notes.
    pub labels: BTreeMap<String, String>,
    /// `bridge`, `macvlan` or `ipvlan`; a bridge where empty.
    pub driver: String,
    /// What is asked of its driver.
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// Whether it is always there.
    #[must_use]
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }
}

fn is_predefined(name: &str) -> bool {
    ["bridge", "host", "none"].contains(&name)
}

impl Engine {
    fn named_dir(&self) -> PathBuf {
        self.network_dir().join("named")
    }

    /// Makes a network of containers' own, with a bridge.
    ///
    /// # Errors
    /// [`Kind::Exists`] if the name is taken, [`Kind::Invalid`] if the network cannot be,
    /// [`Kind::Conflict`] if its addresses are another network's or the host's.
    pub fn create_network(&self, asked: NetworkOptions) -> Result<Network> {
        let name = &asked.name;
        if is_predefined(name) {
            let message = format!("operation is not permitted on predefined {name} network");
            return Err(Error::new(Kind::Denied, message));
        }
        validate(name)?;
        let driver = if asked.driver.is_empty() { "bridge" } else { asked.driver.as_str() };
        let driver = Driver::parse(driver, &asked.options)?;
        // One at a time, since each is to stay clear of the others.
        let namespace = File::open(NETWORK_NAMESPACE).doing(|| "open our network".into())?;
        flock(&namespace, FlockOperation::LockExclusive)?;
        if self.named_network(name)?.is_some() {
            let message = format!("network with name {name} already exists");
            return Err(Error::new(Kind::Exists, message));
        }
        let id = id::fresh()?;
        let bridge = self.new_bridge(&asked, driver, &id)?;
        self.ensure_bridge(&bridge)?;
        let network = Network {
            id,
            name: asked.name,
            created: clock::now(),
            driver: if asked.driver.is_empty() { "bridge".into() } else { asked.driver },
            labels: asked.labels,
            options: asked.options,
            attachable: asked.attachable,
            bridge: Some(bridge),
        };
        create_dir(&self.named_dir())?;
        write_json(&self.named_dir(), &format!("{}.json", network.name), &network)?;
        self.emit(Event::network("create", &network));
        Ok(network)
    }

    fn new_bridge(&self, asked: &NetworkOptions, driver: Driver, id: &str) -> Result<net::Network> {
        let known = self.networks()?;
        let bridges: Vec<_> = known.iter().filter_map(|network| network.bridge.as_ref()).collect();
        let stacked = driver.stacked();
        if let (Some(parent), Some(_)) = (&driver.interface, stacked)
            && let Some(user) = bridges.iter().find(|bridge| bridge.bridge == *parent)
        {
            let message =
                format!("network {} is already using parent interface {parent}", user.name);
            return Err(Error::new(Kind::Conflict, message));
        }
        // What stands on a parent is where the parent is: its addresses are the host's network's.
        let is_part_of_host = stacked.is_some();
        let subnet = choose_v4(asked, &bridges, is_part_of_host)?;
        let v6 = match asked.ipv6 {
            false => None,
            true => Some(self.choose_v6(asked, &bridges, is_part_of_host)?),
        };
        let own = if stacked.is_some() { "dm" } else { "br" };
        let bridge = net::Network {
            name: asked.name.clone(),
            bridge: driver.interface.unwrap_or_else(|| format!("{own}-{}", &id[..12])),
            subnet,
            gateway: asked.gateway.unwrap_or_else(|| first_host(subnet)),
            mtu: driver.mtu,
            range: asked.range,
            internal: asked.internal || stacked.is_some_and(|stacked| stacked.owns_parent),
            v6,
            reserved: asked.reserved.clone(),
            stacked,
        };
        bridge.validate().map_err(|error| Error::invalid(error.to_string()))?;
        Ok(bridge)
    }

    fn choose_v6(
        &self,
        asked: &NetworkOptions,
        bridges: &[&net::Network],
        is_part_of_host: bool,
    ) -> Result<NetworkV6> {
        let half = |bridge: &&net::Network| bridge.v6.map(|v6| v6.subnet);
        let mut in_use: Vec<Subnet6> = bridges.iter().filter_map(half).collect();
        if !(is_part_of_host && asked.subnet_v6.is_some()) {
            in_use.extend(net::in_use_v6().map_err(from_net)?);
        }
        let subnet = match asked.subnet_v6 {
            Some(subnet) => refuse_overlap(subnet, &in_use)?,
            None => {
                net::ipam::choose_subnet_v6(self.unique_local_seed(), &in_use).map_err(from_net)?
            }
        };
        let gateway = asked.gateway_v6.unwrap_or_else(|| first_host(subnet));
        Ok(NetworkV6 { subnet, gateway, range: asked.range_v6 })
    }

    /// The network that a user made by this name.
    pub(crate) fn named_network(&self, name: &str) -> Result<Option<Network>> {
        if validate(name).is_err() {
            return Ok(None);
        }
        match read_json(&self.named_dir().join(format!("{name}.json"))) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let mut all = self.predefined()?;
        let dir = self.named_dir();
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Some(name) = definition_name(&entry) else { continue };
            all.extend(self.named_network(&name)?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn predefined(&self) -> Result<Vec<Network>> {
        let bridge = self.chosen_bridge()?;
        let make = |name: &str, driver: &str, bridge: Option<net::Network>| Network {
            id: self.predefined_id(name),
            name: name.into(),
            created: String::new(),
            driver: driver.into(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            attachable: false,
            bridge,
        };
        Ok(vec![
            make("bridge", "bridge", bridge),
            make("host", "host", None),
            make("none", "null", None),
        ])
    }

    /// The id of a network that is always there: the same each time that somebody looks.
    pub(crate) fn predefined_id(&self, name: &str) -> String {
        let seed = format!("{}\0{name}", self.root.display());
        oci::Digest::of(seed.as_bytes()).hex().to_owned()
    }

    /// Finds a network by its name, its id, or the first digits of its id.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or [`Kind::Invalid`] where several ids start like this.
    pub fn network(&self, key: &str) -> Result<Network> {
        if let Some(network) = self.named_network(key)? {
            return Ok(network);
        }
        let all = self.networks()?;
        if let Some(network) = all.iter().find(|network| network.name == key || network.id == key) {
            return Ok(network.clone());
        }
        let mut matches = all.into_iter().filter(|network| network.id.starts_with(key));
        match (matches.next(), matches.next()) {
            (Some(network), None) if !key.is_empty() => Ok(network),
            (Some(_), Some(_)) if !key.is_empty() => Err(Error::invalid(format!(
                "network {key} is ambiguous (2 matches found on ID prefix)"
            ))),
            _ => Err(no_such(key)),
        }
    }

    /// Removes a network that a user made.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if containers are on it, [`Kind::Denied`] if it is predefined.
    pub fn remove_network(&self, network: &Network) -> Result<()> {
        let Network { name, id, bridge, .. } = network;
        if network.is_predefined() {
            let message = format!("{name} is a pre-defined network and cannot be removed");
            return Err(Error::new(Kind::Denied, message));
        }
        let namespace = File::open(NETWORK_NAMESPACE).doing(|| "open our network".into())?;
        flock(&namespace, FlockOperation::LockExclusive)?;
        if let Some(user) = self.user(network)? {
            let message = format!(
                "error while removing network: network {name} id {id} has active endpoints"
            );
            return Err(Error::new(Kind::Conflict, message)
                .hint(format!("container {} is on it", user.record.name)));
        }
        if let Some(bridge) = bridge {
            net::remove_bridge(bridge, &self.table()).map_err(from_net)?;
        }
        self.forget_network(network)?;
        self.remove_unneeded_table()
    }

    /// Removes what is on disk of a network.
    fn forget_network(&self, network: &Network) -> Result<()> {
        let Network { name, id, .. } = network;
        // What ends with the machine anyway.
        let _ = fs::remove_dir_all(self.network_run_dir(id));
        let path = self.named_dir().join(format!("{name}.json"));
        fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
        self.emit(Event::network("destroy", network));
        Ok(())
    }

    /// Removes the rules once nothing is left for them to be about.
    fn remove_unneeded_table(&self) -> Result<()> {
        let others = fs::read_dir(self.named_dir()).into_iter().flatten().flatten();
        let is_needed = self.chosen_bridge()?.is_some()
            || others.filter_map(|entry| definition_name(&entry)).next().is_some();
        if is_needed { Ok(()) } else { net::remove_table(&self.table()).map_err(from_net) }
    }

    /// A container that is on a network, or is just being started there: it has an address, and
    /// nobody has written down yet that it runs.
    fn user(&self, network: &Network) -> Result<Option<Container>> {
        let leases = self.leases_dir(&network.name, &network.id);
        if fs::read_dir(leases).is_ok_and(|mut entries| entries.next().is_none()) {
            // Nobody has an address there, so there is no need to look at all containers.
            return Ok(None);
        }
        let is_user = |container: &Container| match container.is_running() {
            true => container.state.places.iter().any(|place| place.network_id == network.id),
            false => {
                let networks = container.record.settings.networks();
                networks.iter().any(|asked| asked.network == network.name)
                    && container.is_being_changed()
            }
        };
        Ok(self.list()?.into_iter().find(is_user))
    }

    /// Removes the networks that users made and no container is on, or will be when it starts:
    /// their names.
    ///
    /// # Errors
    /// If they cannot be read or removed.
    pub fn prune_networks(&self, filter: &PruneFilter) -> Result<Vec<String>> {
        let memberships = |container: Container| container.record.settings.networks();
        let used: HashSet<String> =
            self.list()?.into_iter().flat_map(memberships).map(|m| m.network).collect();
        let namespace = File::open(NETWORK_NAMESPACE).doing(|| "open our network".into())?;
        flock(&namespace, FlockOperation::LockExclusive)?;
        let mut unused = Vec::new();
        for network in self.networks()? {
            let idle = !network.is_predefined() && !used.contains(&network.name);
            if idle
                && filter.takes(Some(&network.created), &network.labels)
                && self.user(&network)?.is_none()
            {
                unused.push(network);
            }
        }
        let bridges: Vec<net::Network> =
            unused.iter().filter_map(|network| network.bridge.clone()).collect();
        net::remove_bridges(&bridges, &self.table()).map_err(from_net)?;
        for network in &unused {
            self.forget_network(network)?;
        }
        if !unused.is_empty() {
            self.remove_unneeded_table()?;
        }
        self.emit(Event::prune(Subject::Network, 0));
        Ok(unused.into_iter().map(|network| network.name).collect())
    }

    /// Removes the bridges and rules of roots that are there no more, each with the names of its
    /// bridges. Those that a container is still at stay, and what carries no root, since nobody knows
    /// whose it is.
    ///
    /// # Errors
    /// If they cannot be listed or removed.
    pub fn prune_abandoned_networks(&self) -> Result<Vec<(String, Vec<String>)>> {
        let namespace = File::open(NETWORK_NAMESPACE).doing(|| "open our network".into())?;
        flock(&namespace, FlockOperation::LockExclusive)?;
        let mut removed = Vec::new();
        for (root, own) in net::belongings().map_err(from_net)? {
            // Where it cannot be looked, it may be.
            let is_gone = matches!(Path::new(&root).try_exists(), Ok(false));
            let is_idle = own.busy.is_empty() || !own.idle.is_empty();
            if is_gone && is_idle {
                net::remove_belongings(&own).map_err(from_net)?;
                removed.push((root, if own.idle.is_empty() { own.tables } else { own.idle }));
            }
        }
        Ok(removed)
    }

    /// The running containers that are on a network, each with its place there.
    ///
    /// # Errors
    /// If the containers cannot be listed.
    pub fn network_users(
        &self,
        network: &Network,
    ) -> Result<Vec<(Container, crate::container::Placement)>> {
        let mut users = Vec::new();
        for container in self.list()?.into_iter().filter(Container::is_running) {
            let place = container.state.places.iter().find(|place| place.network_id == network.id);
            if let Some(place) = place.cloned() {
                users.push((container, place));
            }
        }
        Ok(users)
    }
}

/// The name of the network that a file is about, if it is about one and not being written.
fn definition_name(entry: &fs::DirEntry) -> Option<String> {
    let name = entry.file_name().to_string_lossy().into_owned();
    name.strip_suffix(".json").filter(|name| !name.starts_with('.')).map(str::to_owned)
}

fn choose_v4(
    asked: &NetworkOptions,
    bridges: &[&net::Network],
    is_part_of_host: bool,
) -> Result<Subnet> {
    let mut in_use: Vec<Subnet> = bridges.iter().map(|bridge| bridge.subnet).collect();
    match asked.subnet {
        Some(subnet) => {
            if !is_part_of_host {
                in_use.extend(net::in_use().map_err(from_net)?);
            }
            refuse_overlap(subnet, &in_use)
        }
        None => {
            in_use.extend(super::host_subnets()?);
            net::ipam::choose_subnet(&in_use).map_err(from_net)
        }
    }
}

/// What is only the default route's is free.
fn refuse_overlap<A: net::Address>(
    subnet: net::Prefix<A>,
    in_use: &[net::Prefix<A>],
) -> Result<net::Prefix<A>> {
    match in_use.iter().find(|used| used.overlaps(subnet)) {
        None => Ok(subnet),
        Some(used) => {
            let message = "Pool overlaps with other one on this address space";
            Err(Error::new(Kind::Conflict, message).hint(format!(
                "{used} is another network's, or a route's of this host, and {subnet} overlaps it"
            )))
        }
    }
}

/// The first address behind the network's own.
fn first_host<A: net::Address>(subnet: net::Prefix<A>) -> A {
    A::of_bits(subnet.address().bits().saturating_add(1))
}

pub(crate) fn no_such(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("network {name} not found"))
        .hint("`cais network ls` lists all networks")
}

/// Accepts what Docker accepts.
fn validate(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= 200 && name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} includes invalid characters for a network name, only [a-zA-Z0-9][a-zA-Z0-9_.-] \
         are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for name in ["", ".", "..", "a/b", "-a", "a b", &"x".repeat(201)] {
            assert!(validate(name).is_err(), "{name}");
        }
        validate("a").unwrap();
    }
}
