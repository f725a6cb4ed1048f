//! Statements about an image that was built: how it was made (SLSA provenance), and what is in it
//! (SPDX), as in-toto statements.
//!
//! They lie where BuildKit has them, in a manifest beside the image's in an index, for the platform
//! `unknown/unknown`; that manifest names the image's as its subject, so that a registry lists it among
//! the image's referrers (distribution-spec, "Listing Referrers"). Nothing in them tells the time of
//! day: the same build makes the same statements.

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, Index, Platform, Reference, media_type};
use registry::{Fetched, Place};
use serde_json::{Map, Value, json};
use store::{Encoding, Image};

use super::sbom::{self, escaped};
use super::source::Source;
use super::{BuildOptions, Built};
use crate::Engine;
use crate::error::{Error, Kind, Result};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// How the parameters of a build are to be read.
const BUILD_TYPE: &str = "urn:cais:build:dockerfile:v1";
const ARTIFACT: &str = "application/vnd.docker.attestation.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const PREDICATE: &str = "in-toto.io/predicate-type";

/// Which statements are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attest {
    /// How the image was made.
    pub provenance: Option<Provenance>,
    /// What is in it.
    pub sbom: bool,
}

/// What is told of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Also its arguments, the Dockerfile and all steps.
    pub is_max: bool,
    /// Who builds; a URI.
    pub builder: String,
    /// Whether whoever builds says that it comes out the same again.
    pub is_reproducible: bool,
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it says: the type of its predicate.
    pub kind: &'static str,
    /// What a file with it is called.
    pub file_name: &'static str,
    /// All of it.
    pub content: Value,
}

impl Attest {
    /// Whether there is anything to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.provenance.is_none() && !self.sbom
    }
}

impl Engine {
    /// The statements about an image, whose manifest stays as it is from now on.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn attest(
        &self,
        built: &Built,
        options: &BuildOptions,
        attest: &Attest,
    ) -> Result<(Image, Vec<Statement>)> {
        let image = self.store.distributable(&built.image, Encoding::Compressed)?;
        let platform = &options.request.platform;
        let name =
            options.tags.first().map_or_else(|| "image".to_owned(), Reference::familiar_name);
        let subject: Vec<Value> = match options.tags.is_empty() {
            true => vec![json!({"name": "_", "digest": digests(&image.manifest.digest)})],
            false => options
                .tags
                .iter()
                .map(|tag| {
                    let url = image_url(&tag.to_string(), &platform.to_string());
                    json!({"name": url, "digest": digests(&image.manifest.digest)})
                })
                .collect(),
        };
        let statement = |kind: &'static str, file_name: &'static str, predicate: Value| Statement {
            kind,
            file_name,
            content: json!({
                "_type": STATEMENT,
                "predicateType": kind,
                "subject": subject,
                "predicate": predicate,
            }),
        };
        let mut statements = Vec::new();
        if attest.sbom {
            let files = Source::tree(self.store.open_chain(&image.diff_ids())?);
            let document = sbom::spdx(&files, &name, &image.id, options.epoch_s)?;
            statements.push(statement(SPDX, "sbom.spdx.json", document));
        }
        if let Some(provenance) = &attest.provenance {
            let predicate = predicate(built, options, provenance);
            statements.push(statement(PROVENANCE, "provenance.json", predicate));
        }
        Ok((image, statements))
    }

    /// Brings an image and the statements about it to a place; the digest of the index of both.
    ///
    /// # Errors
    /// If a registry refuses, or a file cannot be written.
    pub fn export_attested(
        &self,
        image: &Image,
        platform: &Platform,
        statements: &[Statement],
        to: &Place,
    ) -> Result<Digest> {
        let _lease = self.store.lease()?;
        let attestation = self.attestation(image, statements)?;
        let own = Descriptor {
            platform: Some(platform.clone()),
            annotations: BTreeMap::new(),
            ..image.manifest.clone()
        };
        let about = Descriptor {
            media_type: attestation.media_type.clone(),
            digest: attestation.digest,
            size: attestation.bytes.len() as u64,
            platform: Some(Platform {
                os: "unknown".to_owned(),
                architecture: "unknown".to_owned(),
                variant: None,
            }),
            annotations: BTreeMap::from([
                ("vnd.docker.reference.digest".to_owned(), image.manifest.digest.to_string()),
                ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ]),
        };
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            manifests: vec![own, about],
            annotations: BTreeMap::new(),
        };
        let index = document(&json!(index), media_type::OCI_INDEX);
        let digest = index.digest;
        let client = self.registry_client()?;
        registry::put(&self.store, &client, vec![attestation, index], to).map_err(|error| {
            crate::image::moving(format!("export {}", super::exchange::shown(to)), error)
        })?;
        if let Place::Registry(reference) = to {
            self.store.add_repo_digest(&image.id, &reference.with_digest(digest))?;
        }
        Ok(digest)
    }

    /// The manifest of all statements about an image.
    fn attestation(&self, image: &Image, statements: &[Statement]) -> Result<Fetched> {
        let mut layers = Vec::new();
        for statement in statements {
            let bytes = serde_json::to_vec(&statement.content)
                .map_err(|error| Error::caused(Kind::Internal, "write a statement", error))?;
            let mut blob = self.described(&bytes, IN_TOTO)?;
            blob.annotations = BTreeMap::from([(PREDICATE.to_owned(), statement.kind.to_owned())]);
            layers.push(blob);
        }
        let mut subject = image.manifest.clone();
        (subject.platform, subject.annotations) = (None, BTreeMap::new());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": ARTIFACT,
            "config": self.described(b"{}", EMPTY)?,
            "layers": layers,
            "subject": subject,
        });
        Ok(document(&manifest, media_type::OCI_MANIFEST))
    }
}

fn document(value: &Value, media_type: &str) -> Fetched {
    let bytes = value.to_string().into_bytes();
    Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type.to_owned() }
}

fn digests(digest: &Digest) -> Value {
    json!({"sha256": digest.hex()})
}

/// The package URL of an image.
fn image_url(name: &str, platform: &str) -> String {
    let (name, version) = match name.parse::<Reference>() {
        Ok(reference) => {
            let version = match (reference.tag(), reference.digest()) {
                (_, Some(digest)) => digest.to_string(),
                (tag, None) => tag.unwrap_or_default().to_owned(),
            };
            (reference.familiar_name(), version)
        }
        Err(_) => (name.to_owned(), String::new()),
    };
    let name = name.split('/').map(escaped).collect::<Vec<_>>().join("/");
    format!("pkg:docker/{name}@{version}?platform={}", escaped(platform))
}

/// The provenance of a build, which does not tell who asks at an address.
fn predicate(built: &Built, options: &BuildOptions, provenance: &Provenance) -> Value {
    let mut predicate = whole_predicate(built, options, provenance);
    redact(&mut predicate);
    predicate
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) => *text = oci::redacted(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => fields.values_mut().for_each(redact),
        _ => {}
    }
}

/// The provenance of a build (SLSA v1, "Provenance").
fn whole_predicate(built: &Built, options: &BuildOptions, provenance: &Provenance) -> Value {
    let request = &options.request;
    let images = built.inputs.images.iter().map(|image| {
        let digest = image.digest.unwrap_or(image.id);
        json!({"uri": image_url(&image.name, &image.platform), "digest": digests(&digest)})
    });
    let files = built.inputs.files.iter();
    let files = files.map(|(url, digest)| json!({"uri": url, "digest": digests(digest)}));
    let commits = built.inputs.commits.iter();
    let commits = commits
        .map(|(place, commit)| json!({"uri": format!("git+{place}"), "digest": {"sha1": commit}}));
    let mut asked = Map::new();
    asked.insert("frontend".into(), json!("dockerfile.v0"));
    if let Some(target) = &request.target {
        asked.insert("target".into(), json!(target));
    }
    let mut external = Map::new();
    if provenance.is_max {
        let args = request
            .args
            .iter()
            .map(|(name, value)| (format!("build-arg:{name}"), Value::from(value.as_str())));
        let labels = request
            .labels
            .iter()
            .map(|(name, value)| (format!("label:{name}"), Value::from(value.as_str())));
        asked.insert("args".into(), Value::Object(args.chain(labels).collect()));
        let secrets = options.secrets.keys().map(|id| json!({"id": id}));
        asked.insert("secrets".into(), secrets.collect());
        external.insert("dockerfile".into(), json!(options.dockerfile));
    }
    external.insert("request".into(), Value::Object(asked));
    let mut internal = Map::new();
    internal.insert("builderPlatform".into(), json!(request.build_platform.to_string()));
    internal.insert("platform".into(), json!(request.platform.to_string()));
    internal.insert("sourceDateEpoch".into(), json!(options.epoch_s));
    if provenance.is_max {
        internal.insert("steps".into(), json!(built.definitions));
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external,
            "internalParameters": internal,
            "resolvedDependencies": images.chain(files).chain(commits).collect::<Vec<_>>(),
        },
        "runDetails": {
            "builder": {
                "id": provenance.builder,
                "version": {"cais": env!("CARGO_PKG_VERSION")},
            },
            "metadata": {
                "buildkit_reproducible": provenance.is_reproducible,
                "buildkit_completeness": {
                    "request": provenance.is_max,
                    // What commands get from the network is not known.
                    "resolvedDependencies": false,
                },
            },
        },
    })
}
