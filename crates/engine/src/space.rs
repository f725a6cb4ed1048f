//! How much of what there is: what `docker system df` counts.

use std::collections::{HashMap, HashSet};

use oci::Digest;
use store::{Image, Measure};

use crate::error::Result;
use crate::{Container, Engine, Volume};

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
        let layers_bytes = holders.values().map(|(size, _)| size).sum();
        let volumes =
            self.volume_list()?.into_iter().map(|volume| self.volume_usage(volume, &containers));
        Ok(DiskUsage {
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

    fn volume_usage(&self, volume: Volume, containers: &[Container]) -> Result<VolumeUsage> {
        let bytes = Measure::default().add(&volume.mountpoint)?;
        let own = Measure::default().own(&volume.mountpoint)?;
        let uses = |container: &&Container| crate::volume::uses(&container.record, &volume.name);
        let links = containers.iter().filter(uses).count();
        Ok(VolumeUsage { bytes: bytes - own, links, volume })
    }
}
