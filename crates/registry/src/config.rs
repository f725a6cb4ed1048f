//! The `[registry]` part of the configuration file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

const CONCURRENT_DOWNLOADS: usize = 3;
const CONCURRENT_UPLOADS: usize = 5;
const CONCURRENT_MAX: usize = 64;

/// How registries are reached.
///
/// ```toml
/// [registry]
/// max_concurrent_downloads = 3
/// [registry."docker.io"]
/// mirrors = ["http://127.0.0.1:5000"]
/// ```
///
/// A table's name is a registry as references spell it: `docker.io`, `localhost:5000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Layers that are downloaded at the same time, 1 to 64.
    pub max_concurrent_downloads: usize,
    /// Layers that are uploaded at the same time, 1 to 64.
    pub max_concurrent_uploads: usize,
    /// Folders with one folder `HOST[:PORT]` per registry, holding `*.crt` (trusted authorities)
    /// and pairs `*.cert` and `*.key` (who we are), as Docker has them.
    pub certs_dirs: Vec<PathBuf>,
    /// Settings by registry.
    pub hosts: BTreeMap<String, HostConfig>,
}

/// How one registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Where to look first, in this order: `[http[s]://]HOST[:PORT][/PREFIX]`.
    pub mirrors: Vec<String>,
    /// Where the registry itself is, in the same form; by default where its name says.
    pub location: Option<String>,
    /// Accept any certificate, and plain HTTP; credentials are sent all the same.
    ///
    /// Holds for the registry's mirrors too.
    pub insecure: bool,
    /// A PEM file of authorities to trust besides the system's.
    pub ca: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_concurrent_downloads: CONCURRENT_DOWNLOADS,
            max_concurrent_uploads: CONCURRENT_UPLOADS,
            certs_dirs: vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()],
            hosts: BTreeMap::new(),
        }
    }
}

// By hand, because serde's `flatten` and `deny_unknown_fields` exclude each other, and a
// misspelt setting must not be taken for the name of a registry.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ConfigVisitor)
    }
}

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = Config;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a table of registry settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "max_concurrent_downloads" => config.max_concurrent_downloads = map.next_value()?,
                "max_concurrent_uploads" => config.max_concurrent_uploads = map.next_value()?,
                "certs_dirs" => config.certs_dirs = map.next_value()?,
                host if is_host(host) => {
                    config.hosts.insert(key, map.next_value()?);
                }
                _ => {
                    let known = &[
                        "max_concurrent_downloads",
                        "max_concurrent_uploads",
                        "certs_dirs",
                        "a registry's name",
                    ];
                    return Err(A::Error::unknown_field(&key, known));
                }
            }
        }
        for (name, value) in [
            ("max_concurrent_downloads", config.max_concurrent_downloads),
            ("max_concurrent_uploads", config.max_concurrent_uploads),
        ] {
            if !(1..=CONCURRENT_MAX).contains(&value) {
                let why = format!("{name} must be from 1 to {CONCURRENT_MAX}");
                return Err(A::Error::custom(why));
            }
        }
        Ok(config)
    }
}

/// What a reference takes for a registry.
fn is_host(name: &str) -> bool {
    (name == "localhost" || name.contains(['.', ':'])) && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn settings_of_a_file_are_read() {
        let config = read(
            "max_concurrent_downloads = 5\n[\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\"]\n\
             insecure = true\nca = \"/a.pem\"\n[localhost]\nlocation = \"x.org/y\"\n",
        )
        .unwrap();
        assert_eq!(config.max_concurrent_downloads, 5);
        assert_eq!(config.hosts["docker.io"].mirrors, ["http://127.0.0.1:5000"]);
        assert!(config.hosts["docker.io"].insecure);
        assert_eq!(config.hosts["docker.io"].ca, Some("/a.pem".into()));
        assert_eq!(config.hosts["localhost"].location.as_deref(), Some("x.org/y"));
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn misspelt_settings_are_refused() {
        for (text, expected) in [
            ("max_downloads = 5", "unknown field `max_downloads`"),
            ("[hub]\ninsecure = true", "unknown field `hub`"),
            ("[\"docker.io\"]\nmirror = []", "unknown field `mirror`"),
            ("\"docker.io\" = 3", "invalid type"),
            ("max_concurrent_downloads = 0", "must be from 1 to 64"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
