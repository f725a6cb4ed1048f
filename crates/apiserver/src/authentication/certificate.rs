//! Who a certificate is of: the names in its subject (RFC 5280, section 4.1.2.6).
//!
//! Whether it is to be believed has been found out before: TLS has verified it.

use sha2::{Digest as _, Sha256};

use super::User;
use crate::der;

/// The user that a certificate is of: its common name, in the groups that are its organizations.
/// `None` of what is no certificate, and of one without a name.
pub(crate) fn user_of(certificate: &[u8]) -> Option<User> {
    let (_, _, rest) = der::next(der::validity_on(certificate)?)?;
    let (name, groups) = der::subject(&der::name(rest)?.0)?;
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
