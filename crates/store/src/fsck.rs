//! Looks for what is not as it should be, and takes it away.
//!
//! Whatever is found broken is moved out of the way as a whole, so that it counts as missing, which
//! every other part of the store can handle: a blob or a layer is fetched or unpacked again, an
//! image without them is removed.

use std::collections::HashSet;
use std::fmt;
use std::io::Read as _;
use std::os::fd::AsFd as _;

use oci::{Descriptor, Digest, Hasher, ImageConfig, Manifest, media_type};
use rustix::fs::FileType;

use crate::diff::{Comparison, Node};
use crate::disk::{Exclusive, Part, Store, names, read_if_there};
use crate::error::{Doing as _, Error};
use crate::image::{Image, Tag, parse_record, record_name, tag_name};
use crate::layer::{LIMITS, lower_in};
use crate::made::Made;
use crate::view::View;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A file of content.
    Blob,
    /// An unpacked layer.
    Layer,
    /// The record of an image, or something that the image needs.
    Image,
    /// A name of an image.
    Tag,
    /// Something that nobody knows lies among those.
    Stray,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// Which: a digest, a reference, or a path below the root.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// What an image lacks, a layer or a blob.
    pub lacks: Vec<Digest>,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Tag => "tag",
            Self::Stray => "stray",
        })
    }
}

impl Store {
    /// Everything that is not as it should be: contents that are not what their digests say,
    /// layers that are not whole, records that cannot be read or name what is not there.
    ///
    /// With `deep`, every layer is unpacked anew and compared with the one that is kept.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk cannot be read.
    pub fn check(&self, deep: bool) -> Result<Vec<Fault>, Error> {
        if !self.root().exists() {
            return Ok(Vec::new());
        }
        let _lease = self.lease()?;
        let mut faults = Vec::new();
        self.check_blobs(&mut faults)?;
        let of = |kind: FaultKind, faults: &[Fault]| -> HashSet<String> {
            faults.iter().filter(|f| f.kind == kind).map(|f| f.name.clone()).collect()
        };
        let blobs = of(FaultKind::Blob, &faults);
        self.check_layers(deep, &blobs, &mut faults)?;
        let layers = of(FaultKind::Layer, &faults);
        let images = self.check_images(&blobs, &layers, &mut faults)?;
        self.check_tags(&images, &mut faults)?;
        Ok(faults)
    }

    /// Takes away what is broken, but an image and its tags, which may become whole again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn take_away(&self, _exclusive: &Exclusive, faults: &[Fault]) -> Result<(), Error> {
        for fault in faults {
            let digest = fault.name.parse::<Digest>();
            let path = match (fault.kind, digest) {
                (FaultKind::Blob, Ok(digest)) => self.blob_path(&digest),
                (FaultKind::Layer, Ok(digest)) => self.layer_path(&digest),
                (FaultKind::Stray, _) => self.root().join(&fault.name),
                _ => continue,
            };
            self.hide(&path)?;
        }
        self.empty_trash()
    }

    /// Unpacks a layer again from its archive, if that is here: whether it was.
    ///
    /// # Errors
    /// As [`Store::unpack`].
    pub fn restore_layer(&self, diff_id: &Digest, blob: &Digest) -> Result<bool, Error> {
        if !self.has_blob(blob) {
            return Ok(false);
        }
        let blob = Descriptor {
            media_type: media_type::OCI_LAYER.to_owned(),
            digest: *blob,
            size: self.blob_size(blob)?,
            platform: None,
            annotations: Default::default(),
        };
        let mut content = self.open_blob(&blob.digest)?;
        self.unpack(diff_id, &blob, &mut content, &mut |_| {})?;
        Ok(true)
    }

    /// Forgets an image that cannot be made whole, or a tag that names nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget(&self, fault: &Fault) -> Result<(), Error> {
        let _changing = self.change(Part::Images)?;
        match fault.kind {
            FaultKind::Image => {
                let Ok(id) = fault.name.parse::<Digest>() else { return Ok(()) };
                self.hide(&self.part(Part::Images).join(record_name(&id)))?;
                for name in names(&self.part(Part::Tags))? {
                    let path = self.part(Part::Tags).join(&name);
                    let tag = read_if_there(&path)?;
                    if tag
                        .as_deref()
                        .and_then(parse_record::<Tag>)
                        .is_some_and(|tag| tag.image == id)
                    {
                        self.hide(&path)?;
                    }
                }
            }
            FaultKind::Tag => {
                let tags = names(&self.part(Part::Tags))?;
                for name in tags {
                    let path = self.part(Part::Tags).join(&name);
                    let tag = read_if_there(&path)?;
                    let tag = tag.as_deref().and_then(parse_record::<Tag>);
                    if tag.is_some_and(|tag| tag.reference.familiar() == fault.name) {
                        self.hide(&path)?;
                    }
                }
            }
            _ => {}
        }
        self.empty_trash()
    }

    fn check_blobs(&self, faults: &mut Vec<Fault>) -> Result<(), Error> {
        for name in names(&self.part(Part::Blobs))? {
            let Ok(digest) = Digest::from_hex(&name) else {
                faults.push(stray(format!("blobs/sha256/{name}"), "its name is no digest"));
                continue;
            };
            let actual = match self.hash_blob(&digest) {
                // Taken away meanwhile.
                Err(Error::NotFound(_)) => continue,
                Err(Error::Io { source, .. }) => Err(source.to_string()),
                actual => Ok(actual?),
            };
            let why = match actual {
                Ok(actual) if actual == digest => continue,
                Ok(actual) => format!("its content is {actual}"),
                Err(why) => format!("it cannot be read: {why}"),
            };
            faults.push(fault(FaultKind::Blob, digest.to_string(), why));
        }
        Ok(())
    }

    fn hash_blob(&self, digest: &Digest) -> Result<Digest, Error> {
        let mut file = self.open_blob(digest)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer).doing(|| format!("read blob {digest}"))? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    fn check_layers(
        &self,
        deep: bool,
        broken_blobs: &HashSet<String>,
        faults: &mut Vec<Fault>,
    ) -> Result<(), Error> {
        for name in names(&self.part(Part::Layers))? {
            let Ok(diff_id) = Digest::from_hex(&name) else {
                faults.push(stray(format!("layers/{name}"), "its name is no digest"));
                continue;
            };
            let broken = |why: String| fault(FaultKind::Layer, diff_id.to_string(), why);
            let layer = match self.layer(&diff_id) {
                Ok(layer) if layer.diff_id == diff_id => layer,
                Ok(layer) => {
                    faults.push(broken(format!("its record is of {}", layer.diff_id)));
                    continue;
                }
                Err(error) => {
                    faults.push(broken(format!("its record cannot be read: {error}")));
                    continue;
                }
            };
            let bytes = match self.layer_bytes(&diff_id) {
                Ok(bytes) => bytes,
                Err(error) => {
                    faults.push(broken(format!("its files cannot be read: {error}")));
                    continue;
                }
            };
            // An archive may hold a file twice, of which the earlier one is not kept.
            let is_short = bytes < layer.size;
            let archive = self.archive_of(&diff_id)?;
            let archive = archive.filter(|blob| !broken_blobs.contains(&blob.to_string()));
            let why = match archive.filter(|_| deep || is_short) {
                Some(archive) => self.compare_with_archive(&diff_id, &archive)?,
                None if is_short => Some(format!("it holds {bytes} bytes of {}", layer.size)),
                None => match layer.made.filter(|_| deep) {
                    Some(made) => self.compare_with_digest(&diff_id, made)?,
                    None => None,
                },
            };
            faults.extend(why.map(broken));
        }
        Ok(())
    }

    /// Bytes in the files of a layer, each file once.
    fn layer_bytes(&self, diff_id: &Digest) -> Result<u64, Error> {
        let root = self.layer_root(diff_id)?.fd;
        crate::measure::bytes_below(root.as_fd()).doing(|| format!("read layer {diff_id}"))
    }

    /// Whether a layer that was made here is still what it was.
    fn compare_with_digest(&self, diff_id: &Digest, made: Made) -> Result<Option<String>, Error> {
        let now = self.packed_digest(diff_id, made)?;
        Ok((now != *diff_id).then(|| format!("it is now layer {now}")))
    }

    /// What differs between a layer and its archive, if anything does.
    fn compare_with_archive(
        &self,
        diff_id: &Digest,
        blob: &Digest,
    ) -> Result<Option<String>, Error> {
        let mut archive = self.open_blob(blob)?;
        let fresh = self.unpack_within(&mut archive, &mut |_| {}, LIMITS)?;
        if fresh.diff_id != *diff_id {
            return Ok(Some(format!("its archive is of layer {}", fresh.diff_id)));
        }
        let old = View::raw(&lower_in(fresh.scratch.path()))?;
        let new = View::raw(&self.lower(diff_id))?;
        let differences = Comparison::new(old, new)?.differences(&[])?;
        // What hides something has no time of its own.
        let hides = |node: &Option<Node>| {
            node.as_ref().is_some_and(|n| n.kind == FileType::CharacterDevice && n.device == 0)
        };
        let mut seen = differences.iter().filter(|found| !(hides(&found.old) && hides(&found.new)));
        let first = seen.next();
        Ok(first.map(|first| format!("`/{}` is not what its archive has", first.path.display())))
    }

    fn check_images(
        &self,
        broken_blobs: &HashSet<String>,
        broken_layers: &HashSet<String>,
        faults: &mut Vec<Fault>,
    ) -> Result<HashSet<Digest>, Error> {
        let mut known = HashSet::new();
        for name in names(&self.part(Part::Images))? {
            let id = name.strip_suffix(".json").and_then(|hex| Digest::from_hex(hex).ok());
            let bytes = read_if_there(&self.part(Part::Images).join(&name))?;
            let image = bytes.as_deref().and_then(parse_record::<Image>);
            let (Some(id), Some(image)) = (id, image.filter(|image| Some(image.id) == id)) else {
                faults.push(stray(format!("images/{name}"), "it is no record of an image"));
                continue;
            };
            known.insert(id);
            let has_blob = |digest: &Digest| {
                self.has_blob(digest) && !broken_blobs.contains(&digest.to_string())
            };
            let has_layer = |digest: &Digest| {
                self.has_layer(digest) && !broken_layers.contains(&digest.to_string())
            };
            let documents = [image.id, image.manifest.digest].into_iter().chain(image.index);
            let mut lacks: Vec<Digest> = documents.filter(|digest| !has_blob(digest)).collect();
            // Where only the archive is missing, the same files came in another one.
            let mut without_blob = None;
            for layer in &image.layers {
                let is_broken = broken_blobs.contains(&layer.blob.digest.to_string());
                lacks.extend((!has_layer(&layer.diff_id)).then_some(layer.diff_id));
                lacks.extend(is_broken.then_some(layer.blob.digest));
                if !is_broken && matches!(self.has_archive(&layer.diff_id), Ok(false)) {
                    lacks.push(layer.blob.digest);
                    without_blob.get_or_insert(layer.diff_id);
                }
            }
            let why = match (lacks.first(), without_blob) {
                (Some(_), Some(layer)) if lacks.len() == 1 => Some(format!(
                    "its layer {layer} has no blob here, so that it can be neither sent nor restored"
                )),
                (Some(first), _) => Some(format!("it lacks {first}")),
                (None, _) => self.check_documents(&image),
            };
            let found = |why| Fault { kind: FaultKind::Image, name: id.to_string(), why, lacks };
            faults.extend(why.map(found));
        }
        Ok(known)
    }

    /// Whether the documents of an image fit together.
    fn check_documents(&self, image: &Image) -> Option<String> {
        let documents = || -> Result<(Manifest, ImageConfig), Error> {
            Ok((image.manifest(self)?, image.config(self)?))
        };
        let (manifest, config) = match documents() {
            Ok(documents) => documents,
            Err(error) => return Some(error.to_string()),
        };
        let fits = manifest.config.digest == image.id
            && config.rootfs.diff_ids == image.diff_ids()
            && manifest.layers.len() == image.layers.len();
        (!fits).then(|| "its record does not fit its manifest and configuration".to_owned())
    }

    fn check_tags(&self, images: &HashSet<Digest>, faults: &mut Vec<Fault>) -> Result<(), Error> {
        for name in names(&self.part(Part::Tags))? {
            let bytes = read_if_there(&self.part(Part::Tags).join(&name))?;
            let tag = bytes.as_deref().and_then(parse_record::<Tag>);
            match tag.filter(|tag| tag_name(&tag.reference) == name) {
                None => faults.push(stray(format!("tags/{name}"), "it is no record of a tag")),
                Some(tag) if !images.contains(&tag.image) => {
                    let why = format!("it names {}, which is not here", tag.image);
                    faults.push(fault(FaultKind::Tag, tag.reference.familiar(), why));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn fault(kind: FaultKind, name: String, why: String) -> Fault {
    Fault { kind, name, why, lacks: Vec::new() }
}

fn stray(name: String, why: &str) -> Fault {
    fault(FaultKind::Stray, name, why.to_owned())
}
