//! Images from plain root file systems: `docker import`.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;
use oci::{
    ContainerConfig, Descriptor, History, ImageConfig, Manifest, Platform, Reference,
    RootfsSection, media_type,
};

use crate::disk::{Part, Store, json};
use crate::error::{Doing as _, Error};
use crate::image::{Image, NewImage};
use crate::layer::LIMITS;
use crate::spool::Sink;
use crate::stream::{self, EXPANSION_MAX, Packing};

/// What an imported root file system becomes.
#[derive(Debug, Clone)]
pub struct Import {
    /// What its containers run, and how.
    pub config: ContainerConfig,
    /// The remark in its history.
    pub message: String,
    /// What it runs on.
    pub platform: Platform,
    /// Its name, if it gets one.
    pub reference: Option<Reference>,
}

impl Store {
    /// Makes an image of one layer from the archive of a root file system, plain or compressed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the archive is malformed, leads outside its root or exceeds a limit;
    /// [`Error::Io`].
    pub fn import(&self, tarball: &mut dyn Read, import: &Import) -> Result<Image, Error> {
        let _lease = self.lease()?;
        let scratch = self.scratch(Part::Ingest)?;
        let mut head = Vec::new();
        tarball.take(4).read_to_end(&mut head).doing(|| "read archive")?;
        let packing = Packing::detect(&head);
        let mut whole = head.chain(tarball);
        let mut plain;
        let input: &mut dyn Read = match packing {
            Packing::Layer(_) => &mut whole,
            // What no layer may be compressed by.
            Packing::Bzip2 | Packing::Xz => {
                plain = decompress(&mut whole, scratch.path().join("archive"))?;
                &mut plain
            }
        };
        let mut tee = Tee { input, copy: Sink::create(scratch.path().join("layer"))? };
        let unpacked = self.unpack_within(&mut tee, &mut |_| {}, LIMITS)?;
        io::copy(&mut tee, &mut io::sink()).doing(|| "read archive")?;
        let spooled = tee.copy.finish();
        spooled.adopt(self)?;
        let blob = spooled.layer_descriptor()?;
        let layer = self.publish_layer(unpacked, blob.digest)?;
        let created = Timestamp::now().to_string();
        let config = ImageConfig {
            created: Some(created.clone()),
            architecture: import.platform.architecture.clone(),
            variant: import.platform.variant.clone().unwrap_or_default(),
            os: import.platform.os.clone(),
            config: import.config.clone(),
            rootfs: RootfsSection { diff_ids: vec![layer.diff_id], ..RootfsSection::default() },
            history: vec![History {
                created: Some(created),
                comment: import.message.clone(),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: self.put_document(&json(&config)?, media_type::OCI_CONFIG)?,
            layers: vec![blob],
            annotations: Default::default(),
        };
        let manifest = self.put_document(&json(&manifest)?, media_type::OCI_MANIFEST)?;
        let image = self.add_image(NewImage { manifest, index: None, repo_digest: None })?;
        if let Some(reference) = &import.reference {
            self.tag(reference, &image.id)?;
        }
        self.resolve(&image.id.to_string())
    }

    /// Keeps a document and describes it.
    pub(crate) fn put_document(&self, bytes: &[u8], media_type: &str) -> Result<Descriptor, Error> {
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: self.put_blob(bytes)?,
            size: bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
        })
    }
}

/// Writes the content of an archive into a new file: that, to be read from its beginning.
fn decompress(archive: &mut dyn Read, path: PathBuf) -> Result<File, Error> {
    let plain = stream::consume(archive, EXPANSION_MAX, &mut |_| {}, |mut content| {
        let mut file = Sink::create(path)?;
        // It says itself what is wrong with the archive, or with the disk.
        io::copy(&mut content, &mut file).doing(|| "decompress the archive")?;
        Ok(file.finish())
    })?;
    plain.open()
}

/// Keeps a copy of what is read.
struct Tee<'a> {
    input: &'a mut dyn Read,
    copy: Sink,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.copy.write_all(&buffer[..n])?;
        Ok(n)
    }
}
