//! Places on this machine that images come from and go to: archives, directories, the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use oci::{
    Descriptor, Digest, Document, Hasher, ImageConfig, Index, Manifest, Reference, media_type,
};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use store::{Bundle, DOCUMENT_BYTES_MAX, Fresh, ImageArchive, NewImage, Store, open_regular};

use super::{Offer, Sink, Source};
use crate::Error;
use crate::client::{Received, Stop};
use crate::upload::{Moved, Placed};

/// The annotation of image-spec, annotations.md: a tag, or any text.
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const COPY_BUFFER_SIZE: usize = 256 << 10;
/// Blobs written at the same time.
const WIDTH: usize = 4;
/// Permissions of what is written, but for the process' umask.
const FILE_MODE: u32 = 0o666;
/// How names in a layout are looked up.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// An archive, or a directory in the OCI image layout.
pub(crate) struct BundleSource<'a> {
    pub(crate) bundle: Bundle<'a>,
    /// As the user called it.
    pub(crate) name: String,
    /// Which of its images.
    pub(crate) label: Option<String>,
}

impl BundleSource<'_> {
    fn failed(&self) -> impl FnOnce(store::Error) -> Error {
        from_bundle(self.name.clone())
    }
}

/// The failure of a bundle that is called `name`.
pub(crate) fn from_bundle(name: String) -> impl FnOnce(store::Error) -> Error {
    move |error| match error {
        store::Error::NotFound(what) => {
            Error::NotFound { reference: name, detail: format!("no {what}") }
        }
        store::Error::Invalid(why) => Error::Invalid(format!("{name}: {why}")),
        store::Error::Digest { what, expected, actual } => Error::Mismatch {
            what: format!("{what} in {name}"),
            expected: expected.to_string(),
            got: actual.to_string(),
        },
        source => Error::Store { what: name, source },
    }
}

impl Source for BundleSource<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn top(&self) -> Result<Received, Error> {
        let top = self.bundle.top(self.label.as_deref()).map_err(self.failed())?;
        self.document(&top)
    }

    fn document(&self, wanted: &Descriptor) -> Result<Received, Error> {
        let bytes = self.bundle.document(wanted).map_err(self.failed())?;
        let (digest, media_type) = (wanted.digest, wanted.media_type.clone());
        Ok(Received { bytes, media_type, digest })
    }

    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        let mut file = self.bundle.open(blob).map_err(self.failed())?;
        seek(&mut file, blob, from)?;
        Ok(Box::new(file))
    }

    fn repositories(&self, _: &str, _: &Digest) -> Vec<String> {
        Vec::new()
    }
}

fn seek(file: &mut File, blob: &Descriptor, from: u64) -> Result<(), Error> {
    file.seek(SeekFrom::Start(from)).map(drop).map_err(|source| {
        let doing = format!("read blob {}", blob.digest);
        Error::store("blob", &blob.digest)(store::Error::Io { doing, source })
    })
}

/// What arrives of a blob, counted and hashed.
struct Arriving<'a> {
    content: Box<dyn Read + Send + 'a>,
    hasher: Hasher,
    done: u64,
    tell: &'a (dyn Fn(Moved) + Sync),
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.done += n as u64;
        (self.tell)(Moved::Sent(self.done));
        Ok(n)
    }
}

fn unwritten(what: &str) -> impl FnOnce(io::Error) -> Error {
    let doing = format!("write {what}");
    move |source| Error::Store { what: doing.clone(), source: store::Error::Io { doing, source } }
}

/// An archive that is written while blobs come.
pub(crate) struct ArchiveSink {
    archive: Mutex<Option<ImageArchive<BufWriter<Fresh>>>>,
    path: PathBuf,
    /// What the image is called in it.
    label: Option<String>,
    /// Whether `docker load` is to find it.
    for_docker: bool,
    stop: Stop,
}

impl ArchiveSink {
    pub(crate) fn create(
        path: &Path,
        label: Option<String>,
        for_docker: bool,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Store { what: path.display().to_string(), source };
        let fresh = Fresh::create(path, FILE_MODE).map_err(failed)?;
        let archive = ImageArchive::new(BufWriter::with_capacity(COPY_BUFFER_SIZE, fresh));
        let archive = Mutex::new(Some(archive.map_err(failed)?));
        Ok(Self { archive, path: path.to_owned(), label, for_docker, stop: Stop::default() })
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut ImageArchive<BufWriter<Fresh>>) -> Result<T, store::Error>,
    ) -> Result<T, Error> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let archive = archive.as_mut().expect("an archive is open until its end");
        act(archive).map_err(from_bundle(self.path.display().to_string()))
    }

    fn end(&self) -> Result<(), Error> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let archive = archive.expect("an archive is open until its end");
        let failed = |source| Error::Store { what: self.path.display().to_string(), source };
        let fresh = archive.finish().map_err(failed)?.into_inner();
        let fresh = fresh.map_err(io::IntoInnerError::into_error);
        fresh.map_err(unwritten(&self.path.display().to_string()))?.keep().map_err(failed)
    }
}

impl Sink for ArchiveSink {
    fn put(&self, offer: &Offer<'_, '_>) -> Result<Placed, Error> {
        let content = (offer.content)(0)?;
        let mut arriving =
            Arriving { content, hasher: Hasher::default(), done: 0, tell: offer.tell };
        self.with(|archive| archive.blob(offer.blob, &mut arriving))?;
        Ok(Placed::Sent)
    }

    fn put_document(&self, document: &Received, is_top: bool) -> Result<(), Error> {
        let mut top = document.descriptor();
        self.with(|archive| archive.blob(&top, &mut &document.bytes[..]))?;
        if !is_top {
            return Ok(());
        }
        let name: Option<Reference> = self.label.as_ref().and_then(|name| name.parse().ok());
        if self.for_docker {
            let Ok(Document::Manifest(manifest)) =
                Document::parse(&document.bytes, &document.media_type)
            else {
                return Err(Error::Invalid("an index is not an image".to_owned()));
            };
            self.with(|archive| {
                archive.list_for_docker(&manifest, name.as_slice());
                archive.list(top, name.as_ref());
                Ok(())
            })?;
            return self.end();
        }
        let label = self.label.iter().map(|label| (REF_ANNOTATION.to_owned(), label.clone()));
        top.annotations = label.collect();
        self.with(|archive| {
            archive.list_entry(top);
            Ok(())
        })?;
        self.end()
    }

    fn width(&self) -> usize {
        1
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }
}

/// A directory in the OCI image layout, which may have images already. What is in it may be
/// somebody else's: no link in it is followed, and no blob believed.
pub(crate) struct LayoutSink {
    directory: PathBuf,
    opened: OwnedFd,
    blobs: OwnedFd,
    label: Option<String>,
    stop: Stop,
}

impl LayoutSink {
    pub(crate) fn create(directory: &Path, label: Option<String>) -> Result<Self, Error> {
        let doing = directory.display().to_string();
        std::fs::create_dir_all(directory).map_err(unwritten(&doing))?;
        let opened = OwnedFd::from(File::open(directory).map_err(unwritten(&doing))?);
        let blobs = open_blobs(&opened);
        let blobs = blobs.map_err(io::Error::from).map_err(unwritten(&doing))?;
        let directory = directory.to_owned();
        let this = Self { directory, opened, blobs, label, stop: Stop::default() };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if rustix::fs::statat(&this.opened, "oci-layout", flags).is_err() {
            this.write(&this.opened, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(this)
    }

    /// Writes a file of one of the directories.
    fn write(&self, at: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.directory.join(name).display().to_string();
        let failed = |source| Error::Store { what: path.clone(), source };
        let mut fresh = Fresh::create(&within(at, name), FILE_MODE).map_err(failed)?;
        fresh.write_all(bytes).map_err(unwritten(&path))?;
        fresh.keep().map_err(failed)
    }

    /// Whether a blob is here already, whole.
    fn has(&self, blob: &Descriptor) -> bool {
        let Ok(mut there) = open_regular(&self.blobs, blob.digest.hex(), INSIDE) else {
            return false;
        };
        if there.metadata().is_ok_and(|there| there.len() != blob.size) {
            return false;
        }
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; COPY_BUFFER_SIZE];
        loop {
            match there.read(&mut buffer) {
                Ok(0) => return hasher.finish() == blob.digest,
                Ok(n) => hasher.update(&buffer[..n]),
                Err(_) => return false,
            }
        }
    }

    /// Lists an image in the directory, in the place of what had its name.
    fn list(&self, mut top: Descriptor) -> Result<(), Error> {
        let path = self.directory.join("index.json");
        let bad = |why: String| Error::Invalid(format!("read `{}`: {why}", path.display()));
        let lock = File::open(&self.directory).map_err(|error| bad(error.to_string()))?;
        // Two copies to one directory must not forget each other's image.
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .map_err(|error| bad(error.to_string()))?;
        let mut index = match open_regular(&self.opened, "index.json", INSIDE) {
            Err(Errno::NOENT) => Index {
                schema_version: 2,
                media_type: Some(media_type::OCI_INDEX.to_owned()),
                manifests: Vec::new(),
                annotations: BTreeMap::new(),
            },
            opened => {
                let mut bytes = Vec::new();
                let opened = opened.map_err(io::Error::from);
                let read = opened.and_then(|f| f.take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes));
                read.map_err(|error| bad(error.to_string()))?;
                serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?
            }
        };
        let label = self.label.iter().map(|label| (REF_ANNOTATION.to_owned(), label.clone()));
        top.annotations = label.collect();
        index.manifests.retain(|known| match &self.label {
            Some(label) => known.annotations.get(REF_ANNOTATION) != Some(label),
            None => known.digest != top.digest || !known.annotations.is_empty(),
        });
        index.manifests.push(top);
        let bytes = serde_json::to_vec(&index).map_err(|error| bad(error.to_string()))?;
        self.write(&self.opened, "index.json", &bytes)
    }
}

impl Sink for LayoutSink {
    fn put(&self, offer: &Offer<'_, '_>) -> Result<Placed, Error> {
        let Descriptor { digest, size, .. } = offer.blob;
        if self.has(offer.blob) {
            return Ok(Placed::Exists);
        }
        let path = self.directory.join("blobs/sha256").join(digest.hex());
        let failed = |source| Error::Store { what: path.display().to_string(), source };
        let place = within(&self.blobs, &digest.hex());
        let mut fresh = Fresh::create(&place, FILE_MODE).map_err(failed)?;
        let content = (offer.content)(0)?;
        let arriving = Arriving { content, hasher: Hasher::default(), done: 0, tell: offer.tell };
        // One byte more, to find out whether there is more than was said.
        let mut arriving = arriving.take(size + 1);
        let mut buffer = vec![0; COPY_BUFFER_SIZE];
        loop {
            if self.stop.is_set() {
                return Err(Error::Invalid("stopped".to_owned()));
            }
            let n = arriving.read(&mut buffer).map_err(unwritten(&path.display().to_string()))?;
            if n == 0 {
                break;
            }
            let written = fresh.write_all(&buffer[..n]);
            written.map_err(unwritten(&path.display().to_string()))?;
        }
        let Arriving { hasher, done, .. } = arriving.into_inner();
        check(offer.blob, done, &hasher.finish())?;
        fresh.keep().map_err(failed)?;
        Ok(Placed::Sent)
    }

    fn put_document(&self, document: &Received, is_top: bool) -> Result<(), Error> {
        self.write(&self.blobs, &document.digest.hex(), &document.bytes)?;
        if is_top { self.list(document.descriptor()) } else { Ok(()) }
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }
}

/// Opens the directory of blobs, which is made if it is not there.
fn open_blobs(layout: &OwnedFd) -> Result<OwnedFd, Errno> {
    for name in ["blobs", "blobs/sha256"] {
        let (above, last) = name.rsplit_once('/').unwrap_or((".", name));
        match rustix::fs::mkdirat(inside(layout, above)?, last, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    inside(layout, "blobs/sha256")
}

fn inside(layout: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(layout, path, flags, Mode::empty(), INSIDE)
}

/// A name in an open directory, for what takes only paths.
fn within(directory: &OwnedFd, name: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

fn check(blob: &Descriptor, size: u64, digest: &Digest) -> Result<(), Error> {
    let what = format!("blob {}", blob.digest);
    let mismatch = |expected, got| Err(Error::Mismatch { what, expected, got });
    if size != blob.size {
        let got = if size > blob.size { "more".to_owned() } else { format!("{size} bytes") };
        return mismatch(format!("{} bytes", blob.size), got);
    }
    if *digest != blob.digest {
        return mismatch(blob.digest.to_string(), digest.to_string());
    }
    Ok(())
}

/// The store, which takes images for one platform.
pub(crate) struct StoreSink<'a> {
    pub(crate) store: &'a Store,
    pub(crate) reference: &'a Reference,
    /// Where the image came from, if that is a registry.
    pub(crate) origin: Option<Reference>,
    pub(crate) stop: Stop,
}

impl StoreSink<'_> {
    fn failed(&self) -> impl FnOnce(store::Error) -> Error + use<> {
        from_bundle(self.reference.familiar())
    }

    fn unpack(&self, manifest: &Manifest) -> Result<(), Error> {
        let config = &manifest.config.digest;
        let bytes = self.store.read_blob(config, DOCUMENT_BYTES_MAX).map_err(self.failed())?;
        let config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Invalid(format!("malformed configuration: {error}")))?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let mut blob = self.store.open_blob(&layer.digest).map_err(self.failed())?;
            let unpacked = self.store.unpack(diff_id, layer, &mut blob, &mut |_| {});
            unpacked.map_err(Error::store("layer", &layer.digest))?;
        }
        Ok(())
    }
}

impl Sink for StoreSink<'_> {
    fn put(&self, offer: &Offer<'_, '_>) -> Result<Placed, Error> {
        let Descriptor { digest, size, .. } = offer.blob;
        let ingest = self.store.ingest(digest, *size).map_err(Error::store("blob", digest))?;
        let Some(mut ingest) = ingest else { return Ok(Placed::Exists) };
        let content = (offer.content)(ingest.offset())?;
        let done = ingest.offset();
        let mut arriving = Arriving { content, hasher: Hasher::default(), done, tell: offer.tell };
        io::copy(&mut arriving, &mut ingest).map_err(|source| {
            let doing = format!("write blob {digest}");
            Error::store("blob", digest)(store::Error::Io { doing, source })
        })?;
        ingest.commit().map_err(Error::store("blob", digest))?;
        Ok(Placed::Sent)
    }

    fn put_document(&self, document: &Received, is_top: bool) -> Result<(), Error> {
        self.store.put_blob(&document.bytes).map_err(self.failed())?;
        if !is_top {
            return Ok(());
        }
        let Ok(Document::Manifest(manifest)) =
            Document::parse(&document.bytes, &document.media_type)
        else {
            return Err(Error::Invalid("an index is not an image".to_owned()));
        };
        self.unpack(&manifest)?;
        let image = self.store.add_image(NewImage {
            manifest: document.descriptor(),
            index: None,
            repo_digest: self.origin.as_ref().map(|name| name.with_digest(document.digest)),
        });
        let image = image.map_err(self.failed())?;
        self.store.tag(self.reference, &image.id).map_err(self.failed())
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }
}
