//! What has happened to containers, images, volumes and networks: `docker events`.
//!
//! Whoever does something says so in one line that is appended to a file by one write. Nobody reads
//! it back, locks it or syncs it on the way: a container's start is not to wait for its history. A
//! line that cannot be written, because the disk is full, is lost, and what happened has happened.
//!
//! ```text
//! <root>/events/log      the last events, one line of JSON each
//! <root>/events/log.1    those before, as many again at most
//! ```

mod history;
mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::container::{Container, Placement};
use crate::network::Network;
use crate::settings::{MountSource, NetworkMode};
pub use watch::{EventQuery, Events};

/// What something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A container, by its id.
    Container,
    /// An image, by its id or its name.
    Image,
    /// A volume, by its name.
    Volume,
    /// A network, by its id.
    Network,
    /// What builds keep, as a whole.
    Builder,
}

impl Subject {
    /// The word for it, which is Docker's.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Builder => "builder",
        }
    }
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since 1970.
    #[serde(rename = "t")]
    pub time_ns: i64,
    /// What it happened to.
    #[serde(rename = "k")]
    pub subject: Subject,
    /// What happened, in Docker's words: `start`, `exec_create: sh`, `health_status: healthy`.
    #[serde(rename = "a")]
    pub action: String,
    /// Which one; empty where it is about several.
    #[serde(rename = "i")]
    pub id: String,
    /// What else Docker says about it: `name`, `image`, labels, and what belongs to the action.
    #[serde(rename = "m")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    pub(crate) fn new(subject: Subject, action: impl Into<String>, id: impl Into<String>) -> Self {
        let attributes = BTreeMap::new();
        Self { time_ns: 0, subject, action: action.into(), id: id.into(), attributes }
    }

    /// Something that happened to a container.
    pub(crate) fn container(action: impl Into<String>, container: &Container) -> Self {
        let record = &container.record;
        let event = Self::new(Subject::Container, action, &record.id);
        let event = Self { attributes: record.config.labels.clone(), ..event };
        event.with("image", &record.settings.image).with("name", &record.name)
    }

    /// Something that happened to an image, known by this name.
    pub(crate) fn image(action: &str, id: impl Into<String>, name: &str) -> Self {
        Self::new(Subject::Image, action, id).with("name", name)
    }

    /// Something that happened to a volume.
    pub(crate) fn volume(action: &str, name: &str) -> Self {
        Self::new(Subject::Volume, action, name).with("driver", "local")
    }

    /// Something that happened to a network.
    pub(crate) fn network(action: &str, network: &Network) -> Self {
        let event = Self::new(Subject::Network, action, &network.id);
        event.with("name", &network.name).with("type", &network.driver)
    }

    /// What nothing needed was removed: so many bytes of it.
    pub(crate) fn prune(subject: Subject, bytes: u64) -> Self {
        Self::new(subject, "prune", "").with("reclaimed", &bytes.to_string())
    }

    /// With something more about it.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// What happened to the volumes of a container.
fn volume_events(action: &'static str, container: &Container) -> impl Iterator<Item = Event> {
    let id = &container.record.id;
    container.record.settings.mounts.iter().filter_map(move |mount| {
        let MountSource::Volume { name, .. } = &mount.source else { return None };
        let event = Event::volume(action, name).with("container", id);
        if action == "unmount" {
            return Some(event);
        }
        let writable = (!mount.read_only).to_string();
        let event = event.with("destination", &mount.target).with("read/write", &writable);
        Some(event.with("propagation", ""))
    })
}

impl Engine {
    /// Writes down that something has happened, now.
    pub(crate) fn emit(&self, event: Event) {
        self.emit_all(vec![event]);
    }

    /// As [`Engine::emit`], of several things that happened together, in this order.
    fn emit_all(&self, mut events: Vec<Event>) {
        let now = jiff::Timestamp::now().as_nanosecond();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for (event, after) in events.iter_mut().zip(0..) {
            event.time_ns = now.saturating_add(after);
        }
        // As the module says: nothing depends on it.
        let _ = history::append(&self.root.join(history::DIRECTORY), &events);
    }

    /// That a container has started, with what it needed for that.
    pub(crate) fn emit_start(&self, container: &Container) {
        let mut events = self.network_events("connect", container, &container.state.places);
        events.extend(volume_events("mount", container));
        events.push(Event::container("start", container));
        self.emit_all(events);
    }

    /// That a container has ended, and let go of what it had. `places` are those of the network
    /// that it had.
    pub(crate) fn emit_end(&self, container: &Container, places: &[Placement]) {
        let mut events = Vec::new();
        if container.state.oom_killed {
            let victims: Vec<&str> =
                container.state.memory.victims.iter().map(|victim| victim.name.as_str()).collect();
            let event = Event::container("oom", container);
            events.push(match victims.is_empty() {
                true => event,
                false => event.with("victims", &victims.join(",")),
            });
        }
        let code = container.state.exit_code.to_string();
        events.push(Event::container("die", container).with("exitCode", &code));
        events.extend(self.network_events("disconnect", container, places));
        events.extend(volume_events("unmount", container));
        self.emit_all(events);
    }

    fn network_events(
        &self,
        action: &str,
        container: &Container,
        places: &[Placement],
    ) -> Vec<Event> {
        let event = |name: &str, id: &str, driver: &str| {
            let id = if id.is_empty() { self.predefined_id(name) } else { id.to_owned() };
            let event = Event::new(Subject::Network, action, id);
            let event = event.with("container", &container.record.id);
            event.with("name", name).with("type", driver)
        };
        match &container.record.settings.network {
            NetworkMode::None => vec![event("none", "", "null")],
            NetworkMode::Host => vec![event("host", "", "host")],
            NetworkMode::Container(_) => Vec::new(),
            NetworkMode::Bridge | NetworkMode::Named(_) => {
                let places = places.iter();
                places.map(|place| event(&place.network, &place.network_id, "bridge")).collect()
            }
        }
    }

    /// What has happened, and what happens from now on.
    ///
    /// # Errors
    /// If the history cannot be read, or not be watched.
    pub fn events(&self, query: EventQuery) -> crate::Result<Events> {
        Events::open(&self.root.join(history::DIRECTORY), query)
    }
}
