//! The recipes of the pool's images.

mod busybox;
mod debian;
pub mod layered;
pub mod many_files;

use anyhow::Result;
use oci::{ContainerConfig, Digest, History, ImageConfig, Platform};

use crate::layout::Layout;
pub(crate) use debian::userland;

/// When every image of the pool claims to have been made: [`crate::archive::EPOCH`] as a date.
const CREATED: &str = "2023-11-14T22:13:20Z";

/// Raised whenever a recipe changes, so that caches of the older one are made anew.
pub(crate) const RECIPES: u32 = 3;

/// How one family of images is made, and the names that it gets.
pub(crate) struct Recipe {
    /// The repository below `library/` that `pool make` knows it by.
    pub(crate) name: &'static str,
    /// The family whose layers it builds on.
    pub(crate) base: Option<&'static str>,
    /// Writes the images into the layout and names them.
    pub(crate) make: fn(&Layout) -> Result<()>,
}

/// All families, each after its base.
pub(crate) const RECIPES_ALL: &[Recipe] = &[
    Recipe { name: "busybox", base: None, make: busybox::make },
    Recipe { name: "debian", base: None, make: debian::make },
    Recipe { name: "python", base: Some("debian"), make: debian::make_python },
    Recipe { name: "nginx", base: Some("debian"), make: debian::make_nginx },
    Recipe { name: "services", base: Some("debian"), make: debian::make_services },
    Recipe { name: "many-layers", base: Some("busybox"), make: layered::make },
    Recipe { name: "many-files", base: None, make: many_files::make },
];

/// The configuration of an image for this machine with the given default command.
pub(crate) fn config(command: &[&str], steps: &[&str]) -> ImageConfig {
    let host = Platform::host();
    ImageConfig {
        created: Some(CREATED.to_owned()),
        architecture: host.architecture,
        os: host.os,
        config: ContainerConfig {
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            env: vec![
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ],
            ..ContainerConfig::default()
        },
        history: steps.iter().map(|step| made_by(step)).collect(),
        ..ImageConfig::default()
    }
}

fn made_by(step: &str) -> History {
    let created = Some(CREATED.to_owned());
    History { created, created_by: step.to_owned(), ..History::default() }
}

/// The plain-archive digests and descriptors of the layers of a named image in the layout.
pub(crate) fn layers_of(layout: &Layout, name: &str) -> Result<Vec<crate::layout::Layer>> {
    let manifest = layout.manifest(name)?;
    let config: ImageConfig = layout.read(&manifest.config.digest)?;
    let diff_ids: Vec<Digest> = config.rootfs.diff_ids;
    let pairs = manifest.layers.into_iter().zip(diff_ids);
    Ok(pairs.map(|(descriptor, diff_id)| crate::layout::Layer { descriptor, diff_id }).collect())
}
