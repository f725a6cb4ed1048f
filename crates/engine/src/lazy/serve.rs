//! The process that serves layers on their way.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oci::{Digest, Reference};
use registry::{Outlined, Parts};
use runtime::FileDevice;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use store::{Arrival, Outline};

use super::pieces::Pieces;
use crate::Engine;
use crate::error::{Doing as _, Result};
use crate::image::from_runtime;

/// How many questions are answered side by side: each may wait for the registry.
const THREADS: usize = 4;

/// A layer, and where the questions about it come from.
struct Served<'a> {
    device: FileDevice,
    pieces: Pieces<'a>,
    /// Nobody has it mounted any more.
    is_gone: AtomicBool,
}

impl Engine {
    /// Serves the layers of an image that are not here, and brings them here. Calls `started` when
    /// containers can be started, and returns when nobody needs it any more.
    pub(super) fn serve_layers(
        &self,
        outlined: &Outlined,
        reference: &Reference,
        started: &mut dyn FnMut(),
    ) -> Result<()> {
        let lease = self.store.lease()?;
        let client = self.registry_client()?;
        let layers: Vec<Digest> = outlined.layers.iter().map(|layer| layer.diff_id).collect();
        let mut arrival = self.store.arrive(outlined.manifest(), &layers, outlines(outlined))?;
        let (mut mounts, mut served) = (BTreeMap::new(), Vec::new());
        for (diff_id, sketch) in arrival.take_sketches() {
            let (mount, device) = FileDevice::make().map_err(from_runtime)?;
            let layer = outlined.layers.iter().find(|layer| layer.diff_id == diff_id);
            let blob = &layer.expect("only what was outlined is sketched").descriptor;
            let parts = Parts { client: &client, reference };
            let pieces = Pieces::new(&self.store, parts, blob, sketch)
                .doing(|| format!("serve layer {diff_id}"))?;
            mounts.insert(diff_id, mount);
            served.push(Served { device, pieces, is_gone: AtomicBool::new(false) });
        }
        arrival.announce(mounts.iter().map(|(id, fd)| (*id, fd.as_raw_fd())).collect())?;
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let answer = || answer(&served);
                let spawned = thread::Builder::new().name("serve".to_owned());
                spawned.spawn_scoped(scope, answer).doing(|| "start a thread".into())?;
            }
            started();
            let completed = outlined.complete(&client, &self.store, &|_| {});
            if completed.is_ok() {
                self.emit_pull(reference);
                served.iter().for_each(|layer| layer.pieces.keep_blob());
            }
            drop(lease);
            self.retire(&arrival, mounts)
        })
    }

    /// Lets nobody else start a container of the layers that are served.
    fn retire(&self, arrival: &Arrival, mounts: BTreeMap<Digest, OwnedFd>) -> Result<()> {
        let retired = arrival.retire();
        drop(mounts);
        Ok(retired?)
    }
}

fn outlines(outlined: &Outlined) -> BTreeMap<Digest, Outline> {
    let known = outlined.layers.iter().filter_map(|layer| {
        let outline = layer.outline.clone()?;
        Some((layer.diff_id, outline))
    });
    known.collect()
}

/// Answers questions until nobody can ask any.
fn answer(served: &[Served<'_>]) {
    loop {
        let there: Vec<&Served<'_>> =
            served.iter().filter(|layer| !layer.is_gone.load(Ordering::Relaxed)).collect();
        if there.is_empty() {
            return;
        }
        let devices = there.iter().map(|layer| layer.device.as_fd());
        let mut set: Vec<PollFd<'_>> =
            devices.map(|device| PollFd::from_borrowed_fd(device, PollFlags::IN)).collect();
        match poll(&mut set, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        for (layer, asked) in there.iter().zip(&set) {
            if !asked.revents().is_empty() && layer.device.answer(&mut &layer.pieces).is_err() {
                layer.is_gone.store(true, Ordering::Relaxed);
            }
        }
    }
}
