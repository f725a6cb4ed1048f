//! `…/pods/NAME/proxy`, `…/services/NAME/proxy` and `…/nodes/NAME/proxy`: what is asked there is
//! passed on to whoever serves behind, and so is what they answer.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use httpd::{Answered, Asked, Exchange, Remote, Reply};
use serde_json::Value;

use crate::cluster::{Cluster, items};
use crate::failure::Failure;
use crate::outbound::{Belief, in_words};
use crate::request::{Answer, Request};
use crate::target::Target;

/// How long a server behind may take until its answer begins.
const PATIENCE: Duration = Duration::from_secs(60);
/// The port of nodes that is meant where none is named.
const NODE_PORT: u16 = 10250;
/// Answers up to this size keep their length; others go in pieces, as they come.
const WHOLE_BYTES_MAX: u64 = 1 << 20;
const PIECE_BYTES: usize = 32 << 10;
/// Fields that are of one connection (RFC 9110, section 7.6.1), and those that were for us.
const OWN: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request that is to be passed on.
#[derive(Debug)]
pub struct Passed {
    remote: Remote,
    /// What stands in the path before what is passed on: so many parts.
    parts: usize,
}

/// A name in a path: `[SCHEME:]NAME[:PORT]`.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    is_https: bool,
    name: &'a str,
    /// Empty for what is meant then.
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let words: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match words[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let is_https = match scheme {
            "" | "http" => false,
            "https" => true,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { is_https, name, port })
    }
}

/// Finds who is to be asked.
pub(crate) fn answer(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    let of = &target.resource;
    let named = Named::parse(&target.name);
    let named = named.ok_or_else(|| {
        Failure::bad_request(format!("invalid {} request {:?}", of.singular, target.name))
    })?;
    let find = |kind: &str| {
        let found = cluster.object("", kind, &target.namespace, named.name);
        found.ok_or_else(|| Failure::not_found(of, named.name))
    };
    let (address, is_https) = match of.plural {
        "pods" => (pod_address(&find("pods")?, named.port)?, named.is_https),
        "nodes" => {
            let (address, is_own) = node_address(&find("nodes")?, named.port)?;
            (address, named.is_https || is_own)
        }
        _ => {
            let _ = find("services")?;
            let found = cluster.service_address(&target.namespace, named.name, named.port);
            (found.map_err(Failure::unavailable)?, named.is_https)
        }
    };
    if of.plural != "nodes" && !may_be_asked(address.ip()) {
        return Err(Failure::bad_request("address not allowed"));
    }
    let tls = match is_https {
        false => None,
        // Whoever serves in a cluster is certified by nobody in particular.
        true => {
            let config = cluster.believed.config(&Belief::Anything).map_err(Failure::internal)?;
            Some((config, address.ip().to_string()))
        }
    };
    let after = usize::from(!target.rest.is_empty()) * target.rest.split('/').count();
    let parts = request.parts.len() - after;
    Ok(Answer::Pass(Passed { remote: Remote { address, tls }, parts }))
}

fn port(text: &str) -> Result<u16, Failure> {
    let wrong = || Failure::bad_request(format!("invalid port {text:?}"));
    text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)
}

fn pod_address(pod: &Value, named: &str) -> Result<SocketAddr, Failure> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let ip = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok());
    let ip: IpAddr =
        ip.ok_or_else(|| Failure::unavailable(format!("pod {name:?} has no address yet")))?;
    let all = || items(&pod["spec"]["containers"]).iter().flat_map(|c| items(&c["ports"]));
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|p| p.try_into().ok());
    let port = match named {
        "" => all().next().and_then(number).unwrap_or(80),
        named => match all().find(|port| port["name"] == named).and_then(number) {
            Some(port) => port,
            None => port(named)?,
        },
    };
    Ok(SocketAddr::new(ip, port))
}

/// Where a node is, and whether it is its own server that is meant.
fn node_address(node: &Value, named: &str) -> Result<(SocketAddr, bool), Failure> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let is_internal = |one: &&Value| one["type"] == "InternalIP";
    let found = items(&node["status"]["addresses"]).iter().find(is_internal);
    let ip = found.and_then(|one| one["address"].as_str()).and_then(|ip| ip.parse().ok());
    let ip: IpAddr =
        ip.ok_or_else(|| Failure::unavailable(format!("node {name:?} has no internal address")))?;
    let own = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let own = own.and_then(|port| port.try_into().ok()).unwrap_or(NODE_PORT);
    let port = if named.is_empty() { own } else { port(named)? };
    Ok((SocketAddr::new(ip, port), port == own))
}

/// Whether an address may be one of a pod: none of this machine alone, or of its link.
fn may_be_asked(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast())
        }
        IpAddr::V6(ip) => {
            let is_of_link = ip.segments()[0] & 0xffc0 == 0xfe80;
            !(ip.is_loopback() || is_of_link || ip.is_unspecified() || ip.is_multicast())
        }
    }
}

/// Passes a request on, and what is answered back.
pub(crate) fn pass(
    exchange: &mut Exchange<'_>,
    request: &Request,
    passed: &Passed,
) -> Result<io::Result<()>, Failure> {
    let head = exchange.head();
    let Some(path) = behind(&head.path, passed.parts) else {
        return Ok(show_way(exchange));
    };
    let query = head.target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let target = format!("{path}{query}");
    let host = passed.remote.address.to_string();
    let mut headers: Vec<(&str, &str)> =
        head.fields().filter(|(name, _)| !OWN.contains(name)).collect();
    headers.push(("Host", &host));
    match &head.upgrade {
        Some(protocol) => headers.extend([("Connection", "Upgrade"), ("Upgrade", protocol)]),
        None => headers.push(("Connection", "close")),
    }
    let source = request.source.map(|source| source.to_string());
    headers.extend(source.as_deref().map(|source| ("X-Forwarded-For", source)));
    let asked =
        Asked { method: &request.method, target: &target, headers: &headers, body: &request.body };
    let answered = passed.remote.ask(&asked, PATIENCE).and_then(|mut answered| {
        answered.be_patient()?;
        Ok(answered)
    });
    match answered {
        Ok(answered) => Ok(pass_back(exchange, answered)),
        Err(error) => {
            let why = in_words(&error, passed.remote.address);
            Err(Failure::unavailable(format!("error trying to reach service: {why}")))
        }
    }
}

/// What stands behind so many parts of a path, with the slash before it; `None` if there is not even
/// that.
fn behind(path: &str, parts: usize) -> Option<&str> {
    let mut rest = path;
    for _ in 0..parts {
        rest = rest.trim_start_matches('/');
        rest = &rest[rest.find('/')?..];
    }
    Some(rest)
}

/// Relative links would be of the wrong place without a slash at its end.
fn show_way(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let head = exchange.head();
    let query = head.target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let place = format!("{}/{query}", head.path);
    exchange.send(Reply::new(301).header("Location", place)).map(drop)
}

fn pass_back(exchange: &mut Exchange<'_>, mut answered: Answered) -> io::Result<()> {
    let mut reply = Reply::new(answered.status);
    for (name, value) in &answered.headers {
        if !OWN.contains(&name.as_str()) {
            reply = reply.header(name.clone(), value);
        }
    }
    if answered.status == 101 {
        let protocol = answered.get("upgrade").unwrap_or_default().to_owned();
        let reply = reply.header("Connection", "Upgrade").header("Upgrade", protocol);
        let mut client = exchange.upgrade(&reply)?;
        return client.join(&mut answered.upgraded());
    }
    let mut body = answered.body();
    if body.announced().is_some_and(|length| length <= WHOLE_BYTES_MAX) {
        let bytes = body.whole(WHOLE_BYTES_MAX)?.unwrap_or_default();
        return exchange.send(reply.content(httpd::Content::Bytes(bytes))).map(drop);
    }
    let mut chunks = exchange.chunks(&reply)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let n = body.read(&mut piece)?;
        if n == 0 {
            return chunks.end();
        }
        chunks.write_all(&piece[..n])?;
        chunks.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_a_scheme_and_a_port() {
        let named = |is_https, name, port| Some(Named { is_https, name, port });
        assert_eq!(Named::parse("a"), named(false, "a", ""));
        assert_eq!(Named::parse("a:80"), named(false, "a", "80"));
        assert_eq!(Named::parse("https:a:web"), named(true, "a", "web"));
        assert_eq!(Named::parse("http:a:"), named(false, "a", ""));
        for wrong in ["", ":80", "ftp:a:80", "a:b:c:d"] {
            assert_eq!(Named::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_passed_on_is_as_it_was_written() {
        let path = "/api/v1/namespaces/n/pods/p/proxy//a%2Fb/";
        assert_eq!(behind(path, 7), Some("//a%2Fb/"));
        assert_eq!(behind("/api/v1/nodes/n/proxy/", 5), Some("/"));
        assert_eq!(behind("/api/v1/nodes/n/proxy", 5), None);
    }

    #[test]
    fn nobody_reaches_this_machine_through_a_pod() {
        for (ip, expected) in [
            ("10.42.0.2", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", true),
        ] {
            assert_eq!(may_be_asked(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
