//! Images whose layers are read in parts before they are here as a whole.

use std::io::Read;
use std::ops::Range;

use oci::{Descriptor, Digest, ImageConfig, Platform, Reference};
use store::{Allowance, ContentsPlace, Outline, Store};

use crate::client::{Client, Repository};
use crate::event::Event;
use crate::pull::{Pull, Pulled, Resolved};
use crate::{Doing, Error};

/// What a reference leads to, of which some layers are only known by what is in them.
#[derive(Debug)]
pub struct Outlined {
    reference: Reference,
    platform: Platform,
    resolved: Resolved,
    /// The image's configuration.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<OutlinedLayer>,
}

/// A layer, which is in the store unless it has an outline.
#[derive(Debug)]
pub struct OutlinedLayer {
    /// The layer's blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// What is in it, if it is still to come.
    pub outline: Option<Outline>,
}

/// Finds the image that `reference` names for `platform`, and what is in those of its layers that
/// the store does not have and that can be read in parts; all others are brought into the store,
/// unless that is all of them.
///
/// The caller holds a [`store::Lease`] until something refers to the layers.
///
/// # Errors
/// As of [`crate::pull`].
pub fn outline(
    client: &Client,
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    progress: &(dyn Fn(Event) + Sync),
) -> Result<Outlined, Error> {
    let pull = Pull { client, store, reference, platform, progress };
    let repository = client.repository(Doing::Pull, reference, progress)?;
    let failed = |source| Error::Store { what: reference.familiar(), source };
    store.settle_driver().map_err(failed)?;
    let (resolved, config) = pull.find(&repository)?;
    let (mut layers, mut allowance) = (Vec::new(), Allowance::default());
    for (descriptor, diff_id) in resolved.manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let outline = match store.has_layer(diff_id) {
            true => None,
            false => outline_of(&repository, descriptor, &mut allowance, progress),
        };
        layers.push(OutlinedLayer { descriptor: descriptor.clone(), diff_id: *diff_id, outline });
    }
    let outlined = Outlined {
        reference: reference.clone(),
        platform: platform.clone(),
        resolved,
        config,
        layers,
    };
    if outlined.is_partial() {
        let has_outline = |diff_id: &Digest| {
            outlined.layers.iter().any(|l| l.diff_id == *diff_id && l.outline.is_some())
        };
        let manifest = &outlined.resolved.manifest;
        let diff_ids = &outlined.config.rootfs.diff_ids;
        pull.layers(&repository, manifest, diff_ids, &|diff_id| !has_outline(diff_id))?;
    }
    Ok(outlined)
}

/// What is in a layer, if it says so and the server lets us read it.
fn outline_of(
    repository: &Repository<'_>,
    layer: &Descriptor,
    allowance: &mut Allowance,
    progress: &(dyn Fn(Event) + Sync),
) -> Option<Outline> {
    let (known, footer) = (ContentsPlace::of(layer), ContentsPlace::footer(layer));
    if known.is_none() && footer.is_none() {
        return None;
    }
    let read = |range: Range<u64>| -> Result<Vec<u8>, String> {
        let length = range.end - range.start;
        let stored = repository.part(layer, range).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        stored.take(length).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    };
    let get = || -> Result<Outline, String> {
        let place = match (known, footer) {
            (Some(place), _) => place,
            (None, footer) => {
                let footer = read(footer.unwrap_or_default())?;
                ContentsPlace::by_footer(layer, &footer).map_err(|error| error.to_string())?
            }
        };
        allowance.reserve(&place).map_err(|error| error.to_string())?;
        let stored = read(place.range.clone())?;
        Outline::parse(&stored, &place, layer, allowance).map_err(|error| error.to_string())
    };
    get()
        .map_err(|why| {
            let id = &layer.digest.hex()[..12];
            progress(Event::Status(format!("{id}: cannot be read in parts: {why}")));
        })
        .ok()
}

impl Outlined {
    /// Whether there is any layer that can be read before it is here.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.layers.iter().any(|layer| layer.outline.is_some())
    }

    /// The image's id.
    #[must_use]
    pub fn image_id(&self) -> Digest {
        self.resolved.manifest.config.digest
    }

    /// The digest of the image's manifest, which vouches for what the outlines say.
    #[must_use]
    pub fn manifest(&self) -> Digest {
        self.resolved.manifest_digest()
    }

    /// Brings all layers into the store and makes the image visible, as [`crate::pull`] does, by
    /// the manifest that was found.
    ///
    /// # Errors
    /// As of [`crate::pull`].
    pub fn complete(
        &self,
        client: &Client,
        store: &Store,
        progress: &(dyn Fn(Event) + Sync),
    ) -> Result<Pulled, Error> {
        let (reference, platform) = (&self.reference, &self.platform);
        let pull = Pull { client, store, reference, platform, progress };
        let repository = client.repository(Doing::Pull, reference, progress)?;
        pull.bring(&repository, self.resolved.clone())
    }
}

/// Reads parts of the blobs of a repository.
#[derive(Debug)]
pub struct Parts<'a> {
    /// By whom.
    pub client: &'a Client,
    /// Of the repository of this image.
    pub reference: &'a Reference,
}

impl Parts<'_> {
    /// The bytes of `range`, as they come, and perhaps more behind them.
    ///
    /// # Errors
    /// [`Error`], by its kinds; [`Error::Invalid`] if the server sends whole blobs only.
    pub fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<Box<dyn Read>, Error> {
        let repository = self.client.repository(Doing::Pull, self.reference, &|_| {})?;
        repository.part(blob, range)
    }
}
