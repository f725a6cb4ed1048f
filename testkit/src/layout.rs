//! An OCI image layout on disk (image-spec, image-layout.md), as the pool writes it.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use oci::{Compression, Descriptor, Digest, Hasher, ImageConfig, Index, Manifest, media_type};
use serde::de::DeserializeOwned;

use crate::archive::Archive;

/// The annotation by which tools find an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A directory with `oci-layout`, `index.json` and `blobs/sha256`.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    /// Held while `index.json` is rewritten.
    naming: Mutex<()>,
}

/// A layer that lies in the layout.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// The archive as stored, compressed.
    pub(crate) descriptor: Descriptor,
    /// The digest of the plain archive.
    pub(crate) diff_id: Digest,
}

impl Layout {
    /// Opens the layout at `path`, making an empty one where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path.join("blobs/sha256"))
            .with_context(|| format!("make an image layout in {}", path.display()))?;
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { path: path.to_owned(), naming: Mutex::new(()) })
    }

    /// Stores `bytes` and describes them.
    pub(crate) fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        fs::write(self.blob(&digest), bytes).with_context(|| format!("store {digest}"))?;
        Ok(describe(media_type, digest, bytes.len() as u64))
    }

    /// Stores the layer that `fill` writes.
    pub(crate) fn layer(
        &self,
        compression: Compression,
        fill: impl FnOnce(&mut Archive<&mut dyn Write>) -> Result<()>,
    ) -> Result<Layer> {
        let temporary = tempfile::NamedTempFile::new_in(&self.path).context("make a layer")?;
        let stored = Counted::new(BufWriter::new(temporary));
        let (diff_id, stored) = match compression {
            Compression::None => archive(stored, fill)?,
            Compression::Gzip => {
                let encoder = flate2::write::GzEncoder::new(stored, flate2::Compression::fast());
                let (diff_id, encoder) = archive(encoder, fill)?;
                (diff_id, encoder.finish().context("end a gzip stream")?)
            }
            Compression::Zstd => {
                let encoder = zstd::Encoder::new(stored, 1).context("start a zstd stream")?;
                let (diff_id, encoder) = archive(encoder, fill)?;
                (diff_id, encoder.finish().context("end a zstd stream")?)
            }
        };
        let (digest, size, file) = stored.finish();
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(self.blob(&digest)).with_context(|| format!("store {digest}"))?;
        let media_type = match compression {
            Compression::None => media_type::OCI_LAYER.to_owned(),
            Compression::Gzip => format!("{}+gzip", media_type::OCI_LAYER),
            Compression::Zstd => format!("{}+zstd", media_type::OCI_LAYER),
        };
        Ok(Layer { descriptor: describe(&media_type, digest, size), diff_id })
    }

    /// Stores configuration and manifest of an image made of `layers`.
    pub(crate) fn image(&self, mut config: ImageConfig, layers: &[Layer]) -> Result<Descriptor> {
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let config = self.put(media_type::OCI_CONFIG, &serde_json::to_vec(&config)?)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config,
            layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
            annotations: Default::default(),
        };
        self.put(media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest)?)
    }

    /// Makes `name` mean `target`, in place of what it meant.
    pub(crate) fn tag(&self, name: &str, mut target: Descriptor) -> Result<()> {
        target.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        let _one_at_a_time = self.naming.lock().expect("naming an image does not panic");
        let mut index = self.index()?;
        index.manifests.retain(|d| d.annotations.get(REF_NAME).is_none_or(|n| n != name));
        index.manifests.push(target);
        index
            .manifests
            .sort_by(|a, b| a.annotations.get(REF_NAME).cmp(&b.annotations.get(REF_NAME)));
        let path = self.path.join("index.json");
        let temporary = path.with_extension("new");
        fs::write(&temporary, serde_json::to_vec_pretty(&index)?)?;
        fs::rename(&temporary, &path).with_context(|| format!("name {name} in the layout"))
    }

    fn index(&self) -> Result<Index> {
        match fs::read(self.path.join("index.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("read the layout's index"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(empty_index()),
            Err(error) => Err(error).context("read the layout's index"),
        }
    }

    /// The manifest of a named image of one platform.
    pub(crate) fn manifest(&self, name: &str) -> Result<Manifest> {
        let index = self.index()?;
        let named = |d: &&Descriptor| d.annotations.get(REF_NAME).is_some_and(|n| n == name);
        let found = index.manifests.iter().find(named);
        self.read(&found.with_context(|| format!("find {name} in the layout"))?.digest)
    }

    /// The blob of this digest, as JSON of the wanted shape.
    pub(crate) fn read<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        let bytes = fs::read(self.blob(digest)).with_context(|| format!("read {digest}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("read {digest}"))
    }

    /// The names in the layout that start with `repository` and a colon.
    pub(crate) fn names(&self, repository: &str) -> Result<Vec<String>> {
        let prefix = format!("{repository}:");
        let index = self.index()?;
        let names = index.manifests.iter().filter_map(|d| d.annotations.get(REF_NAME));
        Ok(names.filter(|name| name.starts_with(&prefix)).cloned().collect())
    }

    /// Where the layout lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the blob of this digest lies.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }
}

/// An index with nothing in it.
pub(crate) fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: Default::default(),
    }
}

fn describe(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    let media_type = media_type.to_owned();
    Descriptor { media_type, digest, size, platform: None, annotations: Default::default() }
}

/// Writes an archive into `sink` and gives the digest of its plain bytes.
fn archive<W: Write>(
    sink: W,
    fill: impl FnOnce(&mut Archive<&mut dyn Write>) -> Result<()>,
) -> Result<(Digest, W)> {
    let mut plain = Counted::new(sink);
    {
        let mut archive = Archive::new(&mut plain as &mut dyn Write);
        fill(&mut archive)?;
        archive.finish().context("end an archive")?;
    }
    let (digest, _, sink) = plain.finish();
    Ok((digest, sink))
}

/// A writer that digests and counts what passes.
struct Counted<W> {
    sink: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Counted<W> {
    fn new(sink: W) -> Self {
        Self { sink, hasher: Hasher::default(), size: 0 }
    }

    fn finish(self) -> (Digest, u64, W) {
        (self.hasher.finish(), self.size, self.sink)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
