//! The check of everything below the root, and its repair.

use std::collections::HashSet;

use oci::{Digest, Reference};
use store::{Fault, FaultKind, Image};

use crate::Engine;
use crate::error::{Error, Kind, Result};

/// Something that was not as it should be, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is: `blob`, `layer`, `image`, `tag`, `stray`, `container`, or `manifest`: of a
    /// repository of the registry in the box.
    pub kind: String,
    /// Which.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// What was done about it; `None` if it is still wrong.
    pub remedy: Option<String>,
    /// What a repair would do about it, before there was one; `None` if nothing.
    pub planned: Option<String>,
}

impl Engine {
    /// Looks at every blob, layer, image, tag, container and repository. With `deep`, all layers are compared
    /// with their archives.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn check(&self, deep: bool) -> Result<Vec<Finding>> {
        let faults = self.store().check(deep)?;
        let plan = |fault: &Fault| Finding { planned: self.planned(fault), ..finding(fault) };
        let mut findings: Vec<Finding> = faults.iter().map(plan).collect();
        let broken = named(&faults, FaultKind::Layer);
        findings.extend(self.check_containers(&broken)?);
        findings.extend(self.check_repositories()?);
        Ok(findings)
    }

    /// As [`Engine::check`], and takes away what is broken, gets again what can be got from an
    /// archive here or from a registry that is known to have it, and forgets images that cannot be
    /// made whole and that no container needs.
    ///
    /// # Errors
    /// If the disk cannot be read or written, or somebody is using the store.
    pub fn repair(
        &self,
        deep: bool,
        progress: &(dyn Fn(registry::Event) + Sync),
    ) -> Result<Vec<Finding>> {
        if !self.root().exists() {
            return Ok(Vec::new());
        }
        let faults = self.store().check(deep)?;
        let broken = named(&faults, FaultKind::Layer);
        let containers = self.check_containers(&broken)?;
        let running = self.running_layers()?;
        let held = |fault: &Fault| {
            let digest = fault.name.parse::<Digest>();
            fault.kind == FaultKind::Layer && digest.is_ok_and(|digest| running.contains(&digest))
        };
        let free: Vec<Fault> = faults.iter().filter(|fault| !held(fault)).cloned().collect();
        let archives = self.archives();
        {
            let exclusive = self.store().exclusive()?;
            self.store().take_away(&exclusive, &free)?;
        }
        for (diff_id, blob) in &archives {
            if !self.store().has_layer(diff_id) {
                // Where it fails the layer is missing still, which the second look says.
                let _ = self.store().restore_layer(diff_id, blob);
            }
        }
        for fault in faults.iter().filter(|fault| fault.kind == FaultKind::Image) {
            self.fetch_again(fault, progress);
        }
        let left = self.store().check(false)?;
        self.forget_what_is_lost(&left)?;
        self.outcome(deep, &faults, containers)
    }

    /// What was found, with what is still wrong.
    fn outcome(
        &self,
        deep: bool,
        faults: &[Fault],
        containers: Vec<Finding>,
    ) -> Result<Vec<Finding>> {
        let left = self.check(deep)?;
        let is_left =
            |kind: &str, name: &str| left.iter().any(|f| f.kind == kind && f.name == name);
        let mut findings: Vec<Finding> = faults.iter().map(finding).chain(containers).collect();
        for finding in &mut findings {
            if is_left(&finding.kind, &finding.name) {
                continue;
            }
            let digest = finding.name.parse::<Digest>().ok();
            let is_there = match (finding.kind.as_str(), &digest) {
                ("blob", Some(digest)) => self.store().has_blob(digest),
                ("layer", Some(digest)) => self.store().has_layer(digest),
                ("image", _) => self.store().look_up(&finding.name).is_ok(),
                ("container", _) => true,
                _ => false,
            };
            finding.remedy = Some(if is_there { "restored" } else { "removed" }.to_owned());
        }
        let known: HashSet<(String, String)> =
            findings.iter().map(|f| (f.kind.clone(), f.name.clone())).collect();
        let fresh = left.into_iter();
        findings.extend(fresh.filter(|f| !known.contains(&(f.kind.clone(), f.name.clone()))));
        Ok(findings)
    }

    /// Layers that containers lack.
    fn check_containers(&self, broken: &HashSet<Digest>) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for container in self.list()? {
            let lacks = container.record.layers.iter();
            let arrives = self.store().is_arriving(container.record.chain());
            let is_here = |layer: &Digest| arrives || self.store().has_layer(layer);
            let mut lacks = lacks.filter(|layer| !is_here(layer) || broken.contains(layer));
            if let Some(layer) = lacks.next() {
                findings.push(Finding {
                    kind: "container".to_owned(),
                    name: container.record.name.clone(),
                    why: format!("it lacks the layer {layer}"),
                    remedy: None,
                    planned: self.restorable(layer),
                });
            }
        }
        Ok(findings)
    }

    /// Manifests in the registry in the box that cannot be pulled any more.
    fn check_repositories(&self) -> Result<Vec<Finding>> {
        let missing = registry::missing(self.store()).map_err(|error| {
            Error::caused(Kind::Internal, "check the registry's repositories", error)
        })?;
        let finding = |missing: registry::Missing| Finding {
            kind: "manifest".to_owned(),
            name: format!("{}@{}", missing.repository, missing.manifest),
            why: match missing.lacks == missing.manifest {
                true => "it is not here; push it again".to_owned(),
                false => format!("it lacks {}; push it again", missing.lacks),
            },
            remedy: None,
            planned: None,
        };
        Ok(missing.into_iter().map(finding).collect())
    }

    /// What [`Engine::repair`] would try to do about a fault.
    fn planned(&self, fault: &Fault) -> Option<String> {
        let digest = fault.name.parse::<Digest>().ok();
        let removed = || Some("would be removed".to_owned());
        match (fault.kind, digest) {
            (FaultKind::Layer, Some(layer)) => {
                let is_mounted = self.running_layers().is_ok_and(|used| used.contains(&layer));
                if is_mounted { None } else { self.restorable(&layer).or_else(removed) }
            }
            (FaultKind::Image, Some(image)) => {
                let lacked = fault.lacks.first().filter(|_| fault.lacks.len() == 1);
                let uses = self.image_uses().unwrap_or_default();
                let stays = self.still_runs(fault) || uses.iter().any(|used| used.image == image);
                let known = self.store().look_up(&fault.name).ok();
                lacked
                    .and_then(|layer| self.unpackable(layer))
                    .or_else(|| known.as_ref().and_then(pullable))
                    .or_else(|| removed().filter(|_| !stays))
            }
            (FaultKind::Blob, Some(blob)) => {
                let images = self.store().images().unwrap_or_default();
                let has = |image: &&Image| {
                    let layers = image.layers.iter().map(|layer| layer.blob.digest);
                    [image.id, image.manifest.digest].into_iter().chain(layers).any(|d| d == blob)
                };
                images.iter().filter(has).find_map(pullable).or_else(removed)
            }
            _ => removed(),
        }
    }

    /// How a layer can be had again, if it can.
    fn restorable(&self, layer: &Digest) -> Option<String> {
        let images = self.store().images().unwrap_or_default();
        let pulled = || images.iter().filter(|i| i.diff_ids().contains(layer)).find_map(pullable);
        self.unpackable(layer).or_else(pulled)
    }

    /// From an archive that is here, if there is one.
    fn unpackable(&self, layer: &Digest) -> Option<String> {
        let held = |(of, blob): &(Digest, Digest)| of == layer && self.store().has_blob(blob);
        self.archives().iter().any(held).then(|| "would be unpacked again".to_owned())
    }

    /// The layers that are mounted now.
    fn running_layers(&self) -> Result<HashSet<Digest>> {
        let running = self.list()?.into_iter().filter(crate::Container::is_running);
        Ok(running.flat_map(|container| container.record.layers).collect())
    }

    /// Which archives each layer that somebody needs may be unpacked from.
    fn archives(&self) -> Vec<(Digest, Digest)> {
        let images = self.store().images().unwrap_or_default();
        let layers = images.iter().flat_map(|image| &image.layers);
        let archives = layers.flat_map(|layer| {
            let held = self.store().archive_of(&layer.diff_id).ok().flatten();
            // An archive that is not compressed is called as its layer is.
            let known = held.into_iter().chain([layer.blob.digest, layer.diff_id]);
            known.map(|blob| (layer.diff_id, blob))
        });
        archives.collect()
    }

    /// Whether all that an image lacks are blobs of layers that are here: it runs, but cannot be
    /// sent anywhere.
    fn still_runs(&self, fault: &Fault) -> bool {
        let Ok(image) = self.store().look_up(&fault.name) else { return false };
        let blobs: Vec<Digest> = image.layers.iter().map(|layer| layer.blob.digest).collect();
        !fault.lacks.is_empty() && fault.lacks.iter().all(|lacked| blobs.contains(lacked))
    }

    /// Pulls an image that lacks something from where it is known to be.
    fn fetch_again(&self, fault: &Fault, progress: &(dyn Fn(registry::Event) + Sync)) {
        let Ok(image) = self.store().look_up(&fault.name) else { return };
        let config = image.config(self.store()).ok();
        let platform = config.map(|config| oci::Platform {
            os: config.os,
            architecture: config.architecture,
            variant: Some(config.variant).filter(|variant| !variant.is_empty()),
        });
        let is_whole = || {
            let documents = [image.id, image.manifest.digest];
            documents.iter().all(|digest| self.store().has_blob(digest))
                && image.layers.iter().all(|layer| {
                    self.store().has_layer(&layer.diff_id)
                        && self.store().has_blob(&layer.blob.digest)
                })
        };
        let pins: Vec<&Reference> = image.repo_digests.iter().collect();
        for pin in pins {
            if is_whole() {
                return;
            }
            // Another repository may have it; if none has, the image is still found to lack it.
            let _ = self.pull(pin, platform.as_ref(), progress);
        }
    }

    /// Forgets images that lack something still and that no container is made from, and tags that
    /// name nothing.
    fn forget_what_is_lost(&self, left: &[Fault]) -> Result<()> {
        let used: HashSet<Digest> = self.image_uses()?.into_iter().map(|used| used.image).collect();
        for fault in left {
            let digest = fault.name.parse::<Digest>();
            match fault.kind {
                FaultKind::Image if self.still_runs(fault) => {}
                FaultKind::Image if digest.is_ok_and(|digest| !used.contains(&digest)) => {
                    self.store().forget(fault)?;
                }
                FaultKind::Tag => self.store().forget(fault)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// From where an image is known to be, if it is.
fn pullable(image: &Image) -> Option<String> {
    let from = image.repo_digests.first()?;
    Some(format!("would be pulled from {}", from.familiar()))
}

fn named(faults: &[Fault], kind: FaultKind) -> HashSet<Digest> {
    let of = faults.iter().filter(|fault| fault.kind == kind);
    of.filter_map(|fault| fault.name.parse().ok()).collect()
}

fn finding(fault: &Fault) -> Finding {
    Finding {
        kind: fault.kind.to_string(),
        name: fault.name.clone(),
        why: fault.why.clone(),
        remedy: None,
        planned: None,
    }
}
