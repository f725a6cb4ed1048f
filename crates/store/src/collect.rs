//! Garbage collection: what no image and no container needs any more.
//!
//! The roots are the records of images, what the repositories of a registry in the box hold, and the
//! layers that the caller says are in use. The store's exclusive lock is held only while garbage is found and moved into the trash, one rename each.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci::Digest;

use crate::disk::{Exclusive, Part, Store, all_names};
use crate::error::Error;
use crate::measure::Measure;

/// Partial blobs older than this are not waiting for a retry any more.
pub const INGEST_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that no image has.
    pub blobs: Vec<Digest>,
    /// Layers, by diff id, that no image and no container has.
    pub layers: Vec<Digest>,
    /// Blobs of which a part had come.
    pub unfinished: Vec<Digest>,
    /// Bytes freed: of blobs, of partial blobs, and of data in the files of layers.
    pub bytes: u64,
}

/// How much is where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Number of images.
    pub images: u64,
    /// Number of unpacked layers.
    pub layers: u64,
    /// Bytes of data in the files of unpacked layers.
    pub layer_bytes: u64,
    /// Number of blobs.
    pub blobs: u64,
    /// Bytes of blobs.
    pub blob_bytes: u64,
    /// Bytes of partial blobs, and of what was being built of them.
    pub ingest_bytes: u64,
}

/// What must stay.
#[derive(Debug, Default)]
struct Live {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
    /// Layers whose record names a blob that is not kept, and the blob that is.
    archives: HashMap<Digest, Digest>,
}

impl Store {
    /// Removes what neither an image nor one of `in_use_layers` (diff ids) needs, and partial blobs
    /// that were not written to for `ingest_age_max` ([`INGEST_AGE_MAX`], unless asked otherwise).
    ///
    /// The caller finds out what is in use after it got `exclusive`, which this lets go of before
    /// the slow part. Every layer that stays keeps a blob that it can be unpacked from again: the one
    /// that an image's manifest names, else the one that its record names.
    ///
    /// # Errors
    /// [`Error::Io`]. What was not removed is left for the next time.
    pub fn collect(
        &self,
        exclusive: Exclusive,
        in_use_layers: &HashSet<Digest>,
        ingest_age_max: Duration,
    ) -> Result<Collected, Error> {
        let live = self.live(in_use_layers)?;
        for (layer, archive) in &live.archives {
            self.record_archive(layer, *archive)?;
        }
        let mut collected = Collected::default();
        // Before its layers, which may come again with their data elsewhere.
        self.sweep_bases(&live)?;
        self.sweep_layers(&live, &mut collected)?;
        self.sweep_blobs(&live, &mut collected)?;
        self.sweep_ingests(ingest_age_max, &mut collected)?;
        self.sweep_arrivals()?;
        self.sweep_notes()?;
        for part in [Part::Images, Part::Tags] {
            self.sweep_hidden(part, &mut collected)?;
        }
        drop(exclusive);
        self.empty_trash()?;
        Ok(collected)
    }

    /// How much is where, from the records.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let mut usage = DiskUsage { images: self.records()?.len() as u64, ..DiskUsage::default() };
        for layer in self.digests(Part::Layers)? {
            usage.layers += 1;
            usage.layer_bytes += self.layer(&layer).map_or(0, |layer| layer.size);
        }
        for blob in self.digests(Part::Blobs)? {
            usage.blobs += 1;
            usage.blob_bytes += file_size(&self.blob_path(&blob));
        }
        let ingest = self.part(Part::Ingest);
        usage.ingest_bytes =
            all_names(&ingest)?.iter().map(|name| tree_size(&ingest.join(name))).sum();
        Ok(usage)
    }

    fn live(&self, in_use: &HashSet<Digest>) -> Result<Live, Error> {
        let mut live = Live { layers: in_use.clone(), ..Live::default() };
        let mut named: HashMap<Digest, Digest> = HashMap::new();
        for image in self.records()? {
            live.blobs.extend([image.id, image.manifest.digest]);
            live.blobs.extend(image.index);
            for layer in image.layers {
                live.layers.insert(layer.diff_id);
                live.blobs.insert(layer.blob.digest);
                if self.has_blob(&layer.blob.digest) {
                    named.insert(layer.diff_id, layer.blob.digest);
                }
            }
        }
        live.blobs.extend(self.held_by_repositories()?);
        for diff_id in &live.layers {
            let Ok(layer) = self.layer(diff_id) else { continue };
            match named.get(diff_id) {
                Some(named) if !live.blobs.contains(&layer.blob) => {
                    live.archives.insert(*diff_id, *named);
                }
                _ => drop(live.blobs.insert(layer.blob)),
            }
        }
        Ok(live)
    }

    /// The blobs that the repositories of the registry in the box hold.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn held_by_repositories(&self) -> Result<Vec<Digest>, Error> {
        let registry = self.registry_path();
        let mut held = Vec::new();
        for repository in all_names(&registry)? {
            for kind in ["blobs", "manifests"] {
                let names = all_names(&registry.join(&repository).join(kind))?;
                held.extend(names.iter().filter_map(|name| Digest::from_hex(name).ok()));
            }
        }
        Ok(held)
    }

    fn sweep_layers(&self, live: &Live, collected: &mut Collected) -> Result<(), Error> {
        for layer in self.digests(Part::Layers)? {
            if !live.layers.contains(&layer) {
                collected.bytes += self.layer(&layer).map_or(0, |layer| layer.size);
                self.hide(&self.layer_path(&layer))?;
                collected.layers.push(layer);
            }
        }
        self.sweep_hidden(Part::Layers, collected)
    }

    fn sweep_bases(&self, live: &Live) -> Result<(), Error> {
        let bases = self.part(Part::Bases);
        for name in all_names(&bases)? {
            let base = self.base(&name)?;
            let is_live =
                base.is_some_and(|base| base.layers.iter().all(|l| live.layers.contains(l)));
            if !is_live {
                self.hide(&bases.join(name))?;
            }
        }
        Ok(())
    }

    fn sweep_blobs(&self, live: &Live, collected: &mut Collected) -> Result<(), Error> {
        for blob in self.digests(Part::Blobs)? {
            if !live.blobs.contains(&blob) {
                let path = self.blob_path(&blob);
                collected.bytes += file_size(&path);
                self.hide(&path)?;
                collected.blobs.push(blob);
            }
        }
        self.sweep_hidden(Part::Blobs, collected)
    }

    /// Nobody writes to a partial blob now: its writer would hold a lease.
    fn sweep_ingests(&self, age_max: Duration, collected: &mut Collected) -> Result<(), Error> {
        let ingest = self.part(Part::Ingest);
        for name in all_names(&ingest)? {
            let path = ingest.join(&name);
            let Ok(meta) = path.symlink_metadata() else { continue };
            let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if name.starts_with('.') || age.is_none_or(|age| age >= age_max) {
                collected.bytes += tree_size(&path);
                collected.unfinished.extend(Digest::from_hex(&name).ok());
                self.hide(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what a killed process was building: nobody builds anything now.
    fn sweep_hidden(&self, part: Part, collected: &mut Collected) -> Result<(), Error> {
        let directory = self.part(part);
        for name in all_names(&directory)?.iter().filter(|name| name.starts_with('.')) {
            let path = directory.join(name);
            collected.bytes += tree_size(&path);
            self.hide(&path)?;
        }
        Ok(())
    }

    /// The digests that name the entries of a part.
    fn digests(&self, part: Part) -> Result<Vec<Digest>, Error> {
        let names = all_names(&self.part(part))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }
}

fn file_size(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |meta| meta.len())
}

/// Bytes of a file, or on disk of what is in a directory; what cannot be read counts for nothing.
fn tree_size(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {
            let whole = Measure::default().add(path).unwrap_or(0);
            whole.saturating_sub(Measure::default().own(path).unwrap_or(0))
        }
        Ok(meta) => meta.len(),
        Err(_) => 0,
    }
}
