//! The default bridge, and what a container finds in /etc about names.
//!
//! ```text
//! <root>/network/bridge.json   the bridge: chosen when the first container needs it
//! <run root>/network/leases/<ip>   symbolic link to the id of the container that has the address
//! ```

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::{Endpoint, Network};
use rustix::fs::FlockOperation;

use crate::Engine;
use crate::container::Container;
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock, read_json, write_json};
use crate::settings::NetworkMode;

/// The root that has the plain names `cais0` and `cais`; others get names of their own, so that
/// two roots never see each other's bridges and rules.
const DEFAULT_ROOT: &str = "/var/lib/cais";
const BRIDGE_FILE: &str = "bridge.json";
const NETWORK_NAMESPACE: &str = "/proc/self/ns/net";
/// Name servers for a host that only has one on its own loopback interface, as in Docker.
const NAME_SERVERS: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";

impl Engine {
    fn network_dir(&self) -> PathBuf {
        self.root.join("network")
    }

    /// Addresses end with the machine.
    fn leases_dir(&self) -> PathBuf {
        self.containers.run_dir("network").join("leases")
    }

    /// What the interfaces and rules of this root are called after `cais`.
    fn suffix(&self) -> String {
        if self.root == Path::new(DEFAULT_ROOT) {
            return String::new();
        }
        let digest = oci::Digest::of(self.root.as_os_str().as_encoded_bytes());
        format!("-{}", &digest.hex()[..8])
    }

    fn table(&self) -> String {
        format!("cais{}", self.suffix())
    }

    /// The default bridge: as it was chosen, or chosen and made now.
    fn bridge(&self) -> Result<Network> {
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
    fn choose_bridge(&self) -> Result<Network> {
        let mut in_use = net::in_use().map_err(from_net)?;
        let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let servers = resolv.lines().filter_map(name_server).filter_map(|s| s.parse().ok());
        in_use.extend(servers.map(|server| net::Subnet::containing(server, 32)));
        let subnet = net::ipam::choose_subnet(&in_use).map_err(from_net)?;
        let gateway = Ipv4Addr::from_bits(subnet.address().to_bits() + 1);
        let suffix = self.suffix();
        let bridge = if suffix.is_empty() { "cais0".into() } else { format!("cais{suffix}") };
        let network = Network { name: "bridge".into(), bridge, subnet, gateway, mtu: None };
        create_dir(&self.network_dir())?;
        write_json(&self.network_dir(), BRIDGE_FILE, &network)?;
        net::ensure_bridge(&network, &self.table()).map_err(from_net)?;
        Ok(network)
    }

    fn chosen_bridge(&self) -> Result<Option<Network>> {
        match read_json(&self.network_dir().join(BRIDGE_FILE)) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// The container's place on the bridge, if it is to have one.
    pub(crate) fn endpoint(&self, container: &Container) -> Result<Option<Endpoint>> {
        if container.record.settings.network != NetworkMode::Bridge {
            return Ok(None);
        }
        let network = self.bridge()?;
        let leases = self.leases_dir();
        let id = &container.record.id;
        let address = match net::ipam::allocate(&leases, &network, id) {
            Err(net::Error::Exhausted(_)) => {
                let alive = |id: &str| self.root.join("containers").join(id).exists();
                net::ipam::reclaim(&leases, &alive).map_err(from_net)?;
                net::ipam::allocate(&leases, &network, id)
            }
            outcome => outcome,
        };
        Ok(Some(Endpoint::new(&network, address.map_err(from_net)?, id)))
    }

    pub(crate) fn release_address(&self, endpoint: &Endpoint, id: &str) {
        // A lease that cannot be ended now is reclaimed when addresses run out.
        let _ = net::ipam::release(&self.leases_dir(), endpoint.address, id);
    }

    /// Gives a new network namespace what its mode promises.
    pub(crate) fn attach_network(
        &self,
        mode: &NetworkMode,
        namespaces: &runtime::Namespaces,
        endpoint: Option<&Endpoint>,
    ) -> Result<()> {
        if matches!(mode, NetworkMode::Host | NetworkMode::Container(_)) {
            return Ok(());
        }
        let namespace = namespaces.net().doing(|| "open the network namespace".into())?;
        let Some(endpoint) = endpoint else {
            return net::loopback_up(namespace.as_fd()).map_err(from_net);
        };
        let network = self.bridge()?;
        net::ensure_bridge(&network, &self.table()).map_err(from_net)?;
        net::attach(&network, namespace.as_fd(), endpoint).map_err(from_net)
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
        let process = crate::stop::running(&other)?;
        let doing = || format!("open the network of container {}", other.record.name);
        let namespace = File::open(format!("/proc/{}/ns/net", other.state.pid)).doing(doing)?;
        // While the process is there, nothing else has its number: the namespace is its own.
        if crate::stop::ends_within(&process, Some(Duration::ZERO)).doing(doing)? {
            return Err(crate::stop::not_running(&other));
        }
        let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        Ok(Some((namespace, path.into())))
    }
}

/// Writes the files that are mounted over the container's /etc/hosts, hostname and resolv.conf.
pub(crate) fn write_files(container: &Container, endpoint: Option<&Endpoint>) -> Result<()> {
    let settings = &container.record.settings;
    let hostname = container.record.config_hostname();
    let host = settings.network == NetworkMode::Host;
    let hosts = match fs::read_to_string("/etc/hosts") {
        Ok(hosts) if host => hosts,
        _ => hosts(&hostname, &settings.domainname, endpoint),
    };
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolv = if host { resolv } else { name_servers(&resolv) };
    let hostname = format!("{hostname}\n");
    for (name, text) in [("hosts", hosts), ("hostname", hostname), ("resolv.conf", resolv)] {
        // Nobody reads them while the container is being started, so they need not appear whole.
        let path = container.name_file(name);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn hosts(hostname: &str, domain: &str, endpoint: Option<&Endpoint>) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    if let Some(endpoint) = endpoint {
        let full = if domain.is_empty() { String::new() } else { format!("{hostname}.{domain} ") };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\t{full}{hostname}", endpoint.address);
    }
    text
}

fn name_server(line: &str) -> Option<&str> {
    line.trim().strip_prefix("nameserver").map(str::trim)
}

/// The host's resolver configuration without name servers that only the host can reach.
fn name_servers(host: &str) -> String {
    let reachable = |line: &&str| {
        name_server(line).is_none_or(|server| !(server.starts_with("127.") || server == "::1"))
    };
    let mut text: String = host.lines().filter(reachable).flat_map(|line| [line, "\n"]).collect();
    if !text.lines().any(|line| line.trim_start().starts_with("nameserver")) {
        text.push_str(NAME_SERVERS);
    }
    text
}

fn from_net(error: net::Error) -> Error {
    let hint = error.hint();
    let failure = Error::caused(Kind::Internal, "set up the container's network", error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure.hint("--network host and --network none need no bridge"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_on_the_hosts_loopback_are_left_out() {
        let text = name_servers("search a.b\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n");
        assert_eq!(text, "search a.b\nnameserver 10.0.0.1\n");
        assert_eq!(name_servers("nameserver ::1\n"), NAME_SERVERS);
    }

    #[test]
    fn a_container_knows_its_own_name() {
        assert!(!hosts("web", "", None).contains("web"));
    }
}
