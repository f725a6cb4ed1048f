//! What a build gets from the network, pinned: bases by their digests, files by their checksums.

use std::collections::BTreeMap;

use build::GitSource;
use oci::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};
use store::Image;

use crate::error::{Error, Kind, Result};

const HINT: &str = "`cais build --update-lock` writes down what the build needs now";

/// What a build got, or may get, from the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// Bases and other images.
    pub images: Vec<LockedImage>,
    /// The checksums of files, by their addresses, which do not say who asks.
    pub files: BTreeMap<String, Digest>,
    /// The commits of git repositories, by their places: [`Lock::place`].
    pub commits: BTreeMap<String, String>,
}

/// An image that a build uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// Its name, in full, as the Dockerfile asks for it.
    pub name: String,
    /// The platform it was asked for.
    pub platform: String,
    /// The digest by which a registry knows it; `None` for what was made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its id.
    pub id: Digest,
}

impl LockedImage {
    /// Pins an image that was asked for by `name`.
    pub(crate) fn new(name: &str, platform: &Platform, image: &Image) -> Self {
        let reference: Option<Reference> = name.parse().ok();
        let digest = reference.as_ref().and_then(|reference| {
            let repository = reference.name();
            let own = image.repo_digests.iter().filter(|pin| pin.name() == repository);
            own.filter_map(|pin| pin.digest().copied()).next()
        });
        Self { name: full(name), platform: platform.to_string(), digest, id: image.id }
    }

    /// The name by which exactly this image is had.
    pub(crate) fn pinned(&self) -> String {
        let reference: Option<Reference> = self.name.parse().ok();
        match (reference, self.digest) {
            (Some(reference), Some(digest)) => reference.with_digest(digest).to_string(),
            _ => self.id.to_string(),
        }
    }
}

/// A name with everything that goes without saying.
fn full(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}

impl Lock {
    /// The image that `name` stands for.
    ///
    /// # Errors
    /// [`Kind::Denied`] if there is none.
    pub(crate) fn image(&self, name: &str, platform: &Platform) -> Result<&LockedImage> {
        let (wanted, platform) = (full(name), platform.to_string());
        let mut all = self.images.iter();
        all.find(|image| image.name == wanted && image.platform == platform).ok_or_else(|| {
            let what = format!("the lock file has no image {name} for {platform}");
            Error::new(Kind::Denied, what).hint(HINT)
        })
    }

    /// What tells a repository and what is asked of it from others, and not who asks.
    pub(crate) fn place(source: &GitSource) -> String {
        let remote = oci::redacted(&source.remote);
        match &source.reference {
            Some(reference) => format!("{remote}#{reference}"),
            None => remote.into_owned(),
        }
    }

    /// The commit of a repository.
    ///
    /// # Errors
    /// [`Kind::Denied`] if there is none.
    pub(crate) fn commit(&self, place: &str) -> Result<&str> {
        self.commits.get(place).map(String::as_str).ok_or_else(|| {
            let what = format!("the lock file has no commit of {place}");
            Error::new(Kind::Denied, what).hint(HINT)
        })
    }

    /// The checksum of the file at an address; `given` is what the Dockerfile says that it is.
    ///
    /// # Errors
    /// [`Kind::Denied`] if there is none, or another one.
    pub(crate) fn file(&self, url: &str, given: Option<&str>) -> Result<Digest> {
        let url = &*oci::redacted(url);
        let Some(known) = self.files.get(url) else {
            let what = format!("the lock file has no checksum of {url}");
            return Err(Error::new(Kind::Denied, what).hint(HINT));
        };
        match given {
            Some(given) if given != known.to_string() => {
                let what = format!("the Dockerfile says {given} of {url}, the lock file {known}");
                Err(Error::new(Kind::Denied, what).hint(HINT))
            }
            _ => Ok(*known),
        }
    }

    /// Adds what another build used.
    pub fn extend(&mut self, other: Self) {
        other.images.into_iter().for_each(|image| self.add_image(image));
        self.files.extend(other.files);
        self.commits.extend(other.commits);
    }

    /// Adds an image, once.
    pub(crate) fn add_image(&mut self, image: LockedImage) {
        if let Err(place) = self.images.binary_search(&image) {
            self.images.insert(place, image);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_it_is_refused() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let host = Platform::host();
        let image = LockedImage {
            name: "docker.io/library/a:latest".into(),
            platform: host.to_string(),
            digest: Some(digest("manifest")),
            id: digest("config"),
        };
        let files = BTreeMap::from([("http://x/f".to_owned(), digest("f"))]);
        let mut lock = Lock { images: Vec::new(), files, ..Lock::default() };
        lock.add_image(image.clone());
        lock.add_image(image.clone());
        assert_eq!(lock.images.len(), 1);
        assert_eq!(lock.image("a", &host).unwrap(), &image);
        let pinned = format!("docker.io/library/a@{}", digest("manifest"));
        assert_eq!(image.pinned(), pinned);
        assert_eq!(LockedImage { digest: None, ..image }.pinned(), digest("config").to_string());
        assert!(lock.image("b", &host).is_err());
        assert_eq!(lock.file("http://x/f", None).unwrap(), digest("f"));
        assert!(lock.file("http://x/f", Some(&digest("g").to_string())).is_err());
        assert!(lock.file("http://x/g", None).is_err());
    }
}
