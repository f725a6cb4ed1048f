//! Controllers in a process of their own time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use client::{Cache, Change, Client, Reflector, kind};
use jiff::Timestamp;

use crate::control::{Control, KINDS};
use crate::plan::Metrics;

/// How long a watch waits for news before it looks whether it is to end.
const WATCH: Duration = Duration::from_secs(30);
/// How long one that could not ask waits.
const PAUSE: Duration = Duration::from_secs(1);
/// How much news may wait.
const NEWS_MAX: usize = 4096;
/// What a thread that only watches needs.
const STACK_BYTES: usize = 256 << 10;

/// Runs all controllers until `is_over`. Returns within some seconds of that.
///
/// # Errors
/// A thread cannot be started.
pub fn run<M: Metrics>(
    client: &Client,
    metrics: M,
    is_over: &Arc<AtomicBool>,
) -> std::io::Result<()> {
    let cache = Cache::default();
    let (news, changes) = mpsc::sync_channel(NEWS_MAX);
    let (begun, ready) = mpsc::channel();
    for of in KINDS {
        let reflector = Reflector::new(client.clone(), kind(of), &[]);
        let (cache, news, begun) = (cache.clone(), news.clone(), begun.clone());
        let is_over = Arc::clone(is_over);
        let watch = move || follow(reflector, &cache, &news, &begun, &is_over);
        thread::Builder::new().name(format!("watch {of}")).stack_size(STACK_BYTES).spawn(watch)?;
    }
    // Nobody decides before everything is known once.
    for _ in KINDS {
        if ready.recv().is_err() {
            return Ok(());
        }
    }
    let mut control = Control::new(cache, client.clone(), metrics);
    while !is_over.load(Ordering::Relaxed) {
        let now = Timestamp::now();
        while let Ok(change) = changes.try_recv() {
            control.observe(&change);
        }
        if control.step(now) {
            continue;
        }
        let wait = control.idle(now).unwrap_or(WATCH).min(WATCH);
        match changes.recv_timeout(wait) {
            Ok(change) => control.observe(&change),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

/// Keeps one kind in the cache true, and passes on what has changed.
fn follow(
    mut reflector: Reflector,
    cache: &Cache,
    news: &SyncSender<Change>,
    begun: &mpsc::Sender<()>,
    is_over: &AtomicBool,
) {
    let mut begun = Some(begun);
    while !is_over.load(Ordering::Relaxed) {
        match reflector.step(cache, WATCH) {
            Ok(changes) => {
                if let Some(begun) = begun.take() {
                    // Whoever waited for it may have ended.
                    let _ = begun.send(());
                }
                for change in changes {
                    if news.send(change).is_err() {
                        return;
                    }
                }
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
