//! Manifests and indexes, OCI's and Docker's schema 2 (image-spec, manifest.md and image-index.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Platform};

/// Media types that registries serve.
pub mod media_type {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed OCI layer; `+gzip` and `+zstd` may follow.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A Docker layer, gzip-compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// A typed pointer to content: what it is, its digest and its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// What the content runs on; in indexes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How the bytes of a layer are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Recognises a stream by its first bytes; four suffice.
    #[must_use]
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// An image for one platform: its configuration and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type; optional in OCI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index' own media type; optional in OCI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, each with its platform.
    pub manifests: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The manifest for `wanted`: an exact variant first, then any that runs there.
    #[must_use]
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let runs = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| wanted.accepts(p));
        self.manifests
            .iter()
            .filter(runs)
            .find(|d| d.platform.as_ref().is_some_and(|p| p.variant == wanted.variant))
            .or_else(|| self.manifests.iter().find(runs))
    }
}

/// Either of the documents that a tag may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An image for one platform.
    Manifest(Manifest),
    /// One image for several platforms.
    Index(Index),
}

/// Why bytes are neither a manifest nor an index.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the right shape.
    #[error("malformed manifest")]
    Json(#[from] serde_json::Error),
    /// A document of another kind.
    #[error("unsupported manifest of media type `{0}`")]
    MediaType(String),
    /// Docker's schema 1, obsolete since 2017.
    #[error("unsupported manifest schema version {0}: only version 2 is supported")]
    SchemaVersion(u32),
}

impl Document {
    /// Reads a document whose media type was announced as `media_type` (a `Content-Type`, or empty).
    ///
    /// What the document says of itself wins; an index and a manifest are told apart by their
    /// fields where neither says, and a document with the fields of both is refused, as
    /// image-spec demands (CVE-2021-41190).
    ///
    /// # Errors
    /// [`ManifestError`], by its kinds.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            #[serde(default)]
            schema_version: u32,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(head.schema_version));
        }
        let announced = media_type.split(';').next().unwrap_or_default().trim();
        let said = head.media_type.as_deref().unwrap_or(announced);
        let ambiguous = head.manifests.is_some() && head.layers.is_some();
        match said {
            _ if ambiguous => {
                Err(ManifestError::MediaType(format!("{said} (both a manifest and an index)")))
            }
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => {
                Ok(Self::Index(serde_json::from_slice(bytes)?))
            }
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                Ok(Self::Manifest(serde_json::from_slice(bytes)?))
            }
            _ if head.manifests.is_some() => Ok(Self::Index(serde_json::from_slice(bytes)?)),
            _ if head.layers.is_some() => Ok(Self::Manifest(serde_json::from_slice(bytes)?)),
            other => Err(ManifestError::MediaType(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(platforms: &[&str]) -> String {
        let manifests: Vec<String> = platforms
            .iter()
            .enumerate()
            .map(|(n, text)| {
                let p: Platform = text.parse().unwrap();
                let p = serde_json::to_string(&p).unwrap();
                format!(
                    r#"{{"mediaType":"{}","digest":"{DIGEST}","size":{n},"platform":{p}}}"#,
                    media_type::OCI_MANIFEST
                )
            })
            .collect();
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","))
    }

    #[test]
    fn an_index_selects_the_nearest_platform() {
        let text = index(&["linux/arm/v6", "linux/arm/v7", "linux/amd64"]);
        let Document::Index(index) = Document::parse(text.as_bytes(), "").unwrap() else {
            panic!("not an index")
        };
        let size = |p: &str| index.select(&p.parse().unwrap()).map(|d| d.size);
        assert_eq!(size("linux/arm/v7"), Some(1));
        assert_eq!(size("linux/amd64"), Some(2));
        assert_eq!(size("linux/s390x"), None);
    }

    #[test]
    fn a_document_with_the_fields_of_both_is_refused() {
        let text = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(matches!(
            Document::parse(text.as_bytes(), media_type::OCI_INDEX),
            Err(ManifestError::MediaType(_))
        ));
    }

    #[test]
    fn schema_one_is_refused_by_name() {
        let text = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(
            Document::parse(text.as_bytes(), ""),
            Err(ManifestError::SchemaVersion(1))
        ));
    }
}
