//! What is mounted into a container, when it is created: other containers' mounts, sources that are
//! missing, users that files belong to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use oci::{ContainerConfig, Digest};

use runtime::Part;

use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::file::create_dir;
use crate::image::from_runtime;
use crate::settings::{Mount, MountSource, Owner, Settings};
use crate::volume::VolumeOptions;

/// The largest `/etc/passwd` or `/etc/group` that is looked into, in bytes.
const USERS_BYTES_MAX: u64 = 4 << 20;

impl Engine {
    /// The mounts asked for, with their sources made, and an anonymous volume for each path that
    /// the image declares and nothing is mounted at.
    pub(crate) fn make_mounts(
        &self,
        id: &str,
        settings: &Settings,
        config: &ContainerConfig,
        layers: &[Digest],
    ) -> Result<Vec<Mount>> {
        let mut mounts = settings.mounts.clone();
        self.borrow_mounts(&mut mounts, settings)?;
        for target in config.volumes.keys() {
            if !is_taken(&mounts, target) {
                let source = MountSource::volume("");
                let (target, owner) = (target.clone(), None);
                mounts.push(Mount { source, target, read_only: false, owner });
            }
        }
        for mount in &mut mounts {
            if !mount.target.starts_with('/') {
                return Err(Error::invalid(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.target
                )));
            }
            if let Some(owner) = &mut mount.owner {
                owner.ids = self.ids_of(&owner.name, layers)?;
            }
            self.make_source(id, &mut mount.source)?;
        }
        Ok(mounts)
    }

    /// Adds what other containers have mounted, but for what lies where something was asked for.
    fn borrow_mounts(&self, mounts: &mut Vec<Mount>, settings: &Settings) -> Result<()> {
        for text in &settings.volumes_from {
            let (key, mode) = match text.rsplit_once(':') {
                Some((key, mode)) => (key, mode),
                None => (text.as_str(), "rw"),
            };
            let read_only = match mode {
                "ro" => true,
                "rw" | "z" | "Z" => false,
                _ => {
                    return Err(Error::invalid(format!("invalid mode: {mode}: in '{text}'"))
                        .hint("a container, and perhaps :ro or :rw behind it"));
                }
            };
            for mount in self.find(key)?.record.settings.mounts {
                // As in Docker, memory is nobody else's.
                let is_memory = matches!(mount.source, MountSource::Tmpfs { .. });
                if !is_memory && !is_taken(mounts, &mount.target) {
                    let read_only = read_only || mount.read_only;
                    mounts.push(Mount { read_only, ..mount });
                }
            }
        }
        Ok(())
    }

    fn make_source(&self, id: &str, source: &mut MountSource) -> Result<()> {
        match source {
            MountSource::Bind { path, create, subpath, .. } => {
                check_subpath(subpath)?;
                make_directory(path, *create)
            }
            MountSource::Volume { name, anonymous, subpath, labels, options, .. } => {
                if name.is_empty() {
                    *anonymous = true;
                    *name = crate::id::fresh()?;
                }
                check_subpath(subpath)?;
                let asked = VolumeOptions {
                    labels: std::mem::take(labels),
                    options: std::mem::take(options),
                };
                *options = self.ensure_volume(name, anonymous.then_some(id), asked)?;
                Ok(())
            }
            MountSource::Memory { .. } | MountSource::Tmpfs { .. } => Ok(()),
            MountSource::Image { name, id, layers, subpath } => {
                check_subpath(subpath)?;
                let image = self.store.look_up(name)?;
                (*id, *layers) = (Some(image.id), image.diff_ids());
                Ok(())
            }
        }
    }

    /// Makes the directory of a volume, if it is not there; the options that it has.
    fn ensure_volume(
        &self,
        name: &str,
        anonymous_for: Option<&str>,
        asked: VolumeOptions,
    ) -> Result<BTreeMap<String, String>> {
        crate::volume::validate(name)?;
        let dir = self.volumes().join(name);
        if dir.join("_data").exists() {
            if let Some(id) = anonymous_for {
                crate::volume::share(&dir, id)?;
            }
            return Ok(self.volume(name)?.options);
        }
        if !asked.labels.is_empty() || !asked.options.is_empty() {
            let options = asked.options.clone();
            self.make_recorded(name, asked, anonymous_for.is_some())?;
            return Ok(options);
        }
        let Some(id) = anonymous_for else {
            create_dir(&dir)?;
            crate::volume::make(&dir, None)?;
            self.emit(Event::volume("create", name));
            return Ok(BTreeMap::new());
        };
        // It appears with its owner, so that it is found when this process is killed.
        let fresh = crate::volume::unfinished(&self.volumes(), id);
        create_dir(&fresh)?;
        crate::volume::make(&fresh, anonymous_for)?;
        fs::rename(&fresh, &dir).doing(|| format!("create volume {name}"))?;
        self.emit(Event::volume("create", name));
        Ok(BTreeMap::new())
    }

    /// What a specification cannot say of mounts.
    pub(crate) fn parts(&self, plan: &crate::spec::Plan, dir: &Path) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for (destination, subpath) in &plan.subpaths {
            let layers = plan.images.iter().find(|(image, _)| image == destination);
            let image =
                layers.map(|(_, layers)| self.store.rootfs(layers, dir, true)).transpose()?;
            let (destination, subpath) = (destination.clone(), subpath.clone());
            parts.push(Part { destination, subpath, image });
        }
        Ok(parts)
    }

    /// The ids that an image has for `user[:group]`.
    fn ids_of(&self, user: &str, layers: &[Digest]) -> Result<(u32, u32)> {
        let read = |file: &str| -> Result<String> {
            let view = self.store.view_layers(layers)?;
            let bytes = view.read(&["etc", file], USERS_BYTES_MAX)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        runtime::identify(&read("passwd")?, &read("group")?, user).map_err(from_runtime)
    }
}

impl Owner {
    /// A user whose ids are found when the container is created.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ids: (0, 0) }
    }
}

fn is_taken(mounts: &[Mount], target: &str) -> bool {
    let target = target.trim_end_matches('/');
    mounts.iter().any(|mount| mount.target.trim_end_matches('/') == target)
}

fn check_subpath(subpath: &Path) -> Result<()> {
    let leaves = |part| matches!(part, Component::RootDir | Component::ParentDir);
    match subpath.components().any(leaves) {
        true => Err(Error::invalid(format!(
            "invalid mount config: subpath must be a relative path within the volume: {}",
            subpath.display()
        ))),
        false => Ok(()),
    }
}

fn make_directory(path: &PathBuf, create: bool) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    if create {
        return fs::create_dir_all(path).map_err(|error| {
            Error::caused(Kind::Invalid, format!("create bind source {}", path.display()), error)
        });
    }
    Err(Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        path.display()
    ))
    .hint("create it first; -v creates missing directories"))
}
