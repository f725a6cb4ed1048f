//! Converts a store to another driver, layer by layer.
//!
//! Layers are unpacked again from their blobs, under a hidden name, and changed for the old ones by
//! one exchange of names. The record of the store is changed first: layers that come meanwhile are
//! of the new kind, and a migration that was interrupted goes on where it was.

use std::collections::HashSet;

use oci::Digest;
use rustix::fs::RenameFlags;

use crate::disk::{Exclusive, Part, Store, all_names, names};
use crate::driver::{Driver, store_cannot};
use crate::error::{Doing as _, Error};
use crate::layer::LIMITS;
use crate::snapshot::{Base, is_merged};

/// What a migration came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Layers that were converted, by diff id.
    pub converted: Vec<Digest>,
    /// Layers that somebody uses now: they stay as they are, and go on working.
    pub in_use: Vec<Digest>,
}

impl Store {
    /// Makes `driver` the one of this store, and converts its layers, except those in `in_use`:
    /// of running containers, whose mounts need what is there.
    ///
    /// The caller finds out what is in use after it got `exclusive`. `progress` is told of each
    /// layer that was converted. Killed at any moment, this leaves a store that works, and can be
    /// called again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the driver does not work here; [`Error::NotFound`] if a layer has no
    /// blob in whatever encoding, before anything was changed; [`Error::Io`].
    pub fn migrate(
        &self,
        exclusive: Exclusive,
        driver: Driver,
        in_use: &HashSet<Digest>,
        progress: &mut dyn FnMut(&Digest),
    ) -> Result<Migrated, Error> {
        if driver == Driver::Erofs && !self.mounts_images() {
            return Err(store_cannot());
        }
        let store = Self { requested: None, ..self.clone() };
        let mut migrated = Migrated::default();
        let mut to_convert = Vec::new();
        for name in names(&store.part(Part::Layers))? {
            let Ok(layer) = Digest::from_hex(&name) else { continue };
            if store.driver_of(&layer) == driver {
                continue;
            }
            // An image stays open for those who have it mounted; a tree would be taken from them.
            if driver == Driver::Erofs && in_use.contains(&layer) {
                migrated.in_use.push(layer);
                continue;
            }
            to_convert.push((layer, store.needed_archive(&layer)?));
        }
        // Not before it is known that all of them can be.
        store.record_driver(driver)?;
        for (layer, archive) in to_convert {
            store.convert(&layer, archive, driver)?;
            progress(&layer);
            migrated.converted.push(layer);
        }
        store.forget_bases(driver, in_use)?;
        drop(exclusive);
        store.empty_trash()?;
        Ok(migrated)
    }

    fn driver_of(&self, layer: &Digest) -> Driver {
        if self.image_path(layer).is_some() { Driver::Erofs } else { Driver::Dir }
    }

    fn convert(&self, diff_id: &Digest, archive: Digest, driver: Driver) -> Result<(), Error> {
        let mut blob = self.open_blob(&archive)?;
        let unpacked = self.unpack_as(driver, &mut blob, &mut |_| {}, LIMITS)?;
        if unpacked.diff_id != *diff_id {
            let what = format!("content of layer {archive}");
            return Err(Error::Digest { what, expected: *diff_id, actual: unpacked.diff_id });
        }
        let (scratch, _) = self.complete(unpacked, archive)?;
        // The old one goes.
        self.sync()?;
        // Merged images know where its data lies.
        self.forget_bases_where(|name, base| is_merged(name) && base.layers.contains(diff_id))?;
        let (new, place) = (scratch.path(), self.layer_path(diff_id));
        let here = rustix::fs::CWD;
        rustix::fs::renameat_with(here, new, here, &place, RenameFlags::EXCHANGE)
            .doing(|| format!("exchange layer {diff_id}"))?;
        // The scratch is what was there before now, and goes with its name.
        drop(scratch);
        Ok(())
    }

    /// Removes the bases of the other driver, which are made again as they are needed; trees that
    /// somebody uses stay.
    fn forget_bases(&self, driver: Driver, in_use: &HashSet<Digest>) -> Result<(), Error> {
        self.forget_bases_where(|name, base| match driver {
            Driver::Dir => is_merged(name),
            Driver::Erofs => {
                !is_merged(name) && !base.layers.iter().any(|layer| in_use.contains(layer))
            }
        })
    }

    pub(crate) fn forget_bases_where(
        &self,
        goes: impl Fn(&str, &Base) -> bool,
    ) -> Result<(), Error> {
        let bases = self.part(Part::Bases);
        for name in all_names(&bases)? {
            if self.base(&name)?.is_some_and(|base| goes(&name, &base)) {
                self.hide(&bases.join(name))?;
            }
        }
        Ok(())
    }
}
