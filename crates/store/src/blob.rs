//! Blobs: bytes under their digest, exactly as received.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};
use rustix::fs::FlockOperation;

use crate::disk::{Lease, Lock, Part, Store};
use crate::error::{Doing as _, Error, invalid};

const COPY_BUFFER_BYTES: usize = 256 * 1024;

impl Store {
    /// Whether a blob is held, complete.
    #[must_use]
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File, Error> {
        match File::open(self.blob_path(digest)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::NotFound(format!("blob: {digest}")))
            }
            opened => opened.doing(|| format!("open blob {digest}")),
        }
    }

    /// The bytes of a blob that is at most `limit` bytes long.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if it is longer.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .doing(|| format!("read blob {digest}"))?;
        if bytes.len() as u64 > limit {
            return invalid(format!("blob {digest} is longer than {limit} bytes"));
        }
        Ok(bytes)
    }

    /// The size of a blob in bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn blob_size(&self, digest: &Digest) -> Result<u64, Error> {
        let meta = self.open_blob(digest)?.metadata();
        Ok(meta.doing(|| format!("inspect blob {digest}"))?.len())
    }

    /// Keeps `bytes`, which are held in memory already: a manifest, a configuration.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest) {
            let _lease = self.lease()?;
            self.publish(Part::Blobs, &digest.hex(), bytes)?;
        }
        Ok(digest)
    }

    /// Makes `file`, which lies at `path` in this store and whose content the caller has hashed,
    /// the blob `digest`; it survives a loss of power from then on.
    ///
    /// The caller holds a [`Lease`] from before this until something durable refers to the blob.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn adopt_blob(&self, file: &File, path: &Path, digest: &Digest) -> Result<(), Error> {
        self.made(Part::Blobs)?;
        if self.has_blob(digest) {
            let _ = fs::remove_file(path);
            return self.sync_blob(digest);
        }
        file.sync_data().doing(|| format!("write blob {digest} to disk"))?;
        fs::rename(path, self.blob_path(digest)).doing(|| format!("keep blob {digest}"))?;
        self.sync_blobs()
    }

    /// Writes a blob that is held to disk, so that it survives a loss of power.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn sync_blob(&self, digest: &Digest) -> Result<(), Error> {
        let file = self.open_blob(digest)?;
        file.sync_data().doing(|| format!("write blob {digest} to disk"))?;
        self.sync_blobs()?;
        self.strike_one(Part::Blobs, &digest.hex())
    }

    fn sync_blobs(&self) -> Result<(), Error> {
        let path = self.part(Part::Blobs);
        let synced = File::open(&path).and_then(|directory| directory.sync_all());
        synced.doing(|| format!("write `{}` to disk", path.display()))
    }

    /// Starts, or resumes, receiving the blob `digest` of `size` bytes.
    ///
    /// `None` if the blob is held already. While another process or thread receives the same blob
    /// this waits for it: the second of two pullers usually finds the work done.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ingest(&self, digest: &Digest, size: u64) -> Result<Option<Ingest>, Error> {
        let lease = self.lease()?;
        let path = self.made(Part::Ingest)?.join(digest.hex());
        self.made(Part::Blobs)?;
        while !self.has_blob(digest) {
            let Some(file) = open_locked(&path).doing(|| format!("open `{}`", path.display()))?
            else {
                continue;
            };
            let mut ingest = Ingest {
                store: self.clone(),
                file: Lock(file),
                path,
                digest: *digest,
                size,
                offset: 0,
                hasher: Hasher::default(),
                _lease: lease,
            };
            // The holder before us may have finished between the check above and our lock.
            if self.has_blob(digest) {
                ingest.discard();
                return Ok(None);
            }
            ingest.resume()?;
            return Ok(Some(ingest));
        }
        Ok(None)
    }
}

/// Opens a partial blob as its only writer. `None` if the file was finished or discarded by the
/// writer that we waited for; then the lock is on a file that no longer has this name.
fn open_locked(path: &PathBuf) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
    match fs::metadata(path) {
        Ok(named) if named.ino() == file.metadata()?.ino() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A blob being received. Dropping it keeps the part that arrived, for a later [`Store::ingest`].
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    file: Lock,
    path: PathBuf,
    digest: Digest,
    size: u64,
    offset: u64,
    hasher: Hasher,
    _lease: Lease,
}

impl Ingest {
    /// Bytes held already; the next byte written is this one.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The announced size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the bytes held at this moment, from the start; independent of writing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn held(&self) -> Result<impl Read + Send + use<>, Error> {
        let file =
            self.file.0.try_clone().doing(|| format!("read partial blob {}", self.digest))?;
        Ok(Held { file, at: 0, end: self.offset })
    }

    /// Drops what arrived and starts over, for a server that cannot resume.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reset(&mut self) -> Result<(), Error> {
        self.file.0.set_len(0).doing(|| format!("reset partial blob {}", self.digest))?;
        self.offset = 0;
        self.hasher = Hasher::default();
        Ok(())
    }

    /// Verifies size and digest, and makes the blob visible.
    ///
    /// What does not match its digest is discarded; what is merely short is kept for resuming.
    ///
    /// # Errors
    /// [`Error::Digest`]; [`Error::Invalid`] if bytes are missing.
    pub fn commit(mut self) -> Result<(), Error> {
        if self.offset != self.size {
            return invalid(format!(
                "blob {} ended after {} of {} bytes",
                self.digest, self.offset, self.size
            ));
        }
        let actual = std::mem::take(&mut self.hasher).finish();
        if actual != self.digest {
            self.discard();
            let what = format!("blob of {} bytes", self.size);
            return Err(Error::Digest { what, expected: self.digest, actual });
        }
        self.store.note_unsynced(Part::Blobs, &self.digest.hex())?;
        let place = self.store.blob_path(&self.digest);
        fs::rename(&self.path, place).doing(|| format!("keep blob {}", self.digest))
    }

    /// Hashes what an earlier attempt left.
    fn resume(&mut self) -> Result<(), Error> {
        let doing = || format!("resume partial blob {}", self.digest);
        let held = self.file.0.metadata().doing(doing)?.len();
        if held > self.size {
            return self.reset();
        }
        let mut buffer = vec![0; COPY_BUFFER_BYTES.min(held as usize)];
        while self.offset < held {
            let n = self.file.0.read_at(&mut buffer, self.offset).doing(doing)?;
            if n == 0 {
                break;
            }
            self.hasher.update(&buffer[..n]);
            self.offset += n as u64;
        }
        Ok(())
    }

    /// Removes the partial file, best effort: the collector takes what is left.
    fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.size - self.offset {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("blob {} is longer than its announced {} bytes", self.digest, self.size),
            ));
        }
        // It is unpacked from the bytes in hand, and read again only when it is pushed.
        erofs::write_uncached(&self.file.0, bytes, self.offset)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Held {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let n = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
