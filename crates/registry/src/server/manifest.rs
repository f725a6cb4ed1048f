//! Manifests and tags: reading, pushing and removing them.

use std::collections::BTreeSet;

use oci::Digest;
use serde_json::json;

use super::digest::AnyDigest;
use super::document::{Document, MANIFEST_BYTES_MAX, Needed};
use super::failure::{Code, Failure};
use super::handler::Registry;
use super::range;
use super::repository::{Record, Repository};
use super::route::{RepositoryName, Target, is_tag};
use httpd::Body;
use httpd::Head;
use httpd::{Content, Reply};

/// Tags that one push by digest may set; the specification wants ten.
const TAGS_MAX: usize = 64;

fn unknown(name: &RepositoryName, target: &Target) -> Failure {
    let what = match target {
        Target::Tag(tag) => format!("repository {name} has no tag {tag}"),
        Target::Digest(digest) => format!("repository {name} has no manifest {digest}"),
    };
    Failure::new(Code::ManifestUnknown, what)
}

impl Registry {
    pub(super) fn get_manifest(
        &self,
        head: &Head,
        name: &RepositoryName,
        target: &Target,
    ) -> Result<Reply, Failure> {
        let repository = self.repositories.get(name);
        if let Some(place) = self.mirrors.place(name, head)? {
            return self.mirror_manifest(&place, head, target);
        }
        match self.manifest(&repository, target)? {
            Some((canonical, record)) => self.serve_manifest(head, target, &canonical, &record),
            None => Err(unknown(name, target)),
        }
    }

    /// The manifest that `target` names in a repository.
    pub(super) fn manifest(
        &self,
        repository: &Repository,
        target: &Target,
    ) -> Result<Option<(Digest, Record)>, Failure> {
        let canonical = match target {
            Target::Tag(tag) => repository.tag(tag)?,
            Target::Digest(digest) => repository.canonical(digest)?,
        };
        let Some(canonical) = canonical else { return Ok(None) };
        Ok(repository.record(&canonical)?.map(|record| (canonical, record)))
    }

    pub(super) fn serve_manifest(
        &self,
        head: &Head,
        target: &Target,
        canonical: &Digest,
        record: &Record,
    ) -> Result<Reply, Failure> {
        let digest = match target {
            Target::Tag(_) => record.digest.clone(),
            Target::Digest(digest) => digest.to_string(),
        };
        // As Docker's registry: what a client does not know is not there for it.
        if !accepts(head, &record.media_type) {
            let what = format!(
                "the manifest is of media type {}, which the request does not accept",
                record.media_type
            );
            return Err(Failure::new(Code::ManifestUnknown, what));
        }
        let tag = format!("\"{digest}\"");
        let reply = Reply::new(200)
            .header("Content-Type", &record.media_type)
            .header("Docker-Content-Digest", &digest)
            .header("ETag", &tag);
        if range::is_known(head, &tag) {
            return Ok(reply.status(304));
        }
        let bytes = match self.store.read_blob(canonical, MANIFEST_BYTES_MAX) {
            Err(store::Error::NotFound(_)) => {
                let what = format!("the manifest {digest} is lost; push it again");
                return Err(Failure::new(Code::ManifestUnknown, what));
            }
            read => read?,
        };
        Ok(reply.content(Content::Bytes(bytes)))
    }

    pub(super) fn put_manifest(
        &self,
        head: &Head,
        body: &mut Body<'_>,
        name: &RepositoryName,
        target: &Target,
    ) -> Result<Reply, Failure> {
        let whole = body.whole(MANIFEST_BYTES_MAX).map_err(|error| Failure::gone(&error))?;
        let bytes = whole.ok_or_else(|| {
            let what = format!("the manifest is longer than {MANIFEST_BYTES_MAX} bytes");
            Failure::new(Code::ManifestInvalid, what).status(413)
        })?;
        let tags = tags_to_set(head, target)?;
        let canonical = Digest::of(&bytes);
        let digest = match target {
            Target::Tag(_) => canonical.into(),
            Target::Digest(digest) => digest.clone(),
        };
        let actual = digest.like(&bytes);
        if actual != digest {
            let what = "the digest does not match the manifest";
            let detail = json!({ "expected": digest.to_string(), "actual": actual.to_string() });
            return Err(Failure::new(Code::DigestInvalid, what).detail(detail));
        }
        let document = Document::parse(&bytes, head.get("content-type").unwrap_or_default())?;
        let repository = self.repositories.get(name);
        let pushed = Pushed { bytes: &bytes, canonical, digest: &digest, document: &document };
        self.keep_manifest(&repository, &pushed, &tags)?;
        let mut reply = Reply::new(201)
            .header("Location", format_args!("/v2/{name}/manifests/{digest}"))
            .header("Docker-Content-Digest", &digest);
        if let Some(subject) = &document.subject {
            reply = reply.header("OCI-Subject", subject);
        }
        if matches!(target, Target::Digest(_)) && !tags.is_empty() {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            reply = reply.header("OCI-Tag", tags.join(", "));
        }
        Ok(reply)
    }

    /// Checks what a manifest needs, and makes it visible; on disk when this returns.
    fn keep_manifest(
        &self,
        repository: &Repository,
        pushed: &Pushed<'_>,
        tags: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        let _lease = self.store.lease()?;
        let _changing = repository.change()?;
        let needs = self.check_needs(repository, pushed.document)?;
        self.add_manifest(repository, pushed, needs, tags)
    }

    /// Adds a manifest whose needs are known; the caller holds a lease and the repository's lock.
    pub(super) fn add_manifest(
        &self,
        repository: &Repository,
        pushed: &Pushed<'_>,
        needs: Vec<Digest>,
        tags: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        let Pushed { bytes, canonical, digest, document } = pushed;
        self.store.put_blob(bytes)?;
        self.store.sync_blob(canonical)?;
        let known = repository.record(canonical)?;
        let record = Record {
            media_type: document.media_type.clone(),
            size: bytes.len() as u64,
            // A digest that somebody chose stays the manifest's name.
            digest: match (digest, known) {
                (AnyDigest::Sha256(_), Some(known)) => known.digest,
                _ => digest.to_string(),
            },
            artifact_type: document.artifact_type.clone(),
            annotations: document.annotations.clone(),
            subject: document.subject.as_ref().map(AnyDigest::to_string),
            needs,
        };
        repository.alias(digest, canonical)?;
        repository.add_manifest(canonical, &record)?;
        for tag in tags {
            repository.set_tag(tag, canonical)?;
        }
        Ok(())
    }

    /// The SHA-256 of everything that a manifest needs, if all of it is there.
    fn check_needs(
        &self,
        repository: &Repository,
        document: &Document,
    ) -> Result<Vec<Digest>, Failure> {
        let mut needs = Vec::new();
        let mut failures = Vec::new();
        let blobs = document.blobs.iter().map(|needed| (needed, false));
        let manifests = document.manifests.iter().map(|needed| (needed, true));
        for (needed, is_manifest) in blobs.chain(manifests) {
            match self.find_needed(repository, needed, is_manifest)? {
                Ok(canonical) => needs.push(canonical),
                Err(failure) => failures.push(failure),
            }
        }
        needs.sort_unstable();
        needs.dedup();
        Failure::all(failures).map_or(Ok(needs), Err)
    }

    fn find_needed(
        &self,
        repository: &Repository,
        needed: &Needed,
        is_manifest: bool,
    ) -> Result<Result<Digest, Failure>, Failure> {
        let Needed { digest, size } = needed;
        let missing = || {
            let what = match is_manifest {
                true => "a manifest that the index names is not in the repository",
                false => "a blob that the manifest names is not in the repository",
            };
            let detail = json!({ "digest": digest.to_string() });
            Failure::new(Code::ManifestBlobUnknown, what).detail(detail)
        };
        let Some(canonical) = repository.canonical(digest)? else { return Ok(Err(missing())) };
        let is_there = match is_manifest {
            true => repository.has_manifest(&canonical),
            false => repository.has_blob(&canonical),
        };
        if !is_there || !self.store.has_blob(&canonical) {
            return Ok(Err(missing()));
        }
        if self.store.blob_size(&canonical)? != *size {
            let what = format!("{digest} does not have the {size} bytes that the manifest says");
            return Ok(Err(Failure::new(Code::SizeInvalid, what)));
        }
        Ok(Ok(canonical))
    }

    pub(super) fn delete_manifest(
        &self,
        name: &RepositoryName,
        target: &Target,
    ) -> Result<Reply, Failure> {
        let repository = self.repositories.get(name);
        if !repository.exists() {
            return Err(Failure::new(Code::NameUnknown, format!("no repository {name}")));
        }
        let _changing = repository.change()?;
        let removed = match target {
            Target::Tag(tag) => repository.remove_tag(tag)?,
            Target::Digest(digest) => match repository.canonical(digest)? {
                Some(canonical) => repository.remove_manifest(&canonical)?,
                None => false,
            },
        };
        match removed {
            true => Ok(Reply::new(202)),
            false => Err(unknown(name, target)),
        }
    }
}

/// A manifest that was checked.
pub(super) struct Pushed<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) canonical: Digest,
    pub(super) digest: &'a AnyDigest,
    pub(super) document: &'a Document,
}

/// The tags that a push sets: the one in its path, or those of `?tag=`.
fn tags_to_set(head: &Head, target: &Target) -> Result<BTreeSet<String>, Failure> {
    if let Target::Tag(tag) = target {
        return Ok([tag.clone()].into());
    }
    let tags: BTreeSet<String> = head.parameters("tag").map(str::to_owned).collect();
    if tags.len() > TAGS_MAX {
        let what = format!("more than {TAGS_MAX} tags at once");
        return Err(Failure::new(Code::ManifestInvalid, what).status(414));
    }
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(_) => Err(Failure::new(Code::ManifestInvalid, "invalid tag")),
        None => Ok(tags),
    }
}

/// Whether a request takes `media_type` (RFC 9110, section 12.5.1).
fn accepts(head: &Head, media_type: &str) -> bool {
    let Some(list) = head.list("accept") else { return true };
    list.split(',').any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
            weight.is_some_and(|weight| weight <= 0.0)
        });
        let family = kind.strip_suffix("/*");
        let matches = kind.eq_ignore_ascii_case(media_type)
            || matches!(kind, "*/*" | "*" | "application/json")
            || family.is_some_and(|family| media_type.split('/').next() == Some(family));
        matches && !refused
    })
}
