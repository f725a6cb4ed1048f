//! Blobs that are being uploaded: one file each, continued by any number of requests.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci::{Digest, Hasher};
use rustix::fs::{Advice, FlockOperation, fadvise};
use rustix::io::Errno;

use super::durable;
use super::failure::{Code, Failure};
use super::repository::Repository;

const BUFFER_BYTES: usize = 128 << 10;
/// Bytes after which the kernel is told to write them to the disk: while more comes, so that there is
/// little to wait for at the end.
const WRITE_OUT_BYTES: u64 = 8 << 20;
/// Uploads whose digest is kept at hand; that of others is computed again when they go on.
const HASHERS_MAX: usize = 4096;
/// An upload that nothing was added to for so long has been given up by its client.
pub(super) const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The digests of uploads so far, between their requests.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    hashers: Mutex<HashMap<String, (u64, Hasher)>>,
}

/// One upload, open: nobody else writes to it.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    uploads: &'a Uploads,
    id: String,
    path: PathBuf,
    file: File,
    offset: u64,
    hasher: Hasher,
    is_done: bool,
}

/// Why an upload did not go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The client broke off.
    Client(io::Error),
    /// Our disk failed.
    Disk(io::Error),
}

impl Uploads {
    /// Starts an upload to `repository`.
    pub(super) fn start(&self, repository: &Repository) -> io::Result<Upload<'_>> {
        self.create(repository, durable::random_id()?)
    }

    /// Goes on with the upload `id` to `repository`, or starts it under that name. One that somebody
    /// else is writing to is left to them: then this is another one.
    pub(super) fn resume(&self, repository: &Repository, id: &str) -> Result<Upload<'_>, Failure> {
        match self.open(repository, id) {
            Err(failure) if failure.status == 409 => Ok(self.start(repository)?),
            Err(failure) if failure.status == 404 => match self.create(repository, id.to_owned()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Ok(self.start(repository)?)
                }
                created => Ok(created?),
            },
            opened => opened,
        }
    }

    fn create(&self, repository: &Repository, id: String) -> io::Result<Upload<'_>> {
        // An empty repository may be removed at any other time.
        let _changing = repository.change()?;
        let path = repository.made("uploads")?.join(&id);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let hasher = Hasher::default();
        Ok(Upload { uploads: self, id, path, file, offset: 0, hasher, is_done: false })
    }

    /// Goes on with the upload `id` to `repository`.
    pub(super) fn open(&self, repository: &Repository, id: &str) -> Result<Upload<'_>, Failure> {
        let (path, file) = lock(repository, id)?;
        let held = file.metadata()?.len();
        let known = self.lock().remove(id).filter(|(offset, _)| *offset == held);
        let (offset, hasher) = known.unwrap_or_default();
        let id = id.to_owned();
        let mut upload = Upload { uploads: self, id, path, file, offset, hasher, is_done: false };
        upload.catch_up(held)?;
        Ok(upload)
    }

    /// Gives up the upload `id`: how many bytes that frees.
    pub(super) fn cancel(&self, repository: &Repository, id: &str) -> Result<u64, Failure> {
        let (path, file) = lock(repository, id)?;
        let held = file.metadata()?.len();
        fs::remove_file(path)?;
        self.lock().remove(id);
        Ok(held)
    }

    /// How many bytes of the upload `id` are held.
    pub(super) fn held(&self, repository: &Repository, id: &str) -> Result<u64, Failure> {
        match fs::metadata(repository.part("uploads").join(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::new(Code::BlobUploadUnknown, "no such upload"))
            }
            meta => Ok(meta?.len()),
        }
    }

    /// Removes the uploads to `repository` that nothing was added to for `age`: how many bytes.
    pub(super) fn sweep(&self, repository: &Repository, age: Duration) -> io::Result<u64> {
        let mut freed = 0;
        for id in durable::names(&repository.part("uploads"))? {
            if repository.age("uploads", &id).is_none_or(|found| found < age) {
                continue;
            }
            // One that somebody writes to, or that has just gone, is none of ours.
            freed += self.cancel(repository, &id).unwrap_or(0);
        }
        Ok(freed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (u64, Hasher)>> {
        self.hashers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the upload `id` as its only writer; closing the file ends that.
fn lock(repository: &Repository, id: &str) -> Result<(PathBuf, File), Failure> {
    let unknown = || Failure::new(Code::BlobUploadUnknown, "no such upload");
    let path = repository.part("uploads").join(id);
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
        opened => opened?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let what = "another request is writing to this upload";
            return Err(Failure::new(Code::BlobUploadInvalid, what).status(409));
        }
        outcome => outcome.map_err(io::Error::from)?,
    }
    // It may have been finished or cancelled before we got the lock.
    if path.exists() { Ok((path, file)) } else { Err(unknown()) }
}

impl Upload<'_> {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Bytes held; the next one is this.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The SHA-256 of what is held.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Hashes what an earlier process wrote.
    fn catch_up(&mut self, held: u64) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(held).unwrap_or(BUFFER_BYTES))];
        while self.offset < held {
            let n = self.file.read_at(&mut buffer, self.offset)?;
            if n == 0 {
                break;
            }
            self.hasher.update(&buffer[..n]);
            self.offset += n as u64;
        }
        Ok(())
    }

    /// Adds everything that `content` has. What came before it broke off is kept.
    pub(super) fn append(&mut self, content: &mut dyn Read) -> Result<(), Trouble> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Trouble::Client(error)),
            };
            self.add(&buffer[..n]).map_err(Trouble::Disk)?;
        }
    }

    /// Adds `bytes`, all or none.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(bytes, self.offset) {
            // What was written in part is not counted; the next attempt writes over it.
            let _ = self.file.set_len(self.offset);
            return Err(error);
        }
        self.hasher.update(bytes);
        let written_out = self.offset / WRITE_OUT_BYTES * WRITE_OUT_BYTES;
        self.offset += bytes.len() as u64;
        if let Some(more) = NonZeroU64::new(self.offset - written_out)
            && more.get() >= WRITE_OUT_BYTES
        {
            // The kernel starts to write these pages, and keeps them, since they are not clean. Where
            // it does neither, the sync at the end has more to do.
            let _ = fadvise(&self.file, written_out, Some(more), Advice::DontNeed);
        }
        Ok(())
    }

    /// Removes it.
    pub(super) fn discard(mut self) {
        self.is_done = true;
        let _ = fs::remove_file(&self.path);
    }

    /// It has become a blob.
    pub(super) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut hashers = self.uploads.lock();
            if hashers.len() >= HASHERS_MAX
                && let Some(any) = hashers.keys().next().cloned()
            {
                hashers.remove(&any);
            }
            hashers.insert(self.id.clone(), (self.offset, std::mem::take(&mut self.hasher)));
        }
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Client(error) => Self::gone(&error),
            Trouble::Disk(error) => error.into(),
        }
    }
}
