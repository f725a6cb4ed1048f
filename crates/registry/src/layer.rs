//! One layer on its way: downloaded, hashed and unpacked at the same time.

use std::io::{self, Read, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use oci::{Descriptor, Digest};
use store::{Ingest, Store};

use crate::Error;
use crate::client::{Faults, Repository};
use crate::event::{Event, LayerState};
use crate::fault::Fault;
use crate::pipe::{Feeder, pipe};

/// An attempt that brought this much starts the count of attempts anew: a line that breaks now
/// and then still gets a large layer through.
const PROGRESS_SIZE: u64 = 1 << 20;
/// Progress is told no more often than this, per layer.
const TELL_INTERVAL: Duration = Duration::from_millis(50);
const ID_LENGTH: usize = 12;

/// A layer to bring into the store.
pub(crate) struct Job<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) store: &'a Store,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) diff_id: &'a Digest,
    pub(crate) tell: &'a (dyn Fn(Event) + Sync),
}

/// Why an attempt at a blob ended before its end.
enum Trouble {
    Passing(Faults),
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Job<'_> {
    pub(crate) fn tell(&self, state: LayerState) {
        let id = self.descriptor.digest.hex()[..ID_LENGTH].to_owned();
        (self.tell)(Event::Layer { id, state });
    }

    /// Brings the layer into the store, unless it is there.
    pub(crate) fn run(&self) -> Result<(), Error> {
        // A layer that nothing could be sent from is fetched again.
        let archive = || self.store.has_archive(self.diff_id).unwrap_or(false);
        if self.store.has_layer(self.diff_id)
            && (self.store.has_blob(&self.descriptor.digest) || archive())
        {
            self.tell(LayerState::Exists);
            return Ok(());
        }
        let mut resumed = false;
        match self.attempt(&mut resumed) {
            // What an earlier pull left may have been damaged since, and a mirror may be wrong;
            // the mismatch discarded it.
            Err(Error::Mismatch { .. }) if self.repository.distrust_mirrors() || resumed => {
                self.attempt(&mut resumed)
            }
            outcome => outcome,
        }
    }

    /// Downloads and unpacks, and says whether an earlier download was `resumed`.
    fn attempt(&self, resumed: &mut bool) -> Result<(), Error> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let ingest = self.store.ingest(digest, *size).map_err(Error::store("blob", digest))?;
        match ingest {
            Some(ingest) => {
                *resumed = ingest.offset() > 0;
                self.stream(ingest)?;
            }
            None => self.unpack_held()?,
        }
        self.tell(LayerState::Done);
        Ok(())
    }

    /// The blob is here already, and was verified when it came.
    fn unpack_held(&self) -> Result<(), Error> {
        let digest = &self.descriptor.digest;
        let file = self.store.open_blob(digest).map_err(Error::store("blob", digest))?;
        let complete = AtomicBool::new(true);
        self.unpack(Tap::new(self, file, &complete))
    }

    fn stream(&self, ingest: Ingest) -> Result<(), Error> {
        let (feeder, feed) = pipe();
        let complete = AtomicBool::new(false);
        thread::scope(|scope| {
            let unpacker = thread::Builder::new()
                .name("unpack".to_owned())
                .spawn_scoped(scope, || self.unpack(Tap::new(self, feed, &complete)))
                .map_err(|error| Error::Invalid(format!("start a thread: {error}")))?;
            let received = self.receive(ingest, feeder, &complete);
            let unpacked = unpacker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A blob that is not what it should be explains whatever the unpacker stumbled over.
            received.and(unpacked)
        })
    }

    fn unpack(&self, mut from: Tap<'_, impl Read + Send>) -> Result<(), Error> {
        let unpacked = self.store.unpack(self.diff_id, self.descriptor, &mut from, &mut |_| {});
        unpacked.map(drop).map_err(Error::store("layer", &self.descriptor.digest))
    }

    /// Gets all bytes of the blob into `ingest`, and past it to the unpacker.
    fn receive(
        &self,
        mut ingest: Ingest,
        feeder: Feeder,
        complete: &AtomicBool,
    ) -> Result<(), Error> {
        let digest = &self.descriptor.digest;
        self.feed_held(&ingest, &feeder)?;
        let (mut attempt, mut mark) = (1, ingest.offset());
        while ingest.offset() < self.descriptor.size {
            let faults = match self.download(&mut ingest, &feeder) {
                Ok(()) => break,
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(faults)) => faults,
            };
            if ingest.offset() - mark >= PROGRESS_SIZE {
                (attempt, mark) = (1, ingest.offset());
            }
            self.pause(attempt, faults)?;
            attempt += 1;
        }
        self.tell(LayerState::Verifying);
        ingest.commit().map_err(Error::store("blob", digest))?;
        complete.store(true, Ordering::Relaxed);
        // Only now may the unpacker see the end, and make the layer visible.
        feeder.end();
        Ok(())
    }

    fn feed_held(&self, ingest: &Ingest, feeder: &Feeder) -> Result<(), Error> {
        let digest = &self.descriptor.digest;
        let bad = |error| kept(digest, error);
        let mut held = ingest.held().map_err(Error::store("blob", digest))?;
        loop {
            let mut buffer = feeder.buffer();
            match held.read(&mut buffer).map_err(bad)? {
                0 => return Ok(()),
                n => feeder.pass(buffer, n),
            }
        }
    }

    /// Waits until it is worth trying again; the error if it is not.
    fn pause(&self, attempt: u32, faults: Faults) -> Result<(), Error> {
        let pause = match faults.last() {
            Some((_, fault)) if self.repository.may_pass(&faults) => {
                self.repository.pause(attempt, fault)
            }
            _ => None,
        };
        let Some(pause) = pause else { return Err(self.repository.error(faults)) };
        self.tell(LayerState::Retrying { in_s: pause.as_secs() });
        self.repository.stop().sleep(pause);
        Ok(())
    }

    /// One request for what is missing, and its answer as far as it goes.
    fn download(&self, ingest: &mut Ingest, feeder: &Feeder) -> Result<(), Trouble> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let (response, start) =
            self.repository.blob(digest, ingest.offset(), *size).map_err(Trouble::Passing)?;
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let broken = |why: String| Trouble::Passing(self.repository.fault(Fault::Broken(why)));
        // A server that starts over sends what we hold again; its digest was taken already.
        let held = ingest.offset() - start;
        let skipped = io::copy(&mut body.by_ref().take(held), &mut io::sink());
        skipped.map_err(|error| broken(error.to_string()))?;
        let mut told: Option<Instant> = None;
        loop {
            if self.repository.stop().is_set() {
                return Err(Error::Invalid("stopped".to_owned()).into());
            }
            let mut buffer = feeder.buffer();
            let n = match body.read(&mut buffer) {
                Ok(0) if ingest.offset() < *size => {
                    let got = ingest.offset();
                    return Err(broken(format!("blob {digest} ended after {got} of {size} bytes")));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(_) if ingest.offset() == *size => return Ok(()),
                Err(error) => return Err(broken(error.to_string())),
            };
            if n as u64 > size - ingest.offset() {
                return Err(self.too_long().into());
            }
            ingest.write_all(&buffer[..n]).map_err(|error| kept(digest, error))?;
            feeder.pass(buffer, n);
            if told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
                told = Some(Instant::now());
                self.tell(LayerState::Downloading { done: ingest.offset(), total: *size });
            }
        }
    }

    fn too_long(&self) -> Error {
        let Descriptor { digest, size, .. } = self.descriptor;
        Error::Mismatch {
            what: format!("blob {digest}"),
            expected: format!("{size} bytes"),
            got: "more".to_owned(),
        }
    }
}

/// The failure of a file of the store that was read or written here.
fn kept(digest: &Digest, source: io::Error) -> Error {
    let doing = format!("write blob {digest}");
    Error::store("blob", digest)(store::Error::Io { doing, source })
}

/// What the unpacker reads, counted, so that the rest of its work can be told.
struct Tap<'a, R> {
    job: &'a Job<'a>,
    from: R,
    complete: &'a AtomicBool,
    done: u64,
    told: Instant,
}

impl<'a, R> Tap<'a, R> {
    fn new(job: &'a Job<'a>, from: R, complete: &'a AtomicBool) -> Self {
        Self { job, from, complete, done: 0, told: Instant::now() }
    }
}

impl<R: Read> Read for Tap<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.done += n as u64;
        // While the download runs, its progress is the layer's.
        if self.complete.load(Ordering::Relaxed) && self.told.elapsed() >= TELL_INTERVAL {
            self.told = Instant::now();
            let total = self.job.descriptor.size;
            self.job.tell(LayerState::Extracting { done: self.done, total });
        }
        Ok(n)
    }
}
