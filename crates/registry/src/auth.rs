//! Credentials, from where Docker keeps them: `config.json` and the keychains it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Error, keychain};

pub(crate) const FILE_SIZE_MAX: u64 = 4 << 20;
/// The name under which Docker files the credentials of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name that marks an identity token
/// (Docker's manual of `docker login`).
pub(crate) const TOKEN_USER: &str = "<token>";

/// Who to be towards which registry.
///
/// Reading it costs one small file; keychains are only asked once a registry refuses to talk to an
/// anonymous client.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    logins: BTreeMap<String, Login>,
    keychains: BTreeMap<String, String>,
    default_keychain: Option<String>,
    asked: Option<Asked>,
}

/// Who is asked for user and password of a registry; an empty user has a token for a password.
type Ask = dyn Fn(&str) -> Option<(String, String)> + Send + Sync;

#[derive(Clone)]
struct Asked(Arc<Ask>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Asked")
    }
}

/// One registry's credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Password {
        user: String,
        password: String,
    },
    /// An OAuth 2 refresh token, exchanged for an access token at each pull.
    Identity(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Identity(_) => "Identity",
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    keychains: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Auth {
    /// Nobody.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Who the user is: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, else nobody.
    ///
    /// # Errors
    /// As [`Auth::read`].
    pub fn load() -> Result<Self, Error> {
        match config_path() {
            Some(path) => Self::read(&path),
            None => Ok(Self::anonymous()),
        }
    }

    /// What the Docker configuration file `path` says; nobody where there is no file.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file cannot be read or is not of that form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad =
            |why: String| Error::Invalid(format!("read credentials `{}`: {why}", path.display()));
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::anonymous());
            }
            Err(error) => return Err(bad(error.to_string())),
            Ok(facts) if facts.len() > FILE_SIZE_MAX => return Err(bad("too long".to_owned())),
            Ok(_) => {}
        }
        let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        Self::parse(&text).map_err(|error| bad(error.to_string()))
    }

    fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let file: File = serde_json::from_slice(text)?;
        let login =
            |(key, entry): (String, Entry)| Some((host_of(&key)?.to_owned(), entry.login()?));
        Ok(Self {
            logins: file.auths.into_iter().filter_map(login).collect(),
            keychains: file.keychains,
            default_keychain: Some(file.creds_store).filter(|name| !name.is_empty()),
            asked: None,
        })
    }

    /// The same with `user` and `password` for `registry` (as references spell it).
    #[must_use]
    pub fn with_password(mut self, registry: &str, user: &str, password: &str) -> Self {
        let login = Login::Password { user: user.to_owned(), password: password.to_owned() };
        let host = host_of(registry).unwrap_or(registry).to_owned();
        self.keychains.remove(&host);
        self.logins.insert(host, login);
        self
    }

    /// The same with a token for `registry` that stands for a password.
    #[must_use]
    pub fn with_identity(mut self, registry: &str, token: &str) -> Self {
        let host = host_of(registry).unwrap_or(registry).to_owned();
        self.keychains.remove(&host);
        self.logins.insert(host, Login::Identity(token.to_owned()));
        self
    }

    /// The same, where somebody is asked for user and password of each registry that nothing is known
    /// of and that wants to know; an empty user has a token for a password.
    #[must_use]
    pub fn asking(
        self,
        ask: impl Fn(&str) -> Option<(String, String)> + Send + Sync + 'static,
    ) -> Self {
        Self { asked: Some(Asked(Arc::new(ask))), ..self }
    }

    /// The keychain that is to have the credentials of `registry`.
    pub(crate) fn keychain(&self, registry: &str) -> Option<&String> {
        let named = self.keychains.get(registry);
        let named = named.or_else(|| self.keychains.get(key_of(registry)));
        named.or(self.default_keychain.as_ref())
    }

    /// The credentials for `registry`; the error is what its keychain said.
    pub(crate) fn login(&self, registry: &str) -> Result<Option<Login>, String> {
        let key = key_of(registry);
        let named = self.keychains.get(registry).or_else(|| self.keychains.get(key));
        if named.is_none()
            && let Some(login) = self.logins.get(registry)
        {
            return Ok(Some(login.clone()));
        }
        let Some(name) = self.keychain(registry) else {
            let answer = self.asked.as_ref().and_then(|Asked(ask)| ask(registry));
            return Ok(answer.map(|(user, password)| match user.as_str() {
                "" | TOKEN_USER => Login::Identity(password),
                _ => Login::Password { user, password },
            }));
        };
        let found = keychain::get(name, key)?;
        Ok(found.map(|found| match found.username.as_str() {
            TOKEN_USER => Login::Identity(found.secret),
            _ => Login::Password { user: found.username, password: found.secret },
        }))
    }
}

/// Where Docker keeps its configuration; `None` for users without a home.
pub(crate) fn config_path() -> Option<PathBuf> {
    let folder = match std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir()?.join(".docker"),
    };
    Some(folder.join("config.json"))
}

/// The key under which the credentials of `registry` are filed.
pub(crate) fn key_of(registry: &str) -> &str {
    if registry == "docker.io" { HUB_KEY } else { registry }
}

impl Entry {
    /// An entry without secrets only says that the keychain has them.
    fn login(self) -> Option<Login> {
        if !self.identitytoken.is_empty() {
            return Some(Login::Identity(self.identitytoken));
        }
        if self.auth.is_empty() {
            let (user, password) = (self.username, self.password);
            return (!user.is_empty()).then_some(Login::Password { user, password });
        }
        let raw = STANDARD.decode(self.auth.trim()).ok()?;
        let text = String::from_utf8(raw).ok()?;
        let (user, password) = text.split_once(':')?;
        // Docker pads the password with zero bytes in old files.
        let password = password.trim_end_matches('\0').to_owned();
        Some(Login::Password { user: user.to_owned(), password })
    }
}

/// The registry that a key of `auths` is for: keys are hosts, or URLs of API versions 1 and 2.
///
/// Keys with a longer path name a repository, which Docker does not know; they are passed over
/// rather than taken for their whole registry.
pub(crate) fn host_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    matches!(path.trim_end_matches('/'), "" | "v1" | "v2").then_some(host)
}

/// The value of `Authorization` for `user` and `password` (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password { user: user.into(), password: password.into() })
    }

    #[test]
    fn every_form_of_an_entry_is_understood() {
        // `YTpiOmM=` is `a:b:c`.
        let auth = Auth::parse(
            br#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"YTpiOmM="},
                "http://localhost:5000":{"username":"u","password":"p"},
                "id.example":{"auth":"YTpi","identitytoken":"t"},
                "empty.example":{},
                "bad.example":{"auth":"!"},
                "path.example/team":{"auth":"YTpi"}
            },"HttpHeaders":{"User-Agent":"x"}}"#,
        )
        .unwrap();
        for (registry, expected) in [
            ("docker.io", password("a", "b:c")),
            ("localhost:5000", password("u", "p")),
            ("id.example", Some(Login::Identity("t".into()))),
            ("empty.example", None),
            ("bad.example", None),
            ("path.example", None),
            ("other.example", None),
        ] {
            assert_eq!(auth.login(registry), Ok(expected), "{registry}");
        }
    }

    #[test]
    fn somebody_is_asked_for_what_is_not_known() {
        let auth = Auth::anonymous().with_password("known.example", "a", "b").asking(|registry| {
            let user = if registry == "token.example" { "" } else { "u" };
            (registry != "nobody.example").then(|| (user.to_owned(), "p".to_owned()))
        });
        for (registry, expected) in [
            ("known.example", password("a", "b")),
            ("other.example", password("u", "p")),
            ("token.example", Some(Login::Identity("p".into()))),
            ("nobody.example", None),
        ] {
            assert_eq!(auth.login(registry), Ok(expected), "{registry}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = Auth::anonymous().with_password("a.b", "user", "hunter2");
        assert!(!format!("{auth:?}").contains("hunter2"));
    }

    #[test]
    fn an_absent_file_is_nobody_and_a_broken_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert_eq!(Auth::read(&path).unwrap().login("a.b"), Ok(None));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Auth::read(&path), Err(Error::Invalid(_))));
    }
}
