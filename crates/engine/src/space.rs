//! How much of what there is: what `docker system df` counts.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use oci::Digest;
use store::{Image, Measure};

use crate::error::Result;
use crate::file::Locks;
use crate::{BuildCacheUsage, Container, Engine, Volume};

/// Where a repository of the registry in the box keeps what is being pushed.
pub(crate) const UPLOADS: &str = "uploads";

/// What takes space, and how much.
#[derive(Debug)]
pub struct DiskUsage {
    /// The images.
    pub images: Vec<ImageUsage>,
    /// Bytes of data in the layers of all images, each counted once.
    pub layers_bytes: u64,
    /// The containers, with the bytes of data in their writable layers.
    pub containers: Vec<(Container, u64)>,
    /// The volumes.
    pub volumes: Vec<VolumeUsage>,
    /// What builds keep.
    pub build_cache: Vec<BuildCacheUsage>,
    /// What is on its way, or was broken off: downloads, archives, uploads to the registry in the
    /// box, layers that are seen before they are here.
    pub unfinished: Vec<Unfinished>,
}

/// Something that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Bytes of disk.
    pub bytes: u64,
    /// Whether somebody is at work on it.
    pub is_used: bool,
}

/// An image, with how much of it nobody else has.
#[derive(Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Bytes of data in its layers that other images have, too.
    pub shared_bytes: u64,
    /// Containers made from it.
    pub containers: usize,
}

/// A volume, with what is in it.
#[derive(Debug)]
pub struct VolumeUsage {
    /// The volume.
    pub volume: Volume,
    /// Bytes of disk that its content takes.
    pub bytes: u64,
    /// Containers that it is mounted into.
    pub links: usize,
}

impl ImageUsage {
    /// Bytes of data in layers that no other image has.
    #[must_use]
    pub fn unique_bytes(&self) -> u64 {
        self.image.size().saturating_sub(self.shared_bytes)
    }
}

impl Engine {
    /// Counts what takes space.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let containers = self.list()?;
        let images = self.images()?;
        let mut holders: HashMap<Digest, (u64, usize)> = HashMap::new();
        for image in &images {
            let mut own: HashSet<Digest> = HashSet::new();
            for layer in image.layers.iter().filter(|layer| own.insert(layer.diff_id)) {
                holders.entry(layer.diff_id).or_insert((layer.size, 0)).1 += 1;
            }
        }
        let shared = |image: &Image| {
            let layers = image.layers.iter();
            let shared = layers.filter(|layer| holders[&layer.diff_id].1 > 1);
            shared.map(|layer| layer.size).sum()
        };
        let made = |image: &Image| {
            containers.iter().filter(|container| container.record.image_id == image.id).count()
        };
        let usage = |image: Image| ImageUsage {
            shared_bytes: shared(&image),
            containers: made(&image),
            image,
        };
        let mut held: HashSet<Digest> = holders.keys().copied().collect();
        held.extend(containers.iter().flat_map(|container| container.record.all_layers()));
        let layers_bytes = holders.values().map(|(size, _)| size).sum();
        let volumes =
            self.volume_list()?.into_iter().map(|volume| self.volume_usage(volume, &containers));
        Ok(DiskUsage {
            build_cache: self.build_cache(&held)?,
            unfinished: self.unfinished()?,
            layers_bytes,
            images: images.into_iter().map(usage).collect(),
            volumes: volumes.collect::<Result<_>>()?,
            containers: containers
                .into_iter()
                .map(|container| Ok((self.writable_bytes(&container)?, container)))
                .map(|counted: Result<_>| counted.map(|(bytes, container)| (container, bytes)))
                .collect::<Result<_>>()?,
        })
    }

    /// What is not whole; empty directories do not count.
    fn unfinished(&self) -> Result<Vec<Unfinished>> {
        let (mut all, locks) = (Vec::new(), Locks::now());
        let mut add = |path: &Path, lock: &Path| -> Result<()> {
            let bytes = Measure::default().add(path)?;
            all.push(Unfinished { bytes, is_used: locks.hold(lock) });
            Ok(())
        };
        for path in entries(&self.root.join("ingest")) {
            add(&path, &path)?;
        }
        for path in entries(&self.root.join("arriving")) {
            add(&path, &path.join("lock"))?;
        }
        for repository in entries(&self.store().registry_path()) {
            for upload in entries(&repository.join(UPLOADS)) {
                add(&upload, &upload)?;
            }
        }
        Ok(all)
    }

    fn volume_usage(&self, volume: Volume, containers: &[Container]) -> Result<VolumeUsage> {
        let bytes = Measure::default().add(&volume.mountpoint)?;
        let own = Measure::default().own(&volume.mountpoint)?;
        let uses = |container: &&Container| crate::volume::uses(&container.record, &volume.name);
        let links = containers.iter().filter(uses).count();
        Ok(VolumeUsage { bytes: bytes - own, links, volume })
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
