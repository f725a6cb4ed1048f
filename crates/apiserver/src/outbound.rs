//! Other servers that this one asks: where services are, and by what their servers are believed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httpd::{Asked, ClientTls, Remote, Trust};
use serde_json::Value;

use crate::cluster::{Cluster, items, random};
use crate::request::BODY_BYTES_MAX;

/// Sets of authorities that are kept read.
const KEPT_MAX: usize = 100;
/// How much of an answer that says no is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// What servers are believed by, for each bundle of authorities: sessions with them can go on.
#[derive(Debug, Default)]
pub(crate) struct Believed(Mutex<BTreeMap<Belief, Arc<ClientTls>>>);

/// By what a server is believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Belief {
    /// The system's authorities.
    System,
    /// These, in PEM, encoded by Base64.
    Bundle(String),
    /// Whatever it says.
    Anything,
}

impl Belief {
    /// What `caBundle` says.
    pub(crate) fn of_bundle(bundle: &Value) -> Self {
        match bundle.as_str() {
            None | Some("") => Self::System,
            Some(bundle) => Self::Bundle(bundle.to_owned()),
        }
    }

    fn read(&self) -> Result<ClientTls, String> {
        let mut trust = Trust { everybody: *self == Self::Anything, ..Trust::default() };
        match self {
            Self::System => trust.system = true,
            Self::Anything => {}
            Self::Bundle(text) => {
                let pem = BASE64_STANDARD.decode(text).map_err(|why| why.to_string())?;
                trust.authorities = httpd::certificates_in(&pem);
                if trust.authorities.is_empty() {
                    return Err("unable to load root certificates: no valid certificate data seen"
                        .to_owned());
                }
            }
        }
        let mut config = trust.client_config(None)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl Believed {
    pub(crate) fn config(&self, belief: &Belief) -> Result<Arc<ClientTls>, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = kept.get(belief) {
            return Ok(config.clone());
        }
        let config = Arc::new(belief.read()?);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(belief.clone(), config.clone());
        Ok(config)
    }
}

/// A place that is posted documents to.
#[derive(Debug)]
pub(crate) struct Hook {
    remote: Remote,
    /// As messages name it.
    url: String,
    host: String,
    target: String,
}

impl Hook {
    /// What a `WebhookClientConfig` names, to be asked for at most `seconds`.
    pub(crate) fn find(cluster: &Cluster, config: &Value, seconds: u64) -> Result<Self, String> {
        let service = &config["service"];
        let (host, port, path) = match config["url"].as_str() {
            Some(url) => parts(url)?,
            None => {
                let text = |field: &str| service[field].as_str().unwrap_or_default();
                let host = format!("{}.{}.svc", text("name"), text("namespace"));
                let path = text("path").trim_start_matches('/');
                (host, port_of(service), format!("/{path}"))
            }
        };
        let mark = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{mark}timeout={seconds}s");
        let url = match port {
            443 if service.is_null() => format!("https://{host}{target}"),
            port => format!("https://{host}:{port}{target}"),
        };
        let failed = |why: String| format!("Post {url:?}: {why}");
        let address = match service.is_null() {
            true => resolve(&host, port),
            false => {
                let text = |field: &str| service[field].as_str().unwrap_or_default();
                cluster.service_address(text("namespace"), text("name"), &port.to_string())
            }
        };
        let belief = Belief::of_bundle(&config["caBundle"]);
        let config = cluster.believed.config(&belief).map_err(failed)?;
        let remote =
            Remote { address: address.map_err(failed)?, tls: Some((config, host.clone())) };
        Ok(Self { remote, url, host, target })
    }

    /// Posts a document: the one that is answered.
    pub(crate) fn post(&self, document: &Value, seconds: u64) -> Result<Value, String> {
        let body = document.to_string().into_bytes();
        let headers = [
            ("Host", self.host.as_str()),
            ("User-Agent", "kube-apiserver-admission"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
            ("Connection", "close"),
        ];
        let asked = Asked { method: "POST", target: &self.target, headers: &headers, body: &body };
        let failed = |why: String| format!("Post {:?}: {why}", self.url);
        let address = self.remote.address;
        let broken = |error: std::io::Error| failed(in_words(&error, address));
        let mut answered = self.remote.ask(&asked, Duration::from_secs(seconds)).map_err(broken)?;
        let mut bytes = Vec::new();
        answered.body().take(BODY_BYTES_MAX).read_to_end(&mut bytes).map_err(broken)?;
        if answered.status / 100 != 2 {
            let said: String =
                String::from_utf8_lossy(&bytes).trim().chars().take(SHOWN_CHARS_MAX).collect();
            return Err(match answered.status {
                404 => "the server could not find the requested resource".to_owned(),
                code => format!("the server answered with status {code}: {said}"),
            });
        }
        serde_json::from_slice(&bytes).map_err(|why| format!("the answer is no JSON: {why}"))
    }
}

/// What has gone wrong, as Go says it where people know it from there.
pub(crate) fn in_words(error: &std::io::Error, address: SocketAddr) -> String {
    match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
            "context deadline exceeded".to_owned()
        }
        std::io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connect: connection refused")
        }
        std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => error.to_string(),
    }
}

fn port_of(service: &Value) -> u16 {
    service["port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or(443)
}

/// The host, the port and the path of `https://HOST[:PORT]/PATH`.
fn parts(url: &str) -> Result<(String, u16, String), String> {
    let rest = url.strip_prefix("https://").ok_or("its URL does not begin with https://")?;
    let (place, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("invalid port {port:?}"))?)
        }
        _ => (place, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port, path.to_owned()))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut found = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("dial tcp: lookup {host}: {error}"))?;
    found.next().ok_or_else(|| format!("dial tcp: lookup {host}: no such host"))
}

impl Cluster {
    /// Where one of those who serve a service is reached. It is asked directly: what rewrites the
    /// service's own address may be on other machines only.
    ///
    /// `port` is a number or a name; empty for the only one.
    pub(crate) fn service_address(
        &self,
        namespace: &str,
        name: &str,
        port: &str,
    ) -> Result<SocketAddr, String> {
        let service = self.object("", "services", namespace, name);
        let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
        let own = items(&service["spec"]["ports"]);
        if service["spec"]["type"] == "ExternalName" {
            let host = service["spec"]["externalName"].as_str().unwrap_or_default();
            return resolve(host, port.parse().unwrap_or(443));
        }
        let is = |one: &&Value| match port {
            "" => own.len() == 1,
            port => {
                let is_number = port.parse().is_ok_and(|port: u64| one["port"] == port);
                is_number || one["name"] == port
            }
        };
        let wanted = own
            .iter()
            .find(is)
            .ok_or_else(|| format!("no service port {port:?} found for service {name:?}"))?;
        let port_name = wanted["name"].as_str().unwrap_or_default();
        let mut all = self.ready(namespace, name, port_name).map_err(|why| why.to_string())?;
        if all.is_empty() {
            return Err(format!("no endpoints available for service {name:?}"));
        }
        let chosen = usize::from(random::<1>()[0]) % all.len();
        Ok(all.swap_remove(chosen))
    }

    /// Those who serve a port of a service now.
    fn ready(
        &self,
        namespace: &str,
        service: &str,
        port: &str,
    ) -> Result<Vec<SocketAddr>, crate::log::LogError> {
        let slices = self.objects("discovery.k8s.io", "endpointslices", namespace, service)?;
        let is_own =
            |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        let mut found = Vec::new();
        for slice in slices.iter().filter(is_own) {
            let ready = items(&slice["endpoints"])
                .iter()
                .filter(|endpoint| endpoint["conditions"]["ready"] != false)
                .filter_map(|endpoint| endpoint["addresses"][0].as_str());
            found.extend(sockets(ready, &slice["ports"], port));
        }
        if found.is_empty() {
            let endpoints = self.object("", "endpoints", namespace, service).unwrap_or_default();
            for subset in items(&endpoints["subsets"]) {
                let ready = items(&subset["addresses"]).iter().filter_map(|one| one["ip"].as_str());
                found.extend(sockets(ready, &subset["ports"], port));
            }
        }
        Ok(found)
    }
}

fn sockets<'a>(
    addresses: impl Iterator<Item = &'a str>,
    ports: &Value,
    wanted: &str,
) -> Vec<SocketAddr> {
    let is = |port: &&Value| port["name"].as_str().unwrap_or_default() == wanted;
    let port = items(ports).iter().find(is).and_then(|port| port["port"].as_u64());
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    addresses.filter_map(|ip| ip.parse().ok()).map(|ip| SocketAddr::new(ip, port)).collect()
}
