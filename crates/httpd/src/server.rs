//! Listening, and a thread for each client.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::connection;
use crate::exchange::Service;
use crate::place::Places;
use crate::stream::{Listener, Peer, Stream};

/// How long requests may go on after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Nothing that a connection's thread does needs more; memory is taken as it is used.
const STACK_BYTES: usize = 512 << 10;
/// Descriptors for every connection: its socket and what it sends or receives.
const DESCRIPTORS: u64 = 4;

/// What clients are held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at one time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Longest silence of a client in the middle of something.
    pub silence: Duration,
    /// A client that is slower than this on the average, after `silence`, is hung up on.
    pub bytes_per_second: u64,
}

/// Sockets that are listened on.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    limits: Limits,
    places: Arc<Places>,
    wake: Arc<OwnedFd>,
}

/// Stops a [`Server`], from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    places: Arc<Places>,
    wake: Arc<OwnedFd>,
}

impl Stopper {
    /// Lets running requests finish, and takes no others.
    pub fn stop(&self) {
        self.places.stop();
        // A counter of 64 bits does not overflow.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Whether the server was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.places.is_stopping()
    }

    /// Waits until the server stops, at most for `longest`.
    pub fn wait(&self, longest: Duration) {
        self.places.wait_for_stop(longest);
    }
}

impl Server {
    /// A server for those who come by `listeners`.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn new(listeners: Vec<Listener>, limits: Limits) -> io::Result<Self> {
        raise_descriptors(DESCRIPTORS * limits.connections as u64);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let places = Arc::new(Places::new(limits.connections));
        Ok(Self { listeners, limits, places, wake: Arc::new(wake) })
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { places: self.places.clone(), wake: self.wake.clone() }
    }

    /// Serves until it is stopped. Requests that still run half a minute after that are given up.
    ///
    /// # Errors
    /// If nobody can be listened to any more.
    pub fn run(self, service: &Arc<dyn Service>) -> io::Result<()> {
        for number in 0.. {
            if !self.places.wait_for_room() {
                break;
            }
            match self.accept()? {
                Some((stream, peer, at)) => self.welcome(number, stream, peer, at, service),
                None if self.places.is_stopping() => break,
                None => {}
            }
        }
        // No new ones from here on; what was accepted is finished.
        drop(self.listeners);
        self.places.wait_until_empty(DRAIN_MAX);
        Ok(())
    }

    /// The next connection, and which listener it came by; `None` if there is none after all, or the
    /// server stops.
    fn accept(&self) -> io::Result<Option<(Stream, Peer, usize)>> {
        let wake = PollFd::new(&*self.wake, PollFlags::IN);
        let listeners = self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN));
        let mut waited: Vec<PollFd<'_>> = [wake].into_iter().chain(listeners).collect();
        match poll(&mut waited, None) {
            Err(rustix::io::Errno::INTR) => return Ok(None),
            polled => polled?,
        };
        if !waited[0].revents().is_empty() {
            return Ok(None);
        }
        let ready = waited[1..].iter().position(|listener| !listener.revents().is_empty());
        let Some(at) = ready else { return Ok(None) };
        match self.listeners[at].accept() {
            Ok((stream, peer)) => Ok(Some((stream, peer, at))),
            Err(error) => match rustix::io::Errno::from_io_error(&error) {
                // What is short now may not be in a moment: nothing is lost, it stays queued.
                Some(
                    rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOMEM,
                ) => {
                    std::thread::sleep(Duration::from_millis(100));
                    Ok(None)
                }
                Some(rustix::io::Errno::BADF | rustix::io::Errno::INVAL) => Err(error),
                // The client has gone already, or its network has.
                _ => Ok(None),
            },
        }
    }

    fn welcome(
        &self,
        number: u64,
        stream: Stream,
        peer: Peer,
        at: usize,
        service: &Arc<dyn Service>,
    ) {
        let stream = Arc::new(stream);
        let (service, limits) = (service.clone(), self.limits);
        let tls = self.listeners[at].tls().cloned();
        // Who has too many is hung up on.
        let Some(guest) = self.places.enter(number, stream.clone(), peer.ip()) else { return };
        let work = move || {
            connection::serve(&*service, tls.as_ref(), &stream, peer, &guest, limits);
        };
        let thread = std::thread::Builder::new().name("client".to_owned()).stack_size(STACK_BYTES);
        // Where no thread can be had, the client is hung up on, and may try again.
        let _ = thread.spawn(work);
    }
}

/// Asks for as many open files as connections may need; what is refused limits connections alone.
fn raise_descriptors(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = wanted.min(now.maximum.unwrap_or(wanted));
    if now.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..now });
    }
}
