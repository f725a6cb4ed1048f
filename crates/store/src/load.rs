//! Images from archives: what `docker save` writes, old and new, and OCI image layouts
//! (image-spec, image-layout.md).

use std::io::Read;
use std::path::Path;

use oci::{
    Descriptor, Digest, Document, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::disk::Store;
use crate::error::{Error, invalid};
use crate::image::{DOCUMENT_BYTES_MAX, Image, NewImage};
use crate::spool::Spool;

/// Indexes within indexes.
const INDEX_DEPTH_MAX: usize = 4;
/// The annotation in which containerd and Docker keep the whole name.
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The annotation of the specification: a tag, or a whole name.
pub(crate) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// An image that an archive held.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The tags that the archive gave it.
    pub references: Vec<Reference>,
}

/// One image in `manifest.json` (moby, image/tarexport).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<Reference>>,
    pub(crate) layers: Option<Vec<String>>,
}

impl Store {
    /// Adds the images of an archive, of `docker save` or an OCI image layout, plain or compressed,
    /// for `platform`; of a layout for this machine where there is none.
    ///
    /// The archive is read once and may come from a pipe; `progress` is told of every step in its
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is neither, malformed, or has no image for this machine;
    /// [`Error::Digest`]; [`Error::Io`].
    pub fn load(
        &self,
        archive: &mut dyn Read,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Loaded>, Error> {
        let _lease = self.lease()?;
        self.load_spooled(Spool::of_archive(self, archive, progress)?, platform)
    }

    /// Adds the images of a directory in the OCI image layout.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_dir(&self, directory: &Path) -> Result<Vec<Loaded>, Error> {
        let _lease = self.lease()?;
        self.load_spooled(Spool::of_directory(self, directory)?, None)
    }

    /// As [`Store::load_dir`], of one image alone: by the name or tag that the layout gives it, or
    /// the only one.
    pub(crate) fn load_one(&self, directory: &Path, name: Option<&str>) -> Result<Image, Error> {
        let _lease = self.lease()?;
        let mut spool = Spool::of_directory(self, directory)?;
        let file = spool.get("index.json")?;
        let mut index = parse::<Index>(&file.read(DOCUMENT_BYTES_MAX)?, "index.json")?;
        let label = |entry: &Descriptor| {
            let label = entry.annotations.get(REF_ANNOTATION);
            label.map_or_else(|| entry.digest.to_string(), |l| l.escape_debug().take(100).collect())
        };
        let names = index.manifests.iter().map(label).collect::<Vec<String>>().join(", ");
        if let Some(name) = name {
            index.manifests.retain(|entry| is_called(entry, name));
        }
        let doing = || format!("image: {}", directory.display());
        match (index.manifests.len(), name) {
            (0, None) => Err(Error::NotFound(doing())),
            (0, Some(name)) => Err(Error::NotFound(format!("{}:{name}: it has {names}", doing()))),
            (1, _) => {
                let loaded = self.load_layout(&mut spool, index, None)?;
                Ok(loaded.into_iter().next().expect("a layout that loads has an image").image)
            }
            (many, _) => invalid(format!(
                "`{}` has {many} images: choose one of {names}",
                directory.display()
            )),
        }
    }

    fn load_spooled(
        &self,
        mut spool: Spool<'_>,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>, Error> {
        let index = match spool.find("index.json")? {
            Some(file) => Some(parse::<Index>(&file.read(DOCUMENT_BYTES_MAX)?, "index.json")?),
            None => None,
        };
        if let Some(file) = spool.find("manifest.json")? {
            let saved: Vec<Saved> = parse(&file.read(DOCUMENT_BYTES_MAX)?, "manifest.json")?;
            let known = index.map_or_else(Vec::new, |index| index.manifests);
            let load = |one| self.load_saved(&mut spool, one, &known, platform);
            let loaded = saved.into_iter().map(load).collect::<Result<Vec<_>, Error>>()?;
            let loaded: Vec<Loaded> = loaded.into_iter().flatten().collect();
            return match (loaded.is_empty(), platform) {
                (true, Some(platform)) => invalid(format!("archive has no image for {platform}")),
                _ => Ok(loaded),
            };
        }
        match index {
            Some(index) => self.load_layout(&mut spool, index, platform),
            None => invalid("archive is neither of `docker save` nor an OCI image layout"),
        }
    }

    fn load_saved(
        &self,
        spool: &mut Spool<'_>,
        saved: Saved,
        known: &[Descriptor],
        platform: Option<&Platform>,
    ) -> Result<Option<Loaded>, Error> {
        let file = spool.get(&saved.config)?;
        let config: ImageConfig = parse(&file.read(DOCUMENT_BYTES_MAX)?, &saved.config)?;
        let made_for = Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: Some(config.variant.clone()).filter(|variant| !variant.is_empty()),
        };
        if platform.is_some_and(|platform| !platform.accepts(&made_for)) {
            return Ok(None);
        }
        spool.adopt(&file)?;
        let names = saved.layers.unwrap_or_default();
        let layers = names
            .iter()
            .map(|name| spool.get(name)?.layer_descriptor())
            .collect::<Result<Vec<_>, Error>>()?;
        let synthetic = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: file.descriptor(media_type::OCI_CONFIG),
            layers,
            annotations: Default::default(),
        };
        let manifest = match known_manifest(spool, known, &synthetic, platform)? {
            Some(manifest) => manifest,
            None => self.put_document(&crate::disk::json(&synthetic)?, media_type::OCI_MANIFEST)?,
        };
        self.load_layers(spool, &synthetic.layers, &names, &config)?;
        let references = saved.repo_tags.unwrap_or_default();
        let new = NewImage { manifest, index: None, repo_digest: None };
        self.add_loaded(new, references).map(Some)
    }

    fn load_layout(
        &self,
        spool: &mut Spool<'_>,
        index: Index,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>, Error> {
        let host = Platform::host();
        let platform = platform.unwrap_or(&host);
        let mut loaded = Vec::new();
        for top in index.manifests {
            let references: Vec<Reference> = name_of(&top).into_iter().collect();
            if let Some((manifest, index)) = choose(spool, top, platform, INDEX_DEPTH_MAX)? {
                loaded.push(self.load_manifest(spool, manifest, index, references)?);
            }
        }
        if loaded.is_empty() {
            return invalid(format!("archive has no image for {platform}"));
        }
        Ok(loaded)
    }

    fn load_manifest(
        &self,
        spool: &mut Spool<'_>,
        descriptor: Descriptor,
        index: Option<Digest>,
        references: Vec<Reference>,
    ) -> Result<Loaded, Error> {
        let file = spool.blob(&descriptor)?;
        let manifest: Manifest = parse(&file.read(DOCUMENT_BYTES_MAX)?, "manifest")?;
        spool.adopt(&file)?;
        let config_file = spool.blob(&manifest.config)?;
        let config: ImageConfig = parse(&config_file.read(DOCUMENT_BYTES_MAX)?, "configuration")?;
        spool.adopt(&config_file)?;
        for layer in &manifest.layers {
            spool.blob(layer)?;
        }
        let names: Vec<String> = manifest
            .layers
            .iter()
            .map(|layer| format!("blobs/sha256/{}", layer.digest.hex()))
            .collect();
        self.load_layers(spool, &manifest.layers, &names, &config)?;
        let manifest = Descriptor { platform: None, annotations: Default::default(), ..descriptor };
        self.add_loaded(NewImage { manifest, index, repo_digest: None }, references)
    }

    /// Keeps and unpacks the members that are layers.
    fn load_layers(
        &self,
        spool: &mut Spool<'_>,
        layers: &[Descriptor],
        names: &[String],
        config: &ImageConfig,
    ) -> Result<(), Error> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return invalid(format!(
                "archive has {} layers for an image of {}",
                layers.len(),
                diff_ids.len()
            ));
        }
        for ((layer, name), diff_id) in layers.iter().zip(names).zip(diff_ids) {
            let file = spool.get(name)?;
            spool.adopt(&file)?;
            let mut blob = self.open_blob(&layer.digest)?;
            self.unpack(diff_id, layer, &mut blob, &mut |_| {})?;
        }
        Ok(())
    }

    fn add_loaded(&self, new: NewImage, references: Vec<Reference>) -> Result<Loaded, Error> {
        let image = self.add_image(new)?;
        for reference in &references {
            self.tag(reference, &image.id)?;
        }
        Ok(Loaded { image: self.resolve(&image.id.to_string())?, references })
    }
}

/// The manifest that the archive itself has for an image of `manifest.json`: then a push sends the
/// same bytes that were pulled.
pub(crate) fn known_manifest(
    spool: &mut Spool<'_>,
    known: &[Descriptor],
    wanted: &Manifest,
    platform: Option<&Platform>,
) -> Result<Option<Descriptor>, Error> {
    let host = Platform::host();
    let platform = platform.unwrap_or(&host);
    let digests = |m: &Manifest| m.layers.iter().map(|l| l.digest).collect::<Vec<_>>();
    for top in known {
        let name = format!("blobs/sha256/{}", top.digest.hex());
        if spool.find(&name)?.is_none() {
            continue;
        }
        let Some((descriptor, _)) = choose(spool, top.clone(), platform, INDEX_DEPTH_MAX)? else {
            continue;
        };
        let file = spool.blob(&descriptor)?;
        let manifest: Manifest = parse(&file.read(DOCUMENT_BYTES_MAX)?, "manifest")?;
        if manifest.config.digest == wanted.config.digest && digests(&manifest) == digests(wanted) {
            spool.adopt(&file)?;
            return Ok(Some(Descriptor {
                platform: None,
                annotations: Default::default(),
                ..descriptor
            }));
        }
    }
    Ok(None)
}

/// The manifest for a platform below an entry of an index, with the index that led to it.
fn choose(
    spool: &mut Spool<'_>,
    top: Descriptor,
    wanted: &Platform,
    depth: usize,
) -> Result<Option<(Descriptor, Option<Digest>)>, Error> {
    if top.platform.as_ref().is_some_and(|platform| !wanted.accepts(platform)) {
        return Ok(None);
    }
    let file = spool.blob(&top)?;
    let document = Document::parse(&file.read(DOCUMENT_BYTES_MAX)?, &top.media_type)
        .or_else(|e| invalid(format!("manifest {}: {e}", top.digest)))?;
    let Document::Index(index) = document else {
        return Ok(Some((top, None)));
    };
    if depth == 0 {
        return invalid("archive has indexes nested too deeply");
    }
    let Some(chosen) = index.select(wanted).cloned() else {
        return Ok(None);
    };
    spool.adopt(&file)?;
    let below = choose(spool, chosen, wanted, depth - 1)?;
    Ok(below.map(|(manifest, _)| (manifest, Some(top.digest))))
}

/// The name that an entry of an index was given, where it is a whole one.
pub(crate) fn name_of(entry: &Descriptor) -> Option<Reference> {
    let whole = entry.annotations.get(NAME_ANNOTATION);
    let short = entry.annotations.get(REF_ANNOTATION).filter(|name| name.contains(['/', ':']));
    whole.or(short).and_then(|name| name.parse().ok())
}

/// Whether an entry of an index is meant by a name, a tag or a digest.
fn is_called(entry: &Descriptor, name: &str) -> bool {
    let is_it = |known: &String| known == name || known.rsplit(':').next() == Some(name);
    let annotations = [NAME_ANNOTATION, REF_ANNOTATION];
    annotations.iter().filter_map(|key| entry.annotations.get(*key)).any(is_it)
        || entry.digest.to_string() == name
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).or_else(|e| invalid(format!("malformed {what}: {e}")))
}
