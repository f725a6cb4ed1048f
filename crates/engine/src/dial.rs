//! Connections to what listens in a container or a pod.

use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::Duration;

use crate::Engine;
use crate::container::Container;
use crate::error::Result;
use crate::network::from_net;
use crate::settings::NetworkMode;
use crate::{join, pod, stop};

impl Engine {
    /// Connects to a port that something listens on in a running container or pod: at its own loopback
    /// address, as whatever runs in it would.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run; nobody listens there.
    ///
    /// [`Kind::Conflict`]: crate::Kind::Conflict
    pub fn dial(&self, container: &Container, port: u16, longest: Duration) -> Result<TcpStream> {
        let _process = stop::running(container)?;
        let settings = &container.record.settings;
        let namespace = match (&settings.network, &settings.pod) {
            (NetworkMode::Host, _) => None,
            (_, Some(_)) => pod::network_of(container)?,
            (_, None) => Some(join::namespace_of(container, "net")?),
        };
        let namespace = namespace.as_ref().map(|fd| fd.as_fd());
        net::dial(namespace, port, longest).map_err(from_net)
    }
}
