//! What is there of a project.

use std::collections::BTreeMap;

use ::compose::create;
use ::compose::plan::{Instance, Made, Observed};
use engine::{Container, Engine, Result, Status};

use super::scope::{OneOff, Scope};

/// What is there of a project, when it was looked at.
pub(super) struct World<'a> {
    engine: &'a Engine,
    instances: Vec<Instance>,
    networks: BTreeMap<String, Made>,
    volumes: BTreeMap<String, Made>,
}

impl<'a> World<'a> {
    pub(super) fn look(scope: &Scope<'a>) -> Result<Self> {
        let containers = scope.containers(&[], OneOff::Without)?;
        let networks = scope.engine.networks()?.into_iter().map(|network| {
            let made = made(&network.labels);
            (network.name, made)
        });
        let volumes = scope.engine.volume_list()?.into_iter().map(|volume| {
            let made = made(&volume.labels.unwrap_or_default());
            (volume.name, made)
        });
        Ok(Self {
            engine: scope.engine,
            instances: containers.iter().map(instance).collect(),
            networks: networks.collect(),
            volumes: volumes.collect(),
        })
    }
}

impl Observed for World<'_> {
    fn containers(&self) -> &[Instance] {
        &self.instances
    }

    fn network(&self, name: &str) -> Option<Made> {
        self.networks.get(name).cloned()
    }

    fn volume(&self, name: &str) -> Option<Made> {
        self.volumes.get(name).cloned()
    }

    fn image(&self, name: &str) -> Option<String> {
        self.engine.image(name).ok().map(|image| image.id.to_string())
    }
}

fn made(labels: &BTreeMap<String, String>) -> Made {
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    Made { project: label(create::PROJECT), hash: label(create::HASH) }
}

fn label<'a>(container: &'a Container, key: &str) -> &'a str {
    container.record.config.labels.get(key).map_or("", String::as_str)
}

/// The service of a container.
pub(super) fn service(container: &Container) -> String {
    label(container, create::SERVICE).to_owned()
}

/// The number of a container in its service.
pub(super) fn number(container: &Container) -> u32 {
    label(container, create::NUMBER).parse().unwrap_or(0)
}

/// What a container is called before its lines: without the project's name.
pub(super) fn short_name(container: &Container) -> String {
    let name = &container.record.name;
    let prefix = format!("{}-", label(container, create::PROJECT));
    name.strip_prefix(&prefix).unwrap_or(name).to_owned()
}

fn instance(container: &Container) -> Instance {
    Instance {
        id: container.record.id.clone(),
        name: container.record.name.clone(),
        service: service(container),
        number: number(container),
        is_running: container.is_running(),
        was_started: container.state.status != Status::Created,
        hash: label(container, create::HASH).to_owned(),
        image: container.record.image_id.to_string(),
    }
}
