//! Layers that are seen before they are here.
//!
//! A process that has the tables of contents of layers makes images of them in which only data is
//! missing, serves each as a file whose data it gets when it is read, and says so here: a directory
//! with a lock that ends with the process, the images, and the merged image of the chain. Who starts
//! a container of this chain finds it ([`Store::rootfs`]) and mounts the process's files by its
//! descriptors, under a [`crate::Lease`]. Once the layers are here as any others are, nobody looks for it any more.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci::{Compression, Digest, Hasher, Lower};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::disk::{Part, Scratch, Store, json, names, read_if_there};
use crate::driver::image::{self, ImageSink};
use crate::driver::merged;
use crate::error::{Doing as _, Error, invalid};
use crate::extract;
use crate::outline::{Outline, Outlined, Piece};
use crate::snapshot::{Chain, RootLook, showing};

const LOCK: &str = "lock";
const RECORD: &str = "arrival.json";
/// What is decompressed at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// A chain of layers of which some are still on their way. What is in its directory goes with it.
#[derive(Debug)]
pub struct Arrival {
    store: Store,
    scratch: Option<Scratch>,
    place: PathBuf,
    record: Record,
    sketches: BTreeMap<Digest, Sketch>,
    #[expect(dead_code, reason = "the lock is held as long as the descriptor is open")]
    lock: File,
}

/// The image of a layer whose data is missing.
#[derive(Debug)]
pub struct Sketch {
    /// The image, to be read and written.
    pub file: File,
    /// What belongs into it, in the order of its places there.
    pub pieces: Vec<Piece>,
}

/// How others find the layers.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// What vouches for what is served: nobody has compared it with the layers' own digests yet.
    manifest: Digest,
    /// All layers of the chain, lowest first.
    layers: Vec<Digest>,
    /// Those that show, topmost first.
    showing: Vec<Digest>,
    root: RootLook,
    /// Who serves those that are not here.
    pid: u32,
    /// By which of its descriptors.
    served: BTreeMap<Digest, RawFd>,
}

impl Store {
    /// Prepares a chain of layers, lowest first, whose layers are here or outlined by what `manifest`
    /// says. It ends with this process, and nobody finds it before [`Arrival::announce`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if an outline makes no layer, or a layer that is here is no image;
    /// [`Error::Io`].
    pub fn arrive(
        &self,
        manifest: Digest,
        layers: &[Digest],
        outlines: BTreeMap<Digest, Outline>,
    ) -> Result<Arrival, Error> {
        let scratch = self.scratch(Part::Arriving)?;
        let doing = || format!("prepare layers in `{}`", scratch.path().display());
        let lock = File::create_new(scratch.path().join(LOCK)).doing(doing)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).doing(doing)?;
        let mut sketches = BTreeMap::new();
        let mut opaque: BTreeMap<Digest, bool> = BTreeMap::new();
        for (diff_id, outline) in outlines {
            let path = scratch.path().join(image_name(&diff_id));
            let (sketch, is_opaque) = sketch(&path, outline)?;
            sketches.insert(diff_id, sketch);
            opaque.insert(diff_id, is_opaque);
        }
        let is_opaque = layers.iter().map(|layer| match opaque.get(layer) {
            Some(is_opaque) => Ok(*is_opaque),
            None => Ok(self.layer(layer)?.is_opaque),
        });
        let showing = showing(layers, &is_opaque.collect::<Result<Vec<_>, Error>>()?);
        let image = |layer: &Digest| match sketches.contains_key(layer) {
            true => Ok(scratch.path().join(image_name(layer))),
            false => self
                .image_path(layer)
                .ok_or_else(|| Error::Invalid(format!("layer {layer} is here, but is no image"))),
        };
        let images = showing.iter().map(image).collect::<Result<Vec<_>, Error>>()?;
        let root = merged::make(&scratch.path().join(merged::FILE), &images).doing(doing)?;
        let name = scratch.path().file_name().unwrap_or_default().to_string_lossy();
        let place = self.part(Part::Arriving).join(name.trim_start_matches('.'));
        let (layers, pid) = (layers.to_vec(), std::process::id());
        let record = Record { manifest, layers, showing, root, pid, served: BTreeMap::new() };
        Ok(Arrival { store: self.clone(), scratch: Some(scratch), place, record, sketches, lock })
    }

    /// The view of a chain of which some layers are still on their way, if they are.
    pub(crate) fn arriving(&self, chain: Chain<'_>) -> Result<Option<(Lower, RootLook)>, Error> {
        if chain.layers.iter().all(|layer| self.has_layer(layer)) {
            return Ok(None);
        }
        let found = self.arrivals()?.into_iter().find(|(_, record)| record.is_of(chain));
        let Some((place, record)) = found else { return Ok(None) };
        let device = |layer: &Digest| match record.served.get(layer) {
            Some(number) => PathBuf::from(format!("/proc/{}/fd/{number}", record.pid)),
            None => self.layer_path(layer).join(image::FILE),
        };
        let devices = record.showing.iter().map(device).collect();
        let lower = Lower::Image { path: place.join(merged::FILE), devices };
        Ok(Some((lower, record.root)))
    }

    /// Whether a chain can be seen of which some layers are not here yet.
    #[must_use]
    pub fn is_arriving(&self, chain: Chain<'_>) -> bool {
        matches!(self.arriving(chain), Ok(Some(_)))
    }

    /// Whether anybody serves a layer that is not here yet.
    pub(crate) fn is_served(&self, layer: &Digest) -> bool {
        let arrivals = self.arrivals().unwrap_or_default();
        arrivals.iter().any(|(_, record)| record.served.contains_key(layer))
    }

    /// All that can be found and that somebody serves.
    fn arrivals(&self) -> Result<Vec<(PathBuf, Record)>, Error> {
        let mut arrivals = Vec::new();
        for name in names(&self.part(Part::Arriving))? {
            let place = self.part(Part::Arriving).join(name);
            let bytes = read_if_there(&place.join(RECORD))?;
            let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            if let Some(record) = record.filter(|_| is_held(&place)) {
                arrivals.push((place, record));
            }
        }
        Ok(arrivals)
    }

    /// Moves away what processes have left that serve nothing any more.
    pub(crate) fn sweep_arrivals(&self) -> Result<(), Error> {
        for name in crate::disk::all_names(&self.part(Part::Arriving))? {
            let place = self.part(Part::Arriving).join(name);
            if !is_held(&place) {
                self.hide(&place)?;
            }
        }
        Ok(())
    }
}

impl Record {
    /// Whether it is of these layers, by the word of the same manifest: another one may call what
    /// it likes by the digest of a layer that is not here.
    fn is_of(&self, chain: Chain<'_>) -> bool {
        chain.manifest == Some(&self.manifest) && chain.layers == self.layers
    }
}

impl Arrival {
    /// What is to be served, by diff id: the layers that are not here.
    pub fn take_sketches(&mut self) -> BTreeMap<Digest, Sketch> {
        std::mem::take(&mut self.sketches)
    }

    /// Lets others find the layers, which this process serves by these descriptors: each can be
    /// opened for reading by its path in /proc.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn announce(&mut self, served: BTreeMap<Digest, RawFd>) -> Result<(), Error> {
        self.record.served = served;
        let Some(scratch) = self.scratch.take() else { return invalid("announced already") };
        let path = scratch.path().join(RECORD);
        fs::write(&path, json(&self.record)?).doing(|| format!("write `{}`", path.display()))?;
        scratch.publish(&self.place).map(drop)
    }

    /// Lets nobody find the layers any more. On return, whoever had found them has mounted them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn retire(&self) -> Result<(), Error> {
        crate::disk::remove_if_there(&self.place.join(RECORD))?;
        // Who is about to mount them holds a lease.
        self.store.wait_exclusive().map(drop)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // What stays is swept when this process has ended.
        let _ = self.store.discard(&self.place);
    }
}

impl Sketch {
    /// Puts a piece where it belongs, from the bytes of the blob that it is compressed in.
    ///
    /// # Errors
    /// [`Error::Digest`] and [`Error::Invalid`] if it is another one, which may be there then;
    /// [`Error::Io`].
    pub fn fill(&self, piece: &Piece, stored: &mut dyn Read) -> Result<(), Error> {
        let malformed = |error: io::Error| {
            Error::Invalid(format!("piece at {} of the blob: {error}", piece.blob.start))
        };
        let mut from = plain(stored).map_err(malformed)?;
        io::copy(&mut from.by_ref().take(piece.inner), &mut io::sink()).map_err(malformed)?;
        let mut from = from.take(piece.at.end - piece.at.start);
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut hasher, mut at) = (Hasher::default(), piece.at.start);
        loop {
            let n = from.read(&mut buffer).map_err(malformed)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            self.file.write_all_at(&buffer[..n], at).doing(|| "write a piece of a layer")?;
            at += n as u64;
        }
        let (expected, actual) = (piece.digest, hasher.finish());
        if actual != expected {
            let what = format!("piece at {} of the blob", piece.blob.start);
            return Err(Error::Digest { what, expected, actual });
        }
        if at == piece.at.end { Ok(()) } else { invalid("a piece is too short") }
    }
}

fn image_name(diff_id: &Digest) -> String {
    format!("{}.erofs", diff_id.hex())
}

/// What a stream by gzip or zstd becomes.
fn plain<'a>(mut stored: &'a mut dyn Read) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    (&mut stored).take(4).read_to_end(&mut head)?;
    let compression = Compression::detect(&head);
    let all = io::Cursor::new(head).chain(stored);
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::read::GzDecoder::new(all)),
        Compression::Zstd => Box::new(zstd::Decoder::new(all)?),
        Compression::None => return Err(io::ErrorKind::InvalidData.into()),
    })
}

/// Whether somebody holds the lock in the directory of an arrival.
fn is_held(place: &Path) -> bool {
    let Ok(lock) = File::open(place.join(LOCK)) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// Makes the image of an outline; whether it hides all layers below.
fn sketch(path: &Path, outline: Outline) -> Result<(Sketch, bool), Error> {
    let doing = || format!("write `{}`", path.display());
    let reserved = Rc::new(Cell::new(None));
    let sink = ImageSink::reserving(File::create_new(path).doing(doing)?, reserved.clone());
    let (entries, data): (Vec<_>, Vec<_>) =
        outline.entries.into_iter().map(|Outlined { entry, pieces }| (entry, pieces)).unzip();
    let mut starts = vec![None; data.len()];
    let made = &mut |number: usize| starts[number] = reserved.take();
    let extracted = extract::outline(entries.into_iter(), sink, made)?;
    let mut pieces = Vec::new();
    for (start, own) in starts.into_iter().zip(data) {
        let Some(start) = start else { continue };
        pieces.extend(own.into_iter().map(|piece| {
            let at = start + piece.at.start..start + piece.at.end;
            Piece { at, ..piece }
        }));
    }
    let file = File::options().read(true).write(true).open(path).doing(doing)?;
    Ok((Sketch { file, pieces }, extracted.is_opaque))
}
