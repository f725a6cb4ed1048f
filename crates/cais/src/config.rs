//! Configuration: `/etc/cais/config.toml`, then `~/.config/cais/config.toml`, then the environment.

use std::path::{Path, PathBuf};

use engine::{Error, Kind, Result, Watermarks};
use serde::Deserialize;

/// What a configuration file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where state is kept.
    pub(crate) root: Option<PathBuf>,
    /// Where state is kept that ends with the machine.
    pub(crate) run_root: Option<PathBuf>,
    /// How layers are kept.
    #[serde(rename = "storage-driver")]
    pub(crate) storage_driver: Option<String>,
    /// Whether images are on disk before they count as there; they are, unless it says otherwise.
    pub(crate) sync: Option<bool>,
    /// How registries are reached.
    pub(crate) registry: registry::Config,
    /// How full the disk may be.
    pub(crate) storage: Storage,
}

/// When room is made before something is added to the store, in percent of the disk as `df` counts.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Storage {
    /// Beyond this, what nobody uses is removed; 100 for never.
    high_watermark: Percent,
    /// Until the disk is this full.
    low_watermark: Percent,
}

/// `90` or `"90%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Share")]
struct Percent(u8);

#[derive(Deserialize)]
#[serde(untagged)]
enum Share {
    Number(i64),
    Text(String),
}

impl TryFrom<Share> for Percent {
    type Error = String;

    fn try_from(share: Share) -> std::result::Result<Self, String> {
        let number = match &share {
            Share::Number(number) => u8::try_from(*number).ok(),
            Share::Text(text) => text.strip_suffix('%').and_then(|text| text.trim().parse().ok()),
        };
        let number = number.filter(|number| *number <= 100);
        number
            .map(Self)
            .ok_or_else(|| "a watermark is a share from 0 to 100, as in \"90%\"".to_owned())
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { high_watermark: Percent(95), low_watermark: Percent(90) }
    }
}

impl Storage {
    /// The marks, unless there are none.
    pub(crate) fn watermarks(&self) -> Option<Watermarks> {
        let (high, low) = (self.high_watermark.0, self.low_watermark.0);
        (high < 100).then_some(Watermarks { high, low: low.min(high) })
    }
}

impl Config {
    /// Reads all files there are, later ones over earlier ones; `CAIS_CONFIG` names one that is
    /// read instead of them.
    pub(crate) fn load() -> Result<Self> {
        let mut table = toml::Table::new();
        match std::env::var_os("CAIS_CONFIG") {
            Some(path) => merge(&mut table, read(Path::new(&path), true)?),
            None => {
                for path in files() {
                    merge(&mut table, read(&path, false)?);
                }
            }
        }
        let mut config: Self =
            if table.is_empty() { Self::default() } else { Self::from_table(table)? };
        let path = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        config.root = path("CAIS_ROOT").or(config.root);
        config.run_root = path("CAIS_RUN").or(config.run_root);
        let driver = std::env::var("CAIS_STORAGE_DRIVER").ok().filter(|name| !name.is_empty());
        config.storage_driver = driver.or(config.storage_driver);
        if let Ok(word) = std::env::var("CAIS_SYNC") {
            config.sync = sync(&word)?.or(config.sync);
        }
        Ok(config)
    }

    fn from_table(table: toml::Table) -> Result<Self> {
        table.try_into().map_err(|error: toml::de::Error| {
            Error::caused(Kind::Invalid, "read the configuration", error.message().to_owned())
        })
    }

    /// The storage driver that is asked for, if any.
    pub(crate) fn driver(&self) -> Result<Option<store::Driver>> {
        let parse = |name: &String| name.parse().map_err(Error::from);
        self.storage_driver.as_ref().map(parse).transpose()
    }

    /// Where state is: as configured, else below /var/lib and /run, or in the user's own
    /// directories without privilege.
    pub(crate) fn roots(&self) -> (PathBuf, PathBuf) {
        let (root, run_root) = defaults();
        (self.root.clone().unwrap_or(root), self.run_root.clone().unwrap_or(run_root))
    }
}

/// What `CAIS_SYNC` says; nothing if it is empty.
fn sync(word: &str) -> Result<Option<bool>> {
    match word {
        "" => Ok(None),
        "0" | "false" => Ok(Some(false)),
        "1" | "true" => Ok(Some(true)),
        _ => Err(Error::invalid(format!("CAIS_SYNC is `{word}`, which is neither 0 nor 1"))),
    }
}

fn defaults() -> (PathBuf, PathBuf) {
    if rustix::process::geteuid().is_root() {
        return ("/var/lib/cais".into(), "/run/cais".into());
    }
    let uid = rustix::process::getuid().as_raw();
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| Some(home()?.join(".local/share")));
    let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let private = || std::env::temp_dir().join(format!("cais-{uid}"));
    (data.unwrap_or_else(private).join("cais"), run.unwrap_or_else(private).join("cais"))
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

fn files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/cais/config.toml")];
    let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    files.extend(
        own.or_else(|| Some(home()?.join(".config"))).map(|dir| dir.join("cais/config.toml")),
    );
    files
}

fn read(path: &Path, required: bool) -> Result<toml::Table> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::caused(Kind::Invalid, format!("read {}", path.display()), cause)
    };
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            Ok(toml::Table::new())
        }
        Err(error) => Err(failed(error.into())),
        Ok(text) => {
            let wrong = |error: toml::de::Error| failed(error.to_string().trim_end().into());
            let table: toml::Table = text.parse().map_err(wrong)?;
            // Once all files are laid over each other, nobody can tell which one was wrong.
            let checked = Config::deserialize(table.clone());
            checked.map_err(|error| failed(error.message().to_owned().into()))?;
            Ok(table)
        }
    }
}

/// Lays `over` on `table`, table by table.
fn merge(table: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win_key_by_key() {
        let mut table: toml::Table =
            "root = '/a'\n[registry.'docker.io']\ninsecure = true".parse().unwrap();
        merge(
            &mut table,
            "root = '/b'\n[registry.'docker.io']\nmirrors = ['http://x']".parse().unwrap(),
        );
        let config: Config = table.try_into().unwrap();
        assert_eq!(config.root, Some("/b".into()));
        let host = &config.registry.hosts["docker.io"];
        assert!(host.insecure);
        assert_eq!(host.mirrors, ["http://x"]);
    }

    #[test]
    fn watermarks_are_shares_of_the_disk() {
        let marks = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            table.try_into::<Config>().map(|config| config.storage.watermarks())
        };
        let of = |high, low| Some(Watermarks { high, low });
        assert_eq!(marks("").unwrap(), of(95, 90));
        let both = "[storage]\nhigh-watermark = '80%'\nlow-watermark = 70";
        assert_eq!(marks(both).unwrap(), of(80, 70));
        assert_eq!(marks("[storage]\nhigh-watermark = 50").unwrap(), of(50, 50));
        assert_eq!(marks("[storage]\nhigh-watermark = 100").unwrap(), None);
        for wrong in ["101", "-1", "'80'", "'x%'", "true"] {
            assert!(marks(&format!("[storage]\nhigh-watermark = {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "rot = '/a'").unwrap();
        let error = read(&path, true).unwrap_err();
        assert!(error.to_string().ends_with("config.toml"), "{error}");
        std::fs::write(&path, "root = '/a'").unwrap();
        assert!(read(&path, true).is_ok());
    }
}
