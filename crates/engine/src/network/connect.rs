//! Connecting a container to a network, and disconnecting it, while it runs or before.

use std::os::fd::AsFd;

use super::{from_net, namespace_of};
use crate::Engine;
use crate::container::{Container, Status};
use crate::error::{Error, Kind, Result};
use crate::network::definition::Network;
use crate::settings::{Membership, NetworkMode};

impl Engine {
    /// Connects a container to a further network; one that runs is there at once.
    ///
    /// # Errors
    /// [`Kind::Exists`] if it is there already, [`Kind::Conflict`] if it has no network of its own.
    pub fn connect(
        &self,
        network: &Network,
        container: &Container,
        attachment: Membership,
    ) -> Result<()> {
        let mut container = container.clone();
        let _lock = container.lock()?;
        let name = &container.record.name;
        match &container.record.settings.network {
            NetworkMode::Bridge | NetworkMode::Named(_) => {}
            NetworkMode::Container(_) => {
                return Err(Error::new(
                    Kind::Conflict,
                    "container sharing network namespace with another container or host cannot be \
                     connected to any other network",
                ));
            }
            NetworkMode::Host => {
                return Err(Error::new(
                    Kind::Conflict,
                    "container cannot be disconnected from host network or connected to host network",
                ));
            }
            NetworkMode::None => {
                return Err(Error::new(
                    Kind::Conflict,
                    "container cannot be connected to multiple networks with one of the networks \
                     in private (none) mode",
                ));
            }
        }
        let mut attachments = container.record.settings.networks();
        if attachments.iter().any(|known| known.network == network.name) {
            let message =
                format!("endpoint with name {name} already exists in network {}", network.name);
            return Err(Error::new(Kind::Exists, message));
        }
        let attachment = Membership { network: network.name.clone(), ..attachment };
        if is_live(&container) {
            let namespace = namespace_of(&container)?;
            let place = self.take_place(&container, &attachment)?;
            if let Err(error) = self.attach_place(&place, namespace.as_fd()) {
                self.leave_place(&place, &container.record.id);
                return Err(error);
            }
            container.state.places.push(place);
        }
        attachments.push(attachment);
        container.record.settings.attachments = attachments;
        self.save_record(&mut container)
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it is not on it.
    pub fn disconnect(&self, network: &Network, container: &Container) -> Result<()> {
        let mut container = container.clone();
        let _lock = container.lock()?;
        let mut attachments = container.record.settings.networks();
        let before = attachments.len();
        attachments.retain(|known| known.network != network.name);
        if attachments.len() == before {
            let Network { name, .. } = network;
            let message =
                format!("container {} is not connected to network {name}", container.record.id);
            return Err(Error::new(Kind::Conflict, message));
        }
        let places = &mut container.state.places;
        let index = places.iter().position(|place| place.network == network.name);
        if let Some(index) = index {
            let is_way_out = super::way_out(places) == places.get(index);
            let place = places.remove(index);
            if is_way_out {
                // They lead to the address that it had there.
                self.release_ports(&container);
                container.state.ports.clear();
            }
            net::detach(&place.endpoint).map_err(from_net)?;
            self.leave_place(&place, &container.record.id);
            if place.endpoint.is_way_out {
                self.find_way_out(&mut container)?;
            }
        }
        let settings = &mut container.record.settings;
        settings.network = match attachments.first() {
            None => NetworkMode::None,
            Some(first) if first.network == super::DEFAULT => NetworkMode::Bridge,
            Some(first) => NetworkMode::Named(first.network.clone()),
        };
        settings.attachments = attachments;
        self.save_record(&mut container)
    }

    /// Lets the first of a running container's networks that lead somewhere be its way out.
    fn find_way_out(&self, container: &mut Container) -> Result<()> {
        for index in 0..container.state.places.len() {
            let (bridge, _) = self.bridge_of(&container.state.places[index].network)?;
            if bridge.internal {
                continue;
            }
            let namespace = namespace_of(container)?;
            let endpoint = &mut container.state.places[index].endpoint;
            net::lead_out(namespace.as_fd(), endpoint).map_err(from_net)?;
            endpoint.is_way_out = true;
            break;
        }
        Ok(())
    }
}

fn is_live(container: &Container) -> bool {
    matches!(container.state.status, Status::Running | Status::Paused)
}
