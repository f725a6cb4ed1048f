//! Connecting a container to a network, and disconnecting it, while it runs or before.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use super::from_net;
use crate::Engine;
use crate::container::{Container, Status};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::join::namespace_of;
use crate::network::definition::Network;
use crate::settings::{Membership, NetworkMode};

impl Engine {
    /// Connects a container to a further network, and links it to others there, each with the name
    /// that it knows it by; one that runs is there at once.
    ///
    /// # Errors
    /// [`Kind::Exists`] if it is there already, [`Kind::Conflict`] if it has no network of its own.
    pub fn connect(
        &self,
        network: &Network,
        container: &Container,
        attachment: Membership,
        links: &[(String, String)],
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
            let namespace = namespace_of(&container, "net")?;
            let place = self.take_place(&container, &attachment)?;
            container.state.places.push(place.clone());
            let attached = self.link_all(&container, links).and_then(|lines| {
                self.attach_place(&place, namespace.as_fd())?;
                super::file::append_hosts(&container, &lines)
            });
            if let Err(error) = attached {
                self.leave_place(&place, &container.record.id);
                return Err(error);
            }
        }
        container.record.settings.links.extend_from_slice(links);
        if attachments.is_empty() {
            container.record.settings.network = mode_of(&attachment.network);
        }
        attachments.push(attachment);
        container.record.settings.attachments = attachments;
        self.save_record(&mut container)?;
        self.emit(Event::network("connect", network).with("container", &container.record.id));
        Ok(())
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
            let is_published = super::published_at(places) == places.get(index);
            let place = places.remove(index);
            if is_published {
                // They lead to the address that it had there.
                self.release_ports(&container);
                container.state.ports.clear();
            }
            match place.endpoint.is_bridged() {
                true => net::detach(&place.endpoint).map_err(from_net)?,
                false => {
                    let namespace = namespace_of(&container, "net")?;
                    net::detach_inside(namespace.as_fd(), &place.endpoint).map_err(from_net)?;
                }
            }
            self.leave_place(&place, &container.record.id);
            if place.endpoint.is_way_out {
                self.find_way_out(&mut container)?;
            }
        }
        let settings = &mut container.record.settings;
        settings.network = match attachments.first() {
            // It may be connected again, unlike one that was made without a network.
            None => NetworkMode::Named(network.name.clone()),
            Some(first) => mode_of(&first.network),
        };
        settings.attachments = attachments;
        self.save_record(&mut container)?;
        self.emit(Event::network("disconnect", network).with("container", &container.record.id));
        Ok(())
    }

    /// What a running container finds in /etc/hosts of others that it is linked to.
    fn link_all(
        &self,
        container: &Container,
        links: &[(String, String)],
    ) -> Result<Vec<(Ipv4Addr, String)>> {
        links.iter().map(|(key, alias)| self.link_of(container, key, alias)).collect()
    }

    /// Removes the link `container/alias`: from its next start on, the container does not know the
    /// other one by that name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such link, [`Kind::Conflict`] for the name of a container.
    pub fn remove_link(&self, link: &str) -> Result<()> {
        let Some((key, alias)) = link.trim_start_matches('/').split_once('/') else {
            let text =
                format!("Conflict, cannot remove the default link name of the container: {link}");
            return Err(Error::new(Kind::Conflict, text).hint(
                "a link is named as in web/db: a container, and the name it knows another one by",
            ));
        };
        let mut container = self.find(key)?;
        let _lock = container.lock()?;
        let links = &mut container.record.settings.links;
        let before = links.len();
        links.retain(|(_, name)| name != alias);
        if links.len() == before {
            let name = &container.record.name;
            return Err(Error::new(Kind::NotFound, format!("No such link: /{name}/{alias}")));
        }
        self.save_record(&mut container)
    }

    /// Lets the first of a running container's networks that lead somewhere be its way out.
    fn find_way_out(&self, container: &mut Container) -> Result<()> {
        for index in 0..container.state.places.len() {
            let (bridge, _) = self.bridge_of(&container.state.places[index].network)?;
            if bridge.internal {
                continue;
            }
            let namespace = namespace_of(container, "net")?;
            let endpoint = &mut container.state.places[index].endpoint;
            net::lead_out(namespace.as_fd(), endpoint).map_err(from_net)?;
            endpoint.is_way_out = true;
            break;
        }
        Ok(())
    }
}

/// The mode of a container whose first network this is.
fn mode_of(network: &str) -> NetworkMode {
    match network {
        super::DEFAULT => NetworkMode::Bridge,
        name => NetworkMode::Named(name.to_owned()),
    }
}

fn is_live(container: &Container) -> bool {
    matches!(container.state.status, Status::Running | Status::Paused)
}
