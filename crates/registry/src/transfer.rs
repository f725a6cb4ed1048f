//! Images from one place to another, without unpacking: every blob as it is, the manifests last.

mod local;
mod plan;
mod remote;

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci::{Descriptor, Digest, Platform};

use crate::Error;
use crate::client::{Received, Stop};
use crate::upload::{Moved, Placed, Reopen};

pub(crate) use local::{ArchiveSink, BundleSource, LayoutSink, StoreSink, from_bundle};
pub(crate) use plan::Plan;
pub(crate) use remote::{RemoteSink, RemoteSource};

/// Where an image comes from.
pub(crate) trait Source: Sync {
    /// As it is called in messages.
    fn name(&self) -> String;

    /// The manifest or index that its name names.
    fn top(&self) -> Result<Received, Error>;

    /// A manifest or index that another one names.
    fn document(&self, wanted: &Descriptor) -> Result<Received, Error>;

    /// A blob from byte `from` on.
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// The repositories of `registry` that are known to have a blob.
    fn repositories(&self, registry: &str, blob: &Digest) -> Vec<String>;
}

/// A blob that a [`Sink`] is to take.
pub(crate) struct Offer<'a, 'c> {
    pub(crate) blob: &'a Descriptor,
    pub(crate) content: &'a Reopen<'c>,
    pub(crate) source: &'a dyn Source,
    pub(crate) tell: &'a (dyn Fn(Moved) + Sync),
}

/// Where an image goes to.
pub(crate) trait Sink: Sync {
    /// Takes a blob, unless it is there.
    fn put(&self, offer: &Offer<'_, '_>) -> Result<Placed, Error>;

    /// Takes a manifest or index whose parts are there, under its digest or, if it is the last one
    /// and what was asked for, under the name that was given.
    fn put_document(&self, document: &Received, is_top: bool) -> Result<(), Error>;

    /// Blobs that it takes at the same time.
    fn width(&self) -> usize;

    /// Ends waiting and sending, since something failed.
    fn stop(&self) -> &Stop;
}

/// What of an image is wanted.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Everything that the name names: of an index, all manifests.
    All,
    /// The manifest for one platform.
    One(Platform),
}

/// What is told of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Waiting,
    Moved(Moved),
    Placed(Placed),
}

/// Moves what `plan` says.
pub(crate) fn run(
    plan: &Plan,
    source: &dyn Source,
    sink: &dyn Sink,
    tell: &(dyn Fn(&Descriptor, News) + Sync),
) -> Result<(), Error> {
    for blob in &plan.blobs {
        tell(blob, News::Waiting);
    }
    each(&plan.blobs, sink, &|blob| {
        let content = |from| source.open(blob, from);
        let moved = |moved| tell(blob, News::Moved(moved));
        let offer = Offer { blob, content: &content, source, tell: &moved };
        tell(blob, News::Placed(sink.put(&offer)?));
        Ok(())
    })?;
    let top = plan.documents.len() - 1;
    for (place, document) in plan.documents.iter().enumerate() {
        sink.put_document(document, place == top)?;
    }
    Ok(())
}

/// Does `work` for each of `blobs`, several at a time, until all are done or one fails.
fn each(
    blobs: &[Descriptor],
    sink: &dyn Sink,
    work: &(dyn Fn(&Descriptor) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let turn = || {
        while !sink.stop().is_set() {
            let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = work(blob) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                sink.stop().set();
            }
        }
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("push".to_owned()).spawn_scoped(scope, turn);
        // Where a thread cannot be had, fewer do the same work, more slowly.
        let workers: Vec<_> =
            (1..sink.width().min(blobs.len())).map(spawn).filter_map(Result::ok).collect();
        turn();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
