//! Where contexts are kept:
//!
//! ```text
//! ~/.docker/config.json                         currentContext
//! ~/.docker/contexts/meta/<sha256>/meta.json    of a name: the name, its notes and its engine
//! ~/.docker/contexts/tls/<sha256>/docker/       ca.pem cert.pem key.pem
//! ```

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use engine::{Error, Fresh, Kind, Result};
use serde_json::{Map, Value, json};

use crate::command::remote::config_directory;

/// The context of this machine's own engine, which is in no file.
pub(in crate::command) const DEFAULT: &str = "default";
/// Longest file of any of them.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Keys are nobody else's.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// What a context says of an engine of Docker's.
const DOCKER: &str = "docker";

/// The files of contexts.
pub(in crate::command) struct Store {
    directory: PathBuf,
}

/// A context, as its file has it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::command) struct Context {
    pub(in crate::command) name: String,
    pub(in crate::command) document: Value,
}

/// Where the engine of a context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) struct Endpoint {
    pub(in crate::command) host: String,
    /// Whether whoever answers there is believed.
    pub(in crate::command) skips_verification: bool,
}

impl Context {
    pub(in crate::command) fn new(name: &str) -> Self {
        let document = json!({ "Name": name, "Metadata": {}, "Endpoints": {} });
        Self { name: name.to_owned(), document }
    }

    pub(in crate::command) fn description(&self) -> &str {
        self.document["Metadata"]["Description"].as_str().unwrap_or_default()
    }

    pub(in crate::command) fn describe(&mut self, text: &str) {
        let Some(notes) = self.document["Metadata"].as_object_mut() else { return };
        match text {
            "" => drop(notes.remove("Description")),
            text => drop(notes.insert("Description".to_owned(), text.into())),
        }
    }

    pub(in crate::command) fn set(&mut self, endpoint: Endpoint) {
        let Endpoint { host, skips_verification } = endpoint;
        self.document["Endpoints"][DOCKER] =
            json!({ "Host": host, "SkipTLSVerify": skips_verification });
    }

    pub(in crate::command) fn endpoint(&self) -> Result<Endpoint> {
        let endpoint = &self.document["Endpoints"][DOCKER];
        let host = endpoint["Host"].as_str().ok_or_else(|| {
            Error::invalid(format!("context {:?} names no engine of Docker's", self.name))
        })?;
        let skips_verification = endpoint["SkipTLSVerify"] == true;
        Ok(Endpoint { host: host.to_owned(), skips_verification })
    }
}

impl Store {
    pub(in crate::command) fn open() -> Result<Self> {
        Ok(Self { directory: config_directory()? })
    }

    fn place(&self, kind: &str, name: &str) -> PathBuf {
        let digest = oci::Digest::of(name.as_bytes());
        self.directory.join("contexts").join(kind).join(digest.hex())
    }

    /// The directory of a context's own file.
    pub(in crate::command) fn meta_directory(&self, name: &str) -> PathBuf {
        self.place("meta", name)
    }

    /// The directory of a context's certificates.
    pub(in crate::command) fn tls_directory(&self, name: &str) -> PathBuf {
        self.place("tls", name)
    }

    /// The certificates for its engine.
    pub(in crate::command) fn tls_files(&self, name: &str) -> PathBuf {
        self.tls_directory(name).join(DOCKER)
    }

    pub(in crate::command) fn get(&self, name: &str) -> Result<Context> {
        if name == DEFAULT {
            return Err(Error::invalid("context \"default\" is this machine's own engine")
                .hint("it is in no file, and cannot be read or changed"));
        }
        let missing = || {
            Error::new(Kind::NotFound, format!("context {name:?}: context not found"))
                .hint("`cais context ls` lists what there is")
        };
        let path = self.meta_directory(name).join("meta.json");
        let document = read(&path)?.ok_or_else(missing)?;
        Ok(Context { name: name.to_owned(), document })
    }

    /// All of them, by name.
    pub(in crate::command) fn list(&self) -> Result<Vec<Context>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(self.directory.join("contexts/meta")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(|error| failed("list", &self.directory, error))?,
        };
        for entry in entries.flatten() {
            let Some(document) = read(&entry.path().join("meta.json"))? else { continue };
            let name = document["Name"].as_str().unwrap_or_default().to_owned();
            // One that lies elsewhere than its name says is nobody's.
            if self.meta_directory(&name) == entry.path() {
                found.push(Context { name, document });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    pub(in crate::command) fn put(&self, context: &Context) -> Result<()> {
        let directory = self.meta_directory(&context.name);
        write(&directory, "meta.json", context.document.to_string().as_bytes())
    }

    pub(in crate::command) fn keep_tls(&self, name: &str, file: &str, text: &[u8]) -> Result<()> {
        write(&self.tls_files(name), file, text)
    }

    pub(in crate::command) fn remove(&self, name: &str) -> Result<()> {
        for directory in [self.meta_directory(name), self.tls_directory(name)] {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &directory, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The context that `context use` has chosen.
    pub(in crate::command) fn current(&self) -> Result<Option<String>> {
        let document = read(&self.directory.join("config.json"))?.unwrap_or_default();
        let name = document["currentContext"].as_str().filter(|name| !name.is_empty());
        Ok(name.map(str::to_owned))
    }

    /// Chooses a context; the default one if there is none.
    pub(in crate::command) fn choose(&self, name: Option<&str>) -> Result<()> {
        let document = read(&self.directory.join("config.json"))?;
        let mut document = document.unwrap_or_else(|| Value::Object(Map::new()));
        let fields = document.as_object_mut().ok_or_else(|| {
            Error::invalid(format!("{}/config.json is no object", self.directory.display()))
        })?;
        match name {
            None => drop(fields.shift_remove("currentContext")),
            Some(name) => drop(fields.insert("currentContext".to_owned(), name.into())),
        }
        let text = serde_json::to_string_pretty(&document).unwrap_or_default();
        write(&self.directory, "config.json", text.as_bytes())
    }
}

/// Names are Docker's: two characters or more, letters, digits, and `-`, `_`, `.`, `+` behind the first.
pub(in crate::command) fn check_name(name: &str) -> Result<()> {
    let is_good = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'));
    match name {
        DEFAULT => Err(Error::invalid("\"default\" is a reserved context name")),
        _ if is_good => Ok(()),
        _ => Err(Error::invalid(format!(
            "context name {name:?} is invalid, names are validated against regexp \
             \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
        ))),
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::caused(Kind::Invalid, format!("{doing} {}", path.display()), error)
}

/// A document; `None` where there is no file.
fn read(path: &Path) -> Result<Option<Value>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| failed("read", path, error))?,
    };
    let mut text = Vec::new();
    let read = file.take(FILE_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| failed("read", path, error))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| failed("read", path, error.into()))
}

fn write(directory: &Path, name: &str, text: &[u8]) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    made.map_err(|error| failed("make", directory, error))?;
    let path = directory.join(name);
    let mut file = Fresh::create(&path, FILE_MODE)?;
    file.write_all(text).map_err(|error| failed("write", &path, error))?;
    Ok(file.keep()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store { directory: directory.path().to_owned() };
        assert!(store.list().unwrap().is_empty() && store.current().unwrap().is_none());
        let mut context = Context::new("far");
        context.describe("elsewhere");
        let endpoint = Endpoint { host: "tcp://far:2376".into(), skips_verification: false };
        context.set(endpoint.clone());
        store.put(&context).unwrap();
        store.keep_tls("far", "ca.pem", b"x").unwrap();
        // The digest of the name, as Docker's client looks for it.
        let digest = oci::Digest::of(b"far");
        assert!(
            directory.path().join("contexts/meta").join(digest.hex()).join("meta.json").exists()
        );
        let found = store.get("far").unwrap();
        assert_eq!((found.endpoint().unwrap(), found.description()), (endpoint, "elsewhere"));
        fs::write(directory.path().join("config.json"), r#"{"auths":{}}"#).unwrap();
        store.choose(Some("far")).unwrap();
        assert_eq!(store.current().unwrap().as_deref(), Some("far"));
        store.choose(None).unwrap();
        let config = fs::read_to_string(directory.path().join("config.json")).unwrap();
        assert!(config.contains("auths") && !config.contains("currentContext"), "{config}");
        store.remove("far").unwrap();
        assert!(store.get("far").is_err() && store.list().unwrap().is_empty());
    }

    #[test]
    fn names_are_docker_s() {
        for good in ["ab", "a-b_c.d+1"] {
            check_name(good).unwrap();
        }
        for bad in ["", "a", "default", "-a", "a/b", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
