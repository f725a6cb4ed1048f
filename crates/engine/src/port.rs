//! Publishing a container's ports on the host.
//!
//! ```text
//! <run root>/network/ports/<protocol>-<address>-<port>   symbolic link to the id of the container
//! ```
//!
//! As long as a container runs, its monitor holds a bound socket for each of its ports, so that
//! the kernel gives it to nobody else; the link says who that is. A link whose container is gone
//! is taken over by whoever got the socket.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use net::port::{Port, Protocol};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::container::{Container, Placement};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock};
use crate::monitor::forward::Forwarder;
use crate::network::driver::default_binding;

/// How often the kernel is asked for a port that is free on all addresses.
const CHOICES_MAX: usize = 16;

/// A port that is asked to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Of both ports.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
    /// The host's address; 0.0.0.0 or :: for all of that family, and all of every family that the
    /// container has where `None`.
    pub address: Option<IpAddr>,
    /// The first and the last of the host's ports, of which one that is free is taken; one that
    /// the kernel chooses where `None`.
    pub host: Option<(u16, u16)>,
}

/// Ports of the host that are a container's as long as this is held.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    pub(crate) ports: Vec<Port>,
    pub(crate) sockets: Vec<OwnedFd>,
}

impl Reserved {
    /// What passes on connections to `::1`, if it is among the addresses: it takes those sockets.
    pub(crate) fn forwarder(&mut self) -> Result<Option<Forwarder>> {
        let loopback = |port: &Port| {
            let IpAddr::V6(address) = port.address else { return false };
            port.protocol == Protocol::Tcp && (address.is_unspecified() || address.is_loopback())
        };
        if !self.ports.iter().any(loopback) {
            return Ok(None);
        }
        let (mut doors, mut others) = (Vec::new(), Vec::new());
        for (port, socket) in self.ports.iter().zip(std::mem::take(&mut self.sockets)) {
            match loopback(port) {
                true => doors.push((socket, SocketAddr::new(port.to, port.to_port))),
                false => others.push(socket),
            }
        }
        self.sockets = others;
        Forwarder::new(doors).doing(|| "listen on ::1".into()).map(Some)
    }
}

/// A port and its protocol, as in `80/tcp`.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let bad = || Error::invalid(format!("Invalid containerPort: {text}"));
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or_else(bad)?;
    Ok((port, parse_protocol(protocol)?))
}

/// `tcp`, `udp` or `sctp`.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn parse_protocol(text: &str) -> Result<Protocol> {
    match text.to_lowercase().as_str() {
        "tcp" | "" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(Error::invalid(format!("Invalid proto: {text}")).hint("tcp, udp or sctp")),
    }
}

impl Container {
    /// The ports that it exposes, by the image or when it was created, in order.
    #[must_use]
    pub fn exposed(&self) -> BTreeSet<(u16, Protocol)> {
        let names = self.record.config.exposed_ports.keys();
        // What an image has there and is no port, nobody can reach.
        names.filter_map(|name| parse_port(name).ok()).collect()
    }

    /// What is to be published when it starts.
    fn publications(&self) -> Vec<Publication> {
        let settings = &self.record.settings;
        let mut all = settings.ports.clone();
        if settings.publish_all {
            let named = |(port, protocol): &(u16, Protocol)| {
                settings.ports.iter().any(|p| (p.port, p.protocol) == (*port, *protocol))
            };
            let rest = self.exposed().into_iter().filter(|port| !named(port));
            all.extend(rest.map(|(port, protocol)| {
                let (address, host) = (None, None);
                Publication { protocol, port, address, host }
            }));
        }
        all
    }
}

impl Engine {
    fn ports_dir(&self) -> PathBuf {
        self.containers.run_dir("network").join("ports")
    }

    /// Takes the host's ports that the container asks for, to stand for its own at its place on a
    /// network.
    pub(crate) fn reserve_ports(
        &self,
        container: &Container,
        place: Option<&Placement>,
    ) -> Result<Reserved> {
        let publications = container.publications();
        if publications.is_empty() || container.record.settings.networks().is_empty() {
            return Ok(Reserved::default());
        }
        let Some(place) = place else {
            return Err(Error::invalid(
                "none of the container's networks can have published ports",
            )
            .hint("containers of macvlan and ipvlan networks are reached by their own addresses"));
        };
        let default = self.default_binding(place)?;
        let _lock = self.lock_ports()?;
        let mut reserved = Reserved::default();
        for publication in &publications {
            let publication =
                &Publication { address: publication.address.or(default), ..*publication };
            let pairs = pairs(publication, &place.endpoint)?;
            let (sockets, number) = self.reserve_port(publication, &pairs)?;
            for (address, to) in pairs {
                let Publication { protocol, port: to_port, .. } = *publication;
                let port = Port { protocol, address, port: number, to, to_port };
                self.note_port(&port, &container.record.id)?;
                reserved.ports.push(port);
            }
            reserved.sockets.extend(sockets);
        }
        Ok(reserved)
    }

    /// The host's address that the network publishes ports on where none is asked for.
    fn default_binding(&self, place: &Placement) -> Result<Option<IpAddr>> {
        if place.network_id.is_empty() {
            return Ok(None);
        }
        let network = self.named_network(&place.network)?;
        Ok(network.and_then(|network| default_binding(&network.options)))
    }

    /// The first of the ports asked for that is free on every of the host's addresses.
    fn reserve_port(
        &self,
        asked: &Publication,
        pairs: &[(IpAddr, IpAddr)],
    ) -> Result<(Vec<OwnedFd>, u16)> {
        // One that the kernel chooses for an address may be taken on another: then it chooses anew.
        let candidates: Vec<u16> = match asked.host {
            Some((first, last)) => (first..=last).collect(),
            None => vec![0; CHOICES_MAX],
        };
        let mut taken = None;
        for port in candidates {
            match reserve_everywhere(asked.protocol, pairs, port) {
                Ok(reserved) => return Ok(reserved),
                Err((address, port, error)) if is_taken(&error) => taken = Some((address, port)),
                Err((_, _, error)) => return Err(cannot_reserve(asked.protocol, port, error)),
            }
        }
        let (address, port) = taken.expect("a range of ports is not empty");
        Err(self.taken(asked.protocol, address, port))
    }

    fn taken(&self, protocol: Protocol, address: IpAddr, port: u16) -> Error {
        let (any, own): (IpAddr, IpAddr) = match address {
            IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        };
        let holder = [address, any, own].iter().find_map(|address| {
            let id = fs::read_link(self.ports_dir().join(name(protocol, *address, port))).ok()?;
            self.find(id.to_str()?).ok().filter(Container::is_running)
        });
        let hint = match holder {
            Some(holder) => format!("container {} has it", holder.record.name),
            None => {
                format!("a process of this host listens there: `ss -lnp sport = {port}` says which")
            }
        };
        let at = SocketAddr::new(address, port);
        let message = format!("Bind for {at} failed: port is already allocated");
        Error::new(Kind::Conflict, message).hint(hint)
    }

    /// Ends everything that [`Engine::reserve_ports`] began for a container, and its rules.
    pub(crate) fn release_ports(&self, container: &Container) {
        if container.publications().is_empty() {
            return;
        }
        // Without the lock, or the privilege, it is done anew by whoever takes the ports next.
        let Ok(_lock) = self.lock_ports() else { return };
        let entries = fs::read_dir(self.ports_dir()).into_iter().flatten().flatten();
        for entry in entries {
            let own = fs::read_link(entry.path())
                .is_ok_and(|owner| owner.as_os_str() == container.record.id.as_str());
            let port = entry.file_name().to_str().and_then(parse_name);
            if let (true, Some(port)) = (own, port)
                && net::port::unpublish(&self.table(), &[port]).is_ok()
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn lock_ports(&self) -> Result<File> {
        let dir = self.ports_dir();
        create_dir(&dir)?;
        let lock = File::open(&dir).doing(|| format!("open {}", dir.display()))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    fn note_port(&self, port: &Port, id: &str) -> Result<()> {
        let path = self.ports_dir().join(name(port.protocol, port.address, port.port));
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(id, &path).doing(|| format!("create {}", path.display()))
    }
}

/// The host's addresses that stand for the container's, each with its own, which is of the same
/// family.
fn pairs(asked: &Publication, endpoint: &net::Endpoint) -> Result<Vec<(IpAddr, IpAddr)>> {
    let v4 = |address: Ipv4Addr| (address.into(), endpoint.address.into());
    let v6 = |address: Ipv6Addr| endpoint.v6.map(|own| (address.into(), own.address.into()));
    match asked.address {
        None => {
            let both = [Some(v4(Ipv4Addr::UNSPECIFIED)), v6(Ipv6Addr::UNSPECIFIED)];
            Ok(both.into_iter().flatten().collect())
        }
        Some(IpAddr::V4(address)) => Ok(vec![v4(address)]),
        Some(IpAddr::V6(address)) if address.is_loopback() && asked.protocol != Protocol::Tcp => {
            let protocol = asked.protocol.name();
            let message = format!("publish port {}/{protocol} on [::1]", asked.port);
            Err(Error::new(Kind::Unsupported, message)
                .hint("the kernel rewrites no packets to ::1, and only TCP is passed on there"))
        }
        Some(IpAddr::V6(address)) => {
            let pair = v6(address).ok_or_else(|| {
                let message = format!(
                    "publish port {}/{} on [{address}]: the container has no IPv6 address",
                    asked.port,
                    asked.protocol.name()
                );
                Error::new(Kind::Invalid, message)
                    .hint("`cais network create --ipv6` makes networks on which it has one")
            })?;
            Ok(vec![pair])
        }
    }
}

/// Takes the port of all of the addresses, or tells of which it could not be taken.
fn reserve_everywhere(
    protocol: Protocol,
    pairs: &[(IpAddr, IpAddr)],
    port: u16,
) -> std::result::Result<(Vec<OwnedFd>, u16), (IpAddr, u16, net::Error)> {
    let (mut sockets, mut port) = (Vec::new(), port);
    for (address, _) in pairs {
        let reserved = net::port::reserve(protocol, *address, port);
        let (socket, number) = reserved.map_err(|error| (*address, port, error))?;
        sockets.push(socket);
        port = number;
    }
    Ok((sockets, port))
}

fn is_taken(error: &net::Error) -> bool {
    matches!(error, net::Error::Io { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
}

fn cannot_reserve(protocol: Protocol, port: u16, error: net::Error) -> Error {
    match &error {
        net::Error::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
            Error::new(Kind::Unsupported, error.to_string())
        }
        _ => {
            Error::caused(Kind::Conflict, format!("publish port {port}/{}", protocol.name()), error)
                .hint("the address before the port is one of this host's")
        }
    }
}

fn name(protocol: Protocol, address: IpAddr, port: u16) -> String {
    format!("{}-{address}-{port}", protocol.name())
}

/// The port that a link is about; whose it is does not matter to those who end it.
fn parse_name(name: &str) -> Option<Port> {
    let mut parts = name.splitn(3, '-');
    let protocol = parse_protocol(parts.next()?).ok()?;
    let address: IpAddr = parts.next()?.parse().ok()?;
    let port = parts.next()?.parse().ok()?;
    Some(Port { protocol, address, port, to: address, to_port: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_names_and_back() {
        let port = parse_name("udp-127.0.0.1-53").unwrap();
        assert_eq!((port.protocol, port.port), (Protocol::Udp, 53));
        assert_eq!(name(port.protocol, port.address, port.port), "udp-127.0.0.1-53");
        let port = parse_name("tcp-::1-80").unwrap();
        assert_eq!(port.address, IpAddr::from(Ipv6Addr::LOCALHOST));
        assert_eq!(name(port.protocol, port.address, port.port), "tcp-::1-80");
        for odd in ["", "tcp", "tcp-1.2.3.4", "tcp-x-1", "tcp-1.2.3.4-65536", ".lock"] {
            assert!(parse_name(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn a_port_is_published_in_the_families_that_there_are() {
        let endpoint = |v6: Option<&str>| net::Endpoint {
            address: Ipv4Addr::new(10, 0, 0, 2),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            is_way_out: true,
            mac: net::MacAddress::of(Ipv4Addr::new(10, 0, 0, 2)),
            host_interface: String::new(),
            interface: String::new(),
            v6: v6.map(|address| net::EndpointV6 {
                address: address.parse().unwrap(),
                prefix: 64,
                gateway: "fd00::1".parse().unwrap(),
            }),
            link_local: Vec::new(),
        };
        let check = |address: Option<&str>, v6: Option<&str>, expected: &str| {
            let address = address.map(|address| address.parse().unwrap());
            let asked = Publication { protocol: Protocol::Tcp, port: 80, address, host: None };
            let shown = match pairs(&asked, &endpoint(v6)) {
                Ok(pairs) => pairs.iter().map(|(at, to)| format!("{at}>{to} ")).collect(),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{address:?} {v6:?}");
        };
        check(None, None, "0.0.0.0>10.0.0.2 ");
        check(None, Some("fd00::2"), "0.0.0.0>10.0.0.2 ::>fd00::2 ");
        check(Some("0.0.0.0"), Some("fd00::2"), "0.0.0.0>10.0.0.2 ");
        check(Some("::"), Some("fd00::2"), "::>fd00::2 ");
        let error = "publish port 80/tcp on [2001:db8::1]: the container has no IPv6 address";
        check(Some("2001:db8::1"), None, error);
    }

    #[test]
    fn a_port_is_a_number_and_a_protocol() {
        assert_eq!(parse_port("80").unwrap(), (80, Protocol::Tcp));
        assert_eq!(parse_port("53/UDP").unwrap(), (53, Protocol::Udp));
        for bad in ["", "0", "65536", "+1", "80/icmp", "a/tcp", "80-81"] {
            assert!(parse_port(bad).is_err(), "{bad}");
        }
    }
}
