//! Images: what a manifest, a configuration and layers make together, and the names they go by.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oci::{Descriptor, Digest, Document, ImageConfig, Manifest, Reference};
use serde::{Deserialize, Serialize};

use crate::disk::{Part, Store, json, names, read_if_there};
use crate::error::{Doing as _, Error, invalid};
use crate::spool::check_size;

/// Of a manifest, an index or a configuration, in bytes; registries refuse larger ones.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// An image in the store. Its id is the digest of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of the configuration.
    pub id: Digest,
    /// The manifest it was pulled, loaded or made with.
    pub manifest: Descriptor,
    /// The index that led to the manifest, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<ImageLayer>,
    /// When it was made, RFC 3339, as the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it came into this store, RFC 3339.
    pub added: String,
    /// `repository@digest`, one for each repository that it is known to be in.
    #[serde(default)]
    pub repo_digests: Vec<Reference>,
    /// Its tags, sorted.
    #[serde(skip)]
    pub tags: Vec<Reference>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The archive as received.
    pub blob: Descriptor,
    /// Bytes of data in its files.
    pub size: u64,
}

/// What [`Store::add_image`] needs to know. The blobs and layers are in the store already.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The manifest, whose bytes are a blob.
    pub manifest: Descriptor,
    /// The index that led to it, whose bytes are a blob.
    pub index: Option<Digest>,
    /// The repository it came from, pinned to the digest it was asked for by.
    pub repo_digest: Option<Reference>,
}

/// One tag's record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) reference: Reference,
    pub(crate) image: Digest,
}

impl Image {
    /// The diff ids of its layers, lowest first: what [`Store::prepare`] takes.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// Bytes of data in the files of all its layers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Its configuration.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if it is malformed.
    pub fn config(&self, store: &Store) -> Result<ImageConfig, Error> {
        store.document(&self.id, "configuration")
    }

    /// Its manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if it is malformed.
    pub fn manifest(&self, store: &Store) -> Result<Manifest, Error> {
        store.document(&self.manifest.digest, "manifest")
    }
}

impl Store {
    /// Records an image whose manifest, configuration and unpacked layers are in the store. The
    /// blob of a layer may be missing: then the same files came in another encoding.
    ///
    /// An image that is known gets the new manifest and keeps its tags and repository digests.
    /// The caller holds a [`crate::Lease`] since before the first of the blobs came.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a blob or a layer is missing; [`Error::Invalid`] if the manifest and
    /// the configuration do not fit together.
    pub fn add_image(&self, new: NewImage) -> Result<Image, Error> {
        let bytes = self.read_blob(&new.manifest.digest, DOCUMENT_BYTES_MAX)?;
        let manifest = match Document::parse(&bytes, &new.manifest.media_type) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => return invalid("an index is not an image"),
            Err(e) => return invalid(format!("manifest {}: {e}", new.manifest.digest)),
        };
        let config: ImageConfig = self.document(&manifest.config.digest, "configuration")?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return invalid(format!(
                "manifest {} has {} layers, its configuration {}",
                new.manifest.digest,
                manifest.layers.len(),
                diff_ids.len()
            ));
        }
        check_size(&new.manifest, bytes.len() as u64)?;
        check_size(&manifest.config, self.blob_size(&manifest.config.digest)?)?;
        for part in manifest.layers.iter().filter(|part| self.has_blob(&part.digest)) {
            check_size(part, self.blob_size(&part.digest)?)?;
        }
        let layers = diff_ids.iter().zip(manifest.layers).map(|(diff_id, blob)| {
            Ok(ImageLayer { diff_id: *diff_id, blob, size: self.layer(diff_id)?.size })
        });
        let mut image = Image {
            id: manifest.config.digest,
            manifest: new.manifest,
            index: new.index,
            config: manifest.config,
            layers: layers.collect::<Result<_, Error>>()?,
            created: config.created,
            added: Timestamp::now().to_string(),
            repo_digests: new.repo_digest.into_iter().collect(),
            tags: Vec::new(),
        };
        // Who finds the record finds all of the image, even if power was lost meanwhile.
        self.settle()?;
        let _changing = self.change(Part::Images)?;
        if let Some(known) = self.record(&image.id)? {
            image.added = known.added;
            merge(&mut image.repo_digests, known.repo_digests);
        }
        self.publish_json(Part::Images, &record_name(&image.id), &image)?;
        self.with_tags(image)
    }

    /// Gives the manifest of an image annotations, besides those that it has.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such an image; [`Error::Io`].
    pub fn annotate(
        &self,
        image: &Image,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Image, Error> {
        let _lease = self.lease()?;
        let mut manifest = image.manifest(self)?;
        manifest.annotations.extend(annotations.clone());
        let manifest = self.put_document(&json(&manifest)?, &image.manifest.media_type)?;
        self.add_image(NewImage { manifest, index: None, repo_digest: None })?;
        self.resolve(&image.id.to_string())
    }

    /// Remembers that an image is in a repository, after a push for example.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn add_repo_digest(&self, image: &Digest, repo_digest: &Reference) -> Result<(), Error> {
        self.change_repo_digests(image, |all| merge(all, vec![repo_digest.clone()]))
    }

    pub(crate) fn change_repo_digests(
        &self,
        image: &Digest,
        change: impl FnOnce(&mut Vec<Reference>),
    ) -> Result<(), Error> {
        let _changing = self.change(Part::Images)?;
        let mut record = self.record(image)?.ok_or_else(|| no_image(&image.to_string()))?;
        change(&mut record.repo_digests);
        self.publish_json(Part::Images, &record_name(image), &record)
    }

    /// Makes `reference` name an image, whatever it named before.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if `reference` is pinned to a digest.
    pub fn tag(&self, reference: &Reference, image: &Digest) -> Result<(), Error> {
        if reference.digest().is_some() || reference.tag().is_none() {
            return invalid("refusing to create a tag with a digest reference");
        }
        let _changing = self.change(Part::Images)?;
        if self.record(image)?.is_none() {
            return Err(no_image(&image.to_string()));
        }
        let tag = Tag { reference: canonical(reference), image: *image };
        self.publish_json(Part::Tags, &tag_name(reference), &tag)
    }

    /// Forgets a tag: the image it named, or `None` if it named none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn untag(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let _changing = self.change(Part::Images)?;
        let image = self.tagged(reference)?;
        crate::disk::remove_if_there(&self.part(Part::Tags).join(tag_name(reference)))?;
        Ok(image)
    }

    /// The image that a user means by a tag, `repository@digest`, an id or a prefix of one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Ambiguous`] if several ids have the prefix.
    pub fn resolve(&self, name: &str) -> Result<Image, Error> {
        self.with_tags(self.look_up(name)?)
    }

    /// As [`Store::resolve`], but without the image's tags: to know them, all tags must be read.
    ///
    /// # Errors
    /// As of [`Store::resolve`].
    pub fn look_up(&self, name: &str) -> Result<Image, Error> {
        let id = self.resolve_id(name)?.ok_or_else(|| no_image(name))?;
        self.record(&id)?.ok_or_else(|| no_image(name))
    }

    fn resolve_id(&self, name: &str) -> Result<Option<Digest>, Error> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(id) = Digest::from_hex(hex) {
            return Ok(Some(id));
        }
        if !name.starts_with("sha256:")
            && let Ok(reference) = name.parse::<Reference>()
            && let Some(id) = self.named(&reference)?
        {
            return Ok(Some(id));
        }
        self.by_prefix(hex)
    }

    /// The image that a complete name stands for: what its digest says, else its tag.
    pub(crate) fn named(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        if reference.digest().is_none() {
            return self.tagged(reference);
        }
        let pinned = canonical(reference);
        let all = self.records()?;
        Ok(all.into_iter().find(|image| image.repo_digests.contains(&pinned)).map(|image| image.id))
    }

    fn tagged(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let path = self.part(Part::Tags).join(tag_name(reference));
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(None);
        };
        Ok(parse_record::<Tag>(&bytes)
            .filter(|tag| tag.reference == canonical(reference))
            .map(|tag| tag.image))
    }

    fn by_prefix(&self, prefix: &str) -> Result<Option<Digest>, Error> {
        let is_hex = prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if prefix.is_empty() || !is_hex {
            return Ok(None);
        }
        let mut ids = self.ids()?.into_iter().filter(|id| id.hex().starts_with(prefix));
        match (ids.next(), ids.next()) {
            (Some(_), Some(_)) => Err(Error::Ambiguous(prefix.to_owned())),
            (found, _) => Ok(found),
        }
    }

    fn ids(&self) -> Result<Vec<Digest>, Error> {
        let names = names(&self.part(Part::Images))?;
        Ok(names.iter().filter_map(|n| Digest::from_hex(n.strip_suffix(".json")?).ok()).collect())
    }

    /// All images with their tags, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let mut tags: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
        for tag in self.all_tags()? {
            tags.entry(tag.image).or_default().push(tag.reference);
        }
        let mut images = self.records()?;
        images.sort_by_key(|image| image.id);
        for image in &mut images {
            image.tags = tags.remove(&image.id).unwrap_or_default();
            image.tags.sort();
        }
        Ok(images)
    }

    fn with_tags(&self, mut image: Image) -> Result<Image, Error> {
        let all = self.all_tags()?;
        let own = all.into_iter().filter(|tag| tag.image == image.id).map(|tag| tag.reference);
        image.tags = own.collect();
        image.tags.sort();
        Ok(image)
    }

    pub(crate) fn is_tagged(&self, image: &Digest) -> Result<bool, Error> {
        Ok(self.all_tags()?.iter().any(|tag| tag.image == *image))
    }

    fn all_tags(&self) -> Result<Vec<Tag>, Error> {
        self.read_records(Part::Tags)
    }

    /// The records of all images, without their tags.
    pub(crate) fn records(&self) -> Result<Vec<Image>, Error> {
        self.read_records(Part::Images)
    }

    fn read_records<T: serde::de::DeserializeOwned>(&self, part: Part) -> Result<Vec<T>, Error> {
        let directory = self.part(part);
        let mut records = Vec::new();
        for name in names(&directory)? {
            let bytes = read_if_there(&directory.join(name))?;
            records.extend(bytes.as_deref().and_then(parse_record));
        }
        Ok(records)
    }

    pub(crate) fn record(&self, id: &Digest) -> Result<Option<Image>, Error> {
        let bytes = read_if_there(&self.part(Part::Images).join(record_name(id)))?;
        Ok(bytes.as_deref().and_then(parse_record))
    }

    fn document<T: serde::de::DeserializeOwned>(
        &self,
        digest: &Digest,
        what: &str,
    ) -> Result<T, Error> {
        let bytes = self.read_blob(digest, DOCUMENT_BYTES_MAX)?;
        serde_json::from_slice(&bytes)
            .map_err(std::io::Error::from)
            .doing(|| format!("parse {what} {digest}"))
            .or_else(|e| match e {
                Error::Io { doing, source } => invalid(format!("{doing}: {source}")),
                other => Err(other),
            })
    }
}

/// A record that is not whole was being written when the machine lost power: it is as good as none.
pub(crate) fn parse_record<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

pub(crate) fn no_image(name: &str) -> Error {
    Error::NotFound(format!("image: {name}"))
}

pub(crate) fn record_name(id: &Digest) -> String {
    format!("{}.json", id.hex())
}

/// A reference is up to 384 bytes long and may hold slashes, so its digest is its file's name.
pub(crate) fn tag_name(reference: &Reference) -> String {
    format!("{}.json", Digest::of(reference.to_string().as_bytes()).hex())
}

/// The same name, written in full: by its digest if it has one, else by its tag.
pub(crate) fn canonical(reference: &Reference) -> Reference {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => reference.with_digest(*digest),
        (None, Some(tag)) => reference.with_tag(tag).expect("the tag of a reference is valid"),
        (None, None) => reference.clone(),
    }
}

fn merge(all: &mut Vec<Reference>, more: Vec<Reference>) {
    for reference in more {
        if !all.contains(&reference) {
            all.push(reference);
        }
    }
}
