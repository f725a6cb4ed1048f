//! Images as archives: an OCI image layout (image-spec, image-layout.md) that is at the same time
//! what `docker load` and its like have always read (moby, image/tarexport).

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};

use oci::{Descriptor, Digest, Hasher, Manifest, Reference};
use serde::Serialize;
use serde_json::json;

use crate::disk::Store;
use crate::distribute::Encoding;
use crate::error::{Doing as _, Error, invalid};
use crate::image::Image;
use crate::load::{NAME_ANNOTATION, REF_ANNOTATION};
use crate::tarball::Kind;
use crate::tarwriter::{TarWriter, plain_entry};

/// One image in `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// An archive of images in the making.
#[derive(Debug)]
pub struct ImageArchive<W: Write> {
    tar: TarWriter<W>,
    held: HashSet<Digest>,
    saved: Vec<Saved>,
    entries: Vec<Descriptor>,
}

impl<W: Write> ImageArchive<W> {
    /// Begins one.
    ///
    /// # Errors
    /// [`Error::Io`], as from all that follows.
    pub fn new(out: W) -> Result<Self, Error> {
        let tar = TarWriter::new(out);
        let (held, saved, entries) = (HashSet::new(), Vec::new(), Vec::new());
        let mut archive = Self { tar, held, saved, entries };
        for name in ["blobs/", "blobs/sha256/"] {
            archive.append(Kind::Directory, name, 0, &mut io::empty())?;
        }
        Ok(archive)
    }

    fn append(
        &mut self,
        kind: Kind,
        name: &str,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let entry = plain_entry(kind, name.as_bytes(), mode, size);
        self.tar.append(&entry, data).doing(|| format!("write `{name}`"))
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.append(Kind::File, name, bytes.len() as u64, &mut &bytes[..])
    }

    /// Whether a blob is in it.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.held.contains(digest)
    }

    /// Adds a blob, once; `content` must be what the descriptor says.
    ///
    /// # Errors
    /// [`Error::Digest`]; [`Error::Io`] if `content` is too short or cannot be read.
    pub fn blob(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), Error> {
        if !self.held.insert(blob.digest) {
            return Ok(());
        }
        let mut hashed = Hashed { content, hasher: Hasher::default() };
        self.append(Kind::File, &blob_name(&blob.digest), blob.size, &mut hashed)?;
        let actual = hashed.hasher.finish();
        if actual != blob.digest {
            let what = "content of a blob".to_owned();
            return Err(Error::Digest { what, expected: blob.digest, actual });
        }
        Ok(())
    }

    /// Lists an image or index, all of whose blobs are in the archive, in the layout.
    pub fn list(&mut self, top: Descriptor, name: Option<&Reference>) {
        let mut top = Descriptor { annotations: BTreeMap::new(), ..top };
        if let Some(name) = name {
            let tag = name.tag().unwrap_or_default().to_owned();
            top.annotations.insert(NAME_ANNOTATION.to_owned(), name.to_string());
            top.annotations.insert(REF_ANNOTATION.to_owned(), tag);
        }
        self.list_entry(top);
    }

    /// Lists an image or index as it is described, with its annotations.
    pub fn list_entry(&mut self, top: Descriptor) {
        if !self.entries.contains(&top) {
            self.entries.push(top);
        }
    }

    /// Lists an image for `docker load`.
    pub fn list_for_docker(&mut self, manifest: &Manifest, names: &[Reference]) {
        let names: Vec<String> = names.iter().map(Reference::familiar).collect();
        let config = blob_name(&manifest.config.digest);
        if let Some(known) = self.saved.iter_mut().find(|saved| saved.config == config) {
            known.repo_tags.extend(names);
            known.repo_tags.sort();
            known.repo_tags.dedup();
            return;
        }
        let layers = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
        self.saved.push(Saved { config, repo_tags: names, layers });
    }

    /// Writes the lists, and gives back what all was written to.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<W, Error> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": oci::media_type::OCI_INDEX,
            "manifests": self.entries,
        });
        self.file("index.json", index.to_string().as_bytes())?;
        if !self.saved.is_empty() {
            let saved = crate::disk::json(&self.saved)?;
            self.file("manifest.json", &saved)?;
        }
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.tar.finish().doing(|| "write archive")
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Hashed<'a> {
    content: &'a mut dyn Read,
    hasher: Hasher,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// An image to save, with the names to save it under.
#[derive(Debug, Clone)]
pub struct ToSave {
    /// The image.
    pub image: Image,
    /// Its names; none for an image that is only known by its id.
    pub names: Vec<Reference>,
}

impl Store {
    /// Writes images to an archive: what [`Store::load`], Docker, podman and skopeo read.
    ///
    /// Every blob is as it came, so that digests stay what they are; the same images make the
    /// same bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a blob is missing; [`Error::Io`].
    pub fn save<W: Write>(&self, images: &[ToSave], out: W) -> Result<W, Error> {
        let _lease = self.lease()?;
        let mut archive = ImageArchive::new(out)?;
        for ToSave { image, names } in images {
            let image = self.distributable(image, Encoding::Held)?;
            let manifest = image.manifest(self)?;
            let mut parts: Vec<&Descriptor> = manifest.layers.iter().collect();
            parts.extend([&manifest.config, &image.manifest]);
            for part in parts {
                let mut file = self.open_described(part)?;
                archive.blob(part, &mut file)?;
            }
            match names.is_empty() {
                true => archive.list(image.manifest.clone(), None),
                false => names.iter().for_each(|n| archive.list(image.manifest.clone(), Some(n))),
            }
            archive.list_for_docker(&manifest, names);
        }
        if images.is_empty() {
            return invalid("there is no image to save");
        }
        archive.finish()
    }
}
