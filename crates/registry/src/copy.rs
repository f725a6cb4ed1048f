//! A copy: from any place to any other, without unpacking, with every digest as it was.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;

use oci::{Descriptor, Digest, Document, ImageConfig, Platform, Reference, ReferenceError};
use store::{Encoding, Store};

use crate::client::{Client, DOCUMENT_SIZE_MAX, Stop};
use crate::event::Event;
use crate::push::{StoreSource, state};
use crate::transfer::{
    self, ArchiveSink, BundleSource, Choice, LayoutSink, Plan, RemoteSink, RemoteSource, Sink,
    Source, StoreSink, from_bundle,
};
use crate::{Doing, Error};

const ID_LENGTH: usize = 12;

/// A place that images are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `docker://NAME`, or a name alone: a registry.
    Registry(Reference),
    /// `store:NAME`: this machine's store.
    Store(String),
    /// `oci:DIR[:REF]`: a directory in the OCI image layout.
    Layout {
        /// The directory.
        path: PathBuf,
        /// What the image is called in it.
        label: Option<String>,
    },
    /// `oci-archive:FILE[:REF]` or `docker-archive:FILE[:REF]`.
    Archive {
        /// The file.
        path: PathBuf,
        /// What the image is called in it.
        label: Option<String>,
        /// Whether it is what `docker load` reads; when read, both are told apart by what is in
        /// them.
        for_docker: bool,
    },
}

impl FromStr for Place {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let file = |rest: &str| {
            let (path, label) = match rest.split_once(':') {
                Some((path, label)) if !label.is_empty() => (path, Some(label.to_owned())),
                Some((path, _)) => (path, None),
                None => (rest, None),
            };
            (PathBuf::from(path), label)
        };
        let found = match text.split_once(':') {
            Some(("docker", rest)) if rest.starts_with("//") => Self::Registry(rest[2..].parse()?),
            Some(("store", name)) => Self::Store(name.to_owned()),
            Some(("oci", rest)) => {
                let (path, label) = file(rest);
                Self::Layout { path, label }
            }
            Some((kind @ ("oci-archive" | "docker-archive"), rest)) => {
                let (path, label) = file(rest);
                Self::Archive { path, label, for_docker: kind == "docker-archive" }
            }
            _ => Self::Registry(text.parse()?),
        };
        Ok(found)
    }
}

/// How to copy.
#[derive(Debug)]
pub struct Copy<'a> {
    /// For archives, layouts and `store:`.
    pub store: &'a Store,
    /// Who we are to the registry that is copied from, and how it is reached.
    pub from_client: &'a Client,
    /// The same of the one that is copied to.
    pub to_client: &'a Client,
    /// What of an index is wanted.
    pub choice: Choice,
    /// Whether a platform was asked for, so that an image for another one is refused.
    pub is_pinned: bool,
}

impl Copy<'_> {
    /// Copies what is called `from` to `to`: the digest of what was copied.
    ///
    /// What is there already is not copied again, and a copy that failed or was killed leaves
    /// nothing that anybody sees.
    ///
    /// # Errors
    /// [`Error`], by its kinds.
    pub fn run(
        &self,
        from: &Place,
        to: &Place,
        progress: &(dyn Fn(Event) + Sync),
    ) -> Result<Digest, Error> {
        let _lease = self
            .store
            .lease()
            .map_err(|source| Error::Store { what: "what is copied".to_owned(), source })?;
        match from {
            Place::Registry(reference) => {
                let repository = self.from_client.repository(Doing::Pull, reference, progress)?;
                self.transfer(&RemoteSource { repository }, Some(reference), to, progress)
            }
            Place::Store(name) => {
                let failed = || from_bundle(format!("store:{name}"));
                let image = self.store.resolve(name).map_err(failed())?;
                let encoding = match to {
                    Place::Registry(_) => Encoding::Compressed,
                    _ => Encoding::Held,
                };
                let image = self.store.distributable(&image, encoding).map_err(failed())?;
                self.transfer(&StoreSource::new(self.store, &image)?, None, to, progress)
            }
            Place::Layout { path, label } => {
                let name = format!("oci:{}", path.display());
                let bundle = self.store.open_layout(path).map_err(from_bundle(name.clone()))?;
                let source = BundleSource { bundle, name, label: label.clone() };
                self.transfer(&source, None, to, progress)
            }
            Place::Archive { path, label, .. } => {
                let name = path.display().to_string();
                let mut file = File::open(path).map_err(|source| {
                    let doing = format!("open `{name}`");
                    Error::Store { what: name.clone(), source: store::Error::Io { doing, source } }
                })?;
                let bundle =
                    self.store.open_archive(&mut file).map_err(from_bundle(name.clone()))?;
                let source = BundleSource { bundle, name, label: label.clone() };
                self.transfer(&source, None, to, progress)
            }
        }
    }

    fn transfer(
        &self,
        source: &dyn Source,
        origin: Option<&Reference>,
        to: &Place,
        progress: &(dyn Fn(Event) + Sync),
    ) -> Result<Digest, Error> {
        let plan = Plan::new(source, &self.choice)?;
        if let (true, Choice::One(platform)) = (self.is_pinned, &self.choice) {
            check_platform(source, &plan, platform)?;
        }
        if matches!(to, Place::Store(_) | Place::Archive { for_docker: true, .. }) && !plan.is_one()
        {
            let why = "the store and docker-archives take images for one platform; choose one, or \
                       copy to a registry, a layout or an oci-archive";
            return Err(Error::Invalid(why.to_owned()));
        }
        match to {
            Place::Registry(reference) => {
                let repository = self.to_client.repository(Doing::Push, reference, progress)?;
                if let Some(pinned) = reference.digest().filter(|d| **d != plan.top().digest) {
                    return Err(Error::Mismatch {
                        what: reference.familiar(),
                        expected: pinned.to_string(),
                        got: plan.top().digest.to_string(),
                    });
                }
                let width = self.to_client.uploads_max();
                let sink = RemoteSink { repository, width, mounts: HashMap::new() };
                go(&plan, source, &sink, progress)
            }
            Place::Store(name) => {
                let reference: Reference = name
                    .parse()
                    .map_err(|error| Error::Invalid(format!("store:{name}: {error}")))?;
                let (store, stop) = (self.store, Stop::default());
                let origin = origin.cloned();
                let sink = StoreSink { store, reference: &reference, origin, stop };
                go(&plan, source, &sink, progress)
            }
            Place::Layout { path, label } => {
                go(&plan, source, &LayoutSink::create(path, label.clone())?, progress)
            }
            Place::Archive { path, label, for_docker } => {
                let sink = ArchiveSink::create(path, label.clone(), *for_docker)?;
                go(&plan, source, &sink, progress)
            }
        }
    }
}

fn go(
    plan: &Plan,
    source: &dyn Source,
    sink: &dyn Sink,
    progress: &(dyn Fn(Event) + Sync),
) -> Result<Digest, Error> {
    transfer::run(plan, source, sink, &|blob: &Descriptor, news| {
        if let Some(state) = state(blob, news) {
            progress(Event::Upload { id: blob.digest.hex()[..ID_LENGTH].to_owned(), state });
        }
    })?;
    Ok(plan.top().digest)
}

/// Refuses an image that is not made for the platform that was asked for.
fn check_platform(source: &dyn Source, plan: &Plan, wanted: &Platform) -> Result<(), Error> {
    let top = plan.top();
    let Ok(Document::Manifest(manifest)) = Document::parse(&top.bytes, &top.media_type) else {
        return Ok(());
    };
    let mut bytes = Vec::new();
    let content = source.open(&manifest.config, 0)?;
    let read = std::io::Read::read_to_end(
        &mut std::io::Read::take(content, DOCUMENT_SIZE_MAX),
        &mut bytes,
    );
    let config: Option<ImageConfig> = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
    // An artifact is for no platform.
    let Some(config) = config.filter(|config| !config.architecture.is_empty()) else {
        return Ok(());
    };
    let offered = Platform {
        os: config.os,
        architecture: config.architecture,
        variant: Some(config.variant).filter(|variant| !variant.is_empty()),
    };
    if wanted.accepts(&offered) {
        return Ok(());
    }
    let (reference, wanted) = (source.name(), wanted.clone());
    Err(Error::NoPlatform { reference, wanted, available: vec![offered] })
}
