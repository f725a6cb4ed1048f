//! Who is called what on networks that users made: from files, asked for each time.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use net::dns::{Answer, Question};

use crate::Engine;
use crate::container::{Container, Placement, SHORT_ID_LENGTH};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::create_dir;
use crate::monitor::resolver::{Resolver, Servers, Verdict};

/// The longest alias: what a DNS name can hold (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// An alias that is no name would be a path, or could never be asked for.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn validate_alias(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if is_name(name) && name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid network alias: {name}"))
        .hint("letters, digits, `-`, `_` and dots between them"))
}

fn is_name(name: &str) -> bool {
    let edge = name.starts_with('.') || name.ends_with('.');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !edge && !name.contains(['/', '\0'])
}

/// Writes down that a name's directory has an address of a container.
fn note_name(dir: &Path, address: &str, id: &str) -> Result<()> {
    let path = dir.join(address);
    loop {
        create_dir(dir)?;
        let _ = fs::remove_file(&path);
        match std::os::unix::fs::symlink(id, &path) {
            // The last other container of that name has just taken the directory away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made.doing(|| format!("create {}", path.display())),
        }
    }
}

impl Engine {
    fn names_dir(&self, network_id: &str) -> PathBuf {
        self.network_run_dir(network_id).join("names")
    }

    /// Makes the aliases of a place known, and the short id that Docker also answers to.
    pub(super) fn note_names(&self, place: &Placement, id: &str) -> Result<()> {
        if place.network_id.is_empty() {
            return Ok(());
        }
        let names = self.names_dir(&place.network_id);
        let own = &id[..SHORT_ID_LENGTH];
        for alias in place.aliases.iter().map(String::as_str).chain([own]) {
            let dir = names.join(alias.to_lowercase());
            for address in place.endpoint.addresses() {
                note_name(&dir, &address.to_string(), id)?;
            }
        }
        Ok(())
    }

    pub(super) fn forget_names(&self, place: &Placement) {
        if place.network_id.is_empty() {
            return;
        }
        let addresses: Vec<String> =
            place.endpoint.addresses().map(|address| address.to_string()).collect();
        let entries = fs::read_dir(self.names_dir(&place.network_id));
        for dir in entries.into_iter().flatten().flatten() {
            // Most names are others'; a directory is removed once nobody is called that.
            let forget = |address: &String| fs::remove_file(dir.path().join(address)).is_ok();
            if addresses.iter().filter(|address| forget(address)).count() > 0 {
                let _ = fs::remove_dir(dir.path());
            }
        }
    }

    /// The name server of a container that is on networks that users made.
    pub(crate) fn resolver<'a>(
        &'a self,
        container: &'a Container,
        listeners: net::dns::Listeners,
    ) -> Resolver<'a> {
        let servers = &container.record.settings.dns;
        let servers = Servers::given(servers.iter().map(String::as_str));
        Resolver::new(listeners, servers, Box::new(|question| self.judge(container, question)))
    }

    /// Who answers a question of the container.
    fn judge(&self, container: &Container, question: &Question) -> Verdict {
        // As it is now: it may have been connected to a further network.
        let Ok(asking) = self.containers.read(&container.record.id) else {
            return Verdict::Refused;
        };
        let known = match question.address() {
            Some(address) => self.name_of(&asking, address).map(Answer::Name),
            None => self.addresses_of(&asking, &question.name).map(Answer::Addresses),
        };
        let leads_out = asking.state.places.iter().any(|place| place.endpoint.is_way_out);
        match known {
            Some(answer) => Verdict::Known(answer),
            None if leads_out => Verdict::PassOn,
            None => Verdict::Refused,
        }
    }

    /// The addresses of those who are called `name` on the networks that the container is on;
    /// `None` if nobody is.
    fn addresses_of(&self, asking: &Container, name: &str) -> Option<Vec<IpAddr>> {
        if !is_name(name) {
            return None;
        }
        let mut found = Vec::new();
        for place in asking.state.places.iter().filter(|place| !place.network_id.is_empty()) {
            // `name.network` is as good as `name`.
            let suffix = format!(".{}", place.network);
            let bare = name.strip_suffix(&suffix).unwrap_or(name);
            found.extend(self.addresses_by_name(place, bare).into_iter().flatten());
            let dir = self.names_dir(&place.network_id).join(bare.to_lowercase());
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            found.extend(entries.filter_map(|entry| {
                entry.file_name().to_str().and_then(|name| name.parse::<IpAddr>().ok())
            }));
        }
        found.sort_unstable();
        found.dedup();
        (!found.is_empty()).then_some(found)
    }

    /// The addresses that the container of this name has on the network of `place`.
    fn addresses_by_name(&self, place: &Placement, name: &str) -> Option<Vec<IpAddr>> {
        let id =
            self.containers.owner(name).or_else(|| self.containers.owner(&name.to_lowercase()));
        let container = self.containers.read(&id?).ok()?;
        let mut places = container.state.places.iter().filter(|_| container.is_running());
        let there = places.find(|there| there.network_id == place.network_id)?;
        Some(there.endpoint.addresses().collect())
    }

    /// The name of whoever has the address on one of the networks that the container is on.
    fn name_of(&self, asking: &Container, address: IpAddr) -> Option<String> {
        asking.state.places.iter().filter(|place| !place.network_id.is_empty()).find_map(|place| {
            let leases = self.leases_dir(&place.network, &place.network_id);
            let owner = net::ipam::owner(&leases, address).ok()??;
            let owner = self.containers.read(&owner).ok()?;
            Some(format!("{}.{}", owner.record.name, place.network))
        })
    }

    /// The addresses of the containers that this one is linked to, each with its names.
    pub(crate) fn linked(&self, container: &Container) -> Result<Vec<(Ipv4Addr, String)>> {
        let links = container.record.settings.links.iter();
        links.map(|(key, alias)| self.link_of(container, key, alias)).collect()
    }

    /// The address of the container `key`, with the names that another one knows it by.
    pub(super) fn link_of(
        &self,
        container: &Container,
        key: &str,
        alias: &str,
    ) -> Result<(Ipv4Addr, String)> {
        let other = self.find(key)?;
        let name = &other.record.name;
        if !other.is_running() {
            let own = &container.record.name;
            return Err(Error::new(
                Kind::Conflict,
                format!("Cannot link to a non running container: /{name} AS /{own}/{alias}"),
            ));
        }
        let shared =
            other.state.places.iter().find(|there| {
                container.state.places.iter().any(|here| here.network == there.network)
            });
        let address = shared.map(|place| place.endpoint.address).ok_or_else(|| {
            Error::new(Kind::Conflict, format!("Cannot link to /{name}: no network in common"))
        })?;
        let hostname = other.record.config_hostname();
        let mut names = vec![alias, hostname.as_str(), name.as_str()];
        names.dedup();
        Ok((address, names.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_no_path() {
        for bad in ["", ".", "..", "a/b", ".a", "a.", "a b", "a\0", &"x".repeat(254)] {
            assert!(validate_alias(bad).is_err(), "{bad}");
        }
        for good in ["db", "a.b", "a_b-c", "0"] {
            validate_alias(good).unwrap();
        }
    }
}
