//! Manifests looked at one by one, and indexes put together from them.

use std::collections::HashMap;

use oci::{Descriptor, Digest, Document, ImageConfig, Platform, Reference};

use crate::client::{Client, DOCUMENT_SIZE_MAX, Received};
use crate::transfer::{self, Choice, Plan, RemoteSink, RemoteSource};
use crate::{Doing, Error};

/// A manifest or index, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl From<Received> for Fetched {
    fn from(received: Received) -> Self {
        let media_type = received.kind();
        Self { bytes: received.bytes, media_type, digest: received.digest }
    }
}

/// The manifest or index that `reference` names.
///
/// # Errors
/// [`Error`], by its kinds.
pub fn fetch_manifest(client: &Client, reference: &Reference) -> Result<Fetched, Error> {
    client.repository(Doing::Pull, reference, &|_| {})?.named().map(Fetched::from)
}

/// The platform that the configuration of an image in the repository of `reference` says.
///
/// # Errors
/// [`Error`], by its kinds.
pub fn fetch_platform(
    client: &Client,
    reference: &Reference,
    config: &Descriptor,
) -> Result<Platform, Error> {
    if config.size > DOCUMENT_SIZE_MAX {
        return Err(Error::Invalid(format!("configuration {} is too long", config.digest)));
    }
    let repository = client.repository(Doing::Pull, reference, &|_| {})?;
    let bytes = repository.small_blob(&config.digest, config.size)?;
    let config: ImageConfig = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("malformed configuration: {error}")))?;
    Ok(Platform {
        os: config.os,
        architecture: config.architecture,
        variant: Some(config.variant).filter(|variant| !variant.is_empty()),
    })
}

/// Brings `members` into the repository of `target`, each from wherever it is, and then the index
/// that lists them under the tag of `target`. `tell` is told of each member that is there.
///
/// # Errors
/// [`Error`], by its kinds; [`Error::Invalid`] if `index` is none.
pub fn push_index(
    client: &Client,
    members: &[Reference],
    index: Fetched,
    target: &Reference,
    tell: &(dyn Fn(Digest) + Sync),
) -> Result<(), Error> {
    match Document::parse(&index.bytes, &index.media_type) {
        Ok(Document::Index(_)) => {}
        _ => return Err(Error::Invalid("only an index can be put together".to_owned())),
    }
    let quiet = &|_| {};
    for member in members {
        let source = RemoteSource { repository: client.repository(Doing::Pull, member, quiet)? };
        let plan = Plan::new(&source, &Choice::All)?;
        let digest = plan.top().digest;
        let place = target.with_digest(digest);
        let sink = RemoteSink {
            repository: client.repository(Doing::Push, &place, quiet)?,
            width: client.uploads_max(),
            mounts: HashMap::new(),
        };
        transfer::run(&plan, &source, &sink, &|_, _| {})?;
        tell(digest);
    }
    let Fetched { bytes, media_type, digest } = index;
    let target_tag = target.tag().unwrap_or_default().to_owned();
    let repository = client.repository(Doing::Push, target, quiet)?;
    repository.put_document(&Received { bytes, media_type, digest }, &target_tag)
}
