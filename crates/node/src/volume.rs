//! Volumes of a pod: what of this host is mounted into its containers.
//!
//! ```text
//! <directory>/pods/<uid>/volumes/<name>/   emptyDir, and what is made of objects
//! <directory>/local/pvc-<uid>_<namespace>_<claim>/   what the local provisioner gives claims
//! ```

mod payload;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use engine::{Mount, MountSource};
use objects::Quantity;
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags};
use serde_json::Value;

use crate::env::{Sources, expand};
use crate::field::{is, items, text};
pub(crate) use payload::write as write_payload;

/// The longest path within a volume.
const SUBPATH_BYTES_MAX: usize = 4096;

/// A volume that is ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ready {
    /// A directory of the pod's own, or of a claim.
    Directory(PathBuf),
    /// The same, which containers may only read.
    ReadOnly(PathBuf),
    /// Something of the host's.
    Host(PathBuf),
    /// Memory that the pod holds.
    Memory,
    /// The files of an image.
    Image(String),
}

/// What else volumes are made of.
pub(crate) trait Origins: Sources {
    /// A token of the pod's service account: audience, and seconds that it is good for.
    ///
    /// # Errors
    /// Why there is none.
    fn token(&self, audience: &str, seconds: i64) -> Result<String, String>;
    /// The directory of a claim of the pod's namespace, and whether it is read-only.
    ///
    /// # Errors
    /// Why there is none yet.
    fn claim(&self, name: &str) -> Result<(PathBuf, bool), String>;
}

/// Whether a volume is memory, and how much at most (bytes; 0 for half of the machine's).
pub(crate) fn memory(volume: &Value) -> Option<u64> {
    let empty = &volume["emptyDir"];
    (text(empty, &["medium"]) == "Memory").then(|| {
        let limit: Option<Quantity> = text(empty, &["sizeLimit"]).parse().ok();
        u64::try_from(limit.map_or(0, Quantity::value)).unwrap_or(0)
    })
}

/// How many seconds the tokens among a pod's volumes are good for: the shortest such time.
pub(crate) fn token_seconds(pod: &Value) -> Option<i64> {
    let volumes = items(&pod["spec"], "volumes").iter();
    let sources = volumes.flat_map(|volume| items(&volume["projected"], "sources"));
    let tokens =
        sources.map(|source| &source["serviceAccountToken"]).filter(|token| token.is_object());
    tokens.map(payload::token_seconds).min()
}

/// Makes a volume ready; `place` is the directory for it.
///
/// # Errors
/// Why it is not, in words for an event.
pub(crate) fn prepare(
    pod: &Value,
    volume: &Value,
    place: &Path,
    origins: &dyn Origins,
) -> Result<Ready, String> {
    let group = pod["spec"]["securityContext"]["fsGroup"].as_i64();
    if memory(volume).is_some() {
        return Ok(Ready::Memory);
    }
    if volume["emptyDir"].is_object() {
        return empty(place, group).map(|()| Ready::Directory(place.to_owned()));
    }
    if volume["hostPath"].is_object() {
        return host(&volume["hostPath"]).map(Ready::Host);
    }
    if volume["image"].is_object() {
        return Ok(Ready::Image(text(volume, &["image", "reference"]).to_owned()));
    }
    if volume["persistentVolumeClaim"].is_object() {
        let claim = &volume["persistentVolumeClaim"];
        let (path, read_only) = origins.claim(text(claim, &["claimName"]))?;
        if let Some(group) = group.filter(|_| !read_only) {
            give(&path, group)?;
        }
        return Ok(match read_only || is(claim, "readOnly") {
            true => Ready::ReadOnly(path),
            false => Ready::Directory(path),
        });
    }
    if let Some(files) = payload::of(pod, volume, origins)? {
        write_payload(place, &files, group)?;
        return Ok(Ready::ReadOnly(place.to_owned()));
    }
    let kinds = volume.as_object().into_iter().flatten().map(|(kind, _)| kind);
    let kind = kinds.filter(|kind| *kind != "name").cloned().collect::<Vec<_>>().join(", ");
    Err(format!("volumes of kind {kind} are not supported"))
}

fn failed(doing: &str, path: &Path, error: impl std::fmt::Display) -> String {
    format!("{doing} {}: {error}", path.display())
}

fn empty(place: &Path, group: Option<i64>) -> Result<(), String> {
    if place.exists() {
        return Ok(());
    }
    fs::create_dir_all(place).map_err(|error| failed("make", place, error))?;
    let mode = fs::Permissions::from_mode(0o777);
    fs::set_permissions(place, mode).map_err(|error| failed("open up", place, error))?;
    group.map_or(Ok(()), |group| give(place, group))
}

/// Gives a directory to a group, and what is made in it.
fn give(place: &Path, group: i64) -> Result<(), String> {
    let number = u32::try_from(group).map_err(|_| format!("fsGroup {group} is no group"))?;
    let meta = fs::metadata(place).map_err(|error| failed("look at", place, error))?;
    if meta.gid() == number && meta.mode() & 0o2000 != 0 {
        return Ok(());
    }
    rustix::fs::chown(place, None, Some(Gid::from_raw(number)))
        .map_err(|error| failed("give to a group", place, error))?;
    let mode = fs::Permissions::from_mode(meta.mode() & 0o7777 | 0o2770);
    fs::set_permissions(place, mode).map_err(|error| failed("open up", place, error))
}

/// A path of the host, which must be what its type says (upstream's `checkTypeInternal`).
fn host(volume: &Value) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(volume, &["path"]));
    let kind = text(volume, &["type"]);
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(&path).map_err(|error| failed("make", &path, error))?;
        }
        "FileOrCreate" if !path.exists() => {
            fs::File::create(&path).map_err(|error| failed("make", &path, error))?;
        }
        _ => {}
    }
    let wrong =
        |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", path.display()));
    let found = fs::metadata(&path);
    let Ok(found) = found else {
        return match kind {
            // Then it is made as a directory, as it is for Docker.
            "" => {
                fs::create_dir_all(&path).map_err(|error| failed("make", &path, error))?;
                Ok(path)
            }
            kind => wrong(kind_word(kind)),
        };
    };
    let file = found.file_type();
    let is_right = match kind {
        "Directory" | "DirectoryOrCreate" => file.is_dir(),
        "File" | "FileOrCreate" => file.is_file(),
        "Socket" => file.is_socket(),
        "CharDevice" => file.is_char_device(),
        "BlockDevice" => file.is_block_device(),
        _ => true,
    };
    if is_right { Ok(path) } else { wrong(kind_word(kind)) }
}

fn kind_word(kind: &str) -> &'static str {
    match kind {
        "Directory" | "DirectoryOrCreate" => "directory",
        "Socket" => "socket file",
        "CharDevice" => "character device",
        "BlockDevice" => "block device",
        _ => "file",
    }
}

/// What of a container's volumes is mounted where.
///
/// # Errors
/// For a mount of what is not there, and a path that leaves its volume.
pub(crate) fn mounts(
    container: &Value,
    volumes: &[(String, Ready)],
    env: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<Mount>, String> {
    let one = |asked: &Value| {
        let name = text(asked, &["name"]);
        let found = volumes.iter().find(|(known, _)| known == name);
        let (_, ready) = found.ok_or_else(|| format!("volume {name} is not there"))?;
        mount(asked, (name, ready), env)
    };
    items(container, "volumeMounts").iter().map(one).collect()
}

fn mount(
    asked: &Value,
    (name, ready): (&str, &Ready),
    env: &std::collections::BTreeMap<String, String>,
) -> Result<Mount, String> {
    let subpath = match text(asked, &["subPathExpr"]) {
        "" => text(asked, &["subPath"]).to_owned(),
        expression => {
            let expanded = expand(expression, env);
            if expanded.contains("$(") {
                return Err(format!("cannot expand the subPathExpr {expression}"));
            }
            expanded
        }
    };
    check_subpath(&subpath)?;
    let mut read_only = is(asked, "readOnly") || matches!(ready, Ready::ReadOnly(_));
    let bind = |path: &Path| -> Result<MountSource, String> {
        if !subpath.is_empty() && !read_only {
            make_below(path, &subpath)?;
        }
        let propagation = match text(asked, &["mountPropagation"]) {
            "HostToContainer" => "rslave",
            "Bidirectional" => "rshared",
            _ => "rprivate",
        };
        Ok(MountSource::Bind {
            path: path.to_owned(),
            create: false,
            propagation: propagation.to_owned(),
            recursive: true,
            writable_below: text(asked, &["recursiveReadOnly"]).is_empty(),
            subpath: PathBuf::from(&subpath),
        })
    };
    let source = match ready {
        Ready::Directory(path) | Ready::ReadOnly(path) | Ready::Host(path) => bind(path)?,
        Ready::Memory if subpath.is_empty() => MountSource::Memory { name: name.to_owned() },
        Ready::Memory => return Err("subPath of a volume in memory is not supported".to_owned()),
        Ready::Image(reference) => {
            read_only = true;
            MountSource::Image {
                name: reference.clone(),
                id: None,
                layers: Vec::new(),
                subpath: PathBuf::from(&subpath),
            }
        }
    };
    let target = text(asked, &["mountPath"]);
    let parts: Vec<&str> = target.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Ok(Mount { source, target: format!("/{}", parts.join("/")), read_only, owner: None })
}

fn check_subpath(subpath: &str) -> Result<(), String> {
    let leaves = subpath.starts_with('/') || subpath.split('/').any(|part| part == "..");
    if leaves || subpath.len() > SUBPATH_BYTES_MAX {
        return Err(format!("subPath {subpath:?} must not leave its volume"));
    }
    Ok(())
}

/// Makes directories below one, where nothing is. Whoever writes there cannot lead us elsewhere: no
/// link is followed.
fn make_below(root: &Path, subpath: &str) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| failed(&format!("make {subpath} in"), root, error);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut place = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for part in subpath.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let open = || rustix::fs::openat2(&place, part, flags, Mode::empty(), how);
        place = match open() {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => {
                let made = rustix::fs::mkdirat(&place, part, Mode::from_raw_mode(0o750));
                match made {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(failed(error)),
                }
                open().map_err(failed)?
            }
            // A link: what it leads to is looked for when it is mounted, within the volume.
            Err(rustix::io::Errno::LOOP) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_subpath_is_made_and_no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        make_below(root.path(), "a/b").unwrap();
        assert!(root.path().join("a/b").is_dir());
        std::os::unix::fs::symlink(outside.path(), root.path().join("l")).unwrap();
        make_below(root.path(), "l/x").unwrap();
        assert!(!outside.path().join("x").exists());
        for wrong in ["/a", "a/../..", ".."] {
            assert!(check_subpath(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mounts_say_what_is_seen() {
        let volumes =
            vec![("a".to_owned(), Ready::ReadOnly("/v/a".into())), ("m".to_owned(), Ready::Memory)];
        let env = [("X".to_owned(), "y".to_owned())].into();
        let container = json!({"volumeMounts": [
            {"name": "a", "mountPath": "/x/", "subPathExpr": "d/$(X)"},
            {"name": "m", "mountPath": "/m"},
        ]});
        let made = mounts(&container, &volumes, &env).unwrap();
        assert_eq!((made[0].target.as_str(), made[0].read_only), ("/x", true));
        assert!(
            matches!(&made[0].source, MountSource::Bind { subpath, .. } if subpath == Path::new("d/y"))
        );
        assert_eq!(made[1].source, MountSource::Memory { name: "m".into() });
        let missing = json!({"volumeMounts": [{"name": "z", "mountPath": "/z"}]});
        assert!(mounts(&missing, &volumes, &env).is_err());
    }

    #[test]
    fn what_is_at_a_path_of_the_host_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let check = |name: &str, kind: &str, is_good: bool| {
            let path = root.path().join(name);
            let made = host(&json!({"path": path, "type": kind}));
            assert_eq!(made.is_ok(), is_good, "{name} {kind}: {made:?}");
        };
        check("d", "Directory", false);
        check("d", "DirectoryOrCreate", true);
        check("d", "Directory", true);
        check("d", "File", false);
        check("f", "FileOrCreate", true);
        check("f", "Socket", false);
        check("f", "", true);
    }
}
