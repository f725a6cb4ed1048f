//! Servers of etcd, and the connection to one of them.

use std::fmt::Display;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use grpc::{Code, Connection, Status};
use httpd::{ClientTls, Remote, Trust};

use crate::log::LogError;

/// How long one server is tried.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a server is looked for until somebody is told that there is none.
const SEARCH_MAX: Duration = Duration::from_secs(15);
/// How soon it is tried again where all servers refused.
const AGAIN: Duration = Duration::from_millis(100);

/// Where etcd is, and how it is known.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// `https://HOST:PORT` or `http://HOST:PORT` of each server.
    pub servers: Vec<String>,
    /// A PEM file of the authorities that certify servers; the system's without one.
    pub authorities: Option<PathBuf>,
    /// PEM files of our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What all keys begin with: `/registry`.
    pub prefix: String,
}

/// The servers, with a connection to one of them while there is one.
#[derive(Debug)]
pub(super) struct Endpoints {
    servers: Vec<Server>,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    connection: Option<Connection>,
    /// The next that is tried.
    next: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Server {
    url: String,
    host: String,
    port: u16,
    tls: Option<Arc<ClientTls>>,
}

impl Endpoints {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, LogError> {
        let tls = options.servers.iter().any(|url| url.starts_with("https://"));
        let tls = tls.then(|| config(options)).transpose().map_err(unusable)?;
        let server = |url: &String| server(url, tls.as_ref()).map_err(unusable);
        let servers: Vec<Server> = options.servers.iter().map(server).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(unusable("no server of etcd is named"));
        }
        Ok(Self { servers, current: Mutex::default() })
    }

    /// A connection to a server that takes calls.
    pub(super) fn connection(&self) -> Result<Connection, Status> {
        let begun = Instant::now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if current.is_closed {
                return Err(Status::new(Code::Cancelled, "the log is closed"));
            }
            let kept = current.connection.as_ref().filter(|own| !own.is_closed());
            if let Some(connection) = kept {
                return Ok(connection.clone());
            }
            let mut last = String::new();
            for _ in 0..self.servers.len() {
                let server = &self.servers[current.next % self.servers.len()];
                match server.connect() {
                    Ok(connection) => {
                        current.connection = Some(connection.clone());
                        return Ok(connection);
                    }
                    Err(why) => last = format!("`{}`: {why}", server.url),
                }
                current.next += 1;
            }
            if begun.elapsed() > SEARCH_MAX {
                return Err(Status::new(Code::Unavailable, last));
            }
            drop(current);
            thread::park_timeout(AGAIN);
            current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has the next call try another server: this one does not do what it should.
    pub(super) fn turn_away(&self, from: &Connection) {
        from.close();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.next += 1;
    }

    /// Hangs up for good.
    pub(super) fn close(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.is_closed = true;
        if let Some(connection) = current.connection.take() {
            connection.close();
        }
    }
}

pub(super) fn unusable(why: impl Display) -> LogError {
    LogError::Storage(format!("use etcd: {why}").into())
}

fn config(options: &EtcdOptions) -> Result<Arc<ClientTls>, String> {
    let mut trust = Trust { system: options.authorities.is_none(), ..Trust::default() };
    if let Some(path) = &options.authorities {
        trust.authorities = httpd::certificates(path)?;
    }
    let identity = options.identity.as_ref();
    let identity = identity.map(|(certificate, key)| (&**certificate, &**key));
    let mut config = trust.client_config(identity)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn server(url: &str, tls: Option<&Arc<ClientTls>>) -> Result<Server, String> {
    let (scheme, rest) = url
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
        .ok_or_else(|| format!("`{url}` is no URL of http or https"))?;
    let place = rest.trim_end_matches('/');
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("`{url}` has no valid port"))?)
        }
        _ => (place, 2379),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = tls.filter(|_| scheme == "https").cloned();
    Ok(Server { url: url.to_owned(), host, port, tls })
}

impl Server {
    fn connect(&self) -> Result<Connection, String> {
        let in_words = |error: std::io::Error| error.to_string();
        let mut found = (self.host.as_str(), self.port).to_socket_addrs().map_err(in_words)?;
        let address = found.next().ok_or("its name has no address")?;
        let tls = self.tls.clone().map(|config| (config, self.host.clone()));
        let mut wire = Remote { address, tls }.connect(CONNECT_MAX).map_err(in_words)?;
        let connection = Connection::client().map_err(in_words)?;
        let own = connection.clone();
        let run = move || own.run(&mut wire, &|wire| wire.has_more(), &|_| {});
        let thread = thread::Builder::new().name("etcd".to_owned());
        thread.spawn(run).map_err(in_words)?;
        Ok(connection)
    }
}
