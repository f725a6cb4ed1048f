//! Layers that are made here: the writable directory of a view becomes one as it is, and its archive
//! is not kept, since it can be made again.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;

use oci::{Descriptor, Digest, Hasher, Rootfs, media_type};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::commit::open;
use crate::disk::{Part, Scratch, Store};
use crate::driver::Driver;
use crate::driver::dir::TREE;
use crate::error::{Doing as _, Error, invalid};
use crate::layer::{LIMITS, Layer, Unpacked, open_lower, write_record};
use crate::overlay::{OPAQUE_XATTR, is_opaque};
use crate::pack::{Packed, Tree, names, pack_until};
use crate::spool::Sink;
use crate::walk::{open_directory, through_proc};

/// Of an archive that says nothing.
pub(crate) const EMPTY_ARCHIVE_BYTES: u64 = 1024;
/// Of an archive on its way from one thread to the other.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks between the two threads.
const CHUNKS_MAX: usize = 8;
const WRITE_BYTES: usize = 256 << 10;
/// Names of one file's extended attributes, in bytes; the kernel's own limit.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Of the root of a layer that says nothing about it.
const ROOT_MODE: u32 = 0o755;

/// What an archive of a layer that was made here is, besides its digest, which is the diff id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its size in bytes.
    pub archive_bytes: u64,
    /// Whether the root's own owner and mode belong to it.
    pub with_root: bool,
}

impl Made {
    /// The archive as a manifest names it.
    pub(crate) fn descriptor(self, diff_id: &Digest) -> Descriptor {
        Descriptor {
            media_type: media_type::OCI_LAYER.to_owned(),
            digest: *diff_id,
            size: self.archive_bytes,
            platform: None,
            annotations: Default::default(),
        }
    }
}

/// What was changed in a view: its writable directory.
#[derive(Debug)]
pub(crate) struct Changed<'a> {
    pub(crate) root: OwnedFd,
    path: &'a Path,
    /// Whether the root itself was changed.
    with_root: bool,
}

impl<'a> Changed<'a> {
    pub(crate) fn of(rootfs: &'a Rootfs) -> Result<Self, Error> {
        let Rootfs::Overlay { lower, upper, .. } = rootfs else {
            return invalid("a plain directory has no image that it could differ from");
        };
        let root = open(upper)?;
        let look = |fd: &OwnedFd| {
            let found = rustix::fs::fstat(fd).doing(|| format!("inspect `{}`", upper.display()));
            found.map(|found| (found.st_mode, found.st_uid, found.st_gid))
        };
        let with_root = match lower.first() {
            Some(below) => look(&open_lower(below)?)? != look(&root)?,
            None => true,
        };
        Ok(Self { root, path: upper, with_root })
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::Layer { with_root: self.with_root }
    }

    /// Whether nothing was changed at all.
    fn is_nothing(&self) -> Result<bool, Error> {
        let doing = || format!("list `{}`", self.path.display());
        let is_plain = !self.with_root && !is_opaque(self.root.as_fd());
        Ok(is_plain && names(self.root.as_fd()).doing(doing)?.is_empty())
    }
}

impl Store {
    /// Makes a layer of what was changed in a view that [`Store::prepare`] made; `None` if nothing
    /// was. Nothing in it is younger than `epoch_s`, in seconds since 1970: the same files are the
    /// same layer, whenever and wherever they were made. The view is used up.
    ///
    /// The caller holds a [`crate::Lease`] until something durable says that the layer is in use.
    ///
    /// # Errors
    /// As of [`Store::changes`].
    pub fn layer_of(&self, rootfs: &Rootfs, epoch_s: i64) -> Result<Option<Digest>, Error> {
        let _lease = self.lease()?;
        let changed = Changed::of(rootfs)?;
        if changed.is_nothing()? {
            return Ok(None);
        }
        match self.settle_driver()? {
            Driver::Dir => self.take_directory(&changed, epoch_s),
            Driver::Erofs => self.write_layer(&changed, epoch_s, Driver::Erofs),
        }
    }

    /// The directory itself becomes the layer.
    fn take_directory(&self, changed: &Changed<'_>, epoch_s: i64) -> Result<Option<Digest>, Error> {
        let (hashed, packed) =
            pack_until(changed.root.as_fd(), changed.tree(), Some(epoch_s), Hashed::default())?;
        let diff_id = hashed.hasher.finish();
        if hashed.size == EMPTY_ARCHIVE_BYTES {
            return Ok(None);
        }
        if self.has_layer(&diff_id) {
            return Ok(Some(diff_id));
        }
        let doing = || format!("make a layer of `{}`", changed.path.display());
        settle(changed.root.as_fd(), epoch_s).doing(doing)?;
        if !changed.with_root {
            reset_root(&changed.root).doing(doing)?;
        }
        let scratch = self.scratch(Part::Layers)?;
        match std::fs::rename(changed.path, scratch.path().join(TREE)) {
            // It lies on another file system.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return self.write_layer(changed, epoch_s, Driver::Dir);
            }
            renamed => renamed.doing(doing)?,
        }
        let made = Made { archive_bytes: hashed.size, with_root: changed.with_root };
        let is_opaque = is_opaque(changed.root.as_fd());
        let Packed { entries, size } = packed;
        let layer = Layer { diff_id, blob: diff_id, size, entries, is_opaque, made: Some(made) };
        self.publish_made(scratch, &layer)
    }

    /// The directory becomes a layer of its own while its archive is hashed, which is never on disk.
    fn write_layer(
        &self,
        changed: &Changed<'_>,
        epoch_s: i64,
        driver: Driver,
    ) -> Result<Option<Digest>, Error> {
        let (sender, receiver) = mpsc::sync_channel(CHUNKS_MAX);
        let (packed, unpacked) = std::thread::scope(|scope| {
            let packing = scope.spawn(move || {
                let out = ToThread { sender, chunk: Vec::new() };
                pack_until(changed.root.as_fd(), changed.tree(), Some(epoch_s), out).map(drop)
            });
            let mut archive = FromThread { receiver, chunk: Vec::new(), at: 0, count: 0 };
            let unpacked = self.unpack_as(driver, &mut archive, &mut |_| {}, LIMITS);
            let count = archive.count;
            // Whoever packs must not wait for a reader that has given up.
            drop(archive);
            let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (packed, unpacked.map(|unpacked| (unpacked, count)))
        });
        let (unpacked, archive_bytes) = match (packed, unpacked) {
            (Err(error), Ok(_)) => return Err(error),
            (Err(error), Err(_)) if !is_broken_pipe(&error) => return Err(error),
            (_, unpacked) => unpacked?,
        };
        if archive_bytes == EMPTY_ARCHIVE_BYTES {
            return Ok(None);
        }
        let Unpacked { scratch, diff_id, extracted } = unpacked;
        let made = Made { archive_bytes, with_root: changed.with_root };
        let layer = Layer {
            diff_id,
            blob: diff_id,
            size: extracted.size,
            entries: extracted.entries,
            is_opaque: extracted.is_opaque,
            made: Some(made),
        };
        self.publish_made(scratch, &layer)
    }

    fn publish_made(&self, scratch: Scratch, layer: &Layer) -> Result<Option<Digest>, Error> {
        write_record(scratch.path(), layer)?;
        // If somebody else was faster, theirs is the same.
        self.place_layer(scratch, &layer.diff_id)?;
        Ok(Some(layer.diff_id))
    }

    /// Makes the archive of a layer that was made here, as a blob.
    pub(crate) fn pack_again(&self, diff_id: &Digest, made: Made) -> Result<Digest, Error> {
        let scratch = self.scratch(Part::Ingest)?;
        let sink = Sink::create(scratch.path().join("layer"))?;
        let out = io::BufWriter::with_capacity(WRITE_BYTES, sink);
        let out = self.pack_made(diff_id, made, out)?;
        let sink = out.into_inner().map_err(io::IntoInnerError::into_error);
        let archive = sink.doing(|| "write a layer")?.finish();
        if archive.digest != *diff_id {
            let what = format!("content of layer {diff_id}");
            return Err(Error::Digest { what, expected: *diff_id, actual: archive.digest });
        }
        archive.adopt(self)?;
        Ok(archive.digest)
    }

    /// The digest that the archive of a layer that was made here has now.
    pub(crate) fn packed_digest(&self, diff_id: &Digest, made: Made) -> Result<Digest, Error> {
        Ok(self.pack_made(diff_id, made, Hashed::default())?.hasher.finish())
    }

    fn pack_made<W: Write>(&self, diff_id: &Digest, made: Made, out: W) -> Result<W, Error> {
        let root = self.open_layer(diff_id)?;
        // The root of a mount is a path only.
        let root = open_directory(root.as_fd(), b".").doing(|| format!("open layer {diff_id}"))?;
        let tree = Tree::Layer { with_root: made.with_root };
        // Its times are settled already.
        pack_until(root.as_fd(), tree, Some(i64::MAX), out).map(|(out, _)| out)
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

/// Makes a tree what unpacking its archive would make of it: nothing younger than `epoch_s`, no
/// sockets, and none of overlayfs' notes on where files come from.
fn settle(at: BorrowedFd<'_>, epoch_s: i64) -> Result<(), Errno> {
    let before = rustix::fs::fstat(at)?;
    for name in names(at)? {
        let stat = statat(at, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                settle(open_directory(at, name.to_bytes())?.as_fd(), epoch_s)?;
            }
            FileType::Socket => {
                rustix::fs::unlinkat(at, name.as_c_str(), AtFlags::empty())?;
            }
            _ => {
                forget_origin(&through_proc(at, name.to_bytes()))?;
                if let Some(times) = settled(&stat, epoch_s) {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::utimensat(at, name.as_c_str(), &times, flags)?;
                }
            }
        }
    }
    forget_origin(&through_proc(at, b"."))?;
    let own = Timestamps { last_access: modified(&before), last_modification: modified(&before) };
    rustix::fs::futimens(at, &settled(&before, epoch_s).unwrap_or(own))
}

fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// The times of what is younger than `epoch_s`.
fn settled(stat: &Stat, epoch_s: i64) -> Option<Timestamps> {
    let time = Timespec { tv_sec: epoch_s, tv_nsec: 0 };
    let is_younger = (stat.st_mtime, stat.st_mtime_nsec) > (epoch_s, 0);
    is_younger.then_some(Timestamps { last_access: time, last_modification: time })
}

fn forget_origin(path: &Path) -> Result<(), Errno> {
    let mut list = [0; XATTR_BYTES_MAX];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    for key in list[..length].split(|&b| b == 0) {
        let is_note = key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.");
        if is_note && key != OPAQUE_XATTR.as_bytes() {
            rustix::fs::lremovexattr(path, key)?;
        }
    }
    Ok(())
}

/// Makes a root look like that of a layer that says nothing about it.
fn reset_root(root: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fchown(root, Some(Uid::ROOT), Some(Gid::ROOT))?;
    rustix::fs::fchmod(root, Mode::from(ROOT_MODE))
}

/// Takes the digest of what is written.
#[derive(Default)]
struct Hashed {
    hasher: Hasher,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives what is written to another thread.
struct ToThread {
    sender: mpsc::SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
}

impl Write for ToThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        self.sender.send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Reads what another thread writes; the end is where that one has ended.
struct FromThread {
    receiver: mpsc::Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    count: u64,
}

impl Read for FromThread {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            let Ok(chunk) = self.receiver.recv() else { return Ok(0) };
            (self.chunk, self.at) = (chunk, 0);
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        (self.at, self.count) = (self.at + n, self.count + n as u64);
        Ok(n)
    }
}
