//! What builds keep, and how much of the disk that takes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use oci::Digest;
use store::Measure;

use super::cache::Outcome;
use crate::Engine;
use crate::error::Result;
use crate::file::{Locks, read_json};

/// Something that builds keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildCacheUsage {
    /// What it is known by: the key of a step, the digest of a download or of a mount's name; of
    /// the rest, the directory that it is in.
    pub id: String,
    /// What it is, in Docker's words where they have one: `regular`, `source.http`,
    /// `exec.cachemount`, `internal`.
    pub kind: &'static str,
    /// Bytes: of data in the files of a step's layer, else of disk.
    pub bytes: u64,
    /// Whether images, containers or another step have the same layer: it is counted there.
    pub is_shared: bool,
    /// Whether a build is using it.
    pub is_used: bool,
    /// When it was used last.
    pub used: Timestamp,
}

impl Engine {
    /// What builds keep; layers in `held` belong to images and containers.
    pub(crate) fn build_cache(&self, held: &HashSet<Digest>) -> Result<Vec<BuildCacheUsage>> {
        let mut all = self.steps_usage(held);
        let build = self.root.join("build");
        let locks = Locks::now();
        for (part, kind) in [("downloads", "source.http"), ("mounts", "exec.cachemount")] {
            for path in entries(&build.join(part)) {
                let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let bytes = Measure::default().add(&path)?;
                let (is_shared, is_used) = (false, locks.hold(&path.join("lock")));
                all.push(BuildCacheUsage {
                    id,
                    kind,
                    bytes,
                    is_shared,
                    is_used,
                    used: used(&path),
                });
            }
        }
        for part in ["cache", "files", "trees", "last", "run"] {
            let path = build.join(part);
            let bytes = Measure::default().add(&path)?;
            if entries(&path).is_empty() {
                continue;
            }
            let is_used =
                part == "run" && entries(&path).iter().any(|p| locks.hold(&p.join("lock")));
            let (id, kind, is_shared) = (part.to_owned(), "internal", false);
            all.push(BuildCacheUsage { id, kind, bytes, is_shared, is_used, used: used(&path) });
        }
        Ok(all)
    }

    /// The steps whose outcome is known: each with the layer that it added.
    fn steps_usage(&self, held: &HashSet<Digest>) -> Vec<BuildCacheUsage> {
        let mut seen = held.clone();
        let mut steps: Vec<_> = entries(&self.root.join("build/cache"))
            .into_iter()
            .filter(|path| path.extension() == Some("json".as_ref()))
            .filter_map(|path| Some((used(&path), read_json::<Outcome>(&path).ok()?)))
            .collect();
        steps.sort_by_key(|(used, outcome)| (outcome.layers.len(), *used));
        let usage = |(used, outcome): (Timestamp, Outcome)| {
            let layer = outcome.layers.last();
            let is_shared = layer.is_none_or(|layer| !seen.insert(*layer));
            let bytes = layer.and_then(|layer| self.store.layer(layer).ok()).map_or(0, |l| l.size);
            let (id, kind) = (outcome.key.digest().hex(), "regular");
            BuildCacheUsage { id, kind, bytes, is_shared, is_used: false, used }
        };
        steps.into_iter().map(usage).collect()
    }
}

fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn used(path: &Path) -> Timestamp {
    let time = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    time.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default()
}
