//! Removal of what nobody uses: by request, and before a full disk stops everything.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use oci::{Digest, Reference};
use store::{INGEST_AGE_MAX, Image, Removed};

use crate::container::Status;
use crate::error::{Doing, Kind, Result};
use crate::event::{Event, Subject};
use crate::{Engine, RemoveOptions};

/// Which of what nobody uses is removed.
#[derive(Debug, Clone, Default)]
pub struct PruneFilter {
    /// Only what was made before.
    pub until: Option<Timestamp>,
    /// Only what has all of these labels, `key` or `key=value`.
    pub labels: Vec<String>,
    /// Nothing that has all of these labels.
    pub not_labels: Vec<String>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned<T> {
    /// Each of them.
    pub removed: Vec<T>,
    /// Bytes that are free now.
    pub bytes: u64,
}

impl<T> Default for Pruned<T> {
    fn default() -> Self {
        Self { removed: Vec::new(), bytes: 0 }
    }
}

/// How full the disk may be, in percent, as `df` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Beyond this, what nobody uses is removed before something is added.
    pub high: u8,
    /// Until it is this full.
    pub low: u8,
}

/// What was removed since the disk was too full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relief {
    /// Images.
    pub images: usize,
    /// Bytes that are free now.
    pub bytes: u64,
    /// How full the disk was, in percent.
    pub before: u8,
    /// How full it is.
    pub after: u8,
}

impl PruneFilter {
    /// Whether something made at `created` (RFC 3339) with these labels is among those.
    pub(crate) fn takes(&self, created: Option<&str>, labels: &BTreeMap<String, String>) -> bool {
        let time = || created?.parse::<Timestamp>().ok();
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
            None => labels.contains_key(wanted),
        };
        self.until.is_none_or(|until| time().is_none_or(|time| time <= until))
            && self.labels.iter().all(has)
            && (self.not_labels.is_empty() || !self.not_labels.iter().all(has))
    }
}

impl Engine {
    /// Removes the containers that do not run: their ids.
    ///
    /// # Errors
    /// If the disk cannot be read or written.
    pub fn prune_containers(&self, filter: &PruneFilter) -> Result<Pruned<String>> {
        let mut pruned = Pruned::default();
        for container in self.list()? {
            let record = &container.record;
            let is_over = matches!(container.state.status, Status::Created | Status::Exited);
            if !is_over || !filter.takes(Some(&record.created), &record.config.labels) {
                continue;
            }
            let bytes = self.writable_bytes(&container).unwrap_or(0);
            match self.remove(&container, RemoveOptions { force: false, volumes: false }) {
                // Started, or removed, by somebody else since.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                removed => {
                    removed?;
                    pruned.removed.push(record.id.clone());
                    pruned.bytes += bytes;
                }
            }
        }
        self.emit(Event::prune(Subject::Container, pruned.bytes));
        Ok(pruned)
    }

    /// Removes the images without a tag that no container is made from; with `all`, those with
    /// tags, too. Then what no image needs any more.
    ///
    /// # Errors
    /// If the disk cannot be read or written.
    pub fn prune_images(&self, all: bool, filter: &PruneFilter) -> Result<Pruned<Removed>> {
        let mut pruned = Pruned::default();
        let used: HashSet<Digest> = self.image_uses()?.into_iter().map(|used| used.image).collect();
        for image in self.images()? {
            if used.contains(&image.id) || !all && !image.tags.is_empty() {
                continue;
            }
            let labels = image.config(self.store()).map(|config| config.config.labels);
            if !filter.takes(image.created.as_deref(), &labels.unwrap_or_default()) {
                continue;
            }
            pruned.removed.extend(self.drop_image(&image)?);
        }
        pruned.bytes = self.collect(INGEST_AGE_MAX)?.bytes;
        self.emit(Event::prune(Subject::Image, pruned.bytes));
        Ok(pruned)
    }

    /// Removes what downloads that were broken off have left, older than a day or, with `all`, of
    /// whatever age, and whatever else nothing needs.
    ///
    /// # Errors
    /// If the disk cannot be read or written.
    pub fn prune_unfinished(&self, all: bool) -> Result<Pruned<Digest>> {
        let collected = self.collect(if all { Duration::ZERO } else { INGEST_AGE_MAX })?;
        Ok(Pruned { removed: collected.unfinished, bytes: collected.bytes })
    }

    /// Removes all names of an image, and with them the image, unless somebody uses it meanwhile.
    fn drop_image(&self, image: &Image) -> Result<Vec<Removed>> {
        let names = image.tags.iter().chain(&image.repo_digests);
        let mut names: Vec<String> = names.map(Reference::to_string).collect();
        if names.is_empty() {
            names.push(image.id.to_string());
        }
        let mut removed = Vec::new();
        for name in names {
            match self.remove_names(&name, false, &self.image_uses()?) {
                Err(store::Error::Conflict(_) | store::Error::NotFound(_)) => {}
                outcome => removed.extend(outcome?),
            }
        }
        Ok(removed)
    }

    /// Removes the anonymous volumes that no container uses; with `all`, those with names, too.
    ///
    /// # Errors
    /// If the disk cannot be read or written.
    pub fn prune_volumes(&self, all: bool, filter: &PruneFilter) -> Result<Pruned<String>> {
        let mut pruned = Pruned::default();
        for volume in self.volume_list()? {
            let labels = volume.labels.clone().unwrap_or_default();
            if !all && !volume.is_anonymous || !filter.takes(None, &labels) {
                continue;
            }
            let bytes = store::Measure::default().add(&volume.mountpoint)?;
            match self.remove_volume(&volume.name) {
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                removed => {
                    removed?;
                    pruned.removed.push(volume.name);
                    pruned.bytes += bytes;
                }
            }
        }
        self.emit(Event::prune(Subject::Volume, pruned.bytes));
        Ok(pruned)
    }

    /// Makes room before something is added, if the disk is fuller than it may be: removes what
    /// nothing refers to, downloads that nobody continues, and images without a tag and without a
    /// container, the oldest first. Never a volume, nor anything in use.
    ///
    /// # Errors
    /// If the disk cannot be read or written.
    pub fn relieve(&self, marks: Watermarks) -> Result<Option<Relief>> {
        let before = self.fullness()?;
        if before < marks.high {
            return Ok(None);
        }
        let bytes = self.collect(Duration::ZERO)?.bytes;
        let mut relief = Relief { images: 0, bytes, before, after: self.fullness()? };
        let used: HashSet<Digest> = self.image_uses()?.into_iter().map(|used| used.image).collect();
        let mut images = self.store().images()?;
        images.retain(|image| image.tags.is_empty() && !used.contains(&image.id));
        images.sort_by(|a, b| a.added.cmp(&b.added));
        for image in images {
            if relief.after <= marks.low {
                break;
            }
            if self.drop_image(&image)?.is_empty() {
                continue;
            }
            relief.images += 1;
            relief.bytes += self.collect(Duration::ZERO)?.bytes;
            relief.after = self.fullness()?;
        }
        Ok((relief.images > 0 || relief.bytes > 0).then_some(relief))
    }

    /// How full the disk is that the root lies on, in percent, as `df` counts: of what this user
    /// may use.
    fn fullness(&self) -> Result<u8> {
        // It need not exist yet.
        let place = self.root().ancestors().find(|above| above.exists()).unwrap_or(self.root());
        let disk = rustix::fs::statvfs(place).doing(|| "look at the disk".into())?;
        let used = disk.f_blocks.saturating_sub(disk.f_bfree);
        let whole = (used + disk.f_bavail).max(1);
        Ok(u8::try_from((used * 100).div_ceil(whole)).unwrap_or(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_take_what_is_old_and_has_the_labels() {
        let labels: BTreeMap<String, String> = [("a".to_owned(), "1".to_owned())].into();
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let check = |until: Option<&str>, with: &[&str], without: &[&str], expected: bool| {
            let filter = PruneFilter {
                until: until.map(|time| time.parse().unwrap()),
                labels: own(with),
                not_labels: own(without),
            };
            let taken = filter.takes(Some("2026-01-02T00:00:00Z"), &labels);
            assert_eq!(taken, expected, "{until:?} {with:?} {without:?}");
        };
        check(None, &[], &[], true);
        check(Some("2026-01-01T00:00:00Z"), &[], &[], false);
        check(Some("2026-01-02T00:00:00Z"), &[], &[], true);
        check(None, &["a"], &[], true);
        check(None, &["a=1"], &[], true);
        check(None, &["a=2"], &[], false);
        check(None, &["a", "b"], &[], false);
        check(None, &[], &["a"], false);
        check(None, &[], &["a", "b"], true);
        check(None, &[], &["b"], true);
    }
}
