//! Pods on other hosts: what is asked of them is passed on to their node, and its answer back.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use client::{Connection, Head, Server, Talk, Tls};
use httpd::{Exchange, Reply, Upgraded};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use crate::cluster::{Cluster, items};
use crate::failure::Failure;
use crate::request::{Answer, Request};

/// The longest answer of a node that is no stream, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What is passed on at once.
const PIECE_BYTES: usize = 16 << 10;
/// Fields of an answer that begins a conversation.
const UPGRADE_FIELDS: [&str; 5] = [
    "Connection",
    "Upgrade",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Protocol",
    "X-Stream-Protocol-Version",
];
/// Where a node says what it and its pods use.
const SUMMARY: &str = "/stats/summary";

/// Something that is asked of a node.
#[derive(Debug)]
pub struct Elsewhere {
    server: Server,
    tls: Tls,
    /// The path and the query.
    target: String,
}

impl Cluster {
    /// What is to be asked of a pod's node, if that is another host than this one: `what` of the node's
    /// API, about a pod's container, or about the pod if there is none.
    pub(crate) fn elsewhere(
        &self,
        request: &Request,
        pod: &Value,
        (what, container): (&str, &str),
    ) -> Result<Option<Elsewhere>, Failure> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Some((server, tls)) = self.place_of(&text(&pod["spec"]["nodeName"]))? else {
            return Ok(None);
        };
        let metadata = &pod["metadata"];
        let mut parts =
            vec![what.to_owned(), text(&metadata["namespace"]), text(&metadata["name"])];
        parts.extend((!container.is_empty()).then(|| container.to_owned()));
        let query: Vec<(String, String)> =
            request.query.iter().filter(|(name, _)| name != "container").cloned().collect();
        let target = client::target(&parts, &query);
        Ok(Some(Elsewhere { server, tls, target }))
    }

    /// What a node and its pods use, as [`crate::Pods::summary`], wherever the node is.
    pub(crate) fn summary(&self, node: &str) -> Result<Value, Failure> {
        if let Some((server, tls)) = self.place_of(node)? {
            return document(&server, &tls, SUMMARY)
                .map_err(|error| Failure::internal(format!("Get \"{server}{SUMMARY}\": {error}")));
        }
        match self.pods() {
            Some(pods) => pods.summary(node).map_err(Failure::internal),
            None => Err(Failure::not_implemented("nodes/proxy")),
        }
    }

    /// Where a node is asked, if it is another host than this one.
    fn place_of(&self, node: &str) -> Result<Option<(Server, Tls)>, Failure> {
        let is_here = self.node().is_some_and(|own| own == node);
        let (false, false, Some(tls)) = (node.is_empty(), is_here, &self.trust.nodes) else {
            return Ok(None);
        };
        let Some(object) = self.object("", "nodes", "", node) else {
            return Err(Failure::not_found(Self::resource("", "nodes"), node));
        };
        Ok(server_of(&object).map(|server| (server, tls.clone())))
    }
}

/// Asks a node for a document.
fn document(server: &Server, tls: &Tls, target: &str) -> io::Result<Value> {
    let mut connection = Connection::open(server, tls)?;
    let fields = [("User-Agent", "kube-apiserver")];
    connection.send(&format!("GET {target}"), server, &fields, None)?;
    let head = connection.head()?;
    let body = connection.whole(ANSWER_BYTES_MAX)?;
    match head.status {
        200 => serde_json::from_slice(&body).map_err(io::Error::other),
        status => Err(io::Error::other(format!("it answers with {status}"))),
    }
}

/// Where a node answers, which it says itself, under its name.
fn server_of(node: &Value) -> Option<Server> {
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64()?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    let addresses = items(&node["status"]["addresses"]);
    let inner = addresses.iter().find(|own| own["type"] == "InternalIP")?;
    let host = inner["address"].as_str()?.to_owned();
    Some(Server { host, port, name: node["metadata"]["name"].as_str()?.to_owned() })
}

impl Elsewhere {
    /// Asks, and passes on what is answered.
    ///
    /// # Errors
    /// The node cannot be asked; within, that the client is gone.
    pub(crate) fn pass_on(&self, exchange: &mut Exchange<'_>) -> Result<io::Result<()>, Failure> {
        let failed = |error: io::Error| {
            Failure::internal(format!("Get \"{}{}\": {error}", self.server, self.target))
        };
        let (mut connection, head) = self.ask(exchange).map_err(failed)?;
        if head.status == 101 {
            let talk = connection.talk().map_err(failed)?;
            return Ok(converse(exchange, &head, talk));
        }
        if head.status == 200 {
            return Ok(show(exchange, &head, &mut connection));
        }
        let body = connection.whole(ANSWER_BYTES_MAX).map_err(failed)?;
        let kind = head.get("content-type").unwrap_or("text/plain").to_owned();
        Ok(exchange.send(Reply::new(head.status).document(&kind, body)).map(drop))
    }

    fn ask(&self, exchange: &Exchange<'_>) -> io::Result<(Connection, Head)> {
        let mut connection = Connection::open(&self.server, &self.tls)?;
        let asked = exchange.head();
        let mut fields = vec![("User-Agent", "kube-apiserver")];
        if let Some(protocol) = asked.upgrade.as_deref() {
            fields.extend([("Connection", "Upgrade"), ("Upgrade", protocol)]);
        }
        let own = asked.fields().filter(|(name, _)| {
            name.starts_with("sec-websocket-") || *name == "x-stream-protocol-version"
        });
        fields.extend(own);
        connection.send(&format!("GET {}", self.target), &self.server, &fields, None)?;
        let head = connection.head()?;
        Ok((connection, head))
    }
}

/// Passes on what comes bit by bit, until it ends or the client is gone.
fn show(exchange: &mut Exchange<'_>, head: &Head, from: &mut Connection) -> io::Result<()> {
    let reply = Reply::new(200)
        .header("Content-Type", head.get("content-type").unwrap_or("text/plain"))
        .header("Cache-Control", "no-cache, private");
    let mut chunks = exchange.chunks(&reply)?;
    let mut piece = vec![0; PIECE_BYTES];
    // Whether what was read ahead is not enough to be passed on.
    let mut is_short = false;
    loop {
        if is_short || !from.has_more() {
            let mut set = [
                PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(chunks.as_fd(), PollFlags::RDHUP),
            ];
            rustix::io::retry_on_intr(|| poll(&mut set, None))?;
            if set[0].revents().is_empty() && chunks.is_gone() {
                return Ok(());
            }
        }
        is_short = false;
        match from.body(&mut piece, Duration::from_millis(1)) {
            Ok(0) => return chunks.end(),
            Ok(count) => {
                chunks.write_all(&piece[..count])?;
                chunks.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => is_short = true,
            // What was cut off must not look whole.
            Err(error) => return Err(error),
        }
    }
}

/// Passes on what both sides say, until one has gone.
fn converse(exchange: &mut Exchange<'_>, head: &Head, mut node: Talk) -> io::Result<()> {
    let mut reply = Reply::new(101);
    for name in UPGRADE_FIELDS {
        if let Some(value) = head.get(&name.to_ascii_lowercase()) {
            reply = reply.header(name, value);
        }
    }
    let mut client = exchange.upgrade(&reply)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match node.hear()? {
            Some(heard) if heard.is_empty() => {}
            Some(heard) => {
                client.write_all(&heard)?;
                client.flush()?;
                continue;
            }
            None => return client.end_writing(),
        }
        if !wait(&mut client, &node)? {
            continue;
        }
        let count = io::Read::read(&mut client, &mut piece)?;
        if count == 0 {
            return Ok(());
        }
        node.say(&piece[..count])?;
    }
}

/// Waits until one side has something to say, or the node takes more: whether the client has.
fn wait(client: &mut Upgraded<'_>, node: &Talk) -> io::Result<bool> {
    // Whoever does not listen is not told more.
    let takes = !node.is_full();
    if takes && client.has_more() {
        return Ok(true);
    }
    let (from_client, to_node) = match takes {
        true => (PollFlags::IN, PollFlags::empty()),
        false => (PollFlags::empty(), PollFlags::OUT),
    };
    let mut set = [
        PollFd::from_borrowed_fd(node.as_fd(), PollFlags::IN | to_node),
        PollFd::from_borrowed_fd(client.as_fd(), from_client),
    ];
    rustix::io::retry_on_intr(|| poll(&mut set, None))?;
    Ok(set[0].revents().is_empty() && !set[1].revents().is_empty())
}

impl From<Elsewhere> for Answer {
    fn from(elsewhere: Elsewhere) -> Self {
        Self::Elsewhere(Box::new(elsewhere))
    }
}
