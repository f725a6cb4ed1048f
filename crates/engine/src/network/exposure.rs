//! What can be reached from outside: every way that leads from another machine to a process of a
//! container.

use std::net::IpAddr;

use net::port::Protocol;
use net::{Hook, Wall};

use super::from_net;
use super::listening::{self, Listening};
use crate::Engine;
use crate::container::Container;
use crate::error::Result;

use crate::settings::NetworkMode;

/// How something is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A port of the host stands for it.
    Published,
    /// It listens in the host's network.
    Host,
    /// It has an address of its own on the wire (macvlan, ipvlan).
    Wire,
}

impl Way {
    /// `published`, `host` or `wire`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Way::Published => "published",
            Way::Host => "host",
            Way::Wire => "wire",
        }
    }
}

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where it is reached; 0.0.0.0 or :: for every address of this host.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// How.
    pub way: Way,
    /// The container's name.
    pub container: String,
    /// The container's id.
    pub id: String,
    /// Where it leads in the container, if its port is published.
    pub to: Option<(IpAddr, u16)>,
    /// Whether a process listens there.
    pub is_heard: bool,
    /// The number and name of that process, where it is one of the container's.
    pub process: Option<(i32, String)>,
    /// The chains of the host's own firewall that may drop what comes this way.
    pub walls: Vec<Wall>,
    /// Its chains that drop what comes in, but do not see what comes this way.
    pub unseeing: Vec<Wall>,
}

/// A running container and its processes, with those who share its network.
struct Inhabited {
    container: Container,
    pids: Vec<i32>,
    listening: Vec<Listening>,
}

impl Engine {
    /// Every way from outside to a process of a running container, and those from this host alone
    /// if `local`; in the order of protocols and ports.
    ///
    /// # Errors
    /// If the containers, or the host's rules, cannot be listed.
    pub fn exposure(&self, local: bool) -> Result<Vec<Exposure>> {
        let all: Vec<Container> = self.list()?.into_iter().filter(Container::is_running).collect();
        let walls = net::walls().map_err(from_net)?;
        let mut ways = Vec::new();
        for container in &all {
            let home = self.inhabited(container, &all);
            ways.extend(published(&home));
            ways.extend(on_host(&home));
            ways.extend(on_wire(&home));
        }
        ways.retain(|way| local || !way.address.is_loopback());
        for way in &mut ways {
            judge(way, &walls);
        }
        ways.sort_by_key(|way| (way.protocol, way.port, way.address, way.id.clone()));
        Ok(ways)
    }

    fn inhabited(&self, container: &Container, all: &[Container]) -> Inhabited {
        let own = NetworkMode::Container(container.record.id.clone());
        let shares = |other: &&Container| other.record.settings.network == own;
        let homes = [container].into_iter().chain(all.iter().filter(shares));
        // One that has ended meanwhile has none.
        let pids = homes.filter_map(|home| self.pids(home).ok()).flatten().collect();
        let listening = listening::in_network_of(container.state.pid);
        Inhabited { container: container.clone(), pids, listening }
    }
}

impl Inhabited {
    fn way(&self, way: Way, protocol: Protocol, address: IpAddr, port: u16) -> Exposure {
        Exposure {
            protocol,
            address,
            port,
            way,
            container: self.container.record.name.clone(),
            id: self.container.record.id.clone(),
            to: None,
            is_heard: false,
            process: None,
            walls: Vec::new(),
            unseeing: Vec::new(),
        }
    }
}

fn published(home: &Inhabited) -> Vec<Exposure> {
    let one = |port: &net::port::Port| {
        let heard = home.listening.iter().find(|l| l.hears(port.protocol, port.to, port.to_port));
        Exposure {
            to: Some((port.to, port.to_port)),
            is_heard: heard.is_some(),
            process: heard.and_then(|socket| listening::holder(&home.pids, socket.inode)),
            ..home.way(Way::Published, port.protocol, port.address, port.port)
        }
    };
    home.container.state.ports.iter().map(one).collect()
}

/// Of all that listens in the host's network, what the container's processes hold.
fn on_host(home: &Inhabited) -> Vec<Exposure> {
    if home.container.record.settings.network != NetworkMode::Host {
        return Vec::new();
    }
    let one = |socket: &Listening| {
        let process = listening::holder(&home.pids, socket.inode)?;
        let way = home.way(Way::Host, socket.protocol, socket.address, socket.port);
        Some(Exposure { is_heard: true, process: Some(process), ..way })
    };
    home.listening.iter().filter_map(one).collect()
}

fn on_wire(home: &Inhabited) -> Vec<Exposure> {
    let places = &home.container.state.places;
    let wired = places.iter().filter(|place| !place.endpoint.is_bridged());
    let addresses: Vec<IpAddr> = wired.flat_map(|place| place.endpoint.addresses()).collect();
    let mut ways = Vec::new();
    for socket in &home.listening {
        for address in &addresses {
            if socket.hears(socket.protocol, *address, socket.port) {
                let way = home.way(Way::Wire, socket.protocol, *address, socket.port);
                let process = listening::holder(&home.pids, socket.inode);
                ways.push(Exposure { is_heard: true, process, ..way });
            }
        }
    }
    // What hears both families by two sockets is one way for each address.
    ways.dedup_by_key(|way| (way.protocol, way.address, way.port));
    ways
}

/// Notes which chains see what comes this way, and which do not.
fn judge(way: &mut Exposure, walls: &[Wall]) {
    if way.address.is_loopback() {
        return;
    }
    for wall in walls.iter().filter(|wall| wall.sees(way.address.is_ipv4())) {
        match (way.way, wall.hook) {
            (Way::Published, Hook::Forward) | (Way::Host, Hook::Input) => {
                way.walls.push(wall.clone());
            }
            (Way::Published | Way::Wire, Hook::Input) => way.unseeing.push(wall.clone()),
            (Way::Host | Way::Wire, Hook::Forward) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_stands_in_the_way_of_what_it_sees() {
        let wall = |hook, family| Wall { hook, family, table: "t".into(), chain: "c".into() };
        let walls = [wall(Hook::Input, "inet"), wall(Hook::Forward, "ip")];
        let check = |kind: Way, address: &str, may_drop: usize, unseeing: usize| {
            let mut way = Exposure {
                protocol: Protocol::Tcp,
                address: address.parse().unwrap(),
                port: 80,
                way: kind,
                container: String::new(),
                id: String::new(),
                to: None,
                is_heard: true,
                process: None,
                walls: Vec::new(),
                unseeing: Vec::new(),
            };
            judge(&mut way, &walls);
            let got = (way.walls.len(), way.unseeing.len());
            assert_eq!(got, (may_drop, unseeing), "{kind:?} {address}");
        };
        check(Way::Published, "0.0.0.0", 1, 1);
        check(Way::Published, "::", 0, 1);
        check(Way::Published, "127.0.0.1", 0, 0);
        check(Way::Host, "0.0.0.0", 1, 0);
        check(Way::Wire, "10.0.0.2", 0, 1);
    }
}
