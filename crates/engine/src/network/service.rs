//! Services of a cluster: addresses that stand for containers on a network, and names.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub use net::Neighbour;
use net::dns::Listeners;
pub use net::dns::{Answer, Question, Target};
pub use net::port::Protocol as ServiceProtocol;
pub use net::service::{Backend, Frontend, Plan};
use rustix::event::{PollFd, Timespec, poll};
use rustix::net::{self as socket, AddressFamily, SocketFlags, SocketType};

use super::from_net;
use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::monitor::resolver::{Resolver, Servers, Verdict};

/// What services on a network need.
#[derive(Debug)]
pub struct Services {
    /// What the kernel does about them.
    pub table: net::service::Table,
    /// This host's address on the network.
    pub gateway: IpAddr,
}

/// Sockets that questions about names arrive at.
#[derive(Debug)]
pub struct NameSockets {
    listeners: Listeners,
    /// The port of datagrams.
    pub udp: u16,
    /// The port of connections.
    pub tcp: u16,
}

impl Engine {
    /// Prepares services with addresses of `range`, whose endpoints are on a network of this root.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the network, and whatever the kernel says.
    pub fn services(&self, network: &str, range: net::Subnet) -> Result<Services> {
        let bridge = self.network(network)?.bridge.ok_or_else(|| {
            Error::new(Kind::Invalid, format!("network {network} has no bridge for services"))
        })?;
        self.ensure_bridge(&bridge)?;
        net::service::Table::lead(&bridge, range).map_err(from_net)?;
        let (table, root) = (self.table(), self.root().to_str().unwrap_or_default());
        let table = net::service::Table::of(&net::Owner { table: &table, root });
        Ok(Services { table: table.map_err(from_net)?, gateway: bridge.gateway.into() })
    }
}

impl Engine {
    /// Makes these all hosts whose containers are of the same cluster as those on a network of this
    /// root: they reach each other under their own addresses.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the network, and whatever the kernel says.
    pub fn meet(&self, network: &str, neighbours: &[Neighbour]) -> Result<()> {
        let bridge = self.network(network)?.bridge.ok_or_else(|| {
            Error::new(Kind::Invalid, format!("network {network} has no bridge for neighbours"))
        })?;
        self.ensure_bridge(&bridge)?;
        let (table, root) = (self.table(), self.root().to_str().unwrap_or_default());
        net::meet(&net::Owner { table: &table, root }, &bridge, neighbours).map_err(from_net)
    }
}

impl Services {
    /// Makes these all services there are.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn replace(&mut self, plan: Plan) -> Result<()> {
        self.table.replace(plan).map_err(from_net)
    }

    /// Changes some services: each is to have this backend, or none.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn change(
        &mut self,
        changes: &std::collections::BTreeMap<Frontend, Option<Backend>>,
    ) -> Result<()> {
        self.table.change(changes).map_err(from_net)
    }

    /// Listens for questions about names on this host's address, at ports that the kernel chooses:
    /// a service leads there.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn listen(&self) -> Result<NameSockets> {
        let open = |kind| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let family =
                if self.gateway.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let fd = socket::socket_with(family, kind, flags, None)?;
            socket::bind(&fd, &SocketAddr::new(self.gateway, 0))?;
            if kind == SocketType::STREAM {
                socket::listen(&fd, 128)?;
            }
            let port = SocketAddr::try_from(socket::getsockname(&fd)?)?.port();
            Ok::<_, rustix::io::Errno>((fd, port))
        };
        let doing = || format!("listen for questions on {}", self.gateway);
        let (udp, udp_port) = open(SocketType::DGRAM).doing(doing)?;
        let (tcp, tcp_port) = open(SocketType::STREAM).doing(doing)?;
        Ok(NameSockets { listeners: Listeners { udp, tcp }, udp: udp_port, tcp: tcp_port })
    }
}

/// Answers questions for as long as the process lives: those that `judge` knows an answer to, and the
/// others by asking this host's name servers.
///
/// # Errors
/// The sockets cannot be waited for.
pub fn answer_names(
    sockets: NameSockets,
    judge: impl Fn(&Question) -> Option<Answer>,
) -> Result<std::convert::Infallible> {
    let judge = |question: &Question| judge(question).map_or(Verdict::PassOn, Verdict::Known);
    let servers = Servers::given(std::iter::empty());
    let mut resolver = Resolver::new(sockets.listeners, servers, Box::new(judge));
    loop {
        let left = resolver.deadline().map(|end| end.saturating_duration_since(Instant::now()));
        // A deadline too far off to be told is none.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut sources: Vec<PollFd<'_>> = resolver.sources().collect();
        match poll(&mut sources, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing(|| "wait for questions".into()),
        }
        drop(sources);
        resolver.advance();
    }
}
