//! A bundle: `config.json` and a root file system (runtime-spec bundle.md).

use std::error::Error as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use oci::Parsed;
use oci::runtime::{Process, Spec};

use super::Error;
use super::record::{FILE_MAX, FILE_USUAL};
use crate::error::Doing;

/// The lowest and the highest version of the runtime specification whose bundles are accepted.
pub const VERSION_MIN: &str = "1.0.0";
/// See [`VERSION_MIN`].
pub const VERSION_MAX: &str = "1.3.0";

/// A bundle that was read.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory, absolute and without links.
    pub path: PathBuf,
    /// Its root file system, absolute and without links.
    pub rootfs: PathBuf,
    /// Its `config.json`, with absolute paths.
    pub spec: Spec,
    /// What in it has no effect, to be logged.
    pub warnings: Vec<String>,
    /// The bytes of its `config.json`.
    pub(super) bytes: Vec<u8>,
}

impl Bundle {
    /// Reads the bundle in a directory and checks what no container can be without.
    ///
    /// # Errors
    /// [`Error::Bundle`] in runc's words.
    pub fn load(path: &Path) -> Result<Bundle, Error> {
        let real = |at: &Path, what: &str| {
            at.canonicalize().map_err(|error| Error::Bundle(format!("{what}: {}", words(&error))))
        };
        let path = real(path, &format!("chdir {}", path.display()))?;
        let bytes = config_at(&path)?;
        let Parsed { value: mut spec, mut warnings } = parse(&bytes)?;
        warnings.extend(crate::warnings(&spec));
        check_version(spec.version())?;
        check_process(spec.process().as_ref())?;
        let root = spec.root().as_ref().map(|root| path.join(root.path()));
        let root = root.ok_or_else(|| Error::Bundle("root must be specified".into()))?;
        let rootfs = real(&root, &format!("invalid rootfs: stat {}", root.display()))?;
        anchor_sources(&mut spec, &path);
        Ok(Bundle { path, rootfs, spec, warnings, bytes })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Bundle("JSON specification file config.json not found".into()));
        }
        other => other.doing(|| format!("open `{}`", path.display()))?,
    };
    let mut bytes = Vec::with_capacity(FILE_USUAL);
    let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
    let length = read.doing(|| format!("read `{}`", path.display()))?;
    if length as u64 > FILE_MAX {
        return Err(Error::Bundle(format!("config.json is larger than {FILE_MAX} bytes")));
    }
    Ok(bytes)
}

/// Reads a `config.json`, with its own spelling.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<Spec>, Error> {
    if bytes.trim_ascii() == b"null" {
        return Err(Error::Bundle("config cannot be null".into()));
    }
    oci::parse_spec(bytes).map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::Bundle(format!("read config.json: {error}{cause}"))
    })
}

/// The `config.json` of the bundle at `path`, as it is now.
pub(super) fn config_at(path: &Path) -> Result<Vec<u8>, Error> {
    read(&path.join("config.json"))
}

/// Relative sources of bind mounts count from the bundle.
fn anchor_sources(spec: &mut Spec, bundle: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let words = mount.options().as_deref().unwrap_or_default();
        let bind = mount.typ().as_deref() == Some("bind")
            || words.iter().any(|word| word == "bind" || word == "rbind");
        if let (true, Some(source)) = (bind, mount.source().as_ref().filter(|p| p.is_relative())) {
            let source = bundle.join(source);
            mount.set_source(Some(source));
        }
    }
}

/// Whether a process can be executed at all.
///
/// # Errors
/// [`Error::Bundle`] in runc's words.
pub(super) fn check_process(process: Option<&Process>) -> Result<(), Error> {
    let wrong = |text: &str| Err(Error::Bundle(text.into()));
    let Some(process) = process else { return wrong("process property must not be empty") };
    if process.cwd().as_os_str().is_empty() {
        return wrong("Cwd property must not be empty");
    }
    if !process.cwd().is_absolute() {
        return wrong("Cwd must be an absolute path");
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return wrong("args must not be empty");
    }
    Ok(())
}

/// Semantic versioning: the same major version, and none later than what is known here.
fn check_version(version: &str) -> Result<(), Error> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u64>> = core.split('.').map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [Some(1), Some(0..=3), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => Err(Error::Bundle(format!(
            "ociVersion {version} is not supported: it must be from {VERSION_MIN} to {VERSION_MAX}"
        ))),
        _ => Err(Error::Bundle(format!("ociVersion \"{version}\" is no version"))),
    }
}

fn words(error: &io::Error) -> String {
    error.to_string().split(" (os error ").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_1_0_to_1_3_are_accepted() {
        for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0", "1.3.9"] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["", "1", "1.0", "0.9.0", "1.4.0", "2.0.0", "1.x.0", "v1.0.0"] {
            assert!(check_version(version).is_err(), "{version}");
        }
    }

    #[test]
    fn what_a_bundle_lacks_is_said_in_runcs_words() {
        let check = |config: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("rootfs")).unwrap();
            std::fs::write(dir.path().join("config.json"), config).unwrap();
            Bundle::load(dir.path()).map(drop).map_err(|error| error.to_string())
        };
        let with = |process: &str, root: &str| {
            format!(r#"{{"ociVersion":"1.0.0","process":{process},"root":{root}}}"#)
        };
        let process = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["sh"]}"#;
        let rootfs = r#"{"path":"rootfs"}"#;
        assert_eq!(check(&with(process, rootfs)), Ok(()));
        for (config, expected) in [
            (with("null", rootfs), "process property must not be empty"),
            (with(&process.replace("\"/\"", "\"\""), rootfs), "Cwd property must not be empty"),
            (with(&process.replace("\"/\"", "\"a\""), rootfs), "Cwd must be an absolute path"),
            (with(&process.replace("\"sh\"", ""), rootfs), "args must not be empty"),
            (with(process, "null"), "root must be specified"),
            ("null".into(), "config cannot be null"),
        ] {
            assert_eq!(check(&config), Err(expected.into()), "{config}");
        }
        let missing = check(&with(process, r#"{"path":"gone"}"#)).unwrap_err();
        assert!(missing.starts_with("invalid rootfs: stat "), "{missing}");
        let nowhere = Bundle::load(Path::new("/nonexistent")).map(drop).unwrap_err();
        assert_eq!(nowhere.to_string(), "chdir /nonexistent: no such file or directory");
    }
}
