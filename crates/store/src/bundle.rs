//! Archives and directories of images, for reading what is in them without adding it to the store.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type};

use crate::disk::{Lease, Store, json};
use crate::error::{Error, invalid};
use crate::image::DOCUMENT_BYTES_MAX;
use crate::load::{REF_ANNOTATION, Saved, known_manifest, name_of, parse};
use crate::spool::{Spool, Spooled};

/// An archive of `docker save` or an OCI image layout, opened for reading.
#[derive(Debug)]
pub struct Bundle<'a> {
    spool: Mutex<Spool<'a>>,
    /// Manifests that the archive does not have itself, or has under another name.
    made: HashMap<Digest, Vec<u8>>,
    /// Blobs by their digests, where the archive has other names for them.
    files: HashMap<Digest, Spooled>,
    tops: Vec<Top>,
    _lease: Lease,
}

/// An image of a bundle, or an index.
#[derive(Debug, Clone)]
struct Top {
    descriptor: Descriptor,
    names: Vec<Reference>,
    /// What `org.opencontainers.image.ref.name` says: a tag, or any text.
    label: Option<String>,
}

impl Store {
    /// Opens an archive, plain or compressed, which is read to its end and kept beside the store
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no archive of images; [`Error::Io`].
    pub fn open_archive(&self, archive: &mut dyn Read) -> Result<Bundle<'_>, Error> {
        let lease = self.lease()?;
        Bundle::new(Spool::of_archive(self, archive, &mut |_| {})?, lease)
    }

    /// Opens a directory in the OCI image layout.
    ///
    /// # Errors
    /// As of [`Store::open_archive`].
    pub fn open_layout(&self, directory: &Path) -> Result<Bundle<'_>, Error> {
        let lease = self.lease()?;
        Bundle::new(Spool::of_directory(self, directory)?, lease)
    }
}

impl<'a> Bundle<'a> {
    fn new(mut spool: Spool<'a>, lease: Lease) -> Result<Self, Error> {
        let (mut made, mut files) = (HashMap::new(), HashMap::new());
        let index = match spool.find("index.json")? {
            Some(file) => parse::<Index>(&file.read(DOCUMENT_BYTES_MAX)?, "index.json")?.manifests,
            None => Vec::new(),
        };
        let mut tops: Vec<Top> = index.iter().map(Top::of).collect();
        if let Some(file) = spool.find("manifest.json")? {
            let saved: Vec<Saved> = parse(&file.read(DOCUMENT_BYTES_MAX)?, "manifest.json")?;
            for saved in saved {
                tops.push(docker_top(&mut spool, saved, &index, (&mut made, &mut files))?);
            }
        }
        if tops.is_empty() {
            return invalid("this is neither what `docker save` writes nor an OCI image layout");
        }
        Ok(Self { spool: Mutex::new(spool), made, files, tops, _lease: lease })
    }

    fn spool(&self) -> MutexGuard<'_, Spool<'a>> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image or index called `name`, or the only one there is.
    ///
    /// A name is what `org.opencontainers.image.ref.name` says, a complete reference, a digest, or `@`
    /// and the place in the list, from 0 on.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if there is a choice and no name.
    pub fn top(&self, name: Option<&str>) -> Result<Descriptor, Error> {
        let Some(name) = name else {
            let first = &self.tops[0].descriptor;
            if self.tops.iter().any(|top| top.descriptor.digest != first.digest) {
                let names = self.names();
                return invalid(format!("there are several images; choose one of {names}"));
            }
            return Ok(first.clone());
        };
        let place = name.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
        let reference: Option<Reference> = name.parse().ok();
        let is_meant = |top: &&Top| {
            top.label.as_deref() == Some(name)
                || reference.as_ref().is_some_and(|wanted| top.names.contains(wanted))
                || name.parse().is_ok_and(|digest: Digest| top.descriptor.digest == digest)
        };
        let found = match place {
            Some(place) => self.tops.get(place),
            None => self.tops.iter().find(is_meant),
        };
        found.map(|top| top.descriptor.clone()).ok_or_else(|| {
            Error::NotFound(format!("image `{name}` in it: it has {}", self.names()))
        })
    }

    fn names(&self) -> String {
        let one = |top: &Top| match (top.names.first(), &top.label) {
            (Some(name), _) => name.familiar(),
            (None, Some(label)) => label.escape_debug().take(100).collect(),
            (None, None) => top.descriptor.digest.to_string(),
        };
        self.tops.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// A manifest, an index or a configuration.
    ///
    /// # Errors
    /// [`Error::Digest`]; [`Error::Invalid`] if it is missing, too long or of another size.
    pub fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, Error> {
        if let Some(made) = self.made.get(&wanted.digest) {
            return Ok(made.clone());
        }
        if let Some(file) = self.files.get(&wanted.digest) {
            return file.read(DOCUMENT_BYTES_MAX);
        }
        self.spool().blob(wanted)?.read(DOCUMENT_BYTES_MAX)
    }

    /// Opens a blob. What is in it was not compared with its digest.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is missing or of another size; [`Error::Io`].
    pub fn open(&self, wanted: &Descriptor) -> Result<File, Error> {
        let file = match self.files.get(&wanted.digest) {
            Some(file) => file.open()?,
            None => self.spool().open(wanted)?,
        };
        let size = file.metadata().map_err(|source| {
            let doing = format!("inspect blob {}", wanted.digest);
            Error::Io { doing, source }
        })?;
        crate::spool::check_size(wanted, size.len())?;
        Ok(file)
    }
}

impl Top {
    fn of(descriptor: &Descriptor) -> Self {
        Self {
            names: name_of(descriptor).into_iter().collect(),
            label: descriptor.annotations.get(REF_ANNOTATION).cloned(),
            descriptor: Descriptor { annotations: Default::default(), ..descriptor.clone() },
        }
    }
}

/// An image as `manifest.json` has it: with the manifest that the archive itself has for it, or
/// one that is made for it, the same each time.
fn docker_top(
    spool: &mut Spool<'_>,
    saved: Saved,
    known: &[Descriptor],
    (made, files): (&mut HashMap<Digest, Vec<u8>>, &mut HashMap<Digest, Spooled>),
) -> Result<Top, Error> {
    let config = spool.get(&saved.config)?;
    let parsed: ImageConfig = parse(&config.read(DOCUMENT_BYTES_MAX)?, &saved.config)?;
    let mut layers = Vec::new();
    for name in saved.layers.unwrap_or_default() {
        let file = spool.get(&name)?;
        layers.push(file.layer_descriptor()?);
        files.insert(file.digest, file);
    }
    if layers.len() != parsed.rootfs.diff_ids.len() {
        let (has, wants) = (layers.len(), parsed.rootfs.diff_ids.len());
        return invalid(format!("archive has {has} layers for an image of {wants}"));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: config.descriptor(media_type::OCI_CONFIG),
        layers,
        annotations: Default::default(),
    };
    let host = Platform::host();
    let is_here = known.iter().any(|top| top.platform.as_ref().is_none_or(|p| host.accepts(p)));
    let found = if is_here { known_manifest(spool, known, &manifest, None)? } else { None };
    let descriptor = match found {
        Some(found) => found,
        None => {
            files.insert(config.digest, config);
            let bytes = json(&manifest)?;
            let digest = Digest::of(&bytes);
            let size = bytes.len() as u64;
            made.insert(digest, bytes);
            let media_type = media_type::OCI_MANIFEST.to_owned();
            Descriptor { media_type, digest, size, platform: None, annotations: Default::default() }
        }
    };
    let names = saved.repo_tags.unwrap_or_default();
    Ok(Top { descriptor, names, label: None })
}
