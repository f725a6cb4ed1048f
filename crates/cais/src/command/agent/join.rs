//! What a host has joined a cluster with: certificates, which are asked for, kept, and renewed.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{JoinToken, KeyRequest, validity};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::{Cache, Client, Connection, Peer, Reflector, Server, Tls, kind};
use engine::{Error, Kind, Result};
use serde_json::{Value, json};

const AUTHORITY: &str = "ca.crt";
const CLIENT: Pair = Pair { certificate: "client.crt", key: "client.key" };
const SERVING: Pair = Pair { certificate: "serving.crt", key: "serving.key" };
/// Who nodes are.
const NODES: &str = "system:nodes";
/// How long a certificate may take that has been asked for.
const SIGNED_MAX: Duration = Duration::from_secs(60);
/// How soon a certificate is asked for again that could not be had.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A certificate and its key, in files.
#[derive(Debug, Clone, Copy)]
struct Pair {
    certificate: &'static str,
    key: &'static str,
}

/// What a host has joined with.
#[derive(Debug, Clone)]
pub(super) struct Papers {
    place: PathBuf,
    name: String,
}

impl Papers {
    /// What is kept in a directory; it is got with a token where nothing is.
    pub(super) fn open(
        place: &Path,
        server: &Server,
        name: &str,
        token: Option<&str>,
    ) -> Result<Self> {
        fs::create_dir_all(place).map_err(|error| {
            Error::caused(Kind::Invalid, format!("make {}", place.display()), error)
                .hint("--data-dir names a directory that can be written to")
        })?;
        let own = Self { place: place.to_owned(), name: name.to_owned() };
        let is_good = own.lifetime(CLIENT).is_some_and(|(_, end)| end > now());
        if !is_good || own.read(AUTHORITY).is_none() {
            own.join(server, token)?;
        }
        Ok(own)
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// The files of the certificate, the key and the authority that this node's API is served with.
    pub(super) fn serving_files(&self) -> (PathBuf, PathBuf, PathBuf) {
        let [a, b, c] = [SERVING.certificate, SERVING.key, AUTHORITY].map(|f| self.place.join(f));
        (a, b, c)
    }

    /// How the server is asked in this node's name.
    pub(super) fn tls(&self) -> Result<Tls> {
        let text = |file: &str| self.read(file).unwrap_or_default();
        let (certificate, key) = (text(CLIENT.certificate), text(CLIENT.key));
        let tls = Tls::new(&text(AUTHORITY), Some((&certificate, &key)));
        tls.map_err(|error| {
            let doing = format!("use the certificates in {}", self.place.display());
            Error::caused(Kind::Internal, doing, error)
                .hint("without that directory, --token has this host join anew")
        })
    }

    /// Gets the authority's certificate, which the token tells from others, and one for this node.
    fn join(&self, server: &Server, token: Option<&str>) -> Result<()> {
        let hint = "--token takes what the file node-token of the server says, whole";
        let token = token.ok_or_else(|| {
            let text = format!("{} has not joined a cluster yet: a token is needed", self.name);
            Error::new(Kind::Invalid, text).hint(hint)
        })?;
        let token = JoinToken::parse(token.trim())
            .ok_or_else(|| Error::new(Kind::Invalid, "the token is malformed").hint(hint))?;
        let failed = |error| Error::caused(Kind::Internal, format!("join {server}"), error);
        let tls = Tls::pinned(token.digest).map_err(io).map_err(failed)?;
        let shown = Connection::open(server, &tls).map_err(failed).map_err(|error| {
            error.hint("the server is to listen there, and the token is to be that server's")
        })?;
        let authority = shown.authority(&token.digest).ok_or_else(|| {
            Error::new(Kind::Denied, format!("{server} does not show its authority"))
        })?;
        self.write(AUTHORITY, &pem(&authority), 0o644)?;
        let https = Peer::new(server.clone(), "cais", tls, Some(token.token));
        let client = Client::new(Arc::new(https), "kubelet");
        self.renew_client(&client)
    }

    fn renew_client(&self, client: &Client) -> Result<()> {
        let (signer, usage) = ("kubernetes.io/kube-apiserver-client-kubelet", "client auth");
        self.obtain(client, CLIENT, (signer, usage), (&[], &[]))
    }

    fn renew_serving(&self, client: &Client, address: IpAddr) -> Result<()> {
        let what = ("kubernetes.io/kubelet-serving", "server auth");
        self.obtain(client, SERVING, what, (std::slice::from_ref(&self.name), &[address]))
    }

    /// Makes sure of a certificate for this node's own API.
    pub(super) fn ensure_serving(&self, client: &Client, address: IpAddr) -> Result<()> {
        match self.is_due(SERVING) {
            true => self.renew_serving(client, address),
            false => Ok(()),
        }
    }

    /// Has certificates renewed before they end, for as long as the process lives.
    pub(super) fn keep_fresh(self, client: Client, https: Arc<Peer>, address: IpAddr) {
        let work = move || {
            loop {
                let mut wait = [CLIENT, SERVING].map(|pair| self.rest(pair)).into_iter().min();
                if self.is_due(CLIENT) {
                    let renewed = self.renew_client(&client).and_then(|()| self.tls());
                    match renewed {
                        Ok(tls) => https.renew(tls),
                        Err(_) => wait = Some(RETRY_AFTER),
                    }
                }
                if self.is_due(SERVING) && self.renew_serving(&client, address).is_err() {
                    wait = Some(RETRY_AFTER);
                }
                std::thread::sleep(wait.unwrap_or_default().max(Duration::from_secs(1)));
            }
        };
        // Without it the node ends with its certificate, and joins anew by its token.
        let _ = std::thread::Builder::new().name("certificates".to_owned()).spawn(work);
    }

    /// When a certificate was got, and when it ends to be good.
    fn lifetime(&self, pair: Pair) -> Option<(i64, i64)> {
        self.read(pair.key)?;
        let (from, end) = validity(&self.read(pair.certificate)?)?;
        // It is good before it was made, for the sake of clocks that are behind.
        let metadata = fs::metadata(self.place.join(pair.certificate)).ok()?;
        let got = jiff::Timestamp::try_from(metadata.modified().ok()?).ok()?;
        Some((got.as_second().clamp(from, end), end))
    }

    /// How long a certificate is good enough: renewed after four fifths of its time.
    fn rest(&self, pair: Pair) -> Duration {
        let Some((from, end)) = self.lifetime(pair) else { return Duration::ZERO };
        let rest = from + (end - from) / 5 * 4 - now();
        Duration::from_secs(u64::try_from(rest).unwrap_or_default())
    }

    fn is_due(&self, pair: Pair) -> bool {
        self.rest(pair).is_zero()
    }

    /// Asks for a certificate of a new key, and keeps both.
    fn obtain(
        &self,
        client: &Client,
        pair: Pair,
        (signer, usage): (&str, &str),
        names: (&[String], &[IpAddr]),
    ) -> Result<()> {
        let user = format!("system:node:{}", self.name);
        let failed = |why: String| {
            let text = format!("get a certificate for node {}: {why}", self.name);
            Error::new(Kind::Denied, text)
        };
        let own = KeyRequest::new(&user, NODES, names).map_err(failed)?;
        let request = json!({
            "metadata": {"generateName": "node-csr-"},
            "spec": {
                "request": BASE64_STANDARD.encode(&own.request),
                "signerName": signer,
                "usages": ["digital signature", usage],
            },
        });
        let of = kind("CertificateSigningRequest");
        let made = client.create(of, "", &request).map_err(|failure| failed(failure.message))?;
        let certificate = signed(client, &made).map_err(failed)?;
        self.write(pair.key, &own.key, 0o600)?;
        self.write(pair.certificate, &certificate, 0o644)
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.place.join(file)).ok().filter(|text| !text.is_empty())
    }

    /// Writes a file whole, under another name first.
    fn write(&self, file: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.place.join(file);
        let unfinished = self.place.join(format!("{file}.new"));
        let _ = fs::remove_file(&unfinished);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let written = options.open(&unfinished).and_then(|mut own| {
            own.write_all(text.as_bytes())?;
            own.sync_all()?;
            fs::rename(&unfinished, &path)
        });
        written.map_err(|error| {
            Error::caused(Kind::Internal, format!("write {}", path.display()), error)
        })
    }
}

/// Waits for the certificate that is asked for.
fn signed(client: &Client, made: &Value) -> std::result::Result<String, String> {
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    let selector = format!("metadata.name={name}");
    let of = kind("CertificateSigningRequest");
    let mut reflector = Reflector::new(client.clone(), of, &[("fieldSelector", &selector)]);
    let (cache, begun) = (Cache::default(), Instant::now());
    while begun.elapsed() < SIGNED_MAX {
        reflector.step(&cache, Duration::from_secs(1)).map_err(|failure| failure.message)?;
        let all = cache.list(of.kind, "");
        let Some(request) = all.first() else { continue };
        if let Some(encoded) = request["status"]["certificate"].as_str() {
            let pem = BASE64_STANDARD.decode(encoded).map_err(|error| error.to_string())?;
            return String::from_utf8(pem).map_err(|error| error.to_string());
        }
        let conditions = request["status"]["conditions"].as_array().into_iter().flatten();
        for condition in conditions {
            if condition["type"] == "Denied" || condition["type"] == "Failed" {
                return Err(format!("{}: {}", condition["type"], condition["message"]));
            }
        }
    }
    Err(format!("request {name} was not answered"))
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn io(error: client::TlsError) -> std::io::Error {
    std::io::Error::other(error)
}

/// A certificate in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = BASE64_STANDARD.encode(der);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(LINE) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    lines + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64() {
        let text = pem(&[7; 100]);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(text.lines().count(), 2 + 3);
    }
}
