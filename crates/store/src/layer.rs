//! Layers: archives unpacked once, shared by every image and container that is made of them.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Lower};
use serde::{Deserialize, Serialize};

use crate::disk::{Part, Scratch, Store, hidden_name, json, read_if_there};
use crate::driver::Driver;
use crate::driver::dir::{DirSink, PIT, TREE};
use crate::driver::image::{self, ImageSink};
use crate::error::{Doing as _, Error};
use crate::extract::{self, ENTRIES_MAX, Extracted};
use crate::made::Made;
use crate::stream::{self, Content, EXPANSION_MAX, Expansion};
use crate::tarball::Tar;

const RECORD: &str = "layer.json";

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The digest of the archive as it was received.
    pub blob: Digest,
    /// Bytes of data in its files.
    pub size: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Whether it hides all layers below.
    #[serde(default)]
    pub is_opaque: bool,
    /// How its archive is made again, if it was made here: it need not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
}

/// What unpacking may come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) entries_max: u64,
    pub(crate) expansion: Expansion,
}

pub(crate) const LIMITS: Limits = Limits { entries_max: ENTRIES_MAX, expansion: EXPANSION_MAX };

impl Store {
    /// Whether a layer is unpacked.
    #[must_use]
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).exists()
    }

    /// The record of an unpacked layer.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn layer(&self, diff_id: &Digest) -> Result<Layer, Error> {
        let path = self.layer_path(diff_id).join(RECORD);
        let Some(bytes) = read_if_there(&path)? else {
            let note = if self.is_served(diff_id) { ": it is still arriving" } else { "" };
            return Err(Error::NotFound(format!("layer: {diff_id}{note}")));
        };
        serde_json::from_slice(&bytes)
            .map_err(std::io::Error::from)
            .doing(|| format!("read `{}`", path.display()))
    }

    /// The blob that a layer can be unpacked from again: the one that its record names or, where
    /// that is not here, what an image calls it by. `None` if there is none.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a layer; [`Error::Io`].
    pub fn archive_of(&self, diff_id: &Digest) -> Result<Option<Digest>, Error> {
        let own = self.layer(diff_id)?.blob;
        if self.has_blob(&own) {
            return Ok(Some(own));
        }
        let images = self.records()?;
        let layers = images.iter().flat_map(|image| &image.layers);
        let mut others = layers.filter(|layer| layer.diff_id == *diff_id);
        let found = others.find(|layer| self.has_blob(&layer.blob.digest));
        Ok(found.map(|layer| layer.blob.digest))
    }

    /// Whether a layer can be unpacked again: its archive is here, or can be made.
    ///
    /// # Errors
    /// As of [`Store::archive_of`].
    pub fn has_archive(&self, diff_id: &Digest) -> Result<bool, Error> {
        Ok(self.layer(diff_id)?.made.is_some() || self.archive_of(diff_id)?.is_some())
    }

    /// [`Store::archive_of`], which is made where it can be.
    pub(crate) fn needed_archive(&self, diff_id: &Digest) -> Result<Digest, Error> {
        match (self.archive_of(diff_id)?, self.layer(diff_id)?.made) {
            (Some(archive), _) => Ok(archive),
            (None, Some(made)) => self.pack_again(diff_id, made),
            (None, None) => {
                let what = format!("blob of layer {diff_id}, in whatever encoding");
                Err(Error::NotFound(what))
            }
        }
    }

    /// Makes `blob` the one that a layer's record names.
    pub(crate) fn record_archive(&self, diff_id: &Digest, blob: Digest) -> Result<(), Error> {
        let layer = Layer { blob, ..self.layer(diff_id)? };
        let directory = self.layer_path(diff_id);
        let (path, hidden) = (directory.join(RECORD), directory.join(hidden_name()?));
        let doing = || format!("write `{}`", path.display());
        std::fs::write(&hidden, json(&layer)?).doing(doing)?;
        self.sync_file(&hidden)?;
        std::fs::rename(&hidden, &path).doing(doing)
    }

    /// Where a layer lies: its tree, or its image.
    #[must_use]
    pub fn layer_place(&self, diff_id: &Digest) -> PathBuf {
        self.image_path(diff_id).unwrap_or_else(|| self.layer_path(diff_id).join(TREE))
    }

    /// The image of a layer, if it is one.
    pub(crate) fn image_path(&self, diff_id: &Digest) -> Option<PathBuf> {
        let path = self.layer_path(diff_id).join(image::FILE);
        path.exists().then_some(path)
    }

    /// A layer as overlayfs takes it.
    pub(crate) fn lower(&self, diff_id: &Digest) -> Lower {
        match self.image_path(diff_id) {
            Some(path) => Lower::Image { path, devices: Vec::new() },
            None => Lower::Directory(self.layer_path(diff_id).join(TREE)),
        }
    }

    /// Opens a layer: its root directory. An image is mounted for it, where nobody sees that.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Io`].
    pub fn open_layer(&self, diff_id: &Digest) -> Result<OwnedFd, Error> {
        self.layer(diff_id)?;
        open_lower(&self.lower(diff_id))
    }

    /// Unpacks the layer `diff_id` from `archive`: the content of `blob`, uncompressed or
    /// compressed by gzip or zstd, which its first bytes tell.
    ///
    /// `progress` is told of every step, in bytes of the archive. The layer appears when all of it
    /// is on disk and the digest of the uncompressed archive is right; otherwise nothing stays.
    /// A layer that exists already is returned without reading the archive.
    ///
    /// # Errors
    /// [`Error::Digest`]; [`Error::Invalid`] if the archive is malformed, leads outside its root or
    /// exceeds a limit; [`Error::Io`] if it cannot be read or written.
    pub fn unpack(
        &self,
        diff_id: &Digest,
        blob: &Descriptor,
        archive: &mut dyn Read,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Layer, Error> {
        let _lease = self.lease()?;
        if self.has_layer(diff_id) {
            return self.layer(diff_id);
        }
        let unpacked = self.unpack_within(archive, progress, LIMITS)?;
        if unpacked.diff_id != *diff_id {
            let what = format!("content of layer {}", blob.digest);
            return Err(Error::Digest { what, expected: *diff_id, actual: unpacked.diff_id });
        }
        self.publish_layer(unpacked, blob.digest)
    }

    /// Unpacks an archive of whatever digest, without making it visible.
    pub(crate) fn unpack_within(
        &self,
        archive: &mut dyn Read,
        progress: &mut dyn FnMut(u64),
        limits: Limits,
    ) -> Result<Unpacked, Error> {
        self.unpack_as(self.settle_driver()?, archive, progress, limits)
    }

    /// As [`Store::unpack_within`], whatever the driver of the store.
    pub(crate) fn unpack_as(
        &self,
        driver: Driver,
        archive: &mut dyn Read,
        progress: &mut dyn FnMut(u64),
        limits: Limits,
    ) -> Result<Unpacked, Error> {
        let scratch = self.scratch(Part::Layers)?;
        let place = (scratch.path(), driver);
        let (extracted, diff_id) = unpack_into(place, archive, progress, limits)?;
        Ok(Unpacked { scratch, diff_id, extracted })
    }

    /// Makes an unpacked layer visible. If somebody else was faster, theirs stays.
    pub(crate) fn publish_layer(&self, unpacked: Unpacked, blob: Digest) -> Result<Layer, Error> {
        let (scratch, layer) = self.complete(unpacked, blob)?;
        if self.place_layer(scratch, &layer.diff_id)? {
            Ok(layer)
        } else {
            self.layer(&layer.diff_id)
        }
    }

    /// Gives a layer that is complete its name: `false` if somebody else was faster.
    pub(crate) fn place_layer(&self, scratch: Scratch, diff_id: &Digest) -> Result<bool, Error> {
        self.note_unsynced(Part::Layers, &diff_id.hex())?;
        scratch.publish(&self.layer_path(diff_id))
    }

    /// Gives an unpacked layer its record, and takes away what it does not need.
    pub(crate) fn complete(
        &self,
        unpacked: Unpacked,
        blob: Digest,
    ) -> Result<(Scratch, Layer), Error> {
        let Unpacked { scratch, diff_id, extracted } = unpacked;
        let layer = Layer {
            diff_id,
            blob,
            size: extracted.size,
            entries: extracted.entries,
            is_opaque: extracted.is_opaque,
            made: None,
        };
        write_record(scratch.path(), &layer)?;
        self.discard(&scratch.path().join(PIT))?;
        Ok((scratch, layer))
    }
}

/// Writes the record of a layer that is not visible yet.
pub(crate) fn write_record(directory: &Path, layer: &Layer) -> Result<(), Error> {
    let record = directory.join(RECORD);
    std::fs::write(&record, json(layer)?).doing(|| format!("write `{}`", record.display()))
}

/// A layer that is complete, but not visible yet.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) scratch: Scratch,
    pub(crate) diff_id: Digest,
    pub(crate) extracted: Extracted,
}

/// The layer that was unpacked into `directory`, as overlayfs takes it.
pub(crate) fn lower_in(directory: &Path) -> Lower {
    let path = directory.join(image::FILE);
    match path.exists() {
        true => Lower::Image { path, devices: Vec::new() },
        false => Lower::Directory(directory.join(TREE)),
    }
}

/// Opens what overlayfs takes as a layer: its root directory.
///
/// # Errors
/// [`Error::Io`].
pub fn open_lower(lower: &Lower) -> Result<OwnedFd, Error> {
    match lower {
        Lower::Directory(path) => File::open(path).map(OwnedFd::from),
        Lower::Image { path, devices } => erofs::mount(path, devices),
    }
    .doing(|| format!("open `{}`", lower.path().display()))
}

/// Makes what is in an archive, plain or compressed, as a tree in an existing directory: its path.
///
/// # Errors
/// [`Error::Invalid`] if the archive is malformed, leads outside or exceeds a limit; [`Error::Io`].
pub fn extract_directory(directory: &Path, archive: &mut dyn Read) -> Result<PathBuf, Error> {
    let doing = || format!("create a tree in `{}`", directory.display());
    let site = File::open(directory).doing(doing)?;
    stream::consume(archive, LIMITS.expansion, &mut |_| {}, move |content| {
        let mut tar = Tar::new(content);
        extract::extract(&mut tar, DirSink::new(site.into()).doing(doing)?, LIMITS.entries_max)?;
        tar.drain()
    })?;
    Ok(directory.join(TREE))
}

fn unpack_into(
    (directory, driver): (&Path, Driver),
    archive: &mut dyn Read,
    progress: &mut dyn FnMut(u64),
    limits: Limits,
) -> Result<(Extracted, Digest), Error> {
    let doing = || format!("create a layer in `{}`", directory.display());
    let site = match driver {
        Driver::Dir => File::open(directory),
        // Only its creator sees it, until it is complete.
        Driver::Erofs => File::create_new(directory.join(image::FILE)),
    };
    let site = site.doing(doing)?;
    stream::consume_layer(archive, limits.expansion, progress, move |content: Content<'_>| {
        let mut tar = Tar::new(content);
        let extracted = match driver {
            Driver::Dir => {
                let sink = DirSink::new(site.into()).doing(doing)?;
                extract::extract(&mut tar, sink, limits.entries_max)
            }
            Driver::Erofs => extract::extract(&mut tar, ImageSink::new(site), limits.entries_max),
        }?;
        tar.drain()?;
        Ok((extracted, tar.into_input().digest()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of one file of zeros.
    fn zeros(size: usize) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size as u64);
        header.set_mode(0o644);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, "zeros", &vec![0; size][..]).unwrap();
        builder.into_inner().unwrap()
    }

    fn outcome(archive: &[u8], limits: Limits) -> String {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let outcome = store.unpack_within(&mut &archive[..], &mut |_| {}, limits);
        let text = outcome.map_or_else(|e| e.to_string(), |_| "unpacked".to_owned());
        for part in [Part::Layers, Part::Trash] {
            assert!(crate::disk::all_names(&store.part(part)).unwrap().is_empty());
        }
        text
    }

    #[test]
    fn a_decompression_bomb_is_stopped() {
        let bomb = zstd::encode_all(&zeros(20 << 20)[..], 1).unwrap();
        let limits = |free_bytes, ratio| Limits {
            entries_max: 10,
            expansion: Expansion { free_bytes, ratio },
        };
        assert!(outcome(&bomb, limits(1 << 20, 200)).contains("expands to more than"));
        assert_eq!(outcome(&bomb, limits(30 << 20, 200)), "unpacked");
        assert_eq!(outcome(&bomb, limits(1 << 20, 1 << 20)), "unpacked");
        // What is not compressed is as large as it is.
        assert_eq!(outcome(&zeros(2 << 20), limits(1 << 20, 0)), "unpacked");
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let mut builder = tar::Builder::new(Vec::new());
        for n in 0..11 {
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            builder.append_data(&mut header, n.to_string(), &b""[..]).unwrap();
        }
        let archive = builder.into_inner().unwrap();
        let limits = |entries_max| Limits { entries_max, ..LIMITS };
        assert_eq!(outcome(&archive, limits(10)), "archive has more than 10 entries");
        assert_eq!(outcome(&archive, limits(11)), "unpacked");
    }
}
