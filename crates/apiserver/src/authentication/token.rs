//! Tokens that say who their bearer is (RFC 7519), signed with ES256 (RFC 7518, section 3.4).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rcgen::{KeyPair, PublicKeyData as _};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// The key that signs tokens.
pub(crate) struct TokenKey {
    pair: EcdsaKeyPair,
    /// What tokens call the key by.
    id: String,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// The key in a pair, which is one of P-256.
    pub(crate) fn new(pair: &KeyPair) -> Result<Self, String> {
        let der = pair.serialize_der();
        let own =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new());
        let own = own.map_err(|error| format!("use the key for tokens: {error}"))?;
        // Upstream names keys by the digest of their SubjectPublicKeyInfo.
        let id = BASE64.encode(Sha256::digest(pair.subject_public_key_info()));
        Ok(Self { pair: own, id })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, String> {
        let head = json!({"alg": "ES256", "kid": self.id});
        let [head, claims] = [&head, claims].map(|part| BASE64.encode(part.to_string()));
        let signed = format!("{head}.{claims}");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| "sign a token: there is no randomness".to_owned())?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// The claims of a token that this key has signed; `None` of any other.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let read = |part: &str| -> Option<Value> {
            serde_json::from_slice(&BASE64.decode(part).ok()?).ok()
        };
        // Whoever bears a token does not choose how it is verified.
        if read(head)?["alg"] != "ES256" {
            return None;
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(signed.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
        read(claims)
    }

    /// The public half, for others who verify tokens (RFC 7517).
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: 4, then both coordinates (SEC 1, section 2.3.3).
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_signed_is_believed() {
        let key = || TokenKey::new(&KeyPair::generate().unwrap()).unwrap();
        let (own, other) = (key(), key());
        let claims = json!({"sub": "x"});
        let token = own.sign(&claims).unwrap();
        assert_eq!(own.verify(&token), Some(claims.clone()));
        assert_eq!(other.verify(&token), None);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (head, _) = signed.split_once('.').unwrap();
        let forged = BASE64.encode(json!({"sub": "y"}).to_string());
        assert_eq!(own.verify(&format!("{head}.{forged}.{signature}")), None);
        let none = BASE64.encode(json!({"alg": "none"}).to_string());
        assert_eq!(own.verify(&format!("{none}.{forged}.")), None);
        for wrong in ["", ".", "..", "a.b.c", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(own.verify(wrong), None, "{wrong}");
        }
        let keys = own.key_set();
        assert_eq!(keys["keys"][0]["x"].as_str().map(str::len), Some(43));
    }
}
