//! `-v`, `--mount` and `--tmpfs`.

use std::path::Path;

use engine::{Error, Kind, Mount, MountSource, Result};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// All mounts that were asked for; no two at one place.
pub(crate) fn mounts(
    volumes: &[String],
    mounts: &[String],
    tmpfs: &[String],
) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    for text in volumes {
        all.push(volume(text)?);
    }
    for text in mounts {
        all.push(mount(text)?);
    }
    for text in tmpfs {
        all.push(temporary(text));
    }
    for (index, mount) in all.iter().enumerate() {
        let target = |mount: &Mount| mount.target.trim_end_matches('/').to_owned();
        if all[..index].iter().any(|other| target(other) == target(mount)) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.target)));
        }
    }
    Ok(all)
}

/// `[source:]target[:options]`: an absolute or `./` source is a path of the host, another one the
/// name of a volume, none an anonymous volume.
fn volume(text: &str) -> Result<Mount> {
    let bad = || {
        Error::invalid(format!("invalid volume specification: '{text}'"))
            .hint("as in /host/dir:/in/container:ro or name:/in/container")
    };
    let parts: Vec<&str> = text.split(':').collect();
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
        source: if is_path { bind(Path::new(source), true)? } else { named(source) },
        target: target.to_owned(),
        read_only: false,
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

fn bind(path: &Path, create: bool) -> Result<MountSource> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::caused(Kind::Invalid, format!("use {}", path.display()), error))?;
    Ok(MountSource::Bind { path, create, propagation: "rprivate".into(), recursive: true })
}

fn named(name: &str) -> MountSource {
    MountSource::Volume { name: name.to_owned(), anonymous: name.is_empty(), copy: true }
}

fn apply(option: &str, mount: &mut Mount, text: &str) -> Result<()> {
    match (option, &mut mount.source) {
        ("ro" | "readonly", _) => mount.read_only = true,
        // Labels are for SELinux, consistency for macOS: nothing to do where neither is.
        ("rw" | "z" | "Z" | "cached" | "delegated" | "consistent", _) => {}
        ("nocopy", MountSource::Volume { copy, .. }) => *copy = false,
        (mode, MountSource::Bind { propagation, .. }) if PROPAGATIONS.contains(&mode) => {
            mode.clone_into(propagation);
        }
        _ => return Err(Error::invalid(format!("invalid mode: {option}: in '{text}'"))),
    }
    Ok(())
}

/// `target[:options]`.
fn temporary(text: &str) -> Mount {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty());
    let read_only = options.clone().any(|option| option == "ro");
    let options = options.filter(|option| !matches!(*option, "ro" | "rw"));
    let source = MountSource::Tmpfs { options: options.map(str::to_owned).collect() };
    Mount { source, target: target.to_owned(), read_only }
}

/// The fields of `--mount`, before its type is known.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    propagation: Option<String>,
    non_recursive: bool,
    no_copy: bool,
    create: bool,
    tmpfs: Vec<String>,
}

/// `type=bind|volume|tmpfs,source=…,target=…,readonly,…`.
fn mount(text: &str) -> Result<Mount> {
    let mut fields = Fields::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').map_or((field, None), |(k, v)| (k, Some(v)));
        set(&mut fields, key, value, field)?;
    }
    let kind = fields.kind.as_deref().unwrap_or("volume");
    let Some(target) = fields.target else {
        return Err(Error::invalid(format!(
            "invalid argument \"{text}\" for \"--mount\" flag: target is required"
        )));
    };
    let source = match (kind, fields.source) {
        ("bind", Some(source)) => match bind(Path::new(&source), fields.create)? {
            MountSource::Bind { path, create, propagation, .. } => MountSource::Bind {
                path,
                create,
                propagation: fields.propagation.unwrap_or(propagation),
                recursive: !fields.non_recursive,
            },
            other => other,
        },
        ("bind", None) => {
            return Err(Error::invalid(format!(
                "invalid argument \"{text}\" for \"--mount\" flag: source is required"
            )));
        }
        ("volume", name) => match named(&name.unwrap_or_default()) {
            MountSource::Volume { name, anonymous, .. } => {
                MountSource::Volume { name, anonymous, copy: !fields.no_copy }
            }
            other => other,
        },
        ("tmpfs", None) => MountSource::Tmpfs { options: fields.tmpfs },
        ("tmpfs", Some(_)) => {
            return Err(Error::invalid(
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ));
        }
        (other, _) => {
            return Err(Error::new(
                Kind::Unsupported,
                format!("mount type \"{other}\" is not supported yet"),
            )
            .hint("types are bind, volume and tmpfs"));
        }
    };
    Ok(Mount { source, target, read_only: fields.read_only })
}

fn set(fields: &mut Fields, key: &str, value: Option<&str>, field: &str) -> Result<()> {
    let flag = || match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(Error::invalid(format!("invalid value for {key}: {other}"))),
    };
    let text = || {
        let value = value.filter(|value| !value.is_empty()).map(str::to_owned);
        value.ok_or_else(|| {
            Error::invalid(format!("invalid field '{field}' must be a key=value pair"))
        })
    };
    match key {
        "type" => fields.kind = Some(text()?.to_lowercase()),
        "source" | "src" => fields.source = Some(text()?),
        "target" | "dst" | "destination" => fields.target = Some(text()?),
        "readonly" | "ro" => fields.read_only = flag()?,
        "bind-propagation" => {
            let mode = text()?;
            if !PROPAGATIONS.contains(&mode.as_str()) {
                return Err(Error::invalid(format!("invalid propagation mode: {mode}")));
            }
            fields.propagation = Some(mode);
        }
        "bind-nonrecursive" => fields.non_recursive = flag()?,
        "bind-create-src" => fields.create = flag()?,
        "volume-nocopy" => fields.no_copy = flag()?,
        "tmpfs-size" => {
            let size = super::value::bytes("mount", &text()?)?;
            fields.tmpfs.push(format!("size={size}"));
        }
        "tmpfs-mode" => fields.tmpfs.push(format!("mode={}", text()?)),
        _ => {
            return Err(Error::invalid(format!("unexpected key '{key}' in '{field}'")).hint(
                "keys are type, source, target, readonly, bind-propagation, bind-nonrecursive, bind-create-src, volume-nocopy, tmpfs-size, tmpfs-mode",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn check(volume_text: &str, expected: &str) {
        let outcome = match volume(volume_text) {
            Ok(Mount { source, target, read_only }) => {
                let source = match source {
                    MountSource::Bind { path, .. } => format!("bind {}", path.display()),
                    MountSource::Volume { name, copy, .. } => format!("volume {name} {copy}"),
                    MountSource::Tmpfs { .. } => "tmpfs".into(),
                };
                format!("{source} {target} {read_only}")
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
        check("", "error: invalid volume specification: ''");
        check(":/data", "error: invalid volume specification: ':/data'");
        check("/a:/b:fast", "error: invalid mode: fast: in '/a:/b:fast'");
        check("/a:/b:ro,rw", "error: invalid mode: ro,rw: in '/a:/b:ro,rw'");
        check("a:b:c:d", "error: invalid volume specification: 'a:b:c:d'");
    }

    #[test]
    fn long_mounts() {
        let made = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        assert!(made.read_only);
        let expected = MountSource::Bind {
            path: PathBuf::from("/a"),
            create: false,
            propagation: "rslave".into(),
            recursive: true,
        };
        assert_eq!(made.source, expected);
        let made = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let options = vec!["size=1048576".to_owned(), "mode=700".to_owned()];
        assert_eq!(made.source, MountSource::Tmpfs { options });
        for bad in ["type=bind,dst=/b", "type=bind,src=/a", "type=magic,dst=/a", "dst=/a,what=1"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
        let twice = ["/a:/x".to_owned(), "b:/x/".to_owned()];
        assert!(mounts(&twice, &[], &[]).is_err());
    }
}
