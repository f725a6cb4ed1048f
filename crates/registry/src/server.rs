//! The server's side: a registry in the box, over the store's own blobs.
//!
//! One thread for each connection, of which there are at most [`place::CONNECTIONS_MAX`]; blobs go
//! from the page cache to the socket by the kernel alone (decision 0012).

mod access;
mod blob;
mod body;
mod collect;
mod connection;
mod digest;
mod document;
mod durable;
mod error;
mod failure;
mod fetch;
mod handler;
mod head;
mod list;
mod manifest;
mod mirror;
mod password;
mod place;
mod range;
mod reply;
mod repository;
mod route;
mod upload;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustls::ServerConfig as TlsConfig;
use store::Store;

pub use access::Access;
pub use collect::{Missing, Released, UNNEEDED_AGE, missing, release};
pub use error::ServeError;
pub use mirror::MirrorConfig;

use handler::Registry;
use mirror::Mirrors;
use place::Places;

use crate::{Auth, Config};

/// How long requests may go on after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Time between two looks for uploads that were given up.
const SWEEP_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Nothing that a connection's thread does needs more; memory is taken as it is used.
const STACK_BYTES: usize = 512 << 10;
/// Descriptors for every connection: its socket and what it sends or receives.
const DESCRIPTORS: u64 = 4 * place::CONNECTIONS_MAX as u64;

/// How a registry is served.
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
    /// `HOST:PORT`; port 0 is any that is free.
    pub address: String,
    /// A PEM file of the certificate with those that vouch for it, and one of its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A file of users and bcrypt hashes; without one, everybody may do everything.
    pub passwords: Option<PathBuf>,
    /// Refuse whatever would change something.
    pub is_read_only: bool,
    /// Registries whose content is fetched when it is missing here.
    pub mirrors: Vec<MirrorConfig>,
    /// For how long a mirrored tag is served without a look at where it comes from.
    pub mirror_fresh: Duration,
}

/// A registry that listens.
#[derive(Debug)]
pub struct Server {
    registry: Arc<Registry>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<TlsConfig>>,
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
}

impl Server {
    /// Listens as `config` says, with what is in `store`. Mirrored registries are reached as
    /// `client` says, as `auth`.
    ///
    /// # Errors
    /// [`ServeError`], by its kinds.
    pub fn bind(
        config: &ServerConfig,
        store: &Store,
        client: &Config,
        auth: &Auth,
    ) -> Result<Self, ServeError> {
        let tls = match &config.tls {
            None => None,
            Some((certificate, key)) => Some(crate::tls::server_config(certificate, key)?),
        };
        let passwords = config.passwords.as_deref().map(password::Passwords::open).transpose()?;
        let listen = |source| ServeError::Listen { address: config.address.clone(), source };
        let addresses: Vec<_> = config.address.to_socket_addrs().map_err(listen)?.collect();
        let listener = TcpListener::bind(addresses.as_slice()).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        raise_descriptors();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| {
            ServeError::Io { doing: "make an event".into(), source: error.into() }
        })?;
        let registry = Registry {
            store: store.clone(),
            repositories: repository::Repositories::of(store),
            uploads: upload::Uploads::default(),
            mirrors: Mirrors::new(&config.mirrors, config.mirror_fresh, client, auth)?,
            passwords,
            is_read_only: config.is_read_only,
        };
        Ok(Self {
            registry: Arc::new(registry),
            listener,
            address,
            tls,
            places: Arc::default(),
            wake: Arc::new(wake),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { places: self.places.clone(), wake: self.wake.clone() }
    }

    /// Serves until it is stopped; tells `log` of every request.
    ///
    /// Requests that still run half a minute after that are given up.
    ///
    /// # Errors
    /// [`ServeError::Io`] if nobody can be listened to any more.
    pub fn run(self, log: &Arc<dyn Fn(&Access) + Send + Sync>) -> Result<(), ServeError> {
        let failed = |source| ServeError::Io { doing: "accept a connection".into(), source };
        self.sweep_now_and_then();
        for number in 0.. {
            if !self.places.wait_for_room() {
                break;
            }
            match self.accept().map_err(failed)? {
                Some((stream, peer)) => self.welcome(number, stream, peer, log),
                None if self.places.is_stopping() => break,
                None => {}
            }
        }
        // No new ones from here on; what was accepted is finished.
        drop(self.listener);
        self.places.wait_until_empty(DRAIN_MAX);
        Ok(())
    }

    /// Removes uploads that were given up, now and every hour.
    fn sweep_now_and_then(&self) {
        let (registry, places) = (self.registry.clone(), self.places.clone());
        let work = move || {
            while !places.is_stopping() {
                // What cannot be removed now is tried again.
                let _ = collect::sweep_uploads(&registry.repositories, &registry.uploads);
                places.wait_for_stop(SWEEP_PAUSE);
            }
        };
        // Without this thread `registry gc` still removes them.
        let _ = std::thread::Builder::new().name("sweeper".to_owned()).spawn(work);
    }

    /// The next connection; `None` if there is none after all, or the server stops.
    fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let mut waited =
            [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&*self.wake, PollFlags::IN)];
        match poll(&mut waited, None) {
            Err(rustix::io::Errno::INTR) => return Ok(None),
            polled => polled?,
        };
        if !waited[1].revents().is_empty() {
            return Ok(None);
        }
        match self.listener.accept() {
            Ok(accepted) => Ok(Some(accepted)),
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
        stream: TcpStream,
        peer: SocketAddr,
        log: &Arc<dyn Fn(&Access) + Send + Sync>,
    ) {
        let stream = Arc::new(stream);
        let (registry, tls) = (self.registry.clone(), self.tls.clone());
        let log = log.clone();
        // Who has too many is hung up on.
        let Some(guest) = self.places.enter(number, stream.clone(), peer.ip()) else { return };
        let work = move || {
            connection::serve(&registry, tls.as_ref(), &stream, peer, &guest, &*log);
        };
        let thread = std::thread::Builder::new().name("client".to_owned()).stack_size(STACK_BYTES);
        // Where no thread can be had, the client is hung up on, and may try again.
        let _ = thread.spawn(work);
    }
}

/// Asks for as many open files as connections may need; what is refused limits connections alone.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = DESCRIPTORS.min(now.maximum.unwrap_or(DESCRIPTORS));
    if now.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..now });
    }
}
