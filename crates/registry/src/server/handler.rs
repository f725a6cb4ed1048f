//! From a request to an answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use httpd::{Body, Exchange, Head, Peer, Reply, Service};
use serde_json::json;
use store::Store;

use super::access::Access;
use super::failure::{Code, Failure};
use super::mirror::Mirrors;
use super::password::Passwords;
use super::repository::Repositories;
use super::route::Route;
use super::upload::Uploads;

/// A registry: what it holds, and who may do what.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) store: Store,
    pub(super) repositories: Repositories,
    pub(super) uploads: Uploads,
    pub(super) mirrors: Mirrors,
    pub(super) passwords: Option<Passwords>,
    pub(super) is_read_only: bool,
}

/// What a plain request to a port with TLS is told.
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\n\r\nThis registry speaks HTTPS.\n";

/// A registry whose requests are told of.
pub(super) struct Served {
    pub(super) registry: Arc<Registry>,
    pub(super) log: super::Log,
}

impl Service for Served {
    fn serve(&self, exchange: &mut Exchange<'_>) {
        let started = Instant::now();
        let (head, peer) = (exchange.head(), address(exchange.peer()));
        let (mut reply, user) = self.registry.answer(head, exchange.body(), peer.ip());
        let (status, note) = (reply.status, reply.log.take());
        let written = exchange.send(of_registry(reply));
        (self.log)(&Access {
            peer,
            user,
            method: head.method.clone(),
            path: head.target.clone(),
            agent: head.get("user-agent").unwrap_or_default().to_owned(),
            status,
            bytes: *written.as_ref().unwrap_or(&0),
            duration: started.elapsed(),
            note: note.or_else(|| written.as_ref().err().map(|error| format!("answer: {error}"))),
        });
    }

    fn refuse(&self, status: u16, why: &'static str, peer: Peer) -> Reply {
        (self.log)(&Access {
            peer: address(peer),
            user: None,
            method: "-".to_owned(),
            path: "-".to_owned(),
            agent: String::new(),
            status,
            bytes: 0,
            duration: Duration::ZERO,
            note: Some(why.to_owned()),
        });
        of_registry(Failure::new(Code::Unsupported, why).status(status).reply())
    }

    fn refuse_plain(&self) -> &'static str {
        SPEAK_TLS
    }
}

/// With what every answer of a registry says.
fn of_registry(reply: Reply) -> Reply {
    let reply = reply.header("Docker-Distribution-Api-Version", "registry/2.0");
    reply.header("X-Content-Type-Options", "nosniff")
}

/// A registry listens on networks alone.
fn address(peer: Peer) -> SocketAddr {
    match peer {
        Peer::Tcp(address) => address,
        Peer::Unix => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    }
}

impl Registry {
    /// Answers a request from `peer`, and says who asked.
    pub(super) fn answer(
        self: &Arc<Self>,
        head: &Head,
        body: &mut Body<'_>,
        peer: IpAddr,
    ) -> (Reply, Option<String>) {
        let user = match &self.passwords {
            None => None,
            Some(passwords) => match passwords.check(head.get("authorization"), peer) {
                Ok(user) => Some(user),
                Err(failure) => return (failure.reply(), None),
            },
        };
        let reply = Route::parse(&head.path).and_then(|route| self.act(head, body, &route));
        (reply.unwrap_or_else(Failure::reply), user)
    }

    fn act(
        self: &Arc<Self>,
        head: &Head,
        body: &mut Body<'_>,
        route: &Route,
    ) -> Result<Reply, Failure> {
        let method = head.method.as_str();
        if !matches!(method, "GET" | "HEAD") {
            self.check_writable(head, route)?;
        }
        match (method, route) {
            ("GET" | "HEAD", Route::Base) => {
                Ok(Reply::new(200).document("application/json", b"{}".to_vec()))
            }
            ("GET" | "HEAD", Route::Catalog) => self.catalog(head),
            ("GET" | "HEAD", Route::Tags(name)) => {
                self.list_tags(head, &self.mirrors.local(name, head)?)
            }
            ("GET" | "HEAD", Route::Referrers(name, digest)) => {
                self.list_referrers(head, &self.mirrors.local(name, head)?, digest)
            }
            ("GET" | "HEAD", Route::Manifest(name, target)) => {
                self.get_manifest(head, name, target)
            }
            ("PUT", Route::Manifest(name, target)) => self.put_manifest(head, body, name, target),
            ("DELETE", Route::Manifest(name, target)) => self.delete_manifest(name, target),
            ("GET" | "HEAD", Route::Blob(name, digest)) => self.get_blob(head, name, digest),
            ("DELETE", Route::Blob(name, digest)) => self.delete_blob(name, digest),
            ("POST", Route::Uploads(name)) => self.start_upload(head, body, name),
            ("GET" | "HEAD", Route::Upload(name, id)) => self.upload_status(name, id),
            ("PATCH", Route::Upload(name, id)) => self.append_upload(head, body, name, id),
            ("PUT", Route::Upload(name, id)) => self.finish_upload(head, body, name, id),
            ("DELETE", Route::Upload(name, id)) => self.cancel_upload(name, id),
            (_, route) => Err(not_allowed(method, route)),
        }
    }

    fn check_writable(&self, head: &Head, route: &Route) -> Result<(), Failure> {
        if self.is_read_only {
            return Err(Failure::new(Code::Unsupported, "this registry is read-only"));
        }
        let (Route::Manifest(name, _)
        | Route::Blob(name, _)
        | Route::Uploads(name)
        | Route::Upload(name, _)) = route
        else {
            return Ok(());
        };
        self.mirrors.check_own(name, head)
    }
}

fn not_allowed(method: &str, route: &Route) -> Failure {
    let allowed = match route {
        Route::Base | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
    };
    Failure::new(Code::Unsupported, "the method is not supported here")
        .detail(json!({ "method": method }))
        .header("Allow", allowed)
}
