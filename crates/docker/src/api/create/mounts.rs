//! What is mounted into a container.

use std::path::Path;

use engine::{Error, Kind, Mount, MountSource, Result};

use crate::api::host_config::{self as api, Created};
use crate::grammar;

/// All mounts that are asked for; no two at one place.
pub(super) fn mounts(created: &Created) -> Result<Vec<Mount>> {
    let host = &created.host_config;
    // Where the server was started is nobody's business.
    if let Some(text) = host.binds.iter().find(|text| text.starts_with(['.', '~'])) {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{text}': mount path must be absolute"
        )));
    }
    let mut all: Vec<Mount> =
        host.binds.iter().map(|text| grammar::volume(text)).collect::<Result<_>>()?;
    for asked in &host.mounts {
        all.push(mount(asked)?);
    }
    for (target, options) in &host.tmpfs {
        all.push(grammar::temporary(&format!("{target}:{options}")));
    }
    grammar::distinct(&all)?;
    for target in created.volumes.keys() {
        // As in Docker: what is mounted there in another way wins.
        if !all.iter().any(|known| same(&known.target, target)) {
            all.push(anonymous(target)?);
        }
    }
    Ok(all)
}

/// A key of `Volumes` is a place in the container, and nothing else.
fn anonymous(target: &str) -> Result<Mount> {
    if !target.starts_with('/') || target.contains(':') || same(target, "/") {
        return Err(Error::invalid(format!("invalid volume specification: '{target}'")));
    }
    let source = MountSource::volume("");
    Ok(Mount { source, target: target.to_owned(), read_only: false, owner: None })
}

fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn mount(asked: &api::Mount) -> Result<Mount> {
    let kind = asked.kind.as_str();
    let bad =
        |why: &str| Error::invalid(format!("invalid mount config for type \"{kind}\": {why}"));
    if asked.target.is_empty() {
        return Err(bad("field Target must not be empty"));
    }
    let source = match kind {
        "bind" if asked.source.is_empty() => return Err(bad("field Source must not be empty")),
        "bind" => bind(asked)?,
        "volume" => volume(asked)?,
        "tmpfs" if asked.source.is_empty() => tmpfs(&asked.tmpfs_options)?,
        "tmpfs" => return Err(bad("field Source must not be specified")),
        "image" if asked.source.is_empty() => return Err(bad("field Source must not be empty")),
        "image" => MountSource::Image {
            name: asked.source.clone(),
            id: None,
            layers: Vec::new(),
            subpath: asked.image_options.subpath.clone().into(),
        },
        _ => {
            let message = format!("mount type \"{kind}\" is not supported");
            return Err(Error::new(Kind::Unsupported, message));
        }
    };
    let target = asked.target.clone();
    Ok(Mount { source, target, read_only: asked.read_only, owner: None })
}

fn bind(asked: &api::Mount) -> Result<MountSource> {
    let options = &asked.bind_options;
    if !asked.source.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be \
             absolute",
            asked.source
        )));
    }
    if options.read_only_force_recursive && options.read_only_non_recursive {
        return Err(Error::invalid(
            "mount options conflict: ReadOnlyNonRecursive and ReadOnlyForceRecursive",
        ));
    }
    let source = Path::new(&asked.source);
    let mut bind = grammar::bind(source, options.create_mountpoint)?;
    if let MountSource::Bind { propagation, recursive, writable_below, .. } = &mut bind {
        match options.propagation.as_str() {
            "" => {}
            word if grammar::PROPAGATIONS.contains(&word) => word.clone_into(propagation),
            word => return Err(Error::invalid(format!("invalid propagation mode: {word}"))),
        }
        *recursive = !options.non_recursive;
        *writable_below = options.read_only_non_recursive;
    }
    Ok(bind)
}

fn volume(asked: &api::Mount) -> Result<MountSource> {
    let asked_options = &asked.volume_options;
    let driver = &asked_options.driver_config;
    if !matches!(driver.name.as_str(), "" | "local") {
        return Err(Error::new(Kind::NotFound, format!("plugin \"{}\" not found", driver.name)));
    }
    let mut made = MountSource::volume(&asked.source);
    if let MountSource::Volume { copy, subpath, labels, options, .. } = &mut made {
        *copy = !asked_options.no_copy;
        *subpath = asked_options.subpath.clone().into();
        labels.clone_from(&asked_options.labels);
        options.clone_from(&driver.options);
    }
    Ok(made)
}

fn tmpfs(asked: &api::TmpfsOptions) -> Result<MountSource> {
    let mut options = Vec::new();
    if asked.size_bytes < 0 {
        return Err(Error::invalid("invalid tmpfs size: it cannot be negative"));
    }
    if asked.size_bytes > 0 {
        options.push(format!("size={}", asked.size_bytes));
    }
    if asked.mode != 0 {
        options.push(format!("mode={:o}", asked.mode));
    }
    options.extend(asked.options.iter().map(|words| words.join("=")));
    Ok(MountSource::Tmpfs { options })
}
