//! Image references: `[registry/]repository[:tag][@digest]`, with Docker's normalisation
//! (distribution/reference: `ParseNormalizedNamed`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const REPOSITORY_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;

/// The name of an image, complete: registry and repository are never implied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The general form is not met.
    #[error("invalid reference format")]
    Format,
    /// A capital letter in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// More than 255 bytes.
    #[error("repository name must not be longer than {REPOSITORY_LENGTH_MAX} characters")]
    TooLong,
    /// 64 hexadecimal digits, which would be taken for an image's id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// The part behind `@`.
    #[error(transparent)]
    Digest(#[from] crate::DigestError),
}

impl Reference {
    /// `docker.io`, `localhost:5000`, …
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/ubuntu`, …: the path below the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag: as written, else `latest` where there is no digest either.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG),
        }
    }

    /// Whether a tag was written.
    #[must_use]
    pub fn has_tag(&self) -> bool {
        self.tag.is_some()
    }

    /// The digest that pins it.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, complete.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as Docker prints it: without `docker.io/` and `library/`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The familiar name with its tag and digest.
    #[must_use]
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        if let Some(tag) = self.tag() {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }

    /// The same repository under `tag`, unpinned.
    ///
    /// # Errors
    /// [`ReferenceError::Format`] if `tag` is not one.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository pinned to `digest`, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(path.to_owned()));
        }
        if !is_registry(registry) || !path.split('/').all(is_component) || !tag.is_none_or(is_tag) {
            return Err(ReferenceError::Format);
        }
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("library/{path}") } else { path.to_owned() };
        if registry.len() + 1 + repository.len() > REPOSITORY_LENGTH_MAX {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

/// The part before the first slash is a registry if it has a dot, a colon or a capital, or is
/// `localhost`; otherwise the registry is Docker Hub.
fn split_registry(text: &str) -> (&str, &str) {
    let (registry, rest) = match text.split_once('/') {
        Some((head, rest))
            if head.contains(['.', ':'])
                || head == "localhost"
                || head.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (head, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    (registry, rest)
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) => {
            if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return false;
            }
            return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let known = bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    known
        && edge(bytes.first())
        && edge(bytes.last())
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_LENGTH_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name())?;
        if let Some(tag) = self.tag() {
            write!(out, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(out, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        let outcome = match text.parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(outcome, expected, "{text}");
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        check("ubuntu", "docker.io/library/ubuntu:latest");
        check("docker.io/ubuntu:22.04", "docker.io/library/ubuntu:22.04");
        check("index.docker.io/library/ubuntu", "docker.io/library/ubuntu:latest");
        check("grafana/grafana:10", "docker.io/grafana/grafana:10");
        check("localhost/app", "localhost/app:latest");
        check("localhost:5000/a/b:c", "localhost:5000/a/b:c");
        check("ghcr.io/a__b/c-d.e", "ghcr.io/a__b/c-d.e:latest");
        check("[::1]:5000/app", "[::1]:5000/app:latest");
        let digest = format!("sha256:{}", "0".repeat(64));
        check(&format!("alpine@{digest}"), &format!("docker.io/library/alpine@{digest}"));
        check(&format!("alpine:3@{digest}"), &format!("docker.io/library/alpine:3@{digest}"));
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        let format = "error: invalid reference format";
        for text in
            ["", ":", "a b", "-a", "a..b", "a/", "/a", "a:", "a:-x", "a___b", "a@", "a.b:x:y/z"]
        {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.starts_with("invalid"), "{text}: {error}");
        }
        check("https://docker.io/a", format);
        check(
            "Ubuntu",
            "error: invalid reference format: repository name (Ubuntu) must be lowercase",
        );
        let id = "0".repeat(64);
        check(
            &id,
            &format!(
                "error: invalid repository name ({id}), cannot specify 64-byte hexadecimal strings"
            ),
        );
    }

    #[test]
    fn familiar_names_drop_what_docker_implies() {
        let familiar = |t: &str| t.parse::<Reference>().unwrap().familiar();
        assert_eq!(familiar("docker.io/library/ubuntu"), "ubuntu:latest");
        assert_eq!(familiar("docker.io/a/b:c"), "a/b:c");
        assert_eq!(familiar("quay.io/a/b"), "quay.io/a/b:latest");
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_printing_round_trips(text in "[a-zA-Z0-9:/@._\\-\\[\\]]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let text = reference.to_string();
                let again: Reference = text.parse().unwrap();
                prop_assert_eq!(again.to_string(), text);
            }
        }
    }
}
