//! The connections that there are: how many may be, and how they end when the server stops.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections at one time; further ones wait in the kernel's queue.
pub(super) const CONNECTIONS_MAX: usize = 512;

struct Known {
    stream: Arc<TcpStream>,
    is_idle: bool,
}

/// All connections.
#[derive(Default)]
pub(super) struct Places {
    known: Mutex<HashMap<u64, Known>>,
    left: Condvar,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Places").field("stopping", &self.stopping).finish_non_exhaustive()
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another connection may be: whether the server goes on.
    pub(super) fn wait_for_room(&self) -> bool {
        let mut known = self.lock();
        while known.len() >= CONNECTIONS_MAX && !self.is_stopping() {
            known = self.left.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        !self.is_stopping()
    }

    /// Takes in the connection `number`.
    pub(super) fn enter(self: &Arc<Self>, number: u64, stream: Arc<TcpStream>) -> Guest {
        self.lock().insert(number, Known { stream, is_idle: false });
        Guest { places: self.clone(), number }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Lets go of those who are waiting; the others finish what they are doing.
    pub(super) fn stop(&self) {
        let known = self.lock();
        self.stopping.store(true, Ordering::SeqCst);
        for connection in known.values().filter(|connection| connection.is_idle) {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        self.left.notify_all();
    }

    /// Waits until the server stops, at most for `longest`.
    pub(super) fn wait_for_stop(&self, longest: Duration) {
        let deadline = Instant::now() + longest;
        let mut known = self.lock();
        while !self.is_stopping() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            known = self.left.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until all have left: whether that happened within `longest`.
    pub(super) fn wait_until_empty(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let mut known = self.lock();
        while !known.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            known = self.left.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// One connection among the others, until it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    places: Arc<Places>,
    number: u64,
}

impl Guest {
    /// Says that nothing is going on: whether another request may come.
    pub(super) fn may_wait(&self) -> bool {
        let mut known = self.places.lock();
        if let Some(connection) = known.get_mut(&self.number) {
            connection.is_idle = true;
        }
        !self.places.is_stopping()
    }

    /// Says that a request has begun.
    pub(super) fn is_busy(&self) {
        if let Some(connection) = self.places.lock().get_mut(&self.number) {
            connection.is_idle = false;
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.places.is_stopping()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.places.lock().remove(&self.number);
        self.places.left.notify_all();
    }
}
