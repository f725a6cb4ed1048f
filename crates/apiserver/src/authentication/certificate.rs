//! Who a certificate is of: the names in its subject (RFC 5280, section 4.1.2.6).
//!
//! Whether it is to be believed has been found out before: TLS has verified it.

use sha2::{Digest as _, Sha256};

use super::User;

/// Tags of DER (X.690, section 8).
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
/// Object ids of `commonName` and `organizationName` (X.520), 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];

/// The user that a certificate is of: its common name, in the groups that are its organizations.
/// `None` of what is no certificate, and of one without a name.
pub(crate) fn user_of(certificate: &[u8]) -> Option<User> {
    let (mut name, mut groups) = (String::new(), Vec::new());
    for (kind, value) in subject(certificate)? {
        match kind {
            COMMON_NAME => name = String::from_utf8(value.to_vec()).ok()?,
            ORGANIZATION => groups.push(String::from_utf8(value.to_vec()).ok()?),
            _ => {}
        }
    }
    if name.is_empty() {
        return None;
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let mut user = User::known(&name, &groups);
    let digest: String =
        Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra.insert(super::CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")]);
    Some(user)
}

/// The kinds and values of the names in a certificate's subject.
fn subject(certificate: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (whole, _) = inner(certificate, SEQUENCE)?;
    let (mut signed, _) = inner(whole, SEQUENCE)?;
    if signed.first() == Some(&VERSION) {
        signed = next(signed)?.2;
    }
    // Serial number, algorithm, issuer and validity stand before it.
    for _ in 0..4 {
        signed = next(signed)?.2;
    }
    let (mut names, _) = inner(signed, SEQUENCE)?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let (mut set, rest) = inner(names, SET)?;
        names = rest;
        while !set.is_empty() {
            let (pair, rest) = inner(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = inner(pair, OBJECT_ID)?;
            found.push((kind, next(value)?.1));
        }
    }
    Some(found)
}

/// The content of the first element, which has a tag, and what follows it.
fn inner(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = next(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The tag and the content of the first element, and what follows it.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, more) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // A certificate is not longer than a TLS record's worth of them, let alone 4 GiB.
        if digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit));
        rest = more;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str, group: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_users_and_organizations_groups() {
        let user = user_of(&certificate("jane", "developers")).unwrap();
        assert_eq!(user.name, "jane");
        assert_eq!(user.groups, ["developers", "system:authenticated"]);
        assert!(user.extra[super::super::CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert_eq!(user_of(&certificate("", "developers")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(at in 0_usize..400, byte: u8, end in 0_usize..400) {
            let mut bytes = certificate("jane", "developers");
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            let _ = user_of(&bytes);
            bytes.truncate(end);
            let _ = user_of(&bytes);
        }
    }
}
