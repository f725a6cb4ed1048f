//! Who holds every byte below the root: what it is, how much of the disk it takes, and what needs
//! it.

use std::collections::HashMap;
use std::path::Path;

use oci::{Digest, Reference};
use store::{Image, Measure};

use crate::error::{Doing, Result};
use crate::space::UPLOADS;
use crate::{Container, Engine};

/// Something that takes space on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What it is: `blob`, `layer`, `container`, `log`, `volume`, …
    pub kind: &'static str,
    /// Which one; empty for what is counted together.
    pub name: String,
    /// Bytes of disk, as `du` counts them.
    pub bytes: u64,
    /// The images, containers or processes that need it; nobody does if there are none.
    pub holders: Vec<String>,
}

/// Who needs what, by names that users know.
struct Holders {
    blobs: HashMap<Digest, Vec<String>>,
    layers: HashMap<Digest, Vec<String>>,
    images: HashMap<String, Vec<String>>,
    containers: Vec<Container>,
}

impl Engine {
    /// Everything below the root, with who holds it. The sum is what `du` says of the root.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn holdings(&self) -> Result<Vec<Holding>> {
        let holders = Holders::find(self)?;
        let mut measure = Measure::default();
        let mut all = Vec::new();
        let mut rest = measure.own(self.root())?;
        for name in names(self.root())? {
            let mut path = self.root().join(&name);
            if !KNOWN.contains(&name.as_str()) {
                rest += measure.add(&path)?;
                continue;
            }
            rest += measure.own(&path)?;
            if name == "blobs" {
                path.push("sha256");
                rest += measure.own(&path)?;
            }
            for entry in names(&path)? {
                let path = path.join(&entry);
                if name == "containers" {
                    container(&mut all, &mut measure, &holders, &path, entry)?;
                    continue;
                }
                if name == "registry" {
                    let uploads = Measure::default().add(&path.join(UPLOADS))?;
                    rest += measure.add(&path)?.saturating_sub(uploads);
                    if uploads > 0 {
                        all.push(holders.holding("uploads", entry, uploads));
                    }
                    continue;
                }
                let bytes = measure.add(&path)?;
                all.push(holders.holding(&name, entry, bytes));
            }
        }
        all.push(Holding {
            kind: "record",
            name: "tags, names, locks, directories".to_owned(),
            bytes: rest,
            holders: vec!["cais".to_owned()],
        });
        all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        Ok(all)
    }
}

/// Directories of the root that are told apart entry by entry.
const KNOWN: &[&str] = &[
    "arriving",
    "bases",
    "blobs",
    "build",
    "containers",
    "images",
    "ingest",
    "layers",
    "registry",
    "trash",
    "volumes",
];

/// A container is its writable layer, its log, and its records.
fn container(
    all: &mut Vec<Holding>,
    measure: &mut Measure,
    holders: &Holders,
    path: &Path,
    id: String,
) -> Result<()> {
    let (mut log, mut layer) = (0, measure.own(path)?);
    for name in names(path)? {
        let bytes = measure.add(&path.join(&name))?;
        match name.starts_with("container.log") {
            true => log += bytes,
            false => layer += bytes,
        }
    }
    let known = holders.containers.iter().find(|container| container.record.id == id);
    let name = known.map_or(id, |container| container.record.name.clone());
    let held = known.map(|container| container.state.status.word().to_owned());
    let held: Vec<String> = held.into_iter().collect();
    all.push(Holding {
        kind: "container",
        name: name.clone(),
        bytes: layer,
        holders: held.clone(),
    });
    if log > 0 {
        all.push(Holding { kind: "log", name, bytes: log, holders: held });
    }
    Ok(())
}

impl Holders {
    fn find(engine: &Engine) -> Result<Self> {
        let containers = engine.list()?;
        let mut found = Self {
            blobs: HashMap::new(),
            layers: HashMap::new(),
            images: HashMap::new(),
            containers,
        };
        for image in engine.images()? {
            let name = title(&image);
            let documents = [image.id, image.manifest.digest].into_iter().chain(image.index);
            let blobs = documents.chain(image.layers.iter().map(|layer| layer.blob.digest));
            for blob in blobs {
                add(&mut found.blobs, blob, &name);
            }
            for layer in &image.layers {
                add(&mut found.layers, layer.diff_id, &name);
            }
            found.images.insert(format!("{}.json", image.id.hex()), vec![name]);
        }
        for blob in engine.store().held_by_repositories()? {
            add(&mut found.blobs, blob, "registry");
        }
        for layer in engine.build_layers() {
            add(&mut found.layers, layer, "builds");
            if let Ok(layer) = engine.store().layer(&layer) {
                add(&mut found.blobs, layer.blob, "builds");
            }
        }
        for container in &found.containers {
            let name = format!("container {}", container.record.name);
            for layer in &container.record.layers {
                add(&mut found.layers, *layer, &name);
                // As the collector sees it: a layer in use keeps its blob.
                if let Ok(layer) = engine.store().layer(layer) {
                    add(&mut found.blobs, layer.blob, &name);
                }
            }
        }
        Ok(found)
    }

    fn holding(&self, part: &str, name: String, bytes: u64) -> Holding {
        let digest = Digest::from_hex(&name).ok();
        let of = |all: &HashMap<Digest, Vec<String>>| {
            digest.and_then(|digest| all.get(&digest).cloned()).unwrap_or_default()
        };
        let (kind, holders) = match part {
            "blobs" => ("blob", of(&self.blobs)),
            "layers" => ("layer", of(&self.layers)),
            "bases" => ("mount points", self.chain(&name)),
            "images" => ("record", self.images.get(&name).cloned().unwrap_or_default()),
            "ingest" => ("download", Vec::new()),
            "arriving" => ("download", vec!["early starts".to_owned()]),
            "uploads" => ("upload", Vec::new()),
            "build" => ("build cache", vec!["builds".to_owned()]),
            "trash" => ("trash", Vec::new()),
            _ => ("volume", self.mounted(&name)),
        };
        let name = match (kind, digest) {
            ("blob" | "layer" | "download", Some(digest)) => digest.to_string(),
            _ => name,
        };
        Holding { kind, name, bytes, holders }
    }

    /// The containers whose layers make a chain of this name.
    fn chain(&self, name: &str) -> Vec<String> {
        let of =
            |container: &&Container| name.starts_with(&store::base_name(&container.record.layers));
        self.containers.iter().filter(of).map(|c| format!("container {}", c.record.name)).collect()
    }

    fn mounted(&self, volume: &str) -> Vec<String> {
        let uses = |container: &&Container| crate::volume::uses(&container.record, volume);
        self.containers
            .iter()
            .filter(uses)
            .map(|c| format!("container {}", c.record.name))
            .collect()
    }
}

fn add(all: &mut HashMap<Digest, Vec<String>>, digest: Digest, name: &str) {
    let names = all.entry(digest).or_default();
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// How users know an image: by its first tag, else by its id.
fn title(image: &Image) -> String {
    let tag = image.tags.first().map(Reference::familiar);
    tag.unwrap_or_else(|| image.id.hex()[..12].to_owned())
}

/// The names in a directory, hidden ones too; none if it is not there.
fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(|| format!("list {}", path.display()))?,
    };
    let names =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}
