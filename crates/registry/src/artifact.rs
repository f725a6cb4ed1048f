//! What is kept where images are and is none: a manifest, and blobs of any kind.

use std::collections::HashMap;
use std::io::{self, Read, Seek as _, SeekFrom};

use oci::{Descriptor, Digest, Document, Manifest, Platform};
use store::Store;

use crate::client::{Client, DOCUMENT_SIZE_MAX, Received};
use crate::copy::Place;
use crate::index::Fetched;
use crate::transfer::{
    self, ArchiveSink, BundleSource, Choice, LayoutSink, Plan, RemoteSink, RemoteSource, Sink,
    Source, from_bundle,
};
use crate::{Doing, Error};

/// An artifact, or an image taken as one, of which parts are read as they are needed.
pub struct Artifact<'a> {
    source: Box<dyn Source + 'a>,
    manifest: Manifest,
    digest: Digest,
}

impl std::fmt::Debug for Artifact<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Artifact").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl<'a> Artifact<'a> {
    /// Opens what is in a registry or a layout: of an index, the manifest for `platform`.
    ///
    /// # Errors
    /// [`Error`], by its kinds; [`Error::Invalid`] for another kind of place.
    pub fn open(
        store: &'a Store,
        client: &'a Client,
        place: &'a Place,
        platform: &Platform,
    ) -> Result<Self, Error> {
        let source: Box<dyn Source + 'a> = match place {
            Place::Registry(reference) => {
                let repository = client.repository(Doing::Pull, reference, &|_| {})?;
                Box::new(RemoteSource { repository })
            }
            Place::Layout { path, label } => {
                let name = format!("oci:{}", path.display());
                let bundle = store.open_layout(path).map_err(from_bundle(name.clone()))?;
                Box::new(BundleSource { bundle, name, label: label.clone() })
            }
            _ => return Err(Error::Invalid("there is nothing but images".to_owned())),
        };
        let plan = Plan::new(&*source, &Choice::One(platform.clone()))?;
        let top = plan.top();
        let Ok(Document::Manifest(manifest)) = Document::parse(&top.bytes, &top.media_type) else {
            return Err(Error::Invalid(format!("{}: no manifest", source.name())));
        };
        let digest = top.digest;
        Ok(Self { source, manifest, digest })
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A blob that is a document.
    ///
    /// # Errors
    /// [`Error`], by its kinds; [`Error::Mismatch`] if it is another one.
    pub fn document(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let what = format!("blob {}", blob.digest);
        if blob.size > DOCUMENT_SIZE_MAX {
            return Err(Error::Invalid(format!("{what} is too long")));
        }
        let mut bytes = Vec::new();
        let content = self.source.open(blob, 0)?;
        content.take(blob.size + 1).read_to_end(&mut bytes).map_err(broken(&blob.digest))?;
        let got = Digest::of(&bytes);
        if got != blob.digest {
            let (expected, got) = (blob.digest.to_string(), got.to_string());
            return Err(Error::Mismatch { what, expected, got });
        }
        Ok(bytes)
    }

    /// Brings a blob into a store, verified; nothing in there needs it yet.
    ///
    /// # Errors
    /// [`Error`], by its kinds.
    pub fn fetch(&self, store: &Store, blob: &Descriptor) -> Result<(), Error> {
        let failed = || Error::store("blob", &blob.digest);
        let Some(mut ingest) = store.ingest(&blob.digest, blob.size).map_err(failed())? else {
            return Ok(());
        };
        let mut content = self.source.open(blob, ingest.offset())?;
        io::copy(&mut content, &mut ingest).map_err(broken(&blob.digest))?;
        ingest.commit().map_err(failed())
    }
}

fn broken(digest: &Digest) -> impl FnOnce(io::Error) -> Error {
    let digest = *digest;
    move |source| {
        let doing = format!("read blob {digest}");
        Error::store("blob", &digest)(store::Error::Io { doing, source })
    }
}

/// Documents that were just made, whose blobs are in a store.
struct Made<'a> {
    store: &'a Store,
    documents: Vec<Received>,
    name: String,
}

impl Source for Made<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn top(&self) -> Result<Received, Error> {
        let top = self.documents.last().cloned();
        top.ok_or_else(|| Error::Invalid("there is nothing to bring".to_owned()))
    }

    fn document(&self, wanted: &Descriptor) -> Result<Received, Error> {
        let found = self.documents.iter().find(|document| document.digest == wanted.digest);
        if let Some(found) = found {
            return Ok(found.clone());
        }
        let digest = wanted.digest;
        let bytes = self.store.read_blob(&digest, DOCUMENT_SIZE_MAX);
        let bytes = bytes.map_err(Error::store("manifest", &digest))?;
        Ok(Received { bytes, media_type: wanted.media_type.clone(), digest })
    }

    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        let bad = Error::store("blob", &blob.digest);
        let mut file = self.store.open_described(blob).map_err(bad)?;
        file.seek(SeekFrom::Start(from)).map_err(broken(&blob.digest))?;
        Ok(Box::new(file))
    }

    fn repositories(&self, _: &str, _: &Digest) -> Vec<String> {
        Vec::new()
    }
}

/// Brings documents to a place, the last under its name, with everything that they name: what is not
/// among them is in the store.
///
/// # Errors
/// [`Error`], by its kinds; [`Error::Invalid`] for the store, which takes images alone.
pub fn put(
    store: &Store,
    client: &Client,
    documents: Vec<Fetched>,
    to: &Place,
) -> Result<Digest, Error> {
    let received = |fetched: Fetched| Received {
        bytes: fetched.bytes,
        media_type: fetched.media_type,
        digest: fetched.digest,
    };
    let documents = documents.into_iter().map(received).collect();
    let source = Made { store, documents, name: "what was made".to_owned() };
    let plan = Plan::new(&source, &Choice::All)?;
    let sink: Box<dyn Sink + '_> = match to {
        Place::Registry(reference) => Box::new(RemoteSink {
            repository: client.repository(Doing::Push, reference, &|_| {})?,
            width: client.uploads_max(),
            mounts: HashMap::new(),
        }),
        Place::Layout { path, label } => Box::new(LayoutSink::create(path, label.clone())?),
        Place::Archive { path, label, .. } => {
            Box::new(ArchiveSink::create(path, label.clone(), false)?)
        }
        Place::Store(_) => return Err(Error::Invalid("the store takes images alone".to_owned())),
    };
    transfer::run(&plan, &source, &*sink, &|_, _| {})?;
    Ok(plan.top().digest)
}
