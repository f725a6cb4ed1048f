//! A push: from an image in the store to a repository.

use std::collections::HashMap;
use std::io::{Read, Seek as _, SeekFrom};

use oci::{Descriptor, Digest, Reference};
use store::{Encoding, Image, NewImage, Store};

use crate::client::{Client, DOCUMENT_SIZE_MAX, Received};
use crate::event::{Event, UploadState};
use crate::transfer::{self, Choice, News, Plan, RemoteSink, Source};
use crate::upload::{Moved, Placed};
use crate::{Doing, Error};

const ID_LENGTH: usize = 12;

/// What a push made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Brings `image` into the repository of `reference`, under its tag.
///
/// What the registry has is not sent again, and what another of its repositories has is mounted
/// from there. The manifest comes last: a push that failed or was killed leaves nothing that
/// anybody sees. All threads have ended on return.
///
/// # Errors
/// [`Error`], by its kinds.
pub fn push(
    client: &Client,
    store: &Store,
    image: &Image,
    reference: &Reference,
    progress: &(dyn Fn(Event) + Sync),
) -> Result<Pushed, Error> {
    let kept = |source| Error::Store { what: reference.familiar(), source };
    let _lease = store.lease().map_err(kept)?;
    let ids = short_ids(image);
    let tell = |id: &str, state| progress(Event::Upload { id: id.to_owned(), state });
    // As Docker: the topmost layer first.
    for layer in image.layers.iter().rev() {
        tell(&layer.diff_id.hex()[..ID_LENGTH], UploadState::Preparing);
    }
    let image = store.distributable(image, Encoding::Compressed).map_err(kept)?;
    let ids: HashMap<Digest, String> = ids.into_iter().chain(short_ids(&image)).collect();
    let source = StoreSource::new(store, &image)?;
    let mut plan = Plan::new(&source, &Choice::All)?;
    plan.blobs.reverse();
    let sink = RemoteSink {
        repository: client.repository(Doing::Push, reference, progress)?,
        width: client.uploads_max(),
        mounts: HashMap::new(),
    };
    transfer::run(&plan, &source, &sink, &|blob, news| {
        if let (Some(id), Some(state)) = (ids.get(&blob.digest), state(blob, news)) {
            tell(id, state);
        }
    })?;
    remember(store, &image, reference).map_err(kept)?;
    let top = plan.top();
    Ok(Pushed { digest: top.digest, size: top.bytes.len() as u64 })
}

/// What is shown of each layer, by its blob.
fn short_ids(image: &Image) -> HashMap<Digest, String> {
    let id = |digest: &Digest| digest.hex()[..ID_LENGTH].to_owned();
    image.layers.iter().map(|layer| (layer.blob.digest, id(&layer.diff_id))).collect()
}

/// Files the repository among those that have the image.
fn remember(store: &Store, image: &Image, reference: &Reference) -> Result<(), store::Error> {
    let repo_digest = Some(reference.with_digest(image.manifest.digest));
    let (manifest, index) = (image.manifest.clone(), image.index);
    store.add_image(NewImage { manifest, index, repo_digest }).map(drop)
}

pub(crate) fn state(blob: &Descriptor, news: News) -> Option<UploadState> {
    Some(match news {
        News::Waiting => return None,
        News::Moved(Moved::Sent(done)) => UploadState::Pushing { done, total: blob.size },
        News::Moved(Moved::Retrying(in_s)) => UploadState::Retrying { in_s },
        News::Placed(Placed::Exists) => UploadState::Exists,
        News::Placed(Placed::Mounted(from)) => UploadState::Mounted { from },
        News::Placed(Placed::Sent) => UploadState::Pushed,
    })
}

/// An image of the store.
pub(crate) struct StoreSource<'a> {
    store: &'a Store,
    image: &'a Image,
    /// Where images of this store are known to be, by their blobs.
    known: Vec<(Reference, Vec<Digest>)>,
}

impl<'a> StoreSource<'a> {
    pub(crate) fn new(store: &'a Store, image: &'a Image) -> Result<Self, Error> {
        let images = store.images();
        let images =
            images.map_err(|source| Error::Store { what: image.id.to_string(), source })?;
        let known = images.into_iter().flat_map(|image| {
            let blobs: Vec<Digest> = image.layers.iter().map(|layer| layer.blob.digest).collect();
            image.repo_digests.into_iter().map(move |name| (name, blobs.clone()))
        });
        Ok(Self { store, image, known: known.collect() })
    }
}

impl Source for StoreSource<'_> {
    fn name(&self) -> String {
        match self.image.tags.first() {
            Some(tag) => tag.familiar(),
            None => self.image.id.to_string(),
        }
    }

    fn top(&self) -> Result<Received, Error> {
        self.document(&self.image.manifest)
    }

    fn document(&self, wanted: &Descriptor) -> Result<Received, Error> {
        let digest = wanted.digest;
        let bytes = self.store.read_blob(&digest, DOCUMENT_SIZE_MAX);
        let bytes = bytes.map_err(Error::store("manifest", &digest))?;
        Ok(Received { bytes, media_type: wanted.media_type.clone(), digest })
    }

    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        let bad = Error::store("blob", &blob.digest);
        let mut file = self.store.open_described(blob).map_err(bad)?;
        let seek = file.seek(SeekFrom::Start(from));
        seek.map_err(|source| {
            let doing = format!("read blob {}", blob.digest);
            Error::store("blob", &blob.digest)(store::Error::Io { doing, source })
        })?;
        Ok(Box::new(file))
    }

    fn repositories(&self, registry: &str, blob: &Digest) -> Vec<String> {
        let has = self
            .known
            .iter()
            .filter(|(name, blobs)| name.registry() == registry && blobs.contains(blob));
        let mut names: Vec<String> = has.map(|(name, _)| name.repository().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }
}
