//! The API over HTTPS.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use httpd::{Clients, Exchange, Limits, Listener, Peer, Reply, Service, Stopper};
use serde_json::Value;

use crate::authentication::Credentials;
use crate::failure::Failure;
use crate::fairness::Fairness;
use crate::identity::Identity;
use crate::request::{Answer, BODY_BYTES_MAX, Request};
use crate::watch::Watch;
use crate::{Cluster, api};

/// How often a watch looks whether its client is still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What a client is told that does not speak TLS.
pub(crate) const PLAIN: &str = "Client sent an HTTP request to an HTTPS server.\n";

pub(crate) const LIMITS: Limits =
    Limits { connections: 2000, silence: Duration::from_secs(60), bytes_per_second: 1024 };

/// A server of the API.
#[derive(Debug)]
pub struct Server {
    http: httpd::Server,
    service: Arc<dyn ServiceDebug>,
    address: SocketAddr,
}

/// A service that can be shown.
trait ServiceDebug: Service + std::fmt::Debug {}
impl ServiceDebug for Face {}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The certificate or its key is no good.
    #[error("use `{0}`: {1}")]
    Certificate(String, String),
}

impl Server {
    /// Listens for clients, of whom the cluster's authority may have certified some; also where
    /// somebody listens already.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn bind(
        address: SocketAddr,
        more: Vec<TcpListener>,
        cluster: Cluster,
        identity: &Identity,
    ) -> Result<Self, ServerError> {
        let (certificate, key) = identity.server_files();
        let authority = identity.authority_file();
        let tls = httpd::tls_config(&certificate, &key, Clients::Known(&authority))
            .map_err(|(path, why)| ServerError::Certificate(path.display().to_string(), why))?;
        let listen = |error| ServerError::Listen(address, error);
        let listener = TcpListener::bind(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let all = std::iter::once(listener).chain(more);
        let listeners = all.map(|listener| Listener::Tcp(listener, Some(tls.clone()))).collect();
        let http = httpd::Server::new(listeners, LIMITS).map_err(listen)?;
        Ok(Self {
            http,
            service: Arc::new(Face { cluster, fairness: Fairness::default() }),
            address,
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
        self.http.stopper()
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// If nobody can be listened to any more.
    pub fn run(self) -> std::io::Result<()> {
        let service: Arc<dyn Service> = self.service;
        self.http.run(&service)
    }
}

/// The cluster as HTTP sees it.
#[derive(Debug)]
struct Face {
    cluster: Cluster,
    fairness: Fairness,
}

impl Service for Face {
    fn serve(&self, exchange: &mut Exchange<'_>) {
        // A client that is gone needs no answer.
        let _ = match self.read(exchange) {
            Ok(request) => {
                let seat = self.fairness.enter(&request.user);
                let found = seat.map(|_seat| self.cluster.answer(&request));
                answer(exchange, &request, found.unwrap_or_else(Answer::from))
            }
            Err(failure) => answer(exchange, &Request::default(), failure.into()),
        };
    }

    fn refuse(&self, status: u16, why: &'static str, _peer: Peer) -> Reply {
        refusal(status, why)
    }

    fn refuse_plain(&self) -> &'static str {
        PLAIN
    }
}

impl Face {
    fn read(&self, exchange: &mut Exchange<'_>) -> Result<Request, Failure> {
        let mut request = read_head(exchange)?;
        let head = exchange.head();
        let headers: Vec<(&str, &str)> = head.fields().collect();
        let certificate = exchange.certificate();
        let credentials = Credentials { certificate: certificate.as_deref(), headers: &headers };
        match self.cluster.authenticate(&credentials, &request.parts) {
            Ok(asking) => (request.user, request.impersonator) = (asking.user, asking.impersonator),
            Err(failure) => {
                self.cluster.audit_refused(&request, &failure);
                return Err(failure);
            }
        }
        let body = exchange.body().whole(BODY_BYTES_MAX);
        let body = body.map_err(|why| Failure::bad_request(format!("read the body: {why}")))?;
        request.body = body.ok_or_else(|| Failure::too_large(BODY_BYTES_MAX))?;
        Ok(request)
    }
}

/// What a request's head says, but for who asks.
pub(crate) fn read_head(exchange: &Exchange<'_>) -> Result<Request, Failure> {
    let head = exchange.head();
    let parts: Option<Vec<String>> =
        head.path.split('/').filter(|part| !part.is_empty()).map(httpd::decode).collect();
    let parts = parts.ok_or_else(|| Failure::bad_request("invalid path"))?;
    // A slash inside of a name would be one between names.
    if parts.iter().any(|part| part.contains('/') || part == "." || part == "..") {
        return Err(Failure::no_such_path());
    }
    let content_type = head.get("content-type").unwrap_or_default();
    Ok(Request {
        method: head.method.clone(),
        parts,
        query: head.query.clone(),
        content_type: content_type.split(';').next().unwrap_or_default().trim().to_owned(),
        accept: head.list("accept").unwrap_or_default(),
        agent: head.get("user-agent").unwrap_or_default().to_owned(),
        source: exchange.peer().ip(),
        ..Request::default()
    })
}

/// The answer to what is no request.
pub(crate) fn refusal(status: u16, why: &'static str) -> Reply {
    let failure = Failure { code: status, ..Failure::bad_request(why) };
    let body = failure.to_json().to_string().into_bytes();
    Reply::new(status).document("application/json", body)
}

pub(crate) fn answer(
    exchange: &mut Exchange<'_>,
    request: &Request,
    answer: Answer,
) -> std::io::Result<()> {
    match answer {
        Answer::Text(code, text) => {
            let reply = Reply::new(code).document("text/plain; charset=utf-8", text.into_bytes());
            exchange.send(reply).map(drop)
        }
        Answer::Document { code, body, warnings } => {
            let mut reply = Reply::new(code)
                .header("Cache-Control", "no-cache, private")
                .document(&api::media_type(request, &body), document(&body));
            if let Some(seconds) = body["details"]["retryAfterSeconds"].as_u64() {
                reply = reply.header("Retry-After", seconds);
            }
            if code == 401 {
                reply = reply.header("WWW-Authenticate", "Bearer");
            }
            for warning in warnings {
                reply = reply.header("Warning", format!("299 - {}", quoted(&warning)));
            }
            exchange.send(reply).map(drop)
        }
        Answer::Bytes { media_type, bytes } => {
            exchange.send(Reply::new(200).document(media_type, bytes)).map(drop)
        }
        Answer::Watch(watch) => tell(exchange, *watch),
        Answer::Log(log) => show(exchange, log),
        Answer::Elsewhere(elsewhere) => match elsewhere.pass_on(exchange) {
            Ok(passed) => passed,
            Err(failure) => self::answer(exchange, request, failure.into()),
        },
        Answer::Talk(talk) => match crate::channel::serve(exchange, talk) {
            Ok(served) => served,
            Err(failure) => self::answer(exchange, request, failure.into()),
        },
        Answer::Forward(forward) => match crate::forward::serve(exchange, &forward) {
            Ok(served) => served,
            Err(failure) => self::answer(exchange, request, failure.into()),
        },
        Answer::Pass(passed) => match crate::proxy::pass(exchange, request, &passed) {
            Ok(passed) => passed,
            Err(failure) => self::answer(exchange, request, failure.into()),
        },
    }
}

fn document(body: &Value) -> Vec<u8> {
    let mut bytes = body.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// A quoted string of a header (RFC 9110, section 5.6.4), in one line.
fn quoted(text: &str) -> String {
    let plain = text.replace(['\r', '\n'], " ").replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{plain}\"")
}

/// A log, until it ends or the client is gone.
fn show(exchange: &mut Exchange<'_>, log: crate::pods::Log) -> std::io::Result<()> {
    let reply = Reply::new(200)
        .header("Content-Type", "text/plain")
        .header("Cache-Control", "no-cache, private");
    let mut chunks = exchange.chunks(&reply)?;
    let client = chunks.as_fd().try_clone_to_owned()?;
    log(Some(client.as_fd()), &mut |bytes| {
        chunks.write_all(bytes)?;
        chunks.flush()
    });
    chunks.end()
}

/// Events, a line each, until the watch ends or the client is gone.
fn tell(exchange: &mut Exchange<'_>, mut watch: Watch) -> std::io::Result<()> {
    let reply = Reply::new(200)
        .header("Content-Type", "application/json")
        .header("Cache-Control", "no-cache, private");
    let mut chunks = exchange.chunks(&reply)?;
    while let Some(events) = watch.next(LOOK_EVERY) {
        if chunks.is_gone() {
            return Ok(());
        }
        if events.is_empty() {
            continue;
        }
        let mut lines = Vec::new();
        for event in events {
            lines.extend(document(&event));
        }
        chunks.write_all(&lines)?;
        chunks.flush()?;
    }
    chunks.end()
}
