//! Starting again, after the machine was restarted, what is to run on it.

use crate::Engine;
use crate::container::{Container, Status};
use crate::error::Result;
use crate::settings::NetworkMode;

/// A container that was to be started, and what came of it.
pub type Restored = (Container, Result<()>);

impl Engine {
    /// Starts the containers that do not run and whose restart policy wants them to run when the
    /// machine has started, those first that others need; it may be called at any time, and starts
    /// nothing that runs. Running containers whose monitor was killed get another.
    ///
    /// # Errors
    /// If the containers cannot be listed. What keeps one from being started is told with it.
    pub fn restore(&self) -> Result<Vec<Restored>> {
        let mut waiting: Vec<Container> = self.list()?.into_iter().filter(wants_to_start).collect();
        // As they were created.
        waiting.reverse();
        let mut done = Vec::new();
        while !waiting.is_empty() {
            let names: Vec<[String; 2]> =
                waiting.iter().map(|c| [c.record.id.clone(), c.record.name.clone()]).collect();
            let is_waiting = |key: &str| names.iter().flatten().any(|name| name == key);
            let (later, mut now): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|container| needs(container).any(&is_waiting));
            waiting = later;
            if now.is_empty() {
                // They need each other: the first is told why it cannot be started.
                now.push(waiting.remove(0));
            }
            for container in now {
                let started = match self.start(&container) {
                    // Somebody else was faster.
                    Err(_) if self.find(&container.record.id).is_ok_and(|c| c.is_running()) => {
                        Ok(())
                    }
                    started => started,
                };
                done.push((container, started));
            }
        }
        Ok(done)
    }
}

fn wants_to_start(container: &Container) -> bool {
    let state = &container.state;
    let policy = container.record.settings.restart;
    // One that was created only, nobody has started yet.
    state.status == Status::Exited
        && !state.started_at.is_empty()
        && policy.starts_with_machine(state.exit_code, state.stop_requested, state.restarts)
}

/// The containers that one needs to be started, by id or name.
fn needs(container: &Container) -> impl Iterator<Item = &str> {
    let settings = &container.record.settings;
    let shared = match &settings.network {
        NetworkMode::Container(id) => Some(id.as_str()),
        _ => None,
    };
    shared.into_iter().chain(settings.links.iter().map(|link| link.0.as_str()))
}
