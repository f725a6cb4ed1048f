//! Controllers and the scheduler, by the clock on the wall.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use client::{Cache, Change, Client, Reflector, kind};
use jiff::Timestamp;

use crate::control::{Control, KINDS, since_epoch};
use crate::plan::Metrics;
use crate::scheduler::{Applier, Scheduler};
use crate::settings::Settings;

/// How long a watch waits for news before it looks whether it is to end.
const WATCH: Duration = Duration::from_secs(30);
/// How long one that could not ask waits.
const PAUSE: Duration = Duration::from_secs(1);
/// How much news may wait.
const NEWS_MAX: usize = 4096;
/// What a thread that only watches needs.
const STACK_BYTES: usize = 256 << 10;

/// Runs all controllers and the scheduler until `is_over`. Returns within some seconds of that.
///
/// # Errors
/// A thread cannot be started.
pub fn run<M: Metrics>(
    client: &Client,
    (metrics, settings): (M, Settings),
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
    let mut all = All {
        control: Control::new(cache, client.clone(), metrics).with(settings),
        scheduler: Scheduler::new(SCHEDULER, Timestamp::now().as_microsecond().unsigned_abs()),
        applier: Applier::new(client.clone(), SCHEDULER),
    };
    while !is_over.load(Ordering::Relaxed) {
        let now = Timestamp::now();
        while let Ok(change) = changes.try_recv() {
            all.observe(&change, now);
        }
        if all.step(now) {
            continue;
        }
        match changes.recv_timeout(all.idle(now).min(WATCH)) {
            Ok(change) => all.observe(&change, now),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

/// What pods name that do not name another scheduler.
const SCHEDULER: &str = "default-scheduler";

/// Everything that decides, over one cache.
struct All<M> {
    control: Control<M>,
    scheduler: Scheduler,
    applier: Applier,
}

impl<M: Metrics> All<M> {
    fn observe(&mut self, change: &Change, now: Timestamp) {
        self.control.observe(change);
        self.scheduler.observe(change, since_epoch(now));
    }

    /// Does what is due; whether there was something.
    fn step(&mut self, now: Timestamp) -> bool {
        let since = since_epoch(now);
        let is_busy = self.control.step(now);
        for change in self.control.own_changes() {
            self.scheduler.observe(&change, since);
        }
        // What the API refuses is tried again, and told of by the scheduler's own events.
        let _ = self.applier.drain(&mut self.scheduler, since, since);
        is_busy
    }

    fn idle(&self, now: Timestamp) -> Duration {
        let since = since_epoch(now);
        let scheduler = self.scheduler.next_time(since).map(|time| time.saturating_sub(since));
        let next = self.control.idle(now).into_iter().chain(scheduler).min();
        next.unwrap_or(WATCH)
    }
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
