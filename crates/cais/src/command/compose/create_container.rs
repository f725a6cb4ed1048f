//! Containers of services are made: options become settings, as for `cais create`.

use std::io::Cursor;
use std::path::Path;

use ::compose::create::{Creation, File, Identity};
use ::compose::{Project, Service};
use engine::{
    Attached, Container, Engine, Error, Extract, Kind, Mount, MountSource, Result, Settings,
};
use oci::Healthcheck;

use super::scope::{OneOff, Scope};
use super::{from_compose, typed};
use crate::command::create_options::CreateOptions;

/// How a container of a service is made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Making<'a> {
    /// What it is called.
    pub(super) name: &'a str,
    /// Its number.
    pub(super) number: u32,
    /// Whether it is one of `run`, and has no place among the service's.
    pub(super) is_one_off: bool,
    /// Whether it has the service's names on its networks.
    pub(super) has_aliases: bool,
    /// The container whose anonymous volumes it takes over.
    pub(super) heir_of: Option<&'a Container>,
}

/// What a container of a service is created with.
pub(super) fn creation(
    scope: &Scope<'_>,
    project: &Project,
    service: &Service,
    making: &Making<'_>,
) -> Result<Creation> {
    let all = scope.containers(&[], OneOff::Without)?;
    let containers = |other: &str| {
        let of = all.iter().filter(|container| super::observed::service(container) == other);
        of.map(|container| container.record.name.clone()).collect()
    };
    let identity = Identity {
        name: making.name,
        number: making.number,
        is_one_off: making.is_one_off,
        has_aliases: making.has_aliases,
        containers: &containers,
    };
    project.creation(service, &identity).map_err(from_compose)
}

/// Makes a container.
pub(super) fn make(
    engine: &Engine,
    creation: &Creation,
    attached: Attached,
    heir_of: Option<&Container>,
) -> Result<Container> {
    for warning in &creation.warnings {
        crate::progress::note(&format!("WARN: {warning}"));
    }
    let mut settings = settings(creation)?;
    settings.attached = attached;
    if let Some(old) = heir_of {
        inherit(&mut settings, old);
    }
    let container = engine.create(settings)?;
    if let Err(error) = write_files(engine, &container, &creation.files) {
        let options = engine::RemoveOptions { force: true, volumes: heir_of.is_none() };
        // What could not be written is what has to be known.
        let _ = engine.remove(&container, options);
        return Err(error);
    }
    Ok(container)
}

fn settings(creation: &Creation) -> Result<Settings> {
    let options: CreateOptions = typed("create", creation.options.iter().cloned())?;
    let mut settings = options.settings(&creation.image, &creation.command)?;
    if let Some(entrypoint) = &creation.entrypoint {
        settings.entrypoint = Some(entrypoint.clone());
    }
    if let Some(test) = &creation.health_test {
        settings.healthcheck.get_or_insert_with(Healthcheck::default).test.clone_from(test);
    }
    Ok(settings)
}

/// The anonymous volumes of a container that is replaced go on in its successor.
fn inherit(settings: &mut Settings, old: &Container) {
    for mount in &old.record.settings.mounts {
        let MountSource::Volume { anonymous: true, .. } = &mount.source else { continue };
        let place = |other: &Mount| {
            other.target.trim_end_matches('/') == mount.target.trim_end_matches('/')
        };
        match settings.mounts.iter_mut().find(|other| place(other)) {
            Some(own) => {
                if matches!(&own.source, MountSource::Volume { name, .. } if name.is_empty()) {
                    own.source = mount.source.clone();
                }
            }
            None => settings.mounts.push(mount.clone()),
        }
    }
}

/// Whether a container has volumes that nobody named.
pub(super) fn has_anonymous_volumes(container: &Container) -> bool {
    let mut mounts = container.record.settings.mounts.iter();
    mounts.any(|mount| matches!(mount.source, MountSource::Volume { anonymous: true, .. }))
}

/// Writes secrets and configurations that are no files of the host's.
fn write_files(engine: &Engine, container: &Container, files: &[File]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let archive =
        archive(files).map_err(|error| Error::caused(Kind::Internal, "pack files", error))?;
    let options = Extract { keeps_kinds: false, own_user: false };
    engine.files(container)?.extract(Path::new("/"), options, &mut Cursor::new(archive))
}

fn archive(files: &[File]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_uid(file.owner.0.into());
        header.set_gid(file.owner.1.into());
        header.set_mtime(0);
        let path = file.path.trim_start_matches('/');
        archive.append_data(&mut header, path, file.content.as_bytes())?;
    }
    archive.into_inner()
}
