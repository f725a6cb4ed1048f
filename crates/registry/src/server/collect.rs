//! What repositories hold and nobody needs: blobs that no manifest names, uploads that were given
//! up, and, if asked, manifests that no tag leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use oci::Digest;
use store::Store;

use super::error::ServeError;
use super::repository::{Record, Repositories, Repository};
use super::upload::{UPLOAD_AGE_MAX, Uploads};

/// How old something must be that nobody needs: somebody may be about to push what needs it.
pub const UNNEEDED_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// What repositories let go of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Released {
    /// Manifests that no tag led to.
    pub manifests: u64,
    /// Blobs that no manifest names, counted once for each repository.
    pub blobs: u64,
    /// Bytes of uploads that were given up.
    pub upload_bytes: u64,
}

/// Has all repositories in `store` let go of what nobody needs and nobody cared about for `age`;
/// of manifests that no tag leads to as well if `untagged`. The store's collection removes what no
/// one else holds. A server may be at work meanwhile.
///
/// # Errors
/// [`ServeError`]. What was not let go of is left for the next time.
pub fn release(store: &Store, untagged: bool, age: Duration) -> Result<Released, ServeError> {
    let failed = |source| ServeError::Io { doing: "look through the repositories".into(), source };
    let mut released = Released::default();
    let uploads = Uploads::default();
    for repository in Repositories::of(store).all().map_err(failed)? {
        let upload_bytes = uploads.sweep(&repository, age.max(UPLOAD_AGE_MAX)).map_err(failed)?;
        released.upload_bytes += upload_bytes;
        release_from(&repository, untagged, age, &mut released).map_err(failed)?;
    }
    Ok(released)
}

/// Something that a repository refers to and that is not in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The repository's name.
    pub repository: String,
    /// The manifest that cannot be had whole.
    pub manifest: Digest,
    /// What is not there: the manifest itself, or something that it names.
    pub lacks: Digest,
}

/// Manifests of the repositories in `store` of which something is not there, each once.
///
/// # Errors
/// [`ServeError`].
pub fn missing(store: &Store) -> Result<Vec<Missing>, ServeError> {
    let failed = |source| ServeError::Io { doing: "look through the repositories".into(), source };
    let mut all = Vec::new();
    for repository in Repositories::of(store).all().map_err(failed)? {
        for manifest in repository.manifests().map_err(failed)? {
            let record = repository.record(&manifest).map_err(failed)?;
            let needs = record.map(|record| record.needs).unwrap_or_default();
            let mut parts = [manifest].into_iter().chain(needs);
            if let Some(lacks) = parts.find(|part| !store.has_blob(part)) {
                all.push(Missing { repository: repository.name().to_string(), manifest, lacks });
            }
        }
    }
    Ok(all)
}

/// Removes uploads that were given up, while a server runs.
pub(super) fn sweep_uploads(repositories: &Repositories, uploads: &Uploads) -> io::Result<()> {
    for repository in repositories.all()? {
        uploads.sweep(&repository, UPLOAD_AGE_MAX)?;
    }
    Ok(())
}

fn release_from(
    repository: &Repository,
    untagged: bool,
    age: Duration,
    released: &mut Released,
) -> io::Result<()> {
    let _changing = repository.change()?;
    let mut records = BTreeMap::new();
    for digest in repository.manifests()? {
        // One that cannot be read may need anything: nothing of the repository is let go of.
        let Some(record) = repository.record(&digest)? else { return Ok(()) };
        records.insert(digest, record);
    }
    let is_old = |part: &str, digest: &Digest| {
        repository.age(part, &digest.hex()).is_some_and(|found| found >= age)
    };
    if untagged {
        let led_to = led_to(repository, &records)?;
        let lost: Vec<Digest> =
            records.keys().filter(|digest| !led_to.contains(*digest)).copied().collect();
        for digest in lost.into_iter().filter(|digest| is_old("manifests", digest)) {
            repository.remove_manifest(&digest)?;
            records.remove(&digest);
            released.manifests += 1;
        }
    }
    let needed: BTreeSet<&Digest> = records.values().flat_map(|record| &record.needs).collect();
    for digest in repository.blobs()? {
        if !needed.contains(&digest) && is_old("blobs", &digest) {
            repository.remove_blob(&digest)?;
            released.blobs += 1;
        }
    }
    repository.sweep_aliases()?;
    repository.remove_if_empty()
}

/// The manifests that tags lead to: themselves, what indexes name, and what has one of these as its
/// subject.
fn led_to(
    repository: &Repository,
    records: &BTreeMap<Digest, Record>,
) -> io::Result<BTreeSet<Digest>> {
    let mut led_to = BTreeSet::new();
    let mut open = Vec::new();
    for tag in repository.tags()? {
        open.extend(repository.tag(&tag)?);
    }
    while let Some(digest) = open.pop() {
        let Some(record) = records.get(&digest) else { continue };
        if !led_to.insert(digest) {
            continue;
        }
        open.extend(&record.needs);
        let names = [record.digest.clone(), digest.to_string()];
        let referrers = records.iter().filter(|(_, other)| {
            other.subject.as_ref().is_some_and(|subject| names.contains(subject))
        });
        open.extend(referrers.map(|(digest, _)| *digest));
    }
    Ok(led_to)
}
