//! Images for several platforms under one name: an index of their manifests.

use std::collections::BTreeMap;
use std::io::Write;

use oci::{Descriptor, Digest, Platform, Reference, media_type};
use serde_json::json;
use store::{Encoding, Image, ImageArchive};

use crate::Engine;
use crate::error::{Error, Kind, Result};
use crate::image::moving;

/// Images of which each is for another platform, and the index that lists them.
#[derive(Debug)]
pub struct ImageIndex {
    /// In the order in which they were asked for.
    pub images: Vec<(Platform, Image)>,
    /// The index as a manifest of manifests names it.
    pub descriptor: Descriptor,
    bytes: Vec<u8>,
}

impl Engine {
    /// Gives the manifest of an image annotations.
    ///
    /// # Errors
    /// If the image is gone, or cannot be written.
    pub fn annotate(&self, image: &Image, annotations: &BTreeMap<String, String>) -> Result<Image> {
        Ok(self.store.annotate(image, annotations)?)
    }

    /// Lists images in an index with these annotations, of itself and of each entry. Their layers are
    /// compressed if they are `for_registries`, which a registry will have them be, so that the index
    /// is the same wherever it goes.
    ///
    /// # Errors
    /// If a layer cannot be read.
    pub fn index_of(
        &self,
        images: Vec<(Platform, Image)>,
        for_registries: bool,
        (own, of_entries): (&BTreeMap<String, String>, &BTreeMap<String, String>),
    ) -> Result<ImageIndex> {
        let encoding = if for_registries { Encoding::Compressed } else { Encoding::Held };
        let mut listed = Vec::new();
        for (platform, image) in images {
            listed.push((platform, self.store.distributable(&image, encoding)?));
        }
        let entry = |(platform, image): &(Platform, Image)| {
            let Descriptor { media_type, digest, size, .. } = &image.manifest;
            let mut entry = json!({"mediaType": media_type, "digest": digest, "size": size,
                "platform": platform});
            if !of_entries.is_empty() {
                entry["annotations"] = json!(of_entries);
            }
            entry
        };
        let mut index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": listed.iter().map(entry).collect::<Vec<_>>(),
        });
        if !own.is_empty() {
            index["annotations"] = json!(own);
        }
        let bytes = serde_json::to_vec_pretty(&index)
            .map_err(|error| Error::caused(Kind::Internal, "write an index", error))?;
        let descriptor = Descriptor {
            media_type: media_type::OCI_INDEX.to_owned(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
        };
        Ok(ImageIndex { images: listed, descriptor, bytes })
    }

    /// Writes an index with all its images as an archive in the OCI image layout.
    ///
    /// # Errors
    /// As of [`Engine::save_image`].
    pub fn save_index<W: Write>(
        &self,
        index: &ImageIndex,
        names: &[Reference],
        out: W,
    ) -> Result<W> {
        let mut archive = ImageArchive::new(out)?;
        for (_, image) in &index.images {
            let manifest = image.manifest(&self.store)?;
            let parts = manifest.layers.iter().chain([&manifest.config, &image.manifest]);
            for part in parts {
                archive.blob(part, &mut self.store.open_described(part)?)?;
            }
        }
        archive.blob(&index.descriptor, &mut &index.bytes[..])?;
        match names.is_empty() {
            true => archive.list(index.descriptor.clone(), None),
            false => {
                names.iter().for_each(|name| archive.list(index.descriptor.clone(), Some(name)));
            }
        }
        Ok(archive.finish()?)
    }

    /// Brings all images of an index into a repository, and the index behind them.
    ///
    /// # Errors
    /// As of [`Engine::push`].
    pub fn push_image_index(
        &self,
        index: &ImageIndex,
        reference: &Reference,
        progress: &(dyn Fn(registry::Event) + Sync),
    ) -> Result<()> {
        let client = self.registry_client()?;
        let failed = |error| moving(format!("push {}", reference.familiar()), error);
        for (_, image) in &index.images {
            let place = reference.with_digest(image.manifest.digest);
            registry::push(&client, &self.store, image, &place, progress).map_err(failed)?;
        }
        let fetched = registry::Fetched {
            bytes: index.bytes.clone(),
            media_type: index.descriptor.media_type.clone(),
            digest: index.descriptor.digest,
        };
        registry::push_index(&client, &[], fetched, reference, &|_| {}).map_err(failed)
    }
}
