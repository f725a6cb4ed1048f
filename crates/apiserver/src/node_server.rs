//! What a node answers, over HTTPS, to the server of its cluster and to nobody else: logs of its pods'
//! containers, conversations with processes in them, connections to their ports, and what they use.
//! Paths are a kubelet's.

use std::fmt::Debug;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use httpd::{Clients, Exchange, Listener, Peer, Reply, Service, Stopper};
use serde_json::Value;

use crate::authentication::user_of_certificate;
use crate::failure::Failure;
use crate::forward;
use crate::identity::NODES_CLIENT;
use crate::pods::{self, Pods};
use crate::request::{Answer, Request};
use crate::server::{self, LIMITS};

/// A node, and its pods by namespace and name.
pub trait Find: Send + Sync + Debug {
    /// The node's name.
    fn name(&self) -> String;
    /// A pod that is bound to the node.
    fn pod(&self, namespace: &str, name: &str) -> Option<Value>;
}

/// A node's server.
#[derive(Debug)]
pub struct NodeServer {
    http: httpd::Server,
    face: Arc<Face>,
}

#[derive(Debug)]
struct Face {
    pods: Arc<dyn Pods>,
    find: Arc<dyn Find>,
}

impl NodeServer {
    /// Serves on a socket: with a certificate and its key, which are read again when they change, to
    /// those whom the authority has certified as the cluster's server.
    ///
    /// # Errors
    /// A file that is no good, in words.
    pub fn new(
        listener: TcpListener,
        (certificate, key): (&Path, &Path),
        authority: &Path,
        (pods, find): (Arc<dyn Pods>, Arc<dyn Find>),
    ) -> Result<Self, String> {
        let tls = httpd::tls_config(certificate, key, Clients::Certified(authority));
        let tls = tls.map_err(|(path, why)| format!("use `{}`: {why}", path.display()))?;
        let http = httpd::Server::new(vec![Listener::Tcp(listener, Some(tls))], LIMITS);
        let http = http.map_err(|error| format!("listen: {error}"))?;
        Ok(Self { http, face: Arc::new(Face { pods, find }) })
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
        let service: Arc<dyn Service> = self.face;
        self.http.run(&service)
    }
}

impl Service for Face {
    fn serve(&self, exchange: &mut Exchange<'_>) {
        let request = match server::read_head(exchange) {
            Ok(request) => request,
            Err(failure) => {
                let _ = server::answer(exchange, &Request::default(), failure.into());
                return;
            }
        };
        let found = self.answer(exchange, &request);
        // A client that is gone needs no answer.
        let _ = server::answer(exchange, &request, found.unwrap_or_else(Answer::from));
    }

    fn refuse(&self, status: u16, why: &'static str, _peer: Peer) -> Reply {
        server::refusal(status, why)
    }

    fn refuse_plain(&self) -> &'static str {
        server::PLAIN
    }
}

impl Face {
    fn answer(&self, exchange: &Exchange<'_>, request: &Request) -> Result<Answer, Failure> {
        let user = exchange.certificate().and_then(|own| user_of_certificate(&own));
        let is_server = user.is_some_and(|user| user.name == NODES_CLIENT && user.is_master());
        if !is_server {
            return Err(Failure::unauthorized());
        }
        let parts: Vec<&str> = request.parts.iter().map(String::as_str).collect();
        match (&request.method[..], &parts[..]) {
            ("GET", ["healthz"]) => Ok(Answer::Text(200, "ok".to_owned())),
            ("GET", ["containerLogs", namespace, name, container]) => {
                let pod = self.pod(namespace, name)?;
                pods::show_log(&self.pods, &pod, container, request)
            }
            ("GET" | "POST", [what @ ("exec" | "attach"), namespace, name, container]) => {
                let pod = self.pod(namespace, name)?;
                pods::begin_talk(&self.pods, pod, container, *what == "exec", request)
            }
            ("GET" | "POST", ["portForward", namespace, name]) => {
                forward::begin(&self.pods, self.pod(namespace, name)?, request)
            }
            ("GET", ["stats", "summary"]) => {
                let summary = self.pods.summary(&self.find.name());
                Ok(Answer::document(200, summary.map_err(Failure::internal)?))
            }
            _ => Err(Failure::no_such_path()),
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Value, Failure> {
        let found = self.find.pod(namespace, name);
        found.ok_or_else(|| {
            let why = format!("pod \"{name}\" is not known to its node yet");
            Failure { code: 404, reason: "NotFound", ..Failure::bad_request(why) }
        })
    }
}
