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
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use net::port::{Port, Protocol};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::container::{Container, Placement};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock};

/// A port that is asked to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Of both ports.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
    /// The host's address; all of them where `None`.
    pub address: Option<Ipv4Addr>,
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
        let (Some(place), false) = (place, publications.is_empty()) else {
            return Ok(Reserved::default());
        };
        let _lock = self.lock_ports()?;
        let mut reserved = Reserved::default();
        for publication in &publications {
            let address = publication.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            let (socket, port) = self.reserve_port(publication, address)?;
            let Publication { protocol, port: to_port, .. } = *publication;
            let port = Port { protocol, address, port, to: place.endpoint.address, to_port };
            self.note_port(&port, &container.record.id)?;
            reserved.sockets.push(socket);
            reserved.ports.push(port);
        }
        Ok(reserved)
    }

    /// The first of the ports asked for that is free.
    fn reserve_port(&self, asked: &Publication, address: Ipv4Addr) -> Result<(OwnedFd, u16)> {
        let (first, last) = asked.host.unwrap_or((0, 0));
        for port in first..=last {
            let error = match net::port::reserve(asked.protocol, address, port) {
                Ok(reserved) => return Ok(reserved),
                Err(error) => error,
            };
            match &error {
                net::Error::Io { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {}
                net::Error::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                    return Err(Error::new(Kind::Unsupported, error.to_string()));
                }
                _ => {
                    let message = format!("publish port {port}/{}", asked.protocol.name());
                    return Err(Error::caused(Kind::Conflict, message, error)
                        .hint("the address before the port is one of this host's"));
                }
            }
        }
        Err(self.taken(asked.protocol, address, last))
    }

    fn taken(&self, protocol: Protocol, address: Ipv4Addr, port: u16) -> Error {
        let holders = [address, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST];
        let holder = holders.iter().find_map(|address| {
            let id = fs::read_link(self.ports_dir().join(name(protocol, *address, port))).ok()?;
            self.find(id.to_str()?).ok().filter(Container::is_running)
        });
        let hint = match holder {
            Some(holder) => format!("container {} has it", holder.record.name),
            None => {
                format!("a process of this host listens there: `ss -lnp sport = {port}` says which")
            }
        };
        let message = format!("Bind for {address}:{port} failed: port is already allocated");
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

fn name(protocol: Protocol, address: Ipv4Addr, port: u16) -> String {
    format!("{}-{address}-{port}", protocol.name())
}

/// The port that a link is about; whose it is does not matter to those who end it.
fn parse_name(name: &str) -> Option<Port> {
    let mut parts = name.splitn(3, '-');
    let protocol = parse_protocol(parts.next()?).ok()?;
    let address = parts.next()?.parse().ok()?;
    let port = parts.next()?.parse().ok()?;
    Some(Port { protocol, address, port, to: Ipv4Addr::UNSPECIFIED, to_port: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_names_and_back() {
        let port = parse_name("udp-127.0.0.1-53").unwrap();
        assert_eq!((port.protocol, port.port), (Protocol::Udp, 53));
        assert_eq!(name(port.protocol, port.address, port.port), "udp-127.0.0.1-53");
        for odd in ["", "tcp", "tcp-1.2.3.4", "tcp-x-1", "tcp-1.2.3.4-65536", ".lock"] {
            assert!(parse_name(odd).is_none(), "{odd}");
        }
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
