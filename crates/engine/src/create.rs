//! Creating a container: the image's defaults and what was asked become its record.

use std::collections::BTreeMap;

use oci::{ContainerConfig, Digest, Healthcheck, ImageConfig, PlatformError};
use rustix::fs::FlockOperation;

use crate::container::{Container, Record, SHORT_ID_LENGTH, State};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::image::made_for;
use crate::settings::{NetworkMode, Security, Settings, Sharing};
use crate::{Engine, clock, spec};

/// What a container is made of.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The image's id.
    pub(crate) image_id: Digest,
    /// The image's layers, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// The image's manifest, if the layers are still arriving.
    pub(crate) manifest: Option<Digest>,
}

impl Engine {
    /// Creates a container; nothing of it runs yet. The image must be here.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the image, [`Kind::Exists`] if the name is taken,
    /// [`Kind::Invalid`] if the settings contradict each other. Nothing is left behind then.
    pub fn create(&self, settings: Settings) -> Result<Container> {
        if !self.root().exists() {
            // The image cannot be here, and nothing is made for what fails.
            self.store.look_up(&settings.image)?;
        }
        // Only where nobody holds a lease, so before we do.
        self.sweep_name(&settings.name);
        let _lease = self.store.lease()?;
        let image = self.store.look_up(&settings.image)?;
        let defaults = image.config(&self.store)?;
        let origin = Origin { image_id: image.id, layers: image.diff_ids(), manifest: None };
        self.create_of(settings, origin, &defaults)
    }

    /// Creates a container of an image, under a lease.
    pub(crate) fn create_of(
        &self,
        settings: Settings,
        origin: Origin,
        defaults: &ImageConfig,
    ) -> Result<Container> {
        let platform = settings.platform.as_deref().map(str::parse).transpose();
        let platform =
            platform.map_err(|error: PlatformError| Error::invalid(error.to_string()))?;
        made_for(&settings.image, defaults, platform.as_ref())?;
        let (id, dir) = self.containers.allocate()?;
        let made = self.fill(&id, settings, origin, defaults);
        let made = made.inspect_err(|_| {
            // The half-made container has nothing worth keeping.
            let _ = self.discard_half_made(&id, &dir);
        })?;
        self.emit(Event::container("create", &made));
        Ok(made)
    }

    fn fill(
        &self,
        id: &str,
        mut settings: Settings,
        Origin { image_id, layers, manifest }: Origin,
        defaults: &ImageConfig,
    ) -> Result<Container> {
        check_user_namespace(&settings.security)?;
        let config = merge(&settings, &defaults.config);
        // Until the record says that they are in use, nobody may remove the volumes.
        let _volumes = self.hold_volumes(FlockOperation::LockShared)?;
        self.check_joins(&mut settings)?;
        self.check_network(&mut settings)?;
        self.check_links(&settings)?;
        settings.mounts = self.make_mounts(id, &settings, &config, &layers)?;
        if let Some(first) = &mut settings.honest_proc {
            // So that not all containers crowd on the same processors.
            *first = u32::from_str_radix(&id[..6], 16).unwrap_or(0);
        }
        let name = self.containers.reserve(&settings.name, id)?;
        let record = Record {
            id: id.to_owned(),
            name: name.clone(),
            created: clock::now(),
            image_id,
            layers,
            manifest,
            settings,
            config,
        };
        let dir = self.root.join("containers").join(id);
        let container = Container {
            record,
            state: State::default(),
            run_dir: self.containers.run_dir(id),
            dir,
        };
        self.write(&container).inspect_err(|_| self.containers.release(&name, id))?;
        Ok(container)
    }

    /// Makes sure that the containers exist that it is linked with; on networks that users made, they
    /// may come later.
    fn check_links(&self, settings: &Settings) -> Result<()> {
        if matches!(settings.network, NetworkMode::Named(_)) {
            return Ok(());
        }
        for (name, _) in &settings.links {
            let missing = |error: Error| {
                let doing = format!("could not get container for {name}");
                Error::caused(error.kind(), doing, error)
            };
            self.containers.find(name).map_err(missing)?;
        }
        Ok(())
    }

    /// Makes sure that the networks exist, and writes them down by name.
    fn check_network(&self, settings: &mut Settings) -> Result<()> {
        for attachment in &mut settings.attachments {
            let network = self.network(&attachment.network)?;
            attachment.network.clone_from(&network.name);
            if network.bridge.is_none() && network.name != "bridge" {
                return Err(Error::invalid(
                    "container cannot be connected to multiple networks with one of the networks \
                     in host or private (none) mode",
                ));
            }
            if network.name != "bridge" {
                continue;
            }
            if attachment.address.is_some() || attachment.address_v6.is_some() {
                return Err(Error::invalid(
                    "user specified IP address is supported on user defined networks only",
                ));
            }
            if !attachment.aliases.is_empty() {
                return Err(Error::invalid(
                    "network-scoped aliases are only supported for user-defined networks",
                ));
            }
        }
        if let (NetworkMode::Named(name), Some(first)) =
            (&mut settings.network, settings.attachments.first())
        {
            name.clone_from(&first.network);
        }
        Ok(())
    }

    fn write(&self, container: &Container) -> Result<()> {
        // A plan that cannot be made is an error now, not when the container starts.
        spec::plan(container, &self.volumes(), &spec::Joined::default())?;
        crate::monitor::log::plan::Plan::of(&container.record)?;
        if container.record.settings.pod.is_some() {
            return crate::record::write(&container.dir, &container.record);
        }
        self.store.prepare(
            container.record.chain(),
            &container.dir,
            container.record.settings.auto_remove,
        )?;
        if let Some(bytes) = container.record.settings.storage_bytes {
            let parts = ["upper", "work"].map(|part| container.dir.join(part));
            let parts = parts.each_ref().map(std::path::PathBuf::as_path);
            crate::quota::limit(&parts, bytes, &format!("container {}", container.record.name))?;
        }
        crate::record::write(&container.dir, &container.record)
    }
}

/// The ports that the image exposes, and those that were asked for or published.
fn exposed(settings: &Settings, image: &ContainerConfig) -> BTreeMap<String, serde_json::Value> {
    let published = settings.ports.iter().map(|p| format!("{}/{}", p.port, p.protocol.name()));
    let own = settings.expose.iter().cloned().chain(published);
    let mut all = image.exposed_ports.clone();
    all.extend(own.map(|port| (port, serde_json::Value::Object(serde_json::Map::new()))));
    all
}

/// Root of a user namespace may not mount what shows a namespace of the host.
fn check_user_namespace(security: &Security) -> Result<()> {
    let host_pid = security.pid == Sharing::Host;
    let host = [(host_pid, "PID", "pid"), (security.host_cgroup, "cgroup", "cgroupns")];
    let shared = host.iter().find(|(shared, ..)| *shared && security.user_namespace.is_some());
    shared.map_or(Ok(()), |(_, kind, flag)| {
        Err(Error::invalid(format!(
            "cannot share the host {kind} namespace when user namespaces are enabled"
        ))
        .hint(format!("leave out --{flag} host, or use --userns host")))
    })
}

/// The image's configuration with what was asked laid over it, by Docker's rules: an entrypoint
/// that is given also resets the image's command.
fn merge(settings: &Settings, image: &ContainerConfig) -> ContainerConfig {
    let over = |asked: &String, default: &String| {
        if asked.is_empty() { default.clone() } else { asked.clone() }
    };
    let (entrypoint, default_cmd) = match &settings.entrypoint {
        Some(given) => (given.clone(), Vec::new()),
        None => (image.entrypoint.clone(), image.cmd.clone()),
    };
    let mut env = image.env.clone();
    for variable in &settings.env {
        match variable.contains('=') {
            true => spec::set(&mut env, variable),
            // A name alone takes the image's variable away.
            false => env.retain(|known| known.split('=').next() != Some(variable)),
        }
    }
    let mut labels = image.labels.clone();
    labels.extend(settings.labels.clone());
    ContainerConfig {
        user: over(&settings.user, &image.user),
        env,
        entrypoint,
        cmd: if settings.cmd.is_empty() { default_cmd } else { settings.cmd.clone() },
        working_dir: over(&settings.workdir, &image.working_dir),
        labels,
        exposed_ports: exposed(settings, image),
        stop_signal: over(&settings.stop_signal, &image.stop_signal),
        healthcheck: healthcheck(settings.healthcheck.as_ref(), image.healthcheck.as_ref()),
        ..image.clone()
    }
}

/// The check that was asked for; what it leaves open is the image's.
fn healthcheck(asked: Option<&Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (Some(asked), Some(image)) = (asked, image) else {
        return asked.or(image).cloned();
    };
    let or = |own: u64, default: u64| if own == 0 { default } else { own };
    Some(Healthcheck {
        test: if asked.test.is_empty() { image.test.clone() } else { asked.test.clone() },
        interval: or(asked.interval, image.interval),
        timeout: or(asked.timeout, image.timeout),
        start_period: or(asked.start_period, image.start_period),
        start_interval: or(asked.start_interval, image.start_interval),
        retries: if asked.retries == 0 { image.retries } else { asked.retries },
    })
}

impl Record {
    /// The host name inside: as asked, else the first digits of the id.
    #[must_use]
    pub fn config_hostname(&self) -> String {
        match self.settings.hostname.as_str() {
            "" => self.id[..SHORT_ID_LENGTH].to_owned(),
            name => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entrypoint: Option<&[&str]>, cmd: &[&str], expected: &[&str]) {
        let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let image = ContainerConfig {
            entrypoint: own(&["entry"]),
            cmd: own(&["default"]),
            ..ContainerConfig::default()
        };
        let settings =
            Settings { entrypoint: entrypoint.map(own), cmd: own(cmd), ..Settings::default() };
        let merged = merge(&settings, &image);
        assert_eq!([merged.entrypoint, merged.cmd].concat(), own(expected));
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        check(None, &[], &["entry", "default"]);
        check(None, &["x"], &["entry", "x"]);
        check(Some(&["own"]), &[], &["own"]);
        check(Some(&["own"]), &["x"], &["own", "x"]);
        check(Some(&[]), &["x"], &["x"]);
    }
}
