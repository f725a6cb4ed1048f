//! Blobs: reading them, whole or in part, removing them, and taking them in.

use std::fs::File;
use std::sync::Arc;

use super::digest::AnyDigest;
use super::failure::{Code, Failure};
use super::handler::Registry;
use super::range::{Range, requested};
use super::repository::Repository;
use super::route::{self, RepositoryName};
use super::upload::Upload;
use httpd::Body;
use httpd::Head;
use httpd::{Content, Reply};

pub(super) fn unknown(digest: &AnyDigest) -> Failure {
    let what = "the repository has no such blob";
    Failure::new(Code::BlobUnknown, what)
        .detail(serde_json::json!({ "digest": digest.to_string() }))
}

impl Registry {
    pub(super) fn get_blob(
        self: &Arc<Self>,
        head: &Head,
        name: &RepositoryName,
        digest: &AnyDigest,
    ) -> Result<Reply, Failure> {
        if let Some(place) = self.mirrors.place(name, head)? {
            return self.mirror_blob(&place, head, digest);
        }
        match self.blob(&self.repositories.get(name), digest)? {
            Some(file) => serve(head, file, digest),
            None => Err(unknown(digest)),
        }
    }

    /// A blob that the repository has.
    pub(super) fn blob(
        &self,
        repository: &Repository,
        digest: &AnyDigest,
    ) -> Result<Option<File>, Failure> {
        let Some(canonical) = repository.canonical(digest)? else { return Ok(None) };
        repository.refresh_blob(&canonical)?;
        if !repository.has(&canonical) {
            return Ok(None);
        }
        match self.store.open_blob(&canonical) {
            Err(store::Error::NotFound(_)) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    pub(super) fn delete_blob(
        &self,
        name: &RepositoryName,
        digest: &AnyDigest,
    ) -> Result<Reply, Failure> {
        let repository = self.repositories.get(name);
        if !repository.exists() {
            return Err(unknown(digest));
        }
        let _changing = repository.change()?;
        let canonical = repository.canonical(digest)?.ok_or_else(|| unknown(digest))?;
        match repository.remove_blob(&canonical)? {
            true => Ok(Reply::new(202)),
            false => Err(unknown(digest)),
        }
    }

    /// `POST …/blobs/uploads/`: a mount, a whole blob, or the start of an upload.
    pub(super) fn start_upload(
        &self,
        head: &Head,
        body: &mut Body<'_>,
        name: &RepositoryName,
    ) -> Result<Reply, Failure> {
        let repository = self.repositories.get(name);
        if let Some(algorithm) = head.parameter("digest-algorithm")
            && !matches!(algorithm, "sha256" | "sha512")
        {
            let what = "unsupported digest algorithm: sha256 and sha512 are supported";
            return Err(Failure::new(Code::DigestInvalid, what));
        }
        if let Some(mount) = head.parameter("mount") {
            let digest = route::digest(mount)?;
            let from = head.parameter("from").filter(|from| !from.is_empty());
            let from = from.map(route::name).transpose()?;
            if self.mount(&repository, &digest, from.as_ref())? {
                return Ok(created(name, &digest));
            }
        }
        let mut upload = self.uploads.start(&repository)?;
        let Some(digest) = head.parameter("digest").filter(|_| head.parameter("mount").is_none())
        else {
            return Ok(progress(202, name, &upload));
        };
        let digest = route::digest(digest).and_then(|digest| {
            upload.append(body)?;
            Ok(digest)
        });
        match digest {
            Ok(digest) => self.finish(&repository, upload, &digest),
            Err(failure) => {
                upload.discard();
                Err(failure)
            }
        }
    }

    /// Lets `repository` have what another one has: whether there was any such blob.
    fn mount(
        &self,
        repository: &Repository,
        digest: &AnyDigest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, Failure> {
        let _lease = self.store.lease()?;
        let sources = match from {
            Some(from) => vec![self.repositories.get(from)],
            // Only what some repository has: the store holds images of others, too.
            None => self.repositories.all()?,
        };
        for source in sources {
            let Some(canonical) = source.canonical(digest)? else { continue };
            if source.has_blob(&canonical) && self.store.has_blob(&canonical) {
                // The source's blob was on disk before anybody could know of it.
                let _changing = repository.change()?;
                repository.add_blob(&canonical)?;
                repository.alias(digest, &canonical)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn upload_status(&self, name: &RepositoryName, id: &str) -> Result<Reply, Failure> {
        let held = self.uploads.held(&self.repositories.get(name), id)?;
        Ok(located(204, name, id, held))
    }

    pub(super) fn cancel_upload(&self, name: &RepositoryName, id: &str) -> Result<Reply, Failure> {
        self.uploads.cancel(&self.repositories.get(name), id)?;
        Ok(Reply::new(204))
    }

    pub(super) fn append_upload(
        &self,
        head: &Head,
        body: &mut Body<'_>,
        name: &RepositoryName,
        id: &str,
    ) -> Result<Reply, Failure> {
        let mut upload = self.uploads.open(&self.repositories.get(name), id)?;
        append(&mut upload, head, body, name)?;
        Ok(progress(202, name, &upload))
    }

    pub(super) fn finish_upload(
        &self,
        head: &Head,
        body: &mut Body<'_>,
        name: &RepositoryName,
        id: &str,
    ) -> Result<Reply, Failure> {
        let digest = head.parameter("digest").ok_or_else(|| {
            Failure::new(Code::DigestInvalid, "the digest of the blob is missing")
        })?;
        let digest = route::digest(digest)?;
        let repository = self.repositories.get(name);
        let mut upload = self.uploads.open(&repository, id)?;
        append(&mut upload, head, body, name)?;
        self.finish(&repository, upload, &digest)
    }

    /// Makes an upload that is whole a blob, on disk, that `repository` has.
    pub(super) fn finish(
        &self,
        repository: &Repository,
        upload: Upload<'_>,
        digest: &AnyDigest,
    ) -> Result<Reply, Failure> {
        let canonical = upload.digest();
        let actual = match digest {
            AnyDigest::Sha256(_) => canonical.into(),
            AnyDigest::Sha512(_) => AnyDigest::sha512_of(upload.file(), upload.offset())?,
        };
        if actual != *digest {
            upload.discard();
            let what = "the digest does not match what was uploaded";
            let detail = serde_json::json!({
                "expected": digest.to_string(),
                "actual": actual.to_string(),
            });
            return Err(Failure::new(Code::DigestInvalid, what).detail(detail));
        }
        // From before the blob is there until the repository refers to it.
        let _lease = self.store.lease()?;
        self.store.adopt_blob(upload.file(), upload.path(), &canonical)?;
        upload.done();
        let _changing = repository.change()?;
        repository.add_blob(&canonical)?;
        repository.alias(digest, &canonical)?;
        Ok(created(repository.name(), digest))
    }
}

/// Adds the body to an upload, if it is the part that comes next.
fn append(
    upload: &mut Upload<'_>,
    head: &Head,
    body: &mut Body<'_>,
    name: &RepositoryName,
) -> Result<(), Failure> {
    if let Some(text) = head.get("content-range") {
        let wrong = |what: &str| Failure::new(Code::BlobUploadInvalid, what);
        let (start, end) = content_range(text)
            .ok_or_else(|| wrong("invalid content range: expected START-END"))?;
        if start != upload.offset() {
            let range = last_byte(upload.offset());
            let what = format!("the next byte of this upload is {}", upload.offset());
            return Err(wrong(&what)
                .status(416)
                .header("Location", location(name, upload.id()))
                .header("Range", format!("0-{range}")));
        }
        if body.announced().is_some_and(|length| length != end - start + 1) {
            let what = "the content range is not as long as the content";
            return Err(Failure::new(Code::SizeInvalid, what));
        }
        let before = upload.offset();
        upload.append(body)?;
        if upload.offset() - before != end - start + 1 {
            let what = "the content is not as long as its range";
            return Err(Failure::new(Code::SizeInvalid, what));
        }
        return Ok(());
    }
    Ok(upload.append(body)?)
}

/// `START-END`, both inclusive; older clients write `bytes START-END/TOTAL`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim().strip_prefix("bytes ").unwrap_or(text.trim());
    let text = text.split('/').next()?;
    let (start, end) = text.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(start) || !digits(end) {
        return None;
    }
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    // One more than the last byte must be a number, too.
    (start <= end && end < u64::MAX).then_some((start, end))
}

fn location(name: &RepositoryName, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// There is no way to say that nothing is held; Docker's registry says this.
fn last_byte(held: u64) -> u64 {
    held.saturating_sub(1)
}

fn located(status: u16, name: &RepositoryName, id: &str, held: u64) -> Reply {
    Reply::new(status)
        .header("Location", location(name, id))
        .header("Range", format_args!("0-{}", last_byte(held)))
        .header("Docker-Upload-UUID", id)
}

fn progress(status: u16, name: &RepositoryName, upload: &Upload<'_>) -> Reply {
    located(status, name, upload.id(), upload.offset())
}

fn created(name: &RepositoryName, digest: &AnyDigest) -> Reply {
    Reply::new(201)
        .header("Location", format_args!("/v2/{name}/blobs/{digest}"))
        .header("Docker-Content-Digest", digest)
}

/// Answers with a blob or the part that is asked for (RFC 9110, section 14).
pub(super) fn serve(head: &Head, file: File, digest: &AnyDigest) -> Result<Reply, Failure> {
    let size = file.metadata()?.len();
    let tag = format!("\"{digest}\"");
    let whole = Reply::new(200)
        .header("Content-Type", "application/octet-stream")
        .header("Docker-Content-Digest", digest)
        .header("ETag", &tag)
        .header("Accept-Ranges", "bytes")
        // What has this digest never changes.
        .header("Cache-Control", "max-age=31536000");
    if super::range::is_known(head, &tag) {
        return Ok(whole.status(304));
    }
    match requested(head, &tag, size) {
        Range::All => Ok(whole.content(Content::File { file, from: 0, length: size })),
        Range::Part { from, length } => {
            let last = from + length - 1;
            let part = whole.header("Content-Range", format_args!("bytes {from}-{last}/{size}"));
            let content = Content::File { file, from, length };
            Ok(part.status(206).content(content))
        }
        Range::Unsatisfiable => {
            let what = format!("the blob has {size} bytes");
            Err(Failure::new(Code::SizeInvalid, what)
                .status(416)
                .header("Content-Range", format!("bytes */{size}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_content_are_read() {
        assert_eq!(content_range("0-9"), Some((0, 9)));
        assert_eq!(content_range("bytes 5-5/10"), Some((5, 5)));
        let max = u64::MAX;
        for text in [
            "",
            "-",
            "5",
            "5-4",
            "-1-2",
            "+1-2",
            "0x1-2",
            "1-2-3",
            &format!("0-{max}"),
            "0-99999999999999999999",
        ] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
