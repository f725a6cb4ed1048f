//! From a path to what it names (distribution-spec, "Endpoints").

use std::fmt;

use super::digest::AnyDigest;
use super::failure::{Code, Failure};
use httpd::decode;

const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;
const ID_DIGITS: usize = 32;

/// The name of a repository, valid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RepositoryName(String);

impl RepositoryName {
    /// `name`, if it is one.
    pub(super) fn new(name: &str) -> Option<Self> {
        let valid = name.len() <= REPOSITORY_BYTES_MAX && name.split('/').all(is_component);
        valid.then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As the name of one directory: `:` stands for the slash, which names do not have.
    pub(super) fn file_name(&self) -> String {
        self.0.replace('/', ":")
    }

    /// What [`Self::file_name`] gave.
    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        Self::new(&name.replace(':', "/"))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_word(*first)
        && is_word(*last)
        && bytes.split(|b| is_word(*b)).all(|joint| {
            matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-')
        })
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
pub(super) fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_BYTES_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

/// What names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tag(String),
    Digest(AnyDigest),
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Catalog,
    Tags(RepositoryName),
    Manifest(RepositoryName, Target),
    Blob(RepositoryName, AnyDigest),
    Uploads(RepositoryName),
    Upload(RepositoryName, String),
    Referrers(RepositoryName, AnyDigest),
}

impl Route {
    pub(super) fn parse(path: &str) -> Result<Self, Failure> {
        let nowhere = || Failure::new(Code::Unsupported, "no such endpoint").status(404);
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some("/_catalog") => return Ok(Self::Catalog),
            Some(rest) => rest.strip_prefix('/').ok_or_else(nowhere)?,
            None => return Err(nowhere()),
        };
        // Segments are told apart before they are decoded: `%2F` is no way into another one.
        let segments: Option<Vec<String>> = rest.split('/').map(decode).collect();
        let segments = segments.ok_or_else(nowhere)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            [name @ .., "blobs", "uploads", ""] => Ok(Self::Uploads(repository(name)?)),
            [name @ .., "blobs", "uploads"] => Ok(Self::Uploads(repository(name)?)),
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload(repository(name)?, upload(id)?)),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "manifests", target] => {
                Ok(Self::Manifest(repository(name)?, self::target(target)?))
            }
            [name @ .., "blobs", text] => Ok(Self::Blob(repository(name)?, digest(text)?)),
            [name @ .., "referrers", text] => Ok(Self::Referrers(repository(name)?, digest(text)?)),
            _ => Err(nowhere()),
        }
    }
}

fn repository(segments: &[&str]) -> Result<RepositoryName, Failure> {
    name(&segments.join("/"))
}

/// The repository that a client names.
pub(super) fn name(text: &str) -> Result<RepositoryName, Failure> {
    RepositoryName::new(text).ok_or_else(|| {
        let what = "invalid repository name: lower-case letters and digits, joined by single \
                    dots, underscores, dashes and slashes, 255 bytes at most";
        Failure::new(Code::NameInvalid, what)
    })
}

fn target(text: &str) -> Result<Target, Failure> {
    if text.contains(':') {
        return digest(text).map(Target::Digest);
    }
    match is_tag(text) {
        true => Ok(Target::Tag(text.to_owned())),
        // An image of this name cannot be there, but it is no digest either.
        false => Err(Failure::new(Code::ManifestInvalid, "invalid tag")),
    }
}

/// The digest that a client names.
pub(super) fn digest(text: &str) -> Result<AnyDigest, Failure> {
    text.parse().map_err(|super::digest::NoDigest(why)| Failure::new(Code::DigestInvalid, why))
}

fn upload(id: &str) -> Result<String, Failure> {
    let valid = id.len() == ID_DIGITS && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match valid {
        true => Ok(id.to_owned()),
        false => Err(Failure::new(Code::BlobUploadUnknown, "no such upload")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_specification_says() {
        for name in
            ["a", "a/b/c", "a.b", "a_b", "a__b", "a---b", "0/1", "blobs/uploads", "tags/list"]
        {
            assert!(RepositoryName::new(name).is_some(), "{name}");
        }
        let long = "a/".repeat(127) + "ab";
        assert!(RepositoryName::new(&long).is_none(), "256 bytes");
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "..", "a/../b", "a___b", "-a", "a-", "a b",
            "a:b",
        ] {
            assert!(RepositoryName::new(name).is_none(), "{name}");
        }
        let name = RepositoryName::new("a/b-c/d").unwrap();
        assert_eq!(RepositoryName::from_file_name(&name.file_name()), Some(name));
    }

    #[test]
    fn tags_are_as_the_specification_says() {
        for tag in ["a", "1.0-rc_1", "_x", "A", &"a".repeat(128)] {
            assert!(is_tag(tag), "{tag}");
        }
        for tag in ["", ".a", "-a", "a b", "a/b", "ä", &"a".repeat(129)] {
            assert!(!is_tag(tag), "{tag}");
        }
    }

    #[test]
    fn paths_lead_to_endpoints() {
        let d = format!("sha256:{}", "0".repeat(64));
        let id = "0".repeat(32);
        for (path, expected) in [
            ("/v2/".to_owned(), "Base"),
            ("/v2".to_owned(), "Base"),
            ("/v2/_catalog".to_owned(), "Catalog"),
            ("/v2/a/tags/list".to_owned(), "Tags"),
            ("/v2/a/b/manifests/latest".to_owned(), "Manifest"),
            (format!("/v2/a/manifests/{d}"), "Manifest"),
            (format!("/v2/a/blobs/{}", d.replace(':', "%3A")), "Blob"),
            ("/v2/a/blobs/uploads/".to_owned(), "Uploads"),
            ("/v2/a/blobs/uploads".to_owned(), "Uploads"),
            (format!("/v2/a/blobs/uploads/{id}"), "Upload"),
            (format!("/v2/a/blobs/uploads/blobs/{d}"), "Blob"),
            (format!("/v2/a/referrers/{d}"), "Referrers"),
        ] {
            let route = format!("{:?}", Route::parse(&path).unwrap());
            assert!(route.starts_with(expected), "{path}: {route}");
        }
    }

    #[test]
    fn no_path_leads_astray() {
        let d = format!("sha256:{}", "0".repeat(64));
        for (path, status) in [
            ("/".to_owned(), 404),
            ("/v1/".to_owned(), 404),
            ("/v2x".to_owned(), 404),
            ("/v2/a".to_owned(), 404),
            ("/v2/%zz/tags/list".to_owned(), 404),
            ("/v2/../tags/list".to_owned(), 400),
            ("/v2/a/%2e%2e/tags/list".to_owned(), 400),
            ("/v2/a%2Fb/tags/list".to_owned(), 200),
            ("/v2/a%2F..%2Fb/tags/list".to_owned(), 400),
            ("/v2/A/tags/list".to_owned(), 400),
            ("/v2//tags/list".to_owned(), 400),
            ("/v2/a/manifests/..".to_owned(), 400),
            ("/v2/a/manifests/.hidden".to_owned(), 400),
            ("/v2/a/manifests/x%00".to_owned(), 400),
            ("/v2/a/manifests/sha256:..%2F..%2Fx".to_owned(), 400),
            ("/v2/a/blobs/sha256:../../x".to_owned(), 404),
            (format!("/v2/a/blobs/{}", d.to_uppercase()), 400),
            ("/v2/a/blobs/uploads/..".to_owned(), 404),
            ("/v2/a/blobs/uploads/..%2F..%2Fx".to_owned(), 404),
            ("/v2/a/referrers/x".to_owned(), 400),
        ] {
            let found = Route::parse(&path).map_or_else(|failure| failure.status, |_| 200);
            assert_eq!(found, status, "{path}");
        }
    }
}
