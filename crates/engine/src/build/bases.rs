//! The images that builds start from.

use build::{Base, Bases, Span};
use oci::{Digest, Platform, Reference};
use registry::Event;
use store::Image;

use super::lock::{Lock, LockedImage};
use crate::Engine;
use crate::distribution::{CopyOptions, Place};
use crate::error::{Error, Kind, Result};

/// Finds images here, and gets them from registries.
pub(crate) struct EngineBases<'a> {
    pub(crate) engine: &'a Engine,
    /// Whether images are asked for even if they are here.
    pub(crate) pull: bool,
    /// Hears of images on their way.
    pub(crate) pulling: &'a (dyn Fn(Event) + Sync),
    /// Those that were used.
    pub(crate) used: Vec<Image>,
    /// If there is one, only what it has may be used.
    pub(crate) lock: Option<&'a Lock>,
    /// What was used, pinned.
    pub(crate) pins: Lock,
}

/// Why a build cannot be planned.
#[derive(Debug)]
pub(crate) enum PlanError {
    /// Something is wrong in the file.
    File(build::Error),
    /// Something else; it has to do with this place.
    Engine(Error, Span),
}

impl From<build::Error> for PlanError {
    fn from(error: build::Error) -> Self {
        Self::File(error)
    }
}

impl Bases for EngineBases<'_> {
    type Error = PlanError;

    fn base(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> std::result::Result<Base, PlanError> {
        self.find(name, platform).map_err(|error| PlanError::Engine(error, span))
    }
}

impl Engine {
    /// Brings the image at `PATH[:TAG|@DIGEST]`, a directory in the OCI image layout, into the store: its id.
    ///
    /// # Errors
    /// If there is none for the platform.
    pub fn layout_image(&self, layout: &str, platform: &Platform) -> Result<Digest> {
        let (path, label) = match layout.split_once('@').or_else(|| layout.rsplit_once(':')) {
            Some((path, label)) if !label.contains('/') => (path, Some(label.to_owned())),
            _ => (layout, None),
        };
        // Until it is found it has a name, which nobody else has.
        let name = format!("cais-layout-{}", crate::id::fresh()?);
        let reference: Reference = name.parse().map_err(|error: oci::ReferenceError| {
            Error::caused(Kind::Internal, "name an image", error)
        })?;
        let from = Place::Layout { path: path.into(), label };
        let options = CopyOptions { platform: Some(platform.clone()), ..CopyOptions::default() };
        self.copy(&from, &Place::Store(name.clone()), &options, &|_| {})?;
        let image = self.store.resolve(&name)?;
        self.store.untag(&reference)?;
        Ok(image.id)
    }
}

impl EngineBases<'_> {
    fn find(&mut self, name: &str, platform: &Platform) -> Result<Base> {
        let pinned = self.lock.map(|lock| lock.image(name, platform)).transpose()?;
        let wanted = pinned.map_or_else(|| name.to_owned(), LockedImage::pinned);
        let image = self.image(&wanted, platform)?;
        if let Some(pinned) = pinned.filter(|pinned| pinned.id != image.id) {
            let what = format!("{wanted} is {}, and the lock file has {}", image.id, pinned.id);
            return Err(Error::new(Kind::Denied, what));
        }
        self.pins.add_image(LockedImage::new(name, platform, &image));
        let config = image.config(&self.engine.store)?;
        let base = Base { config, name: shown(name, &image), layers: image.diff_ids() };
        self.used.push(image);
        Ok(base)
    }

    /// An image that is here, or comes from its registry.
    fn image(&self, name: &str, platform: &Platform) -> Result<Image> {
        match self.here(name, platform)? {
            Some(image) => Ok(image),
            None => {
                let reference: Reference = name.parse().map_err(|error: oci::ReferenceError| {
                    Error::caused(Kind::Invalid, format!("read the image name {name:?}"), error)
                })?;
                self.pull(name, &reference, platform)
            }
        }
    }

    /// Pulls an image. One for another machine takes nobody's name: what had it keeps it.
    fn pull(&self, name: &str, reference: &Reference, platform: &Platform) -> Result<Image> {
        let store = &self.engine.store;
        let before = store.look_up(name).ok();
        self.engine.pull(reference, Some(platform), self.pulling)?;
        let image = store.resolve(name)?;
        if let Some(before) = before.filter(|_| *platform != Platform::host()) {
            store.tag(reference, &before.id)?;
        }
        Ok(image)
    }

    fn here(&self, name: &str, platform: &Platform) -> Result<Option<Image>> {
        let found = match self.engine.store.resolve(name) {
            Err(store::Error::NotFound(_)) => return Ok(None),
            found => found?,
        };
        let is_id = name.parse::<oci::Digest>().is_ok() || found.id.hex().starts_with(name);
        let fits = !self.engine.lacks_image(name, Some(platform));
        Ok((is_id || fits && !self.pull).then_some(found))
    }
}

/// The name of an image, with the digest by which a registry knows it.
fn shown(name: &str, image: &Image) -> String {
    let Ok(reference) = name.parse::<Reference>() else { return name.to_owned() };
    let repository = reference.name();
    let mut pins = image.repo_digests.iter().filter(|pin| pin.name() == repository);
    let tag = reference.tag().map_or_else(String::new, |tag| format!(":{tag}"));
    match pins.find_map(|pin| pin.digest()) {
        Some(digest) => format!("{repository}{tag}@{digest}"),
        None => format!("{repository}{tag}"),
    }
}
