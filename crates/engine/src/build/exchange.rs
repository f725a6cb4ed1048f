//! What steps left, brought to a registry or a directory, and had from there.
//!
//! A cache is an OCI manifest. Its configuration says which layers a step left, by the digest of the
//! step's key; its layers are those that steps made, and archives of cache mounts. A cache in an image
//! (`type=inline`) is a note of the image's manifest instead, about the image's own layers.
//!
//! Whoever can write to a cache can say what a step leaves; what can be demanded is: that blobs and
//! layers are what their digests say, and that a step leaves at most one layer on top of those that it
//! starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;

use build::{Key, Op, RunMountKind, Step};
use oci::{Descriptor, Digest, ImageConfig, Manifest, Platform, Reference, media_type};
use registry::{Artifact, Fetched, Place};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use store::{Encoding, Image};

use super::cache::Outcome;
use super::secret::Values;
use super::{BuildEvent, Built};
use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::file::{create_dir, flock};
use crate::image::from_registry;

/// The media type of a cache's configuration.
const CONFIG: &str = "application/vnd.cais.build.cache.config.v1+json";
/// The note of an image's manifest with the cache that is in it.
const NOTE: &str = "org.cais.build.cache";
const VERSION: u32 = 1;
/// Steps and mounts of one cache.
const STEPS_MAX: usize = 100_000;

/// Where steps' outcomes are brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    /// A registry or a layout; `None` for the image itself.
    pub place: Option<Place>,
    /// Whether all steps' outcomes and all cache mounts are brought, and not only what the image is
    /// made of.
    pub is_max: bool,
    /// Whether the build succeeds without it.
    pub may_fail: bool,
}

/// What is known of a step that was needed: its key, and the layers that it left.
pub(crate) type Known = (Digest, Vec<Digest>);

/// A cache's configuration.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// The layers of each step, lowest first, by its key.
    steps: BTreeMap<Digest, Vec<Digest>>,
    /// The blobs of layers, by their diff ids.
    layers: BTreeMap<Digest, Digest>,
    /// The archives of cache mounts, by the names of the mounts.
    #[serde(default)]
    mounts: BTreeMap<String, Digest>,
}

/// A cache that outcomes are had from.
pub(crate) struct CacheSource<'a> {
    artifact: Artifact<'a>,
    content: Content,
}

impl Engine {
    /// Opens all caches that can be had; `events` hears of each.
    pub(crate) fn open_caches<'a>(
        &'a self,
        client: &'a registry::Client,
        places: &'a [Place],
        platform: &Platform,
        events: &mut dyn FnMut(BuildEvent<'_>),
    ) -> Vec<CacheSource<'a>> {
        let mut caches = Vec::new();
        for place in places {
            let name = format!("importing cache manifest from {}", shown(place));
            let opened = self.open_cache(client, place, platform);
            let what = match &opened {
                Ok(cache) => format!("{} steps", cache.content.steps.len()),
                Err(error) => format!("ERROR: {}", told(error)),
            };
            events(BuildEvent::Internal { name: &name, what: &what });
            caches.extend(opened);
        }
        caches
    }

    fn open_cache<'a>(
        &'a self,
        client: &'a registry::Client,
        place: &'a Place,
        platform: &Platform,
    ) -> Result<CacheSource<'a>> {
        let artifact =
            Artifact::open(&self.store, client, place, platform).map_err(from_registry)?;
        let manifest = artifact.manifest();
        let wrong = |error: serde_json::Error| {
            Error::caused(Kind::Invalid, format!("read the cache {}", shown(place)), error)
        };
        let content = if manifest.config.media_type == CONFIG {
            let bytes = artifact.document(&manifest.config).map_err(from_registry)?;
            serde_json::from_slice(&bytes).map_err(wrong)?
        } else if let Some(note) = manifest.annotations.get(NOTE) {
            let bytes = artifact.document(&manifest.config).map_err(from_registry)?;
            let config: ImageConfig = serde_json::from_slice(&bytes).map_err(wrong)?;
            let counts: BTreeMap<Digest, usize> = serde_json::from_str(note).map_err(wrong)?;
            inline(manifest, &config.rootfs.diff_ids, counts)
        } else {
            return Err(Error::invalid(format!("{} has no cache in it", shown(place))));
        };
        if content.version != VERSION || content.steps.len() > STEPS_MAX {
            return Err(Error::invalid(format!("the cache {} is of another kind", shown(place))));
        }
        Ok(CacheSource { artifact, content })
    }

    /// What a step with this key left according to a cache, whose layers come here.
    pub(crate) fn recall_from(
        &self,
        caches: &[CacheSource<'_>],
        key: &Key,
        events: &mut dyn FnMut(BuildEvent<'_>),
    ) -> Result<Option<Vec<Digest>>> {
        let digest = key.digest();
        for cache in caches {
            let Some(layers) = cache.content.steps.get(&digest) else { continue };
            // What cannot be had is done.
            let brought = match fits(layers, key) {
                true => self.bring_layers(cache, layers),
                false => Err(Error::invalid("it has other layers than the step can leave")),
            };
            if let Err(error) = brought {
                let what = format!("ERROR: {}", told(&error));
                events(BuildEvent::Internal {
                    name: "importing a layer from a cache",
                    what: &what,
                });
                continue;
            }
            self.remember_step(&Outcome { key: key.clone(), layers: layers.clone() })?;
            return Ok(Some(layers.clone()));
        }
        Ok(None)
    }

    fn bring_layers(&self, cache: &CacheSource<'_>, layers: &[Digest]) -> Result<()> {
        for layer in layers.iter().filter(|layer| !self.store.has_layer(layer)) {
            let blob = cache.content.layers.get(layer).and_then(|blob| cache.blob(blob));
            let missing = || Error::new(Kind::NotFound, format!("the cache has no layer {layer}"));
            let blob = blob.ok_or_else(missing)?;
            cache.artifact.fetch(&self.store, blob).map_err(from_registry)?;
            let mut archive = self.store.open_described(blob)?;
            self.store.unpack(layer, blob, &mut archive, &mut |_| ())?;
        }
        Ok(())
    }

    /// Fills the cache mounts of a step that nobody has used here yet.
    pub(crate) fn bring_mounts(
        &self,
        caches: &[CacheSource<'_>],
        step: &Step,
        events: &mut dyn FnMut(BuildEvent<'_>),
    ) {
        for id in mounts(step) {
            let known = caches.iter().find_map(|cache| {
                let blob = cache.content.mounts.get(id)?;
                Some((cache, cache.blob(blob)?))
            });
            let Some((cache, blob)) = known else { continue };
            if let Err(error) = self.bring_mount(cache, blob, id) {
                // It starts empty, as it does without a cache.
                let (name, what) = (format!("importing cache mount {id}"), told(&error));
                events(BuildEvent::Internal { name: &name, what: &format!("ERROR: {what}") });
            }
        }
    }

    fn bring_mount(&self, cache: &CacheSource<'_>, blob: &Descriptor, id: &str) -> Result<()> {
        let doing = || format!("fill the cache {id}");
        let dir = self.build_dir("mounts")?.join(Digest::of(id.as_bytes()).hex());
        create_dir(&dir)?;
        let making = File::create(dir.join("making")).doing(doing)?;
        flock(&making, FlockOperation::LockExclusive)?;
        let (files, fresh) = (dir.join("files"), dir.join("fresh"));
        if files.exists() {
            return Ok(());
        }
        self.store.discard(&fresh)?;
        create_dir(&fresh)?;
        cache.artifact.fetch(&self.store, blob).map_err(from_registry)?;
        self.store.unpack_files(&mut self.store.open_described(blob)?, &fresh)?;
        fs::rename(fresh.join("tree"), &files).doing(doing)?;
        Ok(self.store.discard(&fresh)?)
    }

    /// Brings what the steps of a build left to a cache; the cache's digest. What is in the image
    /// itself is there already.
    ///
    /// # Errors
    /// [`Kind::Denied`] if one of the build's `secrets` is in a cache mount; if a registry refuses, or a
    /// directory cannot be written.
    pub fn export_cache(
        &self,
        built: &Built,
        secrets: &BTreeMap<String, Vec<u8>>,
        target: &CacheTarget,
    ) -> Result<Option<Digest>> {
        let Some(place) = &target.place else { return Ok(None) };
        let _lease = self.store.lease()?;
        let own: BTreeSet<Digest> = built.base_layers.iter().copied().collect();
        let final_layers = built.image.diff_ids();
        let mut content = Content { version: VERSION, ..Content::default() };
        let mut blobs: Vec<Descriptor> = Vec::new();
        for (key, layers) in &built.steps {
            if !target.is_max && !final_layers.starts_with(layers) {
                continue;
            }
            content.steps.insert(*key, layers.clone());
            for layer in layers.iter().filter(|layer| !own.contains(layer)) {
                if content.layers.contains_key(layer) {
                    continue;
                }
                let blob = self.store.layer_blob(layer, Encoding::Compressed)?;
                content.layers.insert(*layer, blob.digest);
                blobs.push(blob);
            }
        }
        let secrets = Values::new(secrets);
        for id in built.mounts.iter().filter(|_| target.is_max) {
            if let Some(blob) = self.mount_blob(id, &secrets)? {
                content.mounts.insert(id.clone(), blob.digest);
                blobs.push(blob);
            }
        }
        let mut seen = BTreeSet::new();
        blobs.retain(|blob| seen.insert(blob.digest));
        let config = serde_json::to_vec(&content).map_err(|error| unwritten(error.into()))?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: self.described(&config, CONFIG)?,
            layers: blobs,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|error| unwritten(error.into()))?;
        let digest = Digest::of(&bytes);
        let document = Fetched { bytes, media_type: media_type::OCI_MANIFEST.to_owned(), digest };
        let client = self.registry_client()?;
        registry::put(&self.store, &client, vec![document], place).map(Some).map_err(|error| {
            crate::image::moving(format!("export the cache to {}", shown(place)), error)
        })
    }

    /// Makes a document a blob.
    pub(crate) fn described(&self, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: self.store.put_blob(bytes)?,
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        })
    }

    /// The files of a cache mount as a blob; `None` if nobody has used it.
    fn mount_blob(&self, id: &str, secrets: &Values) -> Result<Option<Descriptor>> {
        let hex = Digest::of(id.as_bytes()).hex();
        let dir = self.root.join("build/mounts").join(&hex);
        let files = dir.join("files");
        if !files.exists() {
            return Ok(None);
        }
        let doing = || format!("pack the cache {id}");
        // Nobody changes it meanwhile who is alone with it.
        let lock = File::create(dir.join("lock")).doing(doing)?;
        flock(&lock, FlockOperation::LockShared)?;
        if let Some((secret, path)) = secrets.find_below(&files)? {
            let path = path.display();
            let message = format!("the cache {id} has the secret {secret} in {path}");
            return Err(Error::new(Kind::Denied, message)
                .hint("mode=min leaves cache mounts out; `cais builder prune -a` empties them"));
        }
        let (scratch, _held) = self.make_run_dir(&format!("cache-{}", crate::id::fresh()?))?;
        let path = scratch.join("archive");
        let packed = (|| {
            let out = BufWriter::new(File::create_new(&path).doing(doing)?);
            let encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            let out = store::archive_directory(&files, encoder)?.finish().doing(doing)?;
            let file = out.into_inner().map_err(std::io::IntoInnerError::into_error);
            let file = file.doing(doing)?;
            let (digest, size) = super::hash::digest_of_file(&path).doing(doing)?;
            self.store.adopt_blob(&file, &path, &digest)?;
            Ok(Descriptor {
                media_type: format!("{}+gzip", media_type::OCI_LAYER),
                digest,
                size,
                platform: None,
                annotations: BTreeMap::new(),
            })
        })();
        self.store.discard(&scratch)?;
        packed.map(Some)
    }
}

impl CacheSource<'_> {
    fn blob(&self, digest: &Digest) -> Option<&Descriptor> {
        self.artifact.manifest().layers.iter().find(|blob| blob.digest == *digest)
    }
}

/// The note about the steps of an image that is a cache, too.
pub(crate) fn note(steps: &[Known], layers: &[Digest]) -> (String, String) {
    let own = steps.iter().filter(|(_, left)| layers.starts_with(left));
    let counts: BTreeMap<Digest, usize> = own.map(|(key, left)| (*key, left.len())).collect();
    let text = serde_json::to_string(&counts).expect("digests are JSON's names");
    (NOTE.to_owned(), text)
}

/// The cache that an image's note tells of.
fn inline(manifest: &Manifest, layers: &[Digest], counts: BTreeMap<Digest, usize>) -> Content {
    let known = |(key, count): (Digest, usize)| Some((key, layers.get(..count)?.to_vec()));
    let blobs = layers.iter().zip(&manifest.layers);
    Content {
        version: VERSION,
        steps: counts.into_iter().filter_map(known).collect(),
        layers: blobs.map(|(layer, blob)| (*layer, blob.digest)).collect(),
        mounts: BTreeMap::new(),
    }
}

/// Whether these layers are at most one more than those that the step starts from.
fn fits(layers: &[Digest], key: &Key) -> bool {
    let Some(base) = key.field("base") else { return false };
    let below = layers.len().checked_sub(1).map(|count| &layers[..count]);
    store::base_name(layers) == base || below.is_some_and(|below| store::base_name(below) == base)
}

/// The names of a step's cache mounts.
pub(crate) fn mounts(step: &Step) -> impl Iterator<Item = &str> {
    let mounts = match &step.op {
        Op::Run(run) => &run.mounts[..],
        _ => &[],
    };
    mounts.iter().filter_map(|mount| match &mount.kind {
        RunMountKind::Cache { id, .. } => Some(id.as_str()),
        _ => None,
    })
}

/// The layers of all images that a build used.
pub(crate) fn layers_of(images: &[Image]) -> Vec<Digest> {
    images.iter().flat_map(Image::diff_ids).collect()
}

/// A place, as people call it.
pub(crate) fn shown(place: &Place) -> String {
    match place {
        Place::Registry(reference) => reference.familiar(),
        Place::Layout { path, .. } | Place::Archive { path, .. } => path.display().to_string(),
        Place::Store(name) => name.clone(),
    }
}

/// A reference, of a cache in a registry.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn cache_in_registry(name: &str) -> Result<Place> {
    let reference: Reference = name.parse().map_err(|error| {
        Error::caused(Kind::Invalid, format!("read the name of the cache {name:?}"), error)
    })?;
    Ok(Place::Registry(reference))
}

/// A failure with its causes.
pub(crate) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn unwritten(error: std::io::Error) -> Error {
    Error::caused(Kind::Internal, "write the cache", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn a_step_adds_one_layer_at_most() {
        let (a, b, c) = (digest("a"), digest("b"), digest("c"));
        let mut key = Key::default();
        key.set("base", store::base_name(&[a]));
        assert!(fits(&[a], &key) && fits(&[a, b], &key));
        assert!(!fits(&[b], &key) && !fits(&[a, b, c], &key) && !fits(&[], &key));
        assert!(!fits(&[a], &Key::default()));
        key.set("base", store::base_name(&[]));
        assert!(fits(&[], &key) && fits(&[c], &key) && !fits(&[a, c], &key));
    }

    #[test]
    fn a_note_is_about_the_image_s_own_layers() {
        let (a, b, c) = (digest("a"), digest("b"), digest("c"));
        let steps = [(digest("1"), vec![a]), (digest("2"), vec![a, b]), (digest("3"), vec![c])];
        let (name, text) = note(&steps, &[a, b]);
        assert_eq!(name, NOTE);
        let counts: BTreeMap<Digest, usize> = serde_json::from_str(&text).unwrap();
        assert_eq!(counts, BTreeMap::from([(digest("1"), 1), (digest("2"), 2)]));
        let described = |digest| Descriptor {
            media_type: String::new(),
            digest,
            size: 0,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: None,
            config: described(a),
            layers: vec![described(digest("blob"))],
            annotations: BTreeMap::new(),
        };
        let content = inline(&manifest, &[a], counts);
        assert_eq!(content.steps, BTreeMap::from([(digest("1"), vec![a])]));
        assert_eq!(content.layers, BTreeMap::from([(a, digest("blob"))]));
    }
}
