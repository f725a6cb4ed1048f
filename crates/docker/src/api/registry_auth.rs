//! Who the client is for a registry: `X-Registry-Auth`.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use engine::Engine;
use oci::Reference;
use registry::Auth;
use serde::Deserialize;

use super::call::Call;
use super::failure::Failure;

/// Clients write the URL-safe alphabet with and without padding.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client knows about itself.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Credentials {
    username: String,
    password: String,
    auth: String,
    serveraddress: String,
    identitytoken: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Credentials")
    }
}

impl Credentials {
    /// User and password, of whichever fields have them.
    pub(super) fn login(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let plain = STANDARD.decode(&self.auth).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (user, password) = plain.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// Asks the registry whether it knows them.
    pub(super) fn check(&self, engine: &Engine) -> Result<(), Failure> {
        let registry = registry::registry_name(&self.serveraddress);
        let Some((user, password)) = self.login() else {
            return Err(Failure::bad("no credentials are given"));
        };
        engine.check_login(&registry, &user, &password).map_err(|error| match error.kind() {
            engine::Kind::Denied => Failure::new(401, super::failure::told(&error)),
            _ => error.into(),
        })
    }

    /// Who that is for this registry.
    pub(super) fn add_to(&self, auth: Auth, registry: &str) -> Auth {
        match self.login() {
            _ if !self.identitytoken.is_empty() => {
                auth.with_identity(registry, &self.identitytoken)
            }
            Some((user, password)) => auth.with_password(registry, &user, &password),
            None => auth,
        }
    }
}

/// User and password of the client for the registry of an image; an empty user has a token for a
/// password.
pub(super) fn login(call: &Call<'_, '_>) -> Result<Option<(String, String)>, Failure> {
    let credentials: Credentials = field(call, "x-registry-auth")?.unwrap_or_default();
    Ok(match credentials.identitytoken.as_str() {
        "" => credentials.login(),
        token => Some((String::new(), token.to_owned())),
    })
}

/// An engine that is for registries who the client is.
pub(super) fn engine_as(call: &Call<'_, '_>, reference: &Reference) -> Result<Engine, Failure> {
    let credentials: Credentials = field(call, "x-registry-auth")?.unwrap_or_default();
    let auth = credentials.add_to(Auth::anonymous(), reference.registry());
    Ok(call.engine().clone().with_auth(auth))
}

/// The document in a header field.
pub(super) fn field<T: serde::de::DeserializeOwned>(
    call: &Call<'_, '_>,
    name: &str,
) -> Result<Option<T>, Failure> {
    let Some(text) = call.exchange.head().get(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bytes = URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text));
    let bytes = bytes.map_err(|_| Failure::bad(format!("{name} is not in base64")))?;
    // Some clients send the text `null`.
    serde_json::from_slice::<Option<T>>(&bytes)
        .map_err(|error| Failure::bad(format!("invalid {name}: {error}")))
}
