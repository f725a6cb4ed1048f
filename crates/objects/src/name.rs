//! What names may be, in upstream's words (apimachinery, `validation.IsDNS1123Label` and others).

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Characters of a label, of a label's value and of a name after the slash.
const LABEL_LENGTH_MAX: usize = 63;
/// Characters of a name of several labels.
const SUBDOMAIN_LENGTH_MAX: usize = 253;

const LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
    '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
    alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
    (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SERVICE_WORDS: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
    '-', start with an alphabetic character, and end with an alphanumeric character (e.g. \
    'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_WORDS: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
    '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// A text that stays for as long as the process lives; equal ones are kept once.
///
/// For names of kinds and fields that definitions bring: there are few, they come again with every
/// change of a definition, and only who may define kinds can add to them.
#[must_use]
pub fn intern(text: &str) -> &'static str {
    static KNOWN: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(text.into());
    known.insert(kept);
    kept
}

/// The name of a namespace, of a container, of a port's owner: one label of DNS.
///
/// # Errors
/// What is wrong with it.
pub fn check_label(name: &str) -> Result<(), String> {
    check_length(name, LABEL_LENGTH_MAX)?;
    match is_dns_label(name) {
        true => Ok(()),
        false => Err(LABEL_WORDS.to_owned()),
    }
}

/// The name of most objects: labels of DNS with dots between them.
///
/// # Errors
/// What is wrong with it.
pub fn check_subdomain(name: &str) -> Result<(), String> {
    check_length(name, SUBDOMAIN_LENGTH_MAX)?;
    match name.split('.').all(is_dns_label) {
        true => Ok(()),
        false => Err(SUBDOMAIN_WORDS.to_owned()),
    }
}

/// The name of a `Service`: a label that begins with a letter.
///
/// # Errors
/// What is wrong with it.
pub fn check_service(name: &str) -> Result<(), String> {
    check_length(name, LABEL_LENGTH_MAX)?;
    match is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        true => Ok(()),
        false => Err(SERVICE_WORDS.to_owned()),
    }
}

/// The name of what stands in a path as it is: of roles and bindings, which may have colons.
///
/// # Errors
/// What is wrong with it.
pub fn check_path_segment(name: &str) -> Result<(), String> {
    if name == "." || name == ".." {
        return Err(format!("may not be '{name}'"));
    }
    match ['/', '%'].into_iter().find(|c| name.contains(*c)) {
        Some(c) => Err(format!("may not contain '{c}'")),
        None => Ok(()),
    }
}

/// The key of a label or an annotation: `[subdomain/]name`.
///
/// # Errors
/// What is wrong with it.
pub fn check_label_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            let words = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', \
                         and must start and end with an alphanumeric character (e.g. 'MyName',  or \
                         'my.name',  or '123-abc', regex used for validation is \
                         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain \
                         prefix and '/' (e.g. 'example.com/MyName')";
            return Err(words.to_owned());
        }
        Some(("", _)) => return Err("prefix part must be non-empty".to_owned()),
        Some((prefix, name)) => {
            check_subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    check_length(name, LABEL_LENGTH_MAX).map_err(|why| format!("name part {why}"))?;
    match is_word(name) {
        true => Ok(()),
        false => Err(QUALIFIED_WORDS.to_owned()),
    }
}

/// The value of a label.
///
/// # Errors
/// What is wrong with it.
pub fn check_label_value(value: &str) -> Result<(), String> {
    check_length(value, LABEL_LENGTH_MAX)?;
    match value.is_empty() || is_word(value) {
        true => Ok(()),
        false => Err(VALUE_WORDS.to_owned()),
    }
}

fn check_length(text: &str, max: usize) -> Result<(), String> {
    match text.len() > max {
        true => Err(format!("must be no more than {max} characters")),
        false => Ok(()),
    }
}

fn is_dns_label(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.len() <= SUBDOMAIN_LENGTH_MAX
}

fn is_word(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bytes = text.as_bytes();
    is_end(bytes.first()) && is_end(bytes.last()) && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_dns() {
        let long = "a".repeat(64);
        for (name, label, subdomain, service) in [
            ("web", true, true, true),
            ("1web", true, true, false),
            ("web-1", true, true, true),
            ("-web", false, false, false),
            ("web-", false, false, false),
            ("a.b", false, true, false),
            ("a..b", false, false, false),
            ("Web", false, false, false),
            ("", false, false, false),
            (&long, false, true, false),
        ] {
            assert_eq!(check_label(name).is_ok(), label, "{name}");
            assert_eq!(check_subdomain(name).is_ok(), subdomain, "{name}");
            assert_eq!(check_service(name).is_ok(), service, "{name}");
        }
        assert!(check_path_segment("system:node").is_ok() && check_path_segment("a/b").is_err());
        assert!(check_path_segment("..").is_err());
    }

    #[test]
    fn labels_have_a_name_and_perhaps_a_domain() {
        for key in ["app", "app.kubernetes.io/name", "A_b.c-d", "9"] {
            assert_eq!(check_label_key(key), Ok(()), "{key}");
        }
        for key in ["", "/a", "a/", "a/b/c", "A.b/c", "-a", "a b", &"a".repeat(64)] {
            assert!(check_label_key(key).is_err(), "{key}");
        }
        assert!(check_label_value("").is_ok() && check_label_value("a_B.1").is_ok());
        assert!(check_label_value("a b").is_err() && check_label_value(".a").is_err());
    }
}
