//! Repositories on disk: which blobs and manifests each holds, and its tags.
//!
//! ```text
//! <store>/registry/<name, ':' for '/'>/   locked while what refers to what is changed
//!   blobs/<hex>              empty: the repository has the blob; its time tells when somebody cared
//!   manifests/<hex>          a record: media type, what it was pushed as, what it refers to
//!   tags/<tag>               the digest of a manifest
//!   aliases/sha512-<hex>     the SHA-256 of the same content
//!   referrers/<subject>/<hex>  empty: that manifest has this subject
//!   uploads/<id>             a blob that is being uploaded, locked by its writer
//!   uploads/fetch-<digest>   a blob that is being fetched for a mirror, the same
//! ```
//!
//! Each appears by one rename or creation and is on disk before a client is told so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::Digest;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use store::Store;

use super::digest::AnyDigest;
use super::durable;
use super::route::RepositoryName;

/// A blob that was cared about more recently than this needs no note of it again.
const REFRESH_AGE: Duration = Duration::from_secs(10 * 60);

/// What is remembered of a manifest, so that nobody has to read it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) media_type: String,
    /// In bytes.
    pub(super) size: u64,
    /// The digest it was pushed by, which need not be its SHA-256.
    pub(super) digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// Blobs and manifests of this repository that it needs, by SHA-256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) needs: Vec<Digest>,
}

/// All repositories of a store.
#[derive(Debug, Clone)]
pub(super) struct Repositories {
    root: PathBuf,
}

impl Repositories {
    pub(super) fn of(store: &Store) -> Self {
        Self { root: store.registry_path() }
    }

    /// A repository, which need not exist.
    pub(super) fn get(&self, name: &RepositoryName) -> Repository {
        let path = self.root.join(name.file_name());
        Repository { root: self.root.clone(), path, name: name.clone() }
    }

    /// The repositories that there are, sorted; empty ones too.
    pub(super) fn all(&self) -> io::Result<Vec<Repository>> {
        let names = durable::names(&self.root)?;
        let mut names: Vec<_> =
            names.iter().filter_map(|name| RepositoryName::from_file_name(name)).collect();
        names.sort_unstable();
        Ok(names.iter().map(|name| self.get(name)).collect())
    }
}

/// The exclusive right to change what refers to what in a repository.
#[derive(Debug)]
pub(super) struct Changing {
    directory: File,
}

impl Drop for Changing {
    fn drop(&mut self) {
        // Unlocking a file that is open cannot fail, and closing it comes next anyway.
        let _ = rustix::fs::flock(&self.directory, FlockOperation::Unlock);
    }
}

/// One repository.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    root: PathBuf,
    path: PathBuf,
    name: RepositoryName,
}

impl Repository {
    pub(super) fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Whether anything was ever pushed to it.
    pub(super) fn exists(&self) -> bool {
        self.part("manifests").is_dir() || self.part("blobs").is_dir()
    }

    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn made(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.part(name);
        durable::directory(&self.root, &path)?;
        Ok(path)
    }

    /// Waits until nobody else changes it. It is made if it does not exist.
    pub(super) fn change(&self) -> io::Result<Changing> {
        loop {
            durable::directory(&self.root, &self.path)?;
            let directory = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            rustix::io::retry_on_intr(|| {
                rustix::fs::flock(&directory, FlockOperation::LockExclusive)
            })?;
            let changing = Changing { directory };
            // A collector may have removed it while we waited.
            match std::fs::metadata(&self.path) {
                Ok(named) if named.ino() == changing.directory.metadata()?.ino() => {
                    return Ok(changing);
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }

    /// Removes names of what the repository does not have any more; the caller holds its lock.
    pub(super) fn sweep_aliases(&self) -> io::Result<()> {
        let folder = self.part("aliases");
        for name in durable::names(&folder)? {
            let digest = durable::read(&folder.join(&name))?
                .and_then(|text| std::str::from_utf8(&text).ok()?.parse::<Digest>().ok());
            if !digest.is_some_and(|digest| self.has(&digest)) {
                durable::remove(&folder, &name)?;
            }
        }
        Ok(())
    }

    /// Removes it if there is nothing in it; the caller holds its lock.
    pub(super) fn remove_if_empty(&self) -> io::Result<()> {
        let parts = ["manifests", "blobs", "tags", "aliases", "uploads"];
        for part in parts {
            if !durable::names(&self.part(part))?.is_empty() {
                return Ok(());
            }
        }
        // Subjects that were never pushed leave empty directories.
        std::fs::remove_dir_all(&self.path)
    }

    /// The SHA-256 of what `digest` names here; `None` for an alias that nobody made.
    pub(super) fn canonical(&self, digest: &AnyDigest) -> io::Result<Option<Digest>> {
        match digest {
            AnyDigest::Sha256(digest) => Ok(Some(*digest)),
            AnyDigest::Sha512(_) => {
                let alias = durable::read(&self.part("aliases").join(digest.file_name()))?;
                Ok(alias.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()))
            }
        }
    }

    /// Lets `digest` name the content `canonical` here.
    pub(super) fn alias(&self, digest: &AnyDigest, canonical: &Digest) -> io::Result<()> {
        match digest {
            AnyDigest::Sha256(_) => Ok(()),
            AnyDigest::Sha512(_) => {
                let folder = self.made("aliases")?;
                durable::publish(&folder, &digest.file_name(), canonical.to_string().as_bytes())
            }
        }
    }

    /// Whether the repository has the blob, as a blob or as a manifest.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.has_blob(digest) || self.part("manifests").join(digest.hex()).exists()
    }

    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.part("blobs").join(digest.hex()).exists()
    }

    pub(super) fn has_manifest(&self, digest: &Digest) -> bool {
        self.part("manifests").join(digest.hex()).exists()
    }

    /// Lets the repository have a blob, which the store must hold already, on disk.
    pub(super) fn add_blob(&self, digest: &Digest) -> io::Result<()> {
        durable::mark(&self.made("blobs")?, &digest.hex())
    }

    /// Notes that somebody counts on a blob being here, so that it is not collected at once.
    pub(super) fn refresh_blob(&self, digest: &Digest) -> io::Result<()> {
        let is_old = |age: Option<Duration>| age.is_some_and(|age| age > REFRESH_AGE);
        if is_old(self.age("blobs", &digest.hex())) {
            // The collector looks at times under this lock.
            let _changing = self.change()?;
            let path = self.part("blobs").join(digest.hex());
            if path.exists() {
                durable::touch(&path)?;
            }
        }
        Ok(())
    }

    /// Whether there was such a blob.
    pub(super) fn remove_blob(&self, digest: &Digest) -> io::Result<bool> {
        durable::remove(&self.part("blobs"), &digest.hex())
    }

    pub(super) fn blobs(&self) -> io::Result<Vec<Digest>> {
        digests(&self.part("blobs"))
    }

    pub(super) fn manifests(&self) -> io::Result<Vec<Digest>> {
        digests(&self.part("manifests"))
    }

    /// Whether it has a manifest; a glance, however many there are.
    pub(super) fn has_any_manifest(&self) -> io::Result<bool> {
        match std::fs::read_dir(self.part("manifests")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            listed => Ok(listed?.next().is_some()),
        }
    }

    /// What is remembered of a manifest.
    pub(super) fn record(&self, digest: &Digest) -> io::Result<Option<Record>> {
        let bytes = durable::read(&self.part("manifests").join(digest.hex()))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Adds a manifest, whose bytes the store must hold already, on disk.
    pub(super) fn add_manifest(&self, digest: &Digest, record: &Record) -> io::Result<()> {
        if let Some(subject) = record.subject.as_deref().and_then(|text| text.parse().ok()) {
            durable::mark(&self.made(&referrers(&subject))?, &digest.hex())?;
        }
        let bytes = serde_json::to_vec(record).map_err(io::Error::from)?;
        durable::publish(&self.made("manifests")?, &digest.hex(), &bytes)
    }

    /// Removes a manifest and the tags that name it: whether there was one.
    pub(super) fn remove_manifest(&self, digest: &Digest) -> io::Result<bool> {
        for tag in self.tags()? {
            if self.tag(&tag)? == Some(*digest) {
                self.remove_tag(&tag)?;
            }
        }
        let record = self.record(digest)?;
        let removed = durable::remove(&self.part("manifests"), &digest.hex())?;
        if let Some(record) = record {
            if let Some(subject) = record.subject.as_deref().and_then(|text| text.parse().ok()) {
                durable::remove(&self.part(&referrers(&subject)), &digest.hex())?;
            }
            if let Ok(alias @ AnyDigest::Sha512(_)) = record.digest.parse() {
                durable::remove(&self.part("aliases"), &alias.file_name())?;
            }
        }
        Ok(removed)
    }

    /// The manifests with the subject `digest`, sorted.
    pub(super) fn referrers(&self, subject: &AnyDigest) -> io::Result<Vec<(Digest, Record)>> {
        let mut found = Vec::new();
        for digest in digests(&self.part(&referrers(subject)))? {
            if let Some(record) = self.record(&digest)? {
                found.push((digest, record));
            }
        }
        Ok(found)
    }

    /// The tags, in the order of their bytes.
    pub(super) fn tags(&self) -> io::Result<Vec<String>> {
        durable::names(&self.part("tags"))
    }

    /// The manifest that a tag names.
    pub(super) fn tag(&self, tag: &str) -> io::Result<Option<Digest>> {
        let text = durable::read(&self.part("tags").join(tag))?;
        Ok(text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()))
    }

    pub(super) fn set_tag(&self, tag: &str, digest: &Digest) -> io::Result<()> {
        durable::publish(&self.made("tags")?, tag, digest.to_string().as_bytes())
    }

    /// Whether there was such a tag.
    pub(super) fn remove_tag(&self, tag: &str) -> io::Result<bool> {
        durable::remove(&self.part("tags"), tag)
    }

    /// When somebody last cared about the file `name` of a part.
    pub(super) fn age(&self, part: &str, name: &str) -> Option<Duration> {
        let modified = self.part(part).join(name).metadata().ok()?.modified().ok()?;
        // A clock that was set back must not make anything old.
        Some(modified.elapsed().unwrap_or_default())
    }
}

fn referrers(subject: &AnyDigest) -> String {
    format!("referrers/{}", subject.file_name())
}

fn digests(folder: &Path) -> io::Result<Vec<Digest>> {
    let names = durable::names(folder)?;
    Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
}
