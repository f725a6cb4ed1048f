//! What is mounted, as `-v` and `Binds` have it.

use std::path::Path;

use engine::{Error, Kind, Mount, MountSource, Owner, Result};

/// How mounts are passed on between a container and its host (mount_namespaces(7)).
pub const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Refuses two mounts at one place.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn distinct(all: &[Mount]) -> Result<()> {
    for (index, mount) in all.iter().enumerate() {
        let target = |mount: &Mount| mount.target.trim_end_matches('/').to_owned();
        if all[..index].iter().any(|other| target(other) == target(mount)) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.target)));
        }
    }
    Ok(())
}

/// `[source:]target[:options]`: an absolute or `./` source is a path of the host, another one the
/// name of a volume, none an anonymous volume.
pub fn volume(text: &str) -> Result<Mount> {
    let bad = || {
        Error::invalid(format!("invalid volume specification: '{text}'"))
            .hint("as in /host/dir:/in/container:ro or name:/in/container")
    };
    let mut parts: Vec<&str> = text.split(':').collect();
    // A user may be followed by a group, and no path has the look of it.
    let is_user =
        |options: &str| options.rsplit(',').next().is_some_and(|o| o.starts_with("user="));
    if let [_, _, options, _] = parts[..]
        && is_user(options)
    {
        parts = text.splitn(3, ':').collect();
    }
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(bad()),
    };
    if target.is_empty() || (source.is_empty() && parts.len() > 1) {
        return Err(bad());
    }
    if target == "/" {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"volume\": invalid specification: destination can't be '/'"
        )));
    }
    let is_path = source.starts_with(['/', '.', '~']);
    let mut mount = Mount {
        source: if is_path { bind(Path::new(source), true)? } else { MountSource::volume(source) },
        target: target.to_owned(),
        read_only: false,
        owner: None,
    };
    let has = |wanted: &[&str]| options.split(',').any(|option| wanted.contains(&option));
    if has(&["rw"]) && has(&["ro", "readonly"]) {
        return Err(Error::invalid(format!("invalid mode: {options}: in '{text}'")));
    }
    for option in options.split(',').filter(|option| !option.is_empty()) {
        apply(option, &mut mount, text)?;
    }
    Ok(mount)
}

/// A path of the host's, made if it is missing and `create` says so.
pub fn bind(path: &Path, create: bool) -> Result<MountSource> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::caused(Kind::Invalid, format!("use {}", path.display()), error))?;
    let (propagation, recursive, writable_below) = ("rprivate".into(), true, false);
    Ok(MountSource::Bind {
        path,
        create,
        propagation,
        recursive,
        writable_below,
        subpath: std::path::PathBuf::new(),
    })
}

fn apply(option: &str, mount: &mut Mount, text: &str) -> Result<()> {
    match (option, &mut mount.source) {
        ("ro" | "readonly", _) => mount.read_only = true,
        // Labels are for SELinux, consistency for macOS: nothing to do where neither is.
        ("rw" | "z" | "Z" | "cached" | "delegated" | "consistent", _) => {}
        (user, _) if user.starts_with("user=") && user.len() > "user=".len() => {
            mount.owner = Some(Owner::named(&user["user=".len()..]));
        }
        ("nocopy", MountSource::Volume { copy, .. }) => *copy = false,
        (mode, MountSource::Bind { propagation, .. }) if PROPAGATIONS.contains(&mode) => {
            mode.clone_into(propagation);
        }
        _ => return Err(Error::invalid(format!("invalid mode: {option}: in '{text}'"))),
    }
    Ok(())
}

/// `target[:options]`.
pub fn temporary(text: &str) -> Mount {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty());
    let read_only = options.clone().any(|option| option == "ro");
    let options = options.filter(|option| !matches!(*option, "ro" | "rw"));
    let source = MountSource::Tmpfs { options: options.map(str::to_owned).collect() };
    Mount { source, target: target.to_owned(), read_only, owner: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(volume_text: &str, expected: &str) {
        let outcome = match volume(volume_text) {
            Ok(Mount { source, target, read_only, owner }) => {
                let source = match source {
                    MountSource::Bind { path, .. } => format!("bind {}", path.display()),
                    MountSource::Volume { name, copy, .. } => format!("volume {name} {copy}"),
                    MountSource::Tmpfs { .. }
                    | MountSource::Image { .. }
                    | MountSource::Memory { .. } => "other".into(),
                };
                let owner = owner.map(|owner| format!(" for {}", owner.name)).unwrap_or_default();
                format!("{source} {target} {read_only}{owner}")
            }
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(outcome, expected, "{volume_text}");
    }

    #[test]
    fn volumes_are_told_from_paths() {
        check("/data", "volume  true /data false");
        check("db:/data", "volume db true /data false");
        check("db:/data:ro,nocopy", "volume db false /data true");
        check("/host:/data:ro", "bind /host /data true");
        check("/host:/data:ro,user=1:2", "bind /host /data true for 1:2");
        check("db:/data:user=node", "volume db true /data false for node");
        check("", "error: invalid volume specification: ''");
        check(":/data", "error: invalid volume specification: ':/data'");
        check("/a:/b:fast", "error: invalid mode: fast: in '/a:/b:fast'");
        check("/a:/b:ro,rw", "error: invalid mode: ro,rw: in '/a:/b:ro,rw'");
        check("a:b:c:d", "error: invalid volume specification: 'a:b:c:d'");
    }
}
