//! Tokens that hosts join with: secrets of their own type (`bootstrap.kubernetes.io/token`), as kubeadm
//! makes them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::User;
use crate::cluster::Cluster;

/// The group of whoever joins.
pub(crate) const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// What a token is.
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where they are.
const NAMESPACE: &str = "kube-system";
/// Characters of its two halves.
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// The halves of what looks like a token.
pub(super) fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let is_whole = id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH;
    (is_whole && is_plain(id) && is_plain(secret)).then_some((id, secret))
}

/// Whose a token is.
pub(super) fn user_of(cluster: &Cluster, (id, secret): (&str, &str)) -> Result<User, String> {
    let found = cluster.object("", "secrets", NAMESPACE, &format!("bootstrap-token-{id}"));
    let refused = || "bootstrap token is not known, or no longer good".to_owned();
    let found = found.filter(|found| found["type"] == SECRET_TYPE).ok_or_else(refused)?;
    let field = |name: &str| -> String {
        let encoded = found["data"][name].as_str().unwrap_or_default();
        let bytes = BASE64_STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let is_own = field("token-id") == id
        && crate::identity::is_equal(field("token-secret").as_bytes(), secret.as_bytes());
    let is_for_this = field("usage-bootstrap-authentication") == "true";
    let is_over = match field("expiration").as_str() {
        "" => false,
        // What cannot be read is no time to come.
        time => time.parse().map_or(true, |end: jiff::Timestamp| end <= jiff::Timestamp::now()),
    };
    if !is_own || !is_for_this || is_over || !found["metadata"]["deletionTimestamp"].is_null() {
        return Err(refused());
    }
    let extra = field("auth-extra-groups");
    // Nobody is made more than somebody who joins.
    let extra = extra.split(',').filter(|group| group.starts_with("system:bootstrappers:"));
    let groups: Vec<&str> = [BOOTSTRAPPERS].into_iter().chain(extra).collect();
    Ok(User::known(&format!("system:bootstrap:{id}"), &groups))
}

/// A new token.
pub(crate) fn random_token() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bytes = crate::cluster::random::<{ ID_LENGTH + SECRET_LENGTH }>();
    let text: String =
        bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    format!("{}.{}", &text[..ID_LENGTH], &text[ID_LENGTH..])
}

/// The object that makes a token good for ever; `None` of what is none.
pub(crate) fn object(token: &str) -> Option<Value> {
    let (id, secret) = split(token)?;
    Some(json!({
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "stringData": {
            "token-id": id,
            "token-secret": secret,
            "description": "The token that agents of this cluster join with.",
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_kubeadms_form() {
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in ["abcdef.0123456789abcde", "Abcdef.0123456789abcdef", "abcdef", ""] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert!(split(&random_token()).is_some());
    }
}
