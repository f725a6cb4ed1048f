//! Creating a container: the image's defaults and what was asked become its record.

use std::collections::BTreeMap;
use std::fs::File;

use oci::{ContainerConfig, Healthcheck, ImageConfig, PlatformError};
use rustix::fs::FlockOperation;

use crate::container::{Container, RECORD, Record, SHORT_ID_LENGTH, State};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, write_json};
use crate::image::made_for;
use crate::settings::{Mount, MountSource, NetworkMode, Security, Settings};
use crate::{Engine, clock, spec};

impl Engine {
    /// Creates a container; nothing of it runs yet. The image must be here.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without the image, [`Kind::Exists`] if the name is taken,
    /// [`Kind::Invalid`] if the settings contradict each other. Nothing is left behind then.
    pub fn create(&self, settings: Settings) -> Result<Container> {
        self.sweep_name(&settings.name);
        let _lease = self.store.lease()?;
        let image = self.store.look_up(&settings.image)?;
        let defaults = image.config(&self.store)?;
        let platform = settings.platform.as_deref().map(str::parse).transpose();
        let platform =
            platform.map_err(|error: PlatformError| Error::invalid(error.to_string()))?;
        made_for(&settings.image, &defaults, platform.as_ref())?;
        let (id, dir) = self.containers.allocate()?;
        let made = self.fill(&id, settings, &image, &defaults);
        made.inspect_err(|_| {
            // The half-made container has nothing worth keeping.
            let _ = self.discard_half_made(&id, &dir);
        })
    }

    fn fill(
        &self,
        id: &str,
        mut settings: Settings,
        image: &store::Image,
        defaults: &ImageConfig,
    ) -> Result<Container> {
        check_user_namespace(&settings.security)?;
        let config = merge(&settings, &defaults.config);
        // Until the record says that they are in use, nobody may remove the volumes.
        let _volumes = self.hold_volumes(FlockOperation::LockShared)?;
        settings.mounts = self.mounts(id, &settings, &config)?;
        self.check_network(&mut settings)?;
        let name = self.containers.reserve(&settings.name, id)?;
        let record = Record {
            id: id.to_owned(),
            name: name.clone(),
            created: clock::now(),
            image_id: image.id,
            layers: image.diff_ids(),
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

    /// Makes sure that the networks exist, and writes them down by name.
    fn check_network(&self, settings: &mut Settings) -> Result<()> {
        if let NetworkMode::Container(key) = &settings.network {
            settings.network = NetworkMode::Container(self.find(key)?.record.id);
        }
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
            if attachment.address.is_some() {
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
        spec::plan(container, &self.volumes(), None)?;
        let lock = container.dir.join("lock");
        File::create(&lock).doing(|| format!("create {}", lock.display()))?;
        self.store.prepare(
            &container.record.layers,
            &container.dir,
            container.record.settings.auto_remove,
        )?;
        write_json(&container.dir, RECORD, &container.record)
    }

    /// The mounts asked for, with their sources made, and an anonymous volume for each path that
    /// the image declares and nothing is mounted at.
    fn mounts(
        &self,
        id: &str,
        settings: &Settings,
        config: &ContainerConfig,
    ) -> Result<Vec<Mount>> {
        let mut mounts = settings.mounts.clone();
        for target in config.volumes.keys() {
            if mounts
                .iter()
                .any(|mount| mount.target.trim_end_matches('/') == target.trim_end_matches('/'))
            {
                continue;
            }
            let source = MountSource::Volume { name: String::new(), anonymous: true, copy: true };
            mounts.push(Mount { source, target: target.clone(), read_only: false });
        }
        for mount in &mut mounts {
            if !mount.target.starts_with('/') {
                return Err(Error::invalid(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.target
                )));
            }
            match &mut mount.source {
                MountSource::Bind { path, create, .. } => make_source(path, *create)?,
                MountSource::Volume { name, anonymous, .. } => {
                    if name.is_empty() {
                        *anonymous = true;
                        *name = crate::id::fresh()?;
                    }
                    self.ensure_volume(name, anonymous.then_some(id))?;
                }
                MountSource::Tmpfs { .. } => {}
            }
        }
        Ok(mounts)
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
    let host = [(security.host_pid, "PID", "pid"), (security.host_cgroup, "cgroup", "cgroupns")];
    let shared = host.iter().find(|(shared, ..)| *shared && security.user_namespace.is_some());
    shared.map_or(Ok(()), |(_, kind, flag)| {
        Err(Error::invalid(format!(
            "cannot share the host {kind} namespace when user namespaces are enabled"
        ))
        .hint(format!("leave out --{flag} host, or use --userns host")))
    })
}

fn make_source(path: &std::path::Path, create: bool) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    if create {
        return std::fs::create_dir_all(path).map_err(|error| {
            Error::caused(Kind::Invalid, format!("create bind source {}", path.display()), error)
        });
    }
    Err(Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        path.display()
    ))
    .hint("create it first; -v creates missing directories"))
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
        spec::set(&mut env, variable);
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

impl Engine {
    /// Makes the directory of a volume, if it is not there.
    fn ensure_volume(&self, name: &str, anonymous_for: Option<&str>) -> Result<()> {
        crate::volume::validate(name)?;
        let dir = self.volumes().join(name);
        if dir.join("_data").exists() {
            return Ok(());
        }
        let Some(id) = anonymous_for else {
            create_dir(&dir)?;
            return crate::volume::make(&dir, None);
        };
        // It appears with its owner, so that it is found when this process is killed.
        let fresh = crate::volume::unfinished(&self.volumes(), id);
        create_dir(&fresh)?;
        crate::volume::make(&fresh, anonymous_for)?;
        std::fs::rename(&fresh, &dir).doing(|| format!("create volume {name}"))
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
