//! Images on their way out: with every blob that their manifest names, in the form that registries
//! are used to.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};

use flate2::{Compression as Level, GzBuilder};
use oci::{Compression, Descriptor, Digest, Manifest, media_type};

use crate::disk::{Part, Store, json};
use crate::error::{Doing as _, Error, invalid};
use crate::image::{Image, NewImage};
use crate::spool::Sink;

/// zlib's own default, and Docker's; the same bytes on every machine.
const GZIP_LEVEL: u32 = 6;
/// The operating system "unknown" (RFC 1952, section 2.3.1), whatever this one is.
const GZIP_OS_UNKNOWN: u8 = 255;
const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// How layers leave the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they came.
    Held,
    /// Compressed where they were made here, or are not here as the manifest has them.
    Compressed,
}

impl Store {
    /// The image with a manifest all of whose blobs are here.
    ///
    /// What came from a registry stays as it is, byte for byte. A layer that is here in another
    /// encoding than the manifest says, and with [`Encoding::Compressed`] one that is not compressed
    /// and whose bytes no registry gave, make a new manifest, which the image has from then on: what
    /// leaves the store twice is the same twice.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a blob is here in no encoding; [`Error::Io`].
    pub fn distributable(&self, image: &Image, encoding: Encoding) -> Result<Image, Error> {
        let _lease = self.lease()?;
        let mut pins = image.repo_digests.iter().filter_map(|pin| pin.digest());
        let own = image.index.is_none() && !pins.any(|pin| *pin == image.manifest.digest);
        let mut manifest: Manifest = image.manifest(self)?;
        let mut changed = false;
        for (layer, known) in manifest.layers.iter_mut().zip(&image.layers) {
            let held = self.held(&known.diff_id, Some(layer))?;
            if !self.has_blob(&held.digest) {
                self.needed_archive(&known.diff_id)?;
            }
            // No registry has seen these bytes, so that they may as well be fewer.
            let is_free = own || held.digest != layer.digest;
            let wanted = match encoding {
                Encoding::Compressed if is_free => self.compressed(held)?,
                _ => held,
            };
            changed |= wanted.digest != layer.digest;
            if wanted.digest != layer.digest {
                *layer = wanted;
            }
        }
        if !changed {
            return Ok(image.clone());
        }
        // What a manifest of Docker's calls its layers does not fit what they are now.
        manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
        manifest.config.media_type = media_type::OCI_CONFIG.to_owned();
        for layer in &mut manifest.layers {
            layer.media_type = oci_layer(&layer.media_type);
        }
        let manifest = self.put_document(&json(&manifest)?, media_type::OCI_MANIFEST)?;
        let new = self.add_image(NewImage { manifest, index: None, repo_digest: None })?;
        Ok(Image { tags: image.tags.clone(), ..new })
    }

    /// A blob of a layer that is here, which is no image's yet.
    ///
    /// # Errors
    /// As of [`Store::distributable`].
    pub fn layer_blob(&self, diff_id: &Digest, encoding: Encoding) -> Result<Descriptor, Error> {
        let _lease = self.lease()?;
        let held = self.held(diff_id, None)?;
        if !self.has_blob(&held.digest) {
            self.needed_archive(diff_id)?;
        }
        match encoding {
            Encoding::Held => Ok(held),
            Encoding::Compressed => self.compressed(held),
        }
    }

    /// The blob of a layer that is here: `wanted`, or what the same files came in. That of a layer that
    /// was made here may not be there yet.
    pub(crate) fn held(
        &self,
        diff_id: &Digest,
        wanted: Option<&Descriptor>,
    ) -> Result<Descriptor, Error> {
        if let Some(wanted) = wanted.filter(|wanted| self.has_blob(&wanted.digest)) {
            return Ok(wanted.clone());
        }
        if let (None, Some(made)) = (self.archive_of(diff_id)?, self.layer(diff_id)?.made) {
            return Ok(made.descriptor(diff_id));
        }
        let digest = self.needed_archive(diff_id)?;
        let size = self.blob_size(&digest)?;
        let mut head = Vec::new();
        let file = self.open_blob(&digest)?;
        file.take(4).read_to_end(&mut head).doing(|| format!("read blob {digest}"))?;
        let suffix = match Compression::detect(&head) {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        let media_type = format!("{}{suffix}", media_type::OCI_LAYER);
        Ok(Descriptor { media_type, digest, size, platform: None, annotations: Default::default() })
    }

    /// The blob `held` by gzip, unless it is compressed already.
    fn compressed(&self, held: Descriptor) -> Result<Descriptor, Error> {
        let mut head = Vec::new();
        let doing = || format!("read blob {}", held.digest);
        self.open_blob(&held.digest)?.take(4).read_to_end(&mut head).doing(doing)?;
        if Compression::detect(&head) != Compression::None {
            return Ok(held);
        }
        let scratch = self.scratch(Part::Ingest)?;
        let sink = Sink::create(scratch.path().join("layer"))?;
        let packed = gzip(self.open_blob(&held.digest)?, sink)
            .doing(|| format!("compress blob {}", held.digest))?;
        packed.adopt(self)?;
        let media_type = format!("{}+gzip", media_type::OCI_LAYER);
        Ok(Descriptor { media_type, digest: packed.digest, size: packed.size, ..held })
    }

    /// Opens the blob of `wanted`, which must be as long as it says.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if its size differs.
    pub fn open_described(&self, wanted: &Descriptor) -> Result<File, Error> {
        let file = self.open_blob(&wanted.digest)?;
        let size = file.metadata().doing(|| format!("inspect blob {}", wanted.digest))?.len();
        if size != wanted.size {
            let Descriptor { digest, size: said, .. } = wanted;
            return invalid(format!("blob {digest} is {size} bytes long, not {said}"));
        }
        Ok(file)
    }
}

/// Without a name and a time, so that the bytes depend on the content alone.
fn gzip(from: File, sink: Sink) -> io::Result<crate::spool::Spooled> {
    let builder = GzBuilder::new().operating_system(GZIP_OS_UNKNOWN).mtime(0);
    let out = io::BufWriter::with_capacity(COPY_BUFFER_BYTES, sink);
    let mut encoder = builder.write(out, Level::new(GZIP_LEVEL));
    io::copy(&mut BufReader::with_capacity(COPY_BUFFER_BYTES, from), &mut encoder)?;
    let mut out = encoder.finish()?;
    out.flush()?;
    Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?.finish())
}

/// The OCI's name for a kind of layer.
fn oci_layer(kind: &str) -> String {
    let suffix = match kind {
        _ if kind.ends_with("gzip") => "+gzip",
        _ if kind.ends_with("zstd") => "+zstd",
        _ => "",
    };
    format!("{}{suffix}", media_type::OCI_LAYER)
}
