//! The server's side: a registry in the box, over the store's own blobs.
//!
//! One thread for each connection, of which there are at most [`CONNECTIONS_MAX`]; blobs go from the
//! page cache to the socket by the kernel alone (decision 0012).

mod access;
mod blob;
mod collect;
mod digest;
mod document;
mod durable;
mod error;
mod failure;
mod fetch;
mod handler;
mod list;
mod manifest;
mod mirror;
mod password;
mod range;
mod repository;
mod route;
mod upload;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use httpd::{Clients, Limits, Listener, Service};
use store::Store;

pub use access::Access;
pub use collect::{Missing, Released, UNNEEDED_AGE, missing, release};
pub use error::ServeError;
pub use httpd::Stopper;
pub use mirror::MirrorConfig;

use handler::Registry;
use mirror::Mirrors;

use crate::{Auth, Config};

/// Connections at one time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// Longest silence of a client in the middle of something.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A client that is slower than this on the average, after [`SILENCE_MAX`], is hung up on.
const BYTES_PER_SECOND_MIN: u64 = 1024;
/// Time between two looks for uploads that were given up.
const SWEEP_PAUSE: Duration = Duration::from_secs(60 * 60);

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
    server: httpd::Server,
    address: SocketAddr,
}

/// What is told of every request.
pub(crate) type Log = Arc<dyn Fn(&Access) + Send + Sync>;

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
            Some((certificate, key)) => {
                let tls = httpd::tls_config(certificate, key, Clients::Anybody);
                let failed = |(path, why): (&std::path::Path, String)| ServeError::Certificate {
                    path: path.to_owned(),
                    why,
                };
                Some(tls.map_err(failed)?)
            }
        };
        let passwords = config.passwords.as_deref().map(password::Passwords::open).transpose()?;
        let listen = |source| ServeError::Listen { address: config.address.clone(), source };
        let addresses: Vec<_> = config.address.to_socket_addrs().map_err(listen)?.collect();
        let listener = TcpListener::bind(addresses.as_slice()).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let limits = Limits {
            connections: CONNECTIONS_MAX,
            silence: SILENCE_MAX,
            bytes_per_second: BYTES_PER_SECOND_MIN,
        };
        let server = httpd::Server::new(vec![Listener::Tcp(listener, tls)], limits);
        let server =
            server.map_err(|source| ServeError::Io { doing: "make an event".into(), source })?;
        let registry = Registry {
            store: store.clone(),
            repositories: repository::Repositories::of(store),
            uploads: upload::Uploads::default(),
            mirrors: Mirrors::new(&config.mirrors, config.mirror_fresh, client, auth)?,
            passwords,
            is_read_only: config.is_read_only,
        };
        Ok(Self { registry: Arc::new(registry), server, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.server.stopper()
    }

    /// Serves until it is stopped; tells `log` of every request.
    ///
    /// Requests that still run half a minute after that are given up.
    ///
    /// # Errors
    /// [`ServeError::Io`] if nobody can be listened to any more.
    pub fn run(self, log: &Log) -> Result<(), ServeError> {
        self.sweep_now_and_then();
        let served = handler::Served { registry: self.registry, log: log.clone() };
        let service: Arc<dyn Service> = Arc::new(served);
        let failed = |source| ServeError::Io { doing: "accept a connection".into(), source };
        self.server.run(&service).map_err(failed)
    }

    /// Removes uploads that were given up, now and every hour.
    fn sweep_now_and_then(&self) {
        let (registry, stopper) = (self.registry.clone(), self.stopper());
        let work = move || {
            while !stopper.is_stopped() {
                // What cannot be removed now is tried again.
                let _ = collect::sweep_uploads(&registry.repositories, &registry.uploads);
                stopper.wait(SWEEP_PAUSE);
            }
        };
        // Without this thread `registry gc` still removes them.
        let _ = std::thread::Builder::new().name("sweeper".to_owned()).spawn(work);
    }
}
