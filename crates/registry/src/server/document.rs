//! Manifests as they are pushed, read strictly: what two clients could understand in two ways is
//! refused (CVE-2021-41190).

use std::collections::BTreeMap;

use oci::media_type;
use serde::Deserialize;
use serde_json::json;

use super::digest::AnyDigest;
use super::failure::{Code, Failure};

/// The largest manifest or index (distribution-spec, "Pushing Manifests").
pub(super) const MANIFEST_BYTES_MAX: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

/// Something that a manifest needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) digest: AnyDigest,
    /// In bytes.
    pub(super) size: u64,
}

/// What a registry wants to know of a manifest or an index.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) media_type: String,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) subject: Option<AnyDigest>,
    /// Blobs that must be there, and are not somewhere else by their nature.
    pub(super) blobs: Vec<Needed>,
    /// Manifests that must be there.
    pub(super) manifests: Vec<Needed>,
}

fn invalid(why: impl Into<String>) -> Failure {
    Failure::new(Code::ManifestInvalid, why)
}

impl Document {
    /// Reads `bytes`, which were sent as `content_type` (a header field's value, or empty).
    pub(super) fn parse(bytes: &[u8], content_type: &str) -> Result<Self, Failure> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| invalid("malformed manifest").detail(json!(error.to_string())))?;
        if raw.schema_version != 2 {
            return Err(invalid(format!(
                "unsupported schema version {}: only 2 is supported",
                raw.schema_version
            )));
        }
        let media_type = settle_type(&raw, content_type)?;
        let is_index =
            matches!(media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_INDEX);
        let images = raw.config.is_some() || raw.layers.is_some();
        if is_index == images || is_index != raw.manifests.is_some() {
            return Err(invalid("the fields of the manifest are not those of its media type"));
        }
        let own_type = raw.artifact_type.filter(|kind| !kind.is_empty());
        let config_type = raw.config.as_ref().map(|config| config.media_type.clone());
        if !is_index && config_type.is_none() {
            return Err(invalid("the manifest has no config"));
        }
        let subject = raw.subject.map(|subject| needed(&subject)).transpose()?;
        let layers = raw.layers.unwrap_or_default();
        let near = layers.iter().filter(|layer| !is_elsewhere(layer));
        let blobs: Result<_, _> = raw.config.iter().chain(near).map(needed).collect();
        let manifests = raw.manifests.iter().flatten().map(needed).collect::<Result<_, _>>()?;
        Ok(Self {
            media_type,
            artifact_type: own_type.or(config_type),
            annotations: raw.annotations.unwrap_or_default(),
            subject: subject.map(|subject| subject.digest),
            blobs: blobs?,
            manifests,
        })
    }
}

/// The media type, which the header field and the document must not disagree about.
fn settle_type(raw: &Raw, content_type: &str) -> Result<String, Failure> {
    let sent = content_type.split(';').next().unwrap_or_default().trim();
    let sent = Some(sent)
        .filter(|sent| !matches!(*sent, "" | "application/json" | "application/octet-stream"));
    let own = raw.media_type.as_deref().filter(|own| !own.is_empty());
    let media_type = match (sent, own) {
        (Some(sent), Some(own)) if sent != own => {
            return Err(invalid(format!(
                "the manifest is of media type {own}, but was sent as {sent}"
            )));
        }
        (Some(known), _) | (None, Some(known)) => known,
        (None, None) if raw.manifests.is_some() => media_type::OCI_INDEX,
        (None, None) => media_type::OCI_MANIFEST,
    };
    match media_type {
        media_type::OCI_MANIFEST
        | media_type::OCI_INDEX
        | media_type::DOCKER_MANIFEST
        | media_type::DOCKER_INDEX => Ok(media_type.to_owned()),
        other => Err(invalid(format!("unsupported manifest of media type `{other}`"))),
    }
}

/// Whether a layer is not meant to be in registries (image-spec, layer.md, "Non-Distributable").
fn is_elsewhere(layer: &RawDescriptor) -> bool {
    layer.media_type.contains("nondistributable")
        || layer.media_type.contains(".foreign.")
        || layer.urls.as_ref().is_some_and(|urls| !urls.is_empty())
}

fn needed(raw: &RawDescriptor) -> Result<Needed, Failure> {
    let digest = raw.digest.parse().map_err(|super::digest::NoDigest(why)| {
        invalid(format!("invalid digest in the manifest: {why}"))
    })?;
    Ok(Needed { digest, size: raw.size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn descriptor(kind: &str, more: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{ZERO}","size":1{more}}}"#)
    }

    fn image(more: &str) -> String {
        let config = descriptor("c", "");
        let layer = descriptor("l", "");
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]{more}}}"#)
    }

    #[test]
    fn the_type_is_what_everybody_says() {
        let kind = |text: &str, sent: &str| {
            Document::parse(text.as_bytes(), sent).map(|document| document.media_type).ok()
        };
        assert_eq!(kind(&image(""), "").as_deref(), Some(media_type::OCI_MANIFEST));
        let sent = format!("{}; charset=utf-8", media_type::DOCKER_MANIFEST);
        assert_eq!(kind(&image(""), &sent).as_deref(), Some(media_type::DOCKER_MANIFEST));
        let own = format!(r#","mediaType":"{}""#, media_type::OCI_MANIFEST);
        assert!(kind(&image(&own), "application/json").is_some());
        assert!(kind(&image(&own), media_type::DOCKER_MANIFEST).is_none(), "a contradiction");
        assert!(kind(&image(&(own.clone() + &own)), "").is_none(), "said twice");
        assert!(kind(&image(""), media_type::OCI_INDEX).is_none(), "no index");
        assert!(kind(&image(""), "text/plain").is_none());
        assert!(kind(&image(r#","manifests":[]"#), "").is_none(), "both");
        let empty = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(kind(empty, "").as_deref(), Some(media_type::OCI_INDEX));
        assert!(kind(empty, media_type::OCI_MANIFEST).is_none());
    }

    #[test]
    fn what_is_needed_is_found() {
        let foreign = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", "");
        let away = descriptor("l", r#","urls":["https://a.b/c"]"#);
        let near = descriptor("l", "");
        let config = descriptor("c", "");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{foreign},{away},{near}],"subject":{near}}}"#
        );
        let document = Document::parse(text.as_bytes(), "").unwrap();
        assert_eq!(document.blobs.len(), 2);
        assert_eq!(document.artifact_type.as_deref(), Some("c"));
        assert_eq!(document.subject, ZERO.parse().ok());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in [
            "",
            "{",
            "null",
            "[]",
            "{}",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"layers":[]}"#,
            &(image("") + "x"),
            &image("").replace(ZERO, "sha256:0"),
            &image("").replace("\"size\":1", "\"size\":-1"),
            &image("").replace("\"size\":1", "\"size\":1,\"size\":2"),
        ] {
            assert!(Document::parse(text.as_bytes(), "").is_err(), "{text}");
        }
        let deep =
            image(&format!(r#","annotations":{}{}"#, "[".repeat(100_000), "]".repeat(100_000)));
        assert!(Document::parse(deep.as_bytes(), "").is_err());
    }
}
