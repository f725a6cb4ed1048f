//! The networks there are: three that are always there, and those that users make.
//!
//! ```text
//! <root>/network/named/<name>.json   a network that a user made
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use net::Subnet;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{NETWORK_NAMESPACE, from_net};
use crate::container::Container;
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock, read_json, write_json};
use crate::{Engine, PruneFilter, clock, id};

/// Options of a bridge that mean something here, in Docker's words.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
/// Those that say what is so already.
const IMPLIED: &[(&str, &str)] = &[
    ("com.docker.network.bridge.enable_ip_masquerade", "true"),
    ("com.docker.network.bridge.enable_icc", "true"),
    ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
];

/// A network, as `network inspect` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, which never changes.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Free-form notes.
    pub labels: BTreeMap<String, String>,
    /// What was asked of its driver.
    pub options: BTreeMap<String, String>,
    /// Whether containers may be connected by hand; that is so of every network here.
    pub attachable: bool,
    /// Its bridge, if it has one.
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
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether containers may be connected by hand.
    pub attachable: bool,
    /// Free-form notes.
    pub labels: BTreeMap<String, String>,
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
        // One at a time, since each is to stay clear of the others.
        let namespace = File::open(NETWORK_NAMESPACE).doing(|| "open our network".into())?;
        flock(&namespace, FlockOperation::LockExclusive)?;
        if self.named_network(name)?.is_some() {
            let message = format!("network with name {name} already exists");
            return Err(Error::new(Kind::Exists, message));
        }
        let id = id::fresh()?;
        let bridge = self.new_bridge(&asked, &id)?;
        net::ensure_bridge(&bridge, &self.table()).map_err(from_net)?;
        let network = Network {
            id,
            name: asked.name,
            created: clock::now(),
            driver: "bridge".into(),
            labels: asked.labels,
            options: asked.options,
            attachable: asked.attachable,
            bridge: Some(bridge),
        };
        create_dir(&self.named_dir())?;
        write_json(&self.named_dir(), &format!("{}.json", network.name), &network)?;
        Ok(network)
    }

    fn new_bridge(&self, asked: &NetworkOptions, id: &str) -> Result<net::Network> {
        let mut in_use: Vec<Subnet> = self.networks()?.iter().filter_map(subnet).collect();
        let subnet = match asked.subnet {
            Some(subnet) => {
                in_use.extend(net::in_use().map_err(from_net)?);
                // What is only the default route's is free.
                if in_use.iter().any(|used| used.overlaps(subnet)) {
                    let message = "Pool overlaps with other one on this address space";
                    return Err(Error::new(Kind::Conflict, message).hint(format!(
                        "{subnet} is another network's, or a route's of this host"
                    )));
                }
                subnet
            }
            None => {
                in_use.extend(super::host_subnets()?);
                net::ipam::choose_subnet(&in_use).map_err(from_net)?
            }
        };
        let first = Ipv4Addr::from_bits(subnet.address().to_bits().saturating_add(1));
        let (name, mtu) = bridge_options(&asked.options)?;
        let bridge = net::Network {
            name: asked.name.clone(),
            bridge: name.unwrap_or_else(|| format!("br-{}", &id[..12])),
            subnet,
            gateway: asked.gateway.unwrap_or(first),
            mtu,
            range: asked.range,
            internal: asked.internal,
        };
        bridge.validate().map_err(|error| Error::invalid(error.to_string()))?;
        Ok(bridge)
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
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = name.strip_suffix(".json").filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            all.extend(self.named_network(name)?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn predefined(&self) -> Result<Vec<Network>> {
        let bridge = self.chosen_bridge()?;
        let make = |name: &str, driver: &str, bridge: Option<net::Network>| {
            // The same each time that somebody looks.
            let seed = format!("{}\0{name}", self.root.display());
            let id = oci::Digest::of(seed.as_bytes()).hex().to_owned();
            Network {
                id,
                name: name.into(),
                created: String::new(),
                driver: driver.into(),
                labels: BTreeMap::new(),
                options: BTreeMap::new(),
                attachable: false,
                bridge,
            }
        };
        Ok(vec![
            make("bridge", "bridge", bridge),
            make("host", "host", None),
            make("none", "null", None),
        ])
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
        let users = self.network_users(network)?;
        if let Some((user, _)) = users.first() {
            let message = format!(
                "error while removing network: network {name} id {id} has active endpoints"
            );
            return Err(Error::new(Kind::Conflict, message)
                .hint(format!("container {} is on it", user.record.name)));
        }
        if let Some(bridge) = bridge {
            net::remove_bridge(bridge, &self.table()).map_err(from_net)?;
        }
        // What ends with the machine anyway.
        let _ = fs::remove_dir_all(self.network_run_dir(id));
        let path = self.named_dir().join(format!("{name}.json"));
        fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
        match self.networks()?.iter().any(|network| network.bridge.is_some()) {
            true => Ok(()),
            // Nothing is left for the rules to be about.
            false => net::remove_table(&self.table()).map_err(from_net),
        }
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
        let mut removed = Vec::new();
        for network in self.networks()? {
            let unused = !network.is_predefined() && !used.contains(&network.name);
            if !unused || !filter.takes(Some(&network.created), &network.labels) {
                continue;
            }
            match self.remove_network(&network) {
                // Used, or removed, by somebody else since.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                outcome => {
                    outcome?;
                    removed.push(network.name);
                }
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

fn subnet(network: &Network) -> Option<Subnet> {
    network.bridge.as_ref().map(|bridge| bridge.subnet)
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

/// The bridge's name and the MTU that the driver is asked for.
fn bridge_options(options: &BTreeMap<String, String>) -> Result<(Option<String>, Option<u32>)> {
    let (mut name, mut mtu) = (None, None);
    for (key, value) in options {
        match key.as_str() {
            BRIDGE_NAME => name = Some(value.clone()),
            MTU => {
                let bad = || Error::invalid(format!("invalid {MTU} \"{value}\": not a number"));
                mtu = Some(value.parse().map_err(|_| bad())?);
            }
            key if IMPLIED.contains(&(key, value.as_str())) => {}
            key => {
                let message = format!("network option {key}={value} is not supported yet");
                let known = format!("{BRIDGE_NAME} and {MTU} are");
                return Err(Error::new(Kind::Unsupported, message).hint(known));
            }
        }
    }
    Ok((name, mtu))
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

    #[test]
    fn options_are_known_or_refused() {
        let options = |pairs: &[(&str, &str)]| {
            let own = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            bridge_options(&own.collect())
        };
        let known = options(&[(BRIDGE_NAME, "br0"), (MTU, "1400")]).unwrap();
        assert_eq!(known, (Some("br0".to_owned()), Some(1400)));
        options(IMPLIED).unwrap();
        assert!(options(&[(MTU, "x")]).is_err());
        assert_eq!(options(&[("parent", "eth0")]).unwrap_err().kind(), Kind::Unsupported);
    }
}
