//! Who asks: client certificates, tokens, and users who act as others.

mod account;
mod bootstrap;
mod certificate;
mod impersonation;
#[cfg(test)]
mod tests;
mod token;
mod user;

use std::sync::Arc;

use serde_json::{Value, json};

pub(crate) use account::{fill_secret, request_token};
pub(crate) use bootstrap::{
    BOOTSTRAPPERS, object as bootstrap_secret, random_token as random_bootstrap_token,
};
pub(crate) use certificate::user_of as user_of_certificate;
pub(crate) use token::TokenKey;
pub(crate) use user::MASTERS;
pub use user::User;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::identity::is_equal;

/// Which credential somebody has proved to be somebody by.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Who signs the tokens of service accounts, as kubeadm has it. It is what they are for, too, if
/// nobody says what for.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// What can be asked without saying who asks; whether it is answered is a matter of roles.
const OPEN: &[&str] = &["healthz", "livez", "readyz", "version"];

/// Whom a cluster believes.
#[derive(Clone)]
pub(crate) struct Trust {
    /// The token of whoever administers the cluster; empty for none.
    pub(crate) token: Arc<str>,
    /// What signs the tokens of service accounts.
    pub(crate) key: Arc<TokenKey>,
    /// The certificate of the authority, in PEM; empty if there is none.
    pub(crate) authority: Arc<str>,
    /// How nodes on other hosts are asked, if there can be any.
    pub(crate) nodes: Option<client::Tls>,
}

/// Nobody learns the token by looking at it.
impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What a client presents.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Credentials<'a> {
    /// A certificate that has been verified, in DER.
    pub(crate) certificate: Option<&'a [u8]>,
    /// Names in lower case, and values.
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

impl<'a> Credentials<'a> {
    fn header(&self, name: &str) -> &'a str {
        self.all(name).next().unwrap_or_default()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(known, _)| *known == name);
        named.map(|(_, value)| *value)
    }

    fn bearer(&self) -> Option<&'a str> {
        let (scheme, token) = self.header("authorization").trim().split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    }
}

/// Who asks, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asking {
    /// Whose rights count.
    pub(crate) user: User,
    /// Who acts as that, if somebody does.
    pub(crate) impersonator: Option<User>,
}

impl Cluster {
    /// Who asks for a path.
    ///
    /// # Errors
    /// 401 for credentials that are no good, and for none where some are needed; 403 for whoever may
    /// not act as others.
    pub(crate) fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        parts: &[String],
    ) -> Result<Asking, Failure> {
        let user = self.known(credentials)?;
        let is_open = parts.first().is_some_and(|first| OPEN.contains(&first.as_str()));
        let user = match user {
            Some(user) => user,
            None if is_open => User::anonymous(),
            None => return Err(Failure::unauthorized()),
        };
        impersonation::act(self, user, credentials)
    }

    /// Whoever the credentials are of; `None` without credentials.
    fn known(&self, credentials: &Credentials<'_>) -> Result<Option<User>, Failure> {
        if let Some(certificate) = credentials.certificate {
            let user = certificate::user_of(certificate).ok_or_else(Failure::unauthorized)?;
            return Ok(Some(user));
        }
        let Some(token) = credentials.bearer() else {
            // A scheme that nobody knows proves nothing.
            return match credentials.header("authorization") {
                "" => Ok(None),
                _ => Err(Failure::unauthorized()),
            };
        };
        match self.user_of_token(token, &[]) {
            Ok((user, _)) => Ok(Some(user)),
            Err(_) => Err(Failure::unauthorized()),
        }
    }

    /// Whose a token is, and which of the audiences it is for; the API itself if none are named.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub(crate) fn user_of_token(
        &self,
        token: &str,
        wanted: &[String],
    ) -> Result<(User, Vec<String>), String> {
        let api = [ISSUER.to_owned()];
        let wanted = if wanted.is_empty() { &api } else { wanted };
        let own = self.trust.token.as_bytes();
        if !own.is_empty() && is_equal(token.as_bytes(), own) {
            let audiences: Vec<_> = wanted.iter().filter(|one| *one == ISSUER).cloned().collect();
            return match audiences.is_empty() {
                true => Err(format!("token audiences {api:?} is invalid for {wanted:?}")),
                false => Ok((User::administrator(), audiences)),
            };
        }
        if let Some(halves) = bootstrap::split(token) {
            return Ok((bootstrap::user_of(self, halves)?, wanted.to_vec()));
        }
        account::user_of(self, token, wanted)
    }
}

/// What tells others how tokens of service accounts are verified (OpenID Connect Discovery 1.0,
/// section 3), if a path asks for it.
pub(crate) fn discovery(cluster: &Cluster, parts: &[&str]) -> Option<Value> {
    match parts {
        [".well-known", "openid-configuration"] => Some(json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })),
        ["openid", "v1", "jwks"] => Some(cluster.trust.key.key_set()),
        _ => None,
    }
}
