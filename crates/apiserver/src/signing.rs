//! Certificates: asking for one (PKCS #10, RFC 2986), reading what is asked, and giving it.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm,
};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::der;

/// Object ids (RFC 5480, RFC 8017, RFC 8410, RFC 2985).
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Clocks of others may be so much behind.
const SKEW: Duration = Duration::from_secs(300);

/// A key, and the request for a certificate of it; both in PEM.
#[derive(Clone)]
pub struct KeyRequest {
    /// The private key.
    pub key: String,
    /// The request.
    pub request: String,
}

/// Nobody learns keys by looking at it.
impl std::fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").field("request", &self.request).finish_non_exhaustive()
    }
}

impl KeyRequest {
    /// A new key, and the request for a certificate of a user in a group; for a server, with the names
    /// and addresses that it is called by.
    ///
    /// # Errors
    /// There is no randomness, or a name is none.
    pub fn new(
        user: &str,
        group: &str,
        (names, addresses): (&[String], &[IpAddr]),
    ) -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("make a request for a certificate: {error}");
        let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
        params.subject_alt_names.extend(addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, user);
        let key = KeyPair::generate().map_err(failed)?;
        let request = params.serialize_request(&key).and_then(|own| own.pem()).map_err(failed)?;
        Ok(Self { key: key.serialize_pem(), request })
    }
}

/// When a certificate, the first in PEM, begins and ends to be good, in seconds since the epoch.
#[must_use]
pub fn validity(pem: &str) -> Option<(i64, i64)> {
    let der = from_pem(pem, "CERTIFICATE")?;
    let (inner, _) = der::inner(der::validity_on(&der)?, der::SEQUENCE)?;
    let (from, rest) = der::time(inner)?;
    Some((from, der::time(rest)?.0))
}

/// What a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether it asks for names of another kind.
    pub(crate) asks_others: bool,
    key: Key,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    kind: &'static SignatureAlgorithm,
    bytes: Vec<u8>,
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.kind
    }
}

impl Asked {
    /// Reads a request in PEM, which whoever has the key has signed.
    pub(crate) fn parse(pem: &str) -> Result<Self, &'static str> {
        let der = from_pem(pem, "CERTIFICATE REQUEST");
        let der = der.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let parts = || {
            let (request, _) = der::inner(&der, der::SEQUENCE)?;
            let (signed, rest) = der::whole(request)?;
            let (algorithm, rest) = der::inner(rest, der::SEQUENCE)?;
            let (algorithm, _) = der::inner(algorithm, der::OBJECT_ID)?;
            Some((signed, algorithm, der::bits(rest)?.0))
        };
        let (signed, algorithm, signature) = parts().ok_or("the request cannot be read")?;
        let asked = Self::read(signed).ok_or("the request cannot be read")?;
        let algorithm = verifier(algorithm, asked.key.kind);
        let algorithm = algorithm.ok_or("the request is signed in a way that is not known")?;
        let key = UnparsedPublicKey::new(algorithm, &asked.key.bytes);
        match key.verify(signed, signature) {
            Ok(()) => Ok(asked),
            Err(_) => Err("the request is not signed by the key that it is for"),
        }
    }

    fn read(signed: &[u8]) -> Option<Self> {
        let (info, _) = der::inner(signed, der::SEQUENCE)?;
        let (_, _, rest) = der::next(info)?;
        let (subject, rest) = der::name(rest)?;
        let (name, groups) = der::subject(&subject)?;
        let (key, rest) = der::inner(rest, der::SEQUENCE)?;
        let key = read_key(key)?;
        let (names, addresses) = (Vec::new(), Vec::new());
        let mut asked = Self { name, groups, names, addresses, asks_others: false, key };
        let Some((mut attributes, _)) = der::inner(rest, der::FIRST) else { return Some(asked) };
        while !attributes.is_empty() {
            let (attribute, more) = der::inner(attributes, der::SEQUENCE)?;
            attributes = more;
            let (kind, values) = der::inner(attribute, der::OBJECT_ID)?;
            if kind == EXTENSION_REQUEST {
                let (values, _) = der::inner(values, der::SET)?;
                asked.read_extensions(der::inner(values, der::SEQUENCE)?.0)?;
            }
        }
        Some(asked)
    }

    fn read_extensions(&mut self, mut extensions: &[u8]) -> Option<()> {
        while !extensions.is_empty() {
            let (extension, more) = der::inner(extensions, der::SEQUENCE)?;
            extensions = more;
            let (kind, mut rest) = der::inner(extension, der::OBJECT_ID)?;
            if kind != SUBJECT_ALT_NAME {
                continue;
            }
            if rest.first() != Some(&der::OCTET_STRING) {
                // Whether it is critical.
                rest = der::next(rest)?.2;
            }
            let (value, _) = der::inner(rest, der::OCTET_STRING)?;
            let (mut all, _) = der::inner(value, der::SEQUENCE)?;
            while !all.is_empty() {
                let (tag, value, more) = der::next(all)?;
                all = more;
                self.read_name(tag, value)?;
            }
        }
        Some(())
    }

    /// A `GeneralName` (RFC 5280, section 4.2.1.6).
    fn read_name(&mut self, tag: u8, value: &[u8]) -> Option<()> {
        match tag {
            0x82 => self.names.push(String::from_utf8(value.to_vec()).ok()?),
            0x87 => {
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from));
                self.addresses.push(address.ok()?);
            }
            _ => self.asks_others = true,
        }
        Some(())
    }

    /// A certificate, in PEM, of what is asked for: good for a time from now on.
    pub(crate) fn certify(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        use_: ExtendedKeyUsagePurpose,
        longest: Duration,
    ) -> Result<String, String> {
        let failed = |error: rcgen::Error| format!("make a certificate: {error}");
        let mut params = CertificateParams::new(self.names.clone()).map_err(failed)?;
        params.subject_alt_names.extend(self.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        params.distinguished_name = DistinguishedName::new();
        for group in &self.groups {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        params.extended_key_usages = vec![use_];
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let now = jiff::Timestamp::now().as_second();
        let now = Duration::from_secs(u64::try_from(now).unwrap_or_default());
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(SKEW);
        params.not_after = epoch + now + longest;
        params.signed_by(&self.key, issuer).map(|own| own.pem()).map_err(failed)
    }
}

/// A `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
fn read_key(info: &[u8]) -> Option<Key> {
    let (algorithm, rest) = der::inner(info, der::SEQUENCE)?;
    let (kind, parameters) = der::inner(algorithm, der::OBJECT_ID)?;
    let curve = || der::inner(parameters, der::OBJECT_ID).map(|(curve, _)| curve);
    let kind = match kind {
        ELLIPTIC if curve() == Some(P256) => &rcgen::PKCS_ECDSA_P256_SHA256,
        ELLIPTIC if curve() == Some(P384) => &rcgen::PKCS_ECDSA_P384_SHA384,
        RSA => &rcgen::PKCS_RSA_SHA256,
        ED25519 => &rcgen::PKCS_ED25519,
        _ => return None,
    };
    Some(Key { kind, bytes: der::bits(rest)?.0.to_vec() })
}

/// How a signature is verified, by its algorithm and the kind of key.
fn verifier(
    algorithm: &[u8],
    key: &'static SignatureAlgorithm,
) -> Option<&'static dyn VerificationAlgorithm> {
    let is_p256 = *key == rcgen::PKCS_ECDSA_P256_SHA256;
    let is_p384 = *key == rcgen::PKCS_ECDSA_P384_SHA384;
    let is_rsa = *key == rcgen::PKCS_RSA_SHA256;
    Some(match algorithm {
        ECDSA_SHA256 if is_p256 => &signature::ECDSA_P256_SHA256_ASN1,
        ECDSA_SHA384 if is_p256 => &signature::ECDSA_P256_SHA384_ASN1,
        ECDSA_SHA256 if is_p384 => &signature::ECDSA_P384_SHA256_ASN1,
        ECDSA_SHA384 if is_p384 => &signature::ECDSA_P384_SHA384_ASN1,
        RSA_SHA256 if is_rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        RSA_SHA384 if is_rsa => &signature::RSA_PKCS1_2048_8192_SHA384,
        RSA_SHA512 if is_rsa => &signature::RSA_PKCS1_2048_8192_SHA512,
        ED25519 if *key == rcgen::PKCS_ED25519 => &signature::ED25519,
        _ => return None,
    })
}

/// What a block of PEM holds (RFC 7468), the first of its kind.
pub(crate) fn from_pem(pem: &str, kind: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {kind}-----"))?;
    let (text, _) = rest.split_once(&format!("-----END {kind}-----"))?;
    let text: String = text.split_whitespace().collect();
    BASE64_STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn authority() -> Issuer<'static, KeyPair> {
        Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap())
    }

    #[test]
    fn what_is_asked_for_is_given() {
        let names = ["a.example".to_owned()];
        let addresses = [IpAddr::from([192, 0, 2, 1])];
        let own = KeyRequest::new("system:node:n", "system:nodes", (&names, &addresses)).unwrap();
        let asked = Asked::parse(&own.request).unwrap();
        assert_eq!(asked.name, "system:node:n");
        assert_eq!(asked.groups, ["system:nodes"]);
        assert_eq!((&*asked.names, &*asked.addresses), (&names[..], &addresses[..]));
        let use_ = ExtendedKeyUsagePurpose::ClientAuth;
        let pem = asked.certify(&authority(), use_, Duration::from_secs(1000)).unwrap();
        let (from, until) = validity(&pem).unwrap();
        assert_eq!(until - from, 1300);
        let der = from_pem(&pem, "CERTIFICATE").unwrap();
        let user = crate::authentication::user_of_certificate(&der).unwrap();
        assert_eq!(user.as_node(), Some("n"));
    }

    #[test]
    fn a_request_of_another_key_is_refused() {
        let own = KeyRequest::new("a", "b", (&[], &[])).unwrap();
        let mut der = from_pem(&own.request, "CERTIFICATE REQUEST").unwrap();
        let at = der.windows(3).position(|w| w == [0x0c, 1, b'a']).unwrap();
        der[at + 2] = b'c';
        let text = BASE64_STANDARD.encode(der);
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----"
        );
        let why = Asked::parse(&pem).unwrap_err();
        assert_eq!(why, "the request is not signed by the key that it is for");
        assert!(Asked::parse("nonsense").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(at in 0_usize..400, byte: u8, end in 0_usize..400) {
            let own = KeyRequest::new("a", "b", (&["c".to_owned()], &[])).unwrap();
            let mut der = from_pem(&own.request, "CERTIFICATE REQUEST").unwrap();
            let at = at.min(der.len() - 1);
            der[at] = byte;
            let _ = Asked::read(&der);
            der.truncate(end);
            let _ = Asked::read(&der);
        }
    }
}
