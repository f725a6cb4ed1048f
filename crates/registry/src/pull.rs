//! A pull: from a reference to an image in the store.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci::{
    Descriptor, Digest, Document, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use store::{NewImage, Store};

use crate::client::{Client, DOCUMENT_SIZE_MAX, Received, Repository};
use crate::event::{Event, LayerState};
use crate::layer::Job;
use crate::{Doing, Error};

/// Indexes of indexes: one level is in use, more is a loop.
const INDEX_DEPTH_MAX: usize = 3;
/// More than the kernel can stack.
const LAYERS_MAX: usize = 512;

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id.
    pub image_id: Digest,
    /// The digest of what the reference names: an index or a manifest.
    pub digest: Digest,
    /// Whether the reference named the same image before.
    pub up_to_date: bool,
}

/// Brings the image `reference` for `platform` into `store`, and tags it.
///
/// Whatever was downloaded stays downloaded: a pull that failed or was killed continues where it
/// ended. An image becomes visible only when it is complete. All threads have ended on return.
///
/// # Errors
/// [`Error`], by its kinds.
pub fn pull(
    client: &Client,
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    progress: &(dyn Fn(Event) + Sync),
) -> Result<Pulled, Error> {
    let pull = Pull { client, store, reference, platform, progress };
    let repository = client.repository(Doing::Pull, reference, progress)?;
    pull.run(&repository)
}

pub(crate) struct Pull<'a> {
    pub(crate) client: &'a Client,
    pub(crate) store: &'a Store,
    pub(crate) reference: &'a Reference,
    pub(crate) platform: &'a Platform,
    pub(crate) progress: &'a (dyn Fn(Event) + Sync),
}

/// The manifest that a reference leads to.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) manifest: Manifest,
    received: Received,
    /// The digest of what the reference names itself.
    top: Digest,
}

impl Resolved {
    pub(crate) fn manifest_digest(&self) -> Digest {
        self.received.digest
    }
}

impl Pull<'_> {
    fn run(&self, repository: &Repository<'_>) -> Result<Pulled, Error> {
        let failed = |source| Error::Store { what: self.reference.familiar(), source };
        let _lease = self.store.lease().map_err(failed)?;
        // Before the first layer is under way: the kernel may have to be asked.
        self.store.settle_driver().map_err(failed)?;
        (self.progress)(Event::Pulling { reference: self.reference.clone() });
        let (resolved, _) = self.find(repository)?;
        self.bring(repository, resolved)
    }

    /// Finds the image, which can run: its manifest, and its configuration.
    pub(crate) fn find(
        &self,
        repository: &Repository<'_>,
    ) -> Result<(Resolved, ImageConfig), Error> {
        let resolved = self.resolve(repository)?;
        self.check_kind(&resolved.manifest)?;
        let config = self.config(repository, &resolved.manifest.config)?;
        Ok((resolved, config))
    }

    /// Brings an image that was found into the store.
    pub(crate) fn bring(
        &self,
        repository: &Repository<'_>,
        resolved: Resolved,
    ) -> Result<Pulled, Error> {
        let failed = |source| Error::Store { what: self.reference.familiar(), source };
        let _lease = self.store.lease().map_err(failed)?;
        let config = self.config(repository, &resolved.manifest.config)?;
        self.layers(repository, &resolved.manifest, &config.rootfs.diff_ids, &|_| true)?;
        (self.progress)(Event::Digest(resolved.top));
        self.publish(resolved)
    }

    fn invalid(&self, why: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{} is no image that can run: {why}", self.reference.familiar()))
    }

    /// Follows the reference through indexes to the manifest for the platform.
    fn resolve(&self, repository: &Repository<'_>) -> Result<Resolved, Error> {
        let pinned = self.reference.digest();
        let target = match (pinned, self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => return Err(self.invalid("neither a tag nor a digest")),
        };
        let mut received = repository.document(&target, pinned)?;
        let top = received.digest;
        for _ in 0..INDEX_DEPTH_MAX {
            let document = Document::parse(&received.bytes, &received.media_type);
            self.keep(&received.bytes)?;
            let index = match document.map_err(|error| self.unreadable(&error))? {
                Document::Manifest(manifest) => return Ok(Resolved { manifest, received, top }),
                Document::Index(index) => index,
            };
            let chosen = self.select(&index)?;
            received = self.document(repository, chosen)?;
            if received.bytes.len() as u64 != chosen.size {
                return Err(Error::Mismatch {
                    what: format!("manifest {}", chosen.digest),
                    expected: format!("{} bytes", chosen.size),
                    got: format!("{} bytes", received.bytes.len()),
                });
            }
        }
        Err(self.invalid("its indexes lead to further indexes"))
    }

    /// What an index points to, from the store where an earlier pull left it.
    fn document(
        &self,
        repository: &Repository<'_>,
        wanted: &Descriptor,
    ) -> Result<Received, Error> {
        let digest = wanted.digest;
        if !self.store.has_blob(&digest) {
            return repository.document(&digest.to_string(), Some(&digest));
        }
        let bytes = self.store.read_blob(&digest, DOCUMENT_SIZE_MAX);
        let bytes = bytes.map_err(Error::store("manifest", &digest))?;
        Ok(Received { bytes, media_type: wanted.media_type.clone(), digest })
    }

    fn unreadable(&self, error: &oci::ManifestError) -> Error {
        match error {
            oci::ManifestError::Json(why) => self.invalid(format_args!("{error}: {why}")),
            _ => self.invalid(error),
        }
    }

    fn select<'i>(&self, index: &'i Index) -> Result<&'i Descriptor, Error> {
        // Entries without a platform may be anything; the configuration will tell.
        let unnamed = || index.manifests.iter().find(|d| d.platform.is_none());
        index.select(self.platform).or_else(unnamed).ok_or_else(|| {
            let mut available: Vec<Platform> = Vec::new();
            // Attestations are filed under a platform that does not exist.
            let named = index.manifests.iter().filter_map(|d| d.platform.as_ref());
            for platform in named.filter(|p| p.os != "unknown") {
                if !available.contains(platform) {
                    available.push(platform.clone());
                }
            }
            self.no_platform(available)
        })
    }

    fn no_platform(&self, available: Vec<Platform>) -> Error {
        Error::NoPlatform {
            reference: self.reference.familiar(),
            wanted: self.platform.clone(),
            available,
        }
    }

    /// Refuses what is stored like an image, but is none.
    fn check_kind(&self, manifest: &Manifest) -> Result<(), Error> {
        let kind = manifest.config.media_type.as_str();
        if !matches!(
            kind,
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG | "application/octet-stream"
        ) {
            return Err(self.invalid(format_args!("it is an artifact of type `{kind}`")));
        }
        if manifest.layers.len() > LAYERS_MAX {
            return Err(self.invalid(format_args!("it has more than {LAYERS_MAX} layers")));
        }
        for layer in &manifest.layers {
            let kind = layer.media_type.as_str();
            if kind.contains("foreign") || kind.contains("nondistributable") {
                return Err(self.invalid(format_args!(
                    "layer {} may not be distributed by registries (`{kind}`)",
                    layer.digest
                )));
            }
            if !is_layer(kind) {
                return Err(self.invalid(format_args!("unsupported layer of type `{kind}`")));
            }
        }
        Ok(())
    }

    fn config(
        &self,
        repository: &Repository<'_>,
        wanted: &Descriptor,
    ) -> Result<ImageConfig, Error> {
        if wanted.size > DOCUMENT_SIZE_MAX {
            return Err(self.invalid("its configuration is too long"));
        }
        let bytes = if self.store.has_blob(&wanted.digest) {
            let held = self.store.read_blob(&wanted.digest, DOCUMENT_SIZE_MAX);
            held.map_err(Error::store("configuration", &wanted.digest))?
        } else {
            let bytes = repository.small_blob(&wanted.digest, wanted.size)?;
            self.keep(&bytes)?;
            bytes
        };
        let config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|error| self.invalid(format_args!("malformed configuration: {error}")))?;
        let offered = Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: Some(config.variant.clone()).filter(|variant| !variant.is_empty()),
        };
        // Some builders leave both out.
        let said = !(offered.os.is_empty() || offered.architecture.is_empty());
        if said && !self.platform.accepts(&offered) {
            return Err(self.no_platform(vec![offered]));
        }
        Ok(config)
    }

    fn keep(&self, bytes: &[u8]) -> Result<Digest, Error> {
        self.store.put_blob(bytes).map_err(|source| Error::Store {
            what: format!("a document of {}", self.reference.familiar()),
            source,
        })
    }

    /// Brings the layers that are `wanted`, by diff id, into the store, several at a time.
    pub(crate) fn layers(
        &self,
        repository: &Repository<'_>,
        manifest: &Manifest,
        diff_ids: &[Digest],
        wanted: &dyn Fn(&Digest) -> bool,
    ) -> Result<(), Error> {
        if manifest.layers.len() != diff_ids.len() {
            return Err(self.invalid(format_args!(
                "it has {} layers, but its configuration names {}",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let mut seen = HashSet::new();
        let jobs: Vec<Job<'_>> = std::iter::zip(&manifest.layers, diff_ids)
            .filter(|(_, diff_id)| wanted(diff_id) && seen.insert(*diff_id))
            .map(|(descriptor, diff_id)| Job {
                repository,
                store: self.store,
                descriptor,
                diff_id,
                tell: self.progress,
            })
            .collect();
        for job in &jobs {
            job.tell(LayerState::Waiting);
        }
        run_all(&jobs, self.client.downloads_max(), repository)
    }

    /// Makes the image visible, now that everything it refers to is there.
    fn publish(&self, resolved: Resolved) -> Result<Pulled, Error> {
        let Resolved { manifest, received, top } = resolved;
        // A `Content-Type` may be anything.
        let media_type = manifest.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        let name = self.reference.to_string();
        let failed = |source| Error::Store { what: name.clone(), source };
        let before = self.store.resolve(&name).ok().map(|image| image.id);
        let image = self.store.add_image(NewImage {
            manifest: Descriptor {
                media_type,
                digest: received.digest,
                size: received.bytes.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            index: (top != received.digest).then_some(top),
            repo_digest: Some(self.reference.with_digest(top)),
        });
        let image = image.map_err(failed)?;
        // As in Docker, a pinned reference moves no tag.
        if self.reference.digest().is_none() {
            self.store.tag(self.reference, &image.id).map_err(failed)?;
        }
        Ok(Pulled { image_id: image.id, digest: top, up_to_date: before == Some(image.id) })
    }
}

/// Runs `jobs`, at most `width` at a time, until all are done or one fails.
fn run_all(jobs: &[Job<'_>], width: usize, repository: &Repository<'_>) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |error| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        repository.stop().set();
    };
    let work = || {
        while !repository.stop().is_set() {
            let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = job.run() {
                fail(error);
            }
        }
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("pull".to_owned()).spawn_scoped(scope, work);
        // Where a thread cannot be had, fewer do the same work, more slowly.
        let workers: Vec<_> =
            (1..width.min(jobs.len())).map(spawn).filter_map(Result::ok).collect();
        work();
        // The scope itself would wait for the work, but not for the threads to be gone.
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Whether `kind` is a tar archive in one of the three encodings that a layer may have; which of
/// them it is, its first bytes tell.
fn is_layer(kind: &str) -> bool {
    let kind = kind.strip_suffix("+gzip").or_else(|| kind.strip_suffix("+zstd")).unwrap_or(kind);
    matches!(
        kind,
        media_type::OCI_LAYER
            | media_type::DOCKER_LAYER
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
    )
}
