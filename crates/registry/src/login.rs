//! Logging in and out: credentials that a registry has accepted, kept where Docker keeps them.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::FlockOperation;
use serde_json::{Map, Value, json};
use store::Fresh;

use crate::auth::{Auth, FILE_SIZE_MAX, Login, TOKEN_USER, config_path, host_of, key_of};
use crate::client::Client;
use crate::fault::Fault;
use crate::http::Ask;
use crate::session::{Scope, To};
use crate::{Config, Doing, Error, keychain};

/// Nobody else is to read it.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Where credentials were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the clear, in this file.
    File(PathBuf),
    /// By the keychain of this name.
    Keychain(String),
}

/// The registry that people mean: `docker.io` where they say nothing; without scheme and path.
#[must_use]
pub fn registry_name(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "docker.io".to_owned();
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.unwrap_or(text).split('/').next().unwrap_or_default();
    host_of(host).unwrap_or(host).to_owned()
}

/// How the credentials of a registry are filed: Docker's name for it.
#[must_use]
pub fn registry_key(registry: &str) -> &str {
    key_of(registry)
}

/// The user that is logged in at `registry`, with the password where there is one.
///
/// # Errors
/// [`Error::Invalid`] if the configuration or a keychain cannot be read.
pub fn logged_in(registry: &str) -> Result<Option<(String, String)>, Error> {
    let login = Auth::load()?.login(registry).map_err(Error::Invalid)?;
    Ok(match login {
        Some(Login::Password { user, password }) => Some((user, password)),
        Some(Login::Identity(_)) | None => None,
    })
}

/// Asks `registry` whether it knows `user` and `password`, and keeps them if it does.
///
/// A registry that gives a token to use instead has that kept, and not the password.
///
/// # Errors
/// [`Error::Login`] if it does not know them; [`Error::Unreachable`]; [`Error::Invalid`] if they
/// cannot be kept.
pub fn login(config: &Config, registry: &str, user: &str, password: &str) -> Result<Kept, Error> {
    let identity = check_login(config, registry, user, password)?;
    keep(registry, user, password, identity)
}

/// Asks `registry` whether it knows `user` and `password`: the token to use instead, if it gives one.
///
/// # Errors
/// [`Error::Login`] if it does not know them; [`Error::Unreachable`].
pub fn check_login(
    config: &Config,
    registry: &str,
    user: &str,
    password: &str,
) -> Result<Option<String>, Error> {
    let auth = Auth::anonymous().with_password(registry, user, password);
    let client = Client::new(config, auth);
    let sessions = client.sessions(registry)?;
    let session = sessions.last().expect("every registry is a server");
    let answer = session.ask(client.auth(), Scope::Nothing, To::Api(""), &Ask::default());
    answer.map_err(|fault| match fault {
        Fault::Denied(detail) => Error::Login { host: registry.to_owned(), detail },
        other => {
            let (host, why) = (session.host().to_owned(), other.text());
            Error::Unreachable { doing: Doing::Ask, host, why }
        }
    })?;
    Ok(session.identity())
}

fn keep(
    registry: &str,
    user: &str,
    password: &str,
    identity: Option<String>,
) -> Result<Kept, Error> {
    let key = key_of(registry);
    if let Some(name) = Auth::load()?.keychain(registry) {
        let (user, secret) = match &identity {
            Some(token) => (TOKEN_USER, token.as_str()),
            None => (user, password),
        };
        keychain::store(name, key, user, secret).map_err(Error::Invalid)?;
        // As Docker: an empty entry says that the keychain has it.
        change(|auths| drop(auths.insert(key.to_owned(), json!({}))))?;
        return Ok(Kept::Keychain(name.clone()));
    }
    let plain = match identity {
        Some(_) => format!("{user}:"),
        None => format!("{user}:{password}"),
    };
    let mut entry = json!({"auth": STANDARD.encode(plain)});
    if let Some(token) = identity {
        entry["identitytoken"] = token.into();
    }
    let path = change(|auths| drop(auths.insert(key.to_owned(), entry)))?;
    Ok(Kept::File(path))
}

/// Forgets the credentials of `registry`: whether there were any.
///
/// # Errors
/// [`Error::Invalid`] if the configuration cannot be changed, or a keychain fails.
pub fn logout(registry: &str) -> Result<bool, Error> {
    let auth = Auth::load()?;
    let is_own = |key: &String| host_of(key) == Some(registry);
    let mut found = false;
    let held = config_path().map(|path| read(&path)).transpose()?.unwrap_or_default();
    if let Some(Value::Object(auths)) = held.get("auths") {
        found = auths.keys().any(is_own);
    }
    if let Some(name) = auth.keychain(registry) {
        let key = key_of(registry);
        found |= keychain::get(name, key).map_err(Error::Invalid)?.is_some();
        if found {
            keychain::erase(name, key).map_err(Error::Invalid)?;
        }
    }
    if found {
        change(|auths| auths.retain(|key, _| !is_own(key)))?;
    }
    Ok(found)
}

fn bad(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("keep credentials in `{}`: {why}", path.display()))
}

fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(bad(path, error)),
        Ok(facts) if facts.len() > FILE_SIZE_MAX => return Err(bad(path, "it is too long")),
        Ok(_) => {}
    }
    let text = fs::read(path).map_err(|error| bad(path, error))?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(all)) => Ok(all),
        Ok(_) => Err(bad(path, "it is not an object")),
        Err(error) => Err(bad(path, error)),
    }
}

/// Changes `auths` and nothing else, in one step; where the file is a link, what it leads to.
fn change(act: impl FnOnce(&mut Map<String, Value>)) -> Result<PathBuf, Error> {
    let Some(path) = config_path() else {
        return Err(Error::Invalid("there is no home directory to keep credentials in".to_owned()));
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    made.map_err(|error| bad(&path, error))?;
    let place = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let lock = File::open(folder).map_err(|error| bad(&path, error))?;
    // Two logins at the same time must not forget each other.
    rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
        .map_err(|error| bad(&path, io::Error::from(error)))?;
    let mut all = read(&place)?;
    let auths = all.entry("auths").or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    let Value::Object(auths) = auths else {
        return Err(bad(&path, "`auths` is not an object"));
    };
    act(auths);
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut out = serde_json::Serializer::with_formatter(&mut text, form);
    serde::Serialize::serialize(&all, &mut out).map_err(|error| bad(&path, error))?;
    let failed = |error: store::Error| match error {
        store::Error::Io { doing, source } => bad(&path, format_args!("{doing}: {source}")),
        other => bad(&path, other),
    };
    let mut fresh = Fresh::create(&place, FILE_MODE).map_err(failed)?;
    fresh.write_all(&text).map_err(|error| bad(&path, error))?;
    fresh.keep().map_err(failed)?;
    Ok(path)
}
