//! One server over HTTP: connections, certificates, proxies, and redirects that do not carry secrets.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use ureq::http::{Method, Request, Response, Uri, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, Body, Proxy, SendBody};

use crate::endpoint::{Endpoint, Scheme, is_loopback};
use crate::fault::{self, Fault};
use crate::tls::Trust;
use crate::{Config, proxy};

/// One read from the socket; smaller ones cost a fifth of a fast download in system calls.
const INPUT_SIZE: usize = 256 << 10;
/// One write to the socket.
const OUTPUT_SIZE: usize = 256 << 10;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest silence of a server, which may have to fetch the content from elsewhere first.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 5;
const FAILURE_BODY_MAX: u64 = 16 << 10;

/// One request, without the place that it goes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) accept: Option<&'static str>,
    pub(crate) authorization: Option<String>,
    /// The first byte wanted, if not 0.
    pub(crate) from: u64,
    /// The first byte that is not wanted any more, if not all are.
    pub(crate) until: Option<u64>,
    /// Where in an upload the body belongs: `Content-Range: FIRST-LAST`.
    pub(crate) span: Option<(u64, u64)>,
    pub(crate) content: Content<'a>,
}

/// What a request carries; it can be sent again.
#[derive(Clone, Default)]
pub(crate) enum Content<'a> {
    /// No body at all.
    #[default]
    Nothing,
    /// A body of no bytes, which some servers insist on.
    Empty,
    /// A form with secrets.
    Form(String),
    /// A document and its media type.
    Document { media_type: &'a str, bytes: &'a [u8] },
    /// So many bytes from what `open` opens.
    Stream { open: &'a Open<'a>, length: u64 },
}

/// Opens the bytes of a body, anew for each attempt at sending it.
pub(crate) type Open<'a> = dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a;

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Empty => "Empty",
            Self::Form(_) => "Form",
            Self::Document { .. } => "Document",
            Self::Stream { .. } => "Stream",
        })
    }
}

/// An answer, where it came from, and whether that is another server than the one asked.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) uri: Uri,
    pub(crate) elsewhere: bool,
}

/// The connections to one endpoint.
pub(crate) struct Http {
    plain: Agent,
    /// Made when first needed: reading the system's authorities takes milliseconds.
    secure: OnceLock<Result<Agent, String>>,
    trust: Trust,
    plain_redirects: bool,
}

impl Http {
    pub(crate) fn new(config: &Config, registry: &str, endpoint: &Endpoint) -> Self {
        let named = |name: &str| config.hosts.get(name).and_then(|host| host.ca.clone());
        let mut trust = Trust { everybody: endpoint.insecure, ..Trust::default() };
        trust.authorities.extend(named(&endpoint.name).or_else(|| named(registry)));
        for folder in &config.certs_dirs {
            for path in files(&folder.join(&endpoint.authority)) {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => trust.authorities.push(path),
                    Some("cert") => trust.identity = trust.identity.or(Some(path)),
                    _ => {}
                }
            }
        }
        Self {
            plain: Agent::new_with_config(settings()),
            secure: OnceLock::new(),
            trust,
            plain_redirects: endpoint.schemes.contains(&Scheme::Http),
        }
    }

    /// Asks, and follows where the server sends us; credentials stay with the host they are for.
    pub(crate) fn ask(&self, uri: &Uri, mut ask: Ask<'_>) -> Result<Answer, Fault> {
        let mut uri = uri.clone();
        let mut elsewhere = false;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(&uri, &ask)?;
            if !response.status().is_redirection() {
                return Ok(Answer { response, uri, elsewhere });
            }
            if matches!(ask.content, Content::Form(_)) {
                return Err(Fault::Wrong("a posted secret was to be sent elsewhere".to_owned()));
            }
            // The other redirections turn a request with a body into one without (RFC 9110, 15.4).
            let is_kept = matches!(response.status().as_u16(), 307 | 308);
            if !is_kept && !matches!(ask.method, Method::GET | Method::HEAD) {
                let status = response.status().as_u16();
                return Err(Fault::Wrong(format!(
                    "an upload was redirected by HTTP status {status}"
                )));
            }
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            let next = location
                .and_then(|location| resolve(&uri, location))
                .ok_or_else(|| Fault::Wrong("redirected to no valid address".to_owned()))?;
            if uri.scheme_str() == Some("https")
                && next.scheme_str() != Some("https")
                && !self.plain_redirects
            {
                return Err(Fault::Wrong("redirected from HTTPS to plain HTTP".to_owned()));
            }
            if next.authority() != uri.authority() || next.scheme() != uri.scheme() {
                ask.authorization = None;
                elsewhere = true;
            }
            uri = next;
        }
        Err(Fault::Wrong(format!("redirected more than {REDIRECTS_MAX} times")))
    }

    /// Asks once.
    fn send(&self, uri: &Uri, ask: &Ask<'_>) -> Result<Response<Body>, Fault> {
        let agent = match uri.scheme_str() {
            Some("http") => &self.plain,
            _ => self.secure_agent()?,
        };
        let mut request = Request::builder().uri(uri.clone()).method(ask.method.clone());
        if let Some(accept) = ask.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(authorization) = &ask.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        match (ask.from, ask.until) {
            (0, None) => {}
            (from, None) => request = request.header(header::RANGE, format!("bytes={from}-")),
            (from, Some(until)) => {
                let last = until.saturating_sub(1);
                request = request.header(header::RANGE, format!("bytes={from}-{last}"));
            }
        }
        if let Some((first, last)) = ask.span {
            request = request.header(header::CONTENT_RANGE, format!("{first}-{last}"));
        }
        let proxy = proxy_for(uri);
        let bad = |error: ureq::http::Error| Fault::Wrong(error.to_string());
        let kind = |request: ureq::http::request::Builder, kind: &str| {
            request.header(header::CONTENT_TYPE, kind)
        };
        let outcome = match &ask.content {
            Content::Nothing => run(agent, request.body(()).map_err(bad)?, proxy),
            Content::Empty => run(agent, request.body(&[][..]).map_err(bad)?, proxy),
            Content::Form(form) => {
                let request = kind(request, "application/x-www-form-urlencoded");
                run(agent, request.body(form.as_str()).map_err(bad)?, proxy)
            }
            Content::Document { media_type, bytes } => {
                run(agent, kind(request, media_type).body(*bytes).map_err(bad)?, proxy)
            }
            Content::Stream { open, length } => {
                let unreadable = |error: io::Error| Fault::Broken(format!("read content: {error}"));
                let mut reader = open().map_err(unreadable)?;
                let request = kind(request, "application/octet-stream")
                    .header(header::CONTENT_LENGTH, length.to_string());
                run(agent, request.body(SendBody::from_reader(&mut reader)).map_err(bad)?, proxy)
            }
        };
        outcome.map_err(|error| Fault::from_transport(&error))
    }

    fn secure_agent(&self) -> Result<&Agent, Fault> {
        let make = || {
            let tls = self.trust.connector()?;
            let chain = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
            Ok(Agent::with_parts(settings(), chain.chain(tls), DefaultResolver::default()))
        };
        self.secure.get_or_init(make).as_ref().map_err(|why| Fault::Wrong(why.clone()))
    }
}

/// The outcome of a status that is no success, with what its body says.
pub(crate) fn refusal(mut response: Response<Body>) -> Fault {
    let status = response.status().as_u16();
    let after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let body = response.body_mut().with_config().limit(FAILURE_BODY_MAX).read_to_vec();
    Fault::from_status(status, &fault::detail(&body.unwrap_or_default()), after)
}

fn run<B: ureq::AsSendBody>(
    agent: &Agent,
    request: Request<B>,
    proxy: Option<Proxy>,
) -> Result<Response<Body>, ureq::Error> {
    match proxy {
        None => agent.run(request),
        Some(proxy) => agent.run(agent.configure_request(request).proxy(Some(proxy)).build()),
    }
}

fn settings() -> ureq::config::Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("cais/", env!("CARGO_PKG_VERSION")))
        // Blobs must arrive as they are: their digest is over the compressed bytes.
        .accept_encoding("identity")
        .input_buffer_size(INPUT_SIZE)
        .output_buffer_size(OUTPUT_SIZE)
        .proxy(None)
        // No limit on name resolution: ureq keeps it by a thread that may outlive the request, and
        // a process with threads must not fork. The system's resolver has limits of its own.
        .timeout_connect(Some(CONNECT_TIME_MAX))
        .timeout_recv_response(Some(SILENCE_MAX))
        .timeout_per_read(Some(SILENCE_MAX))
        .build()
}

fn proxy_for(uri: &Uri) -> Option<Proxy> {
    let host = uri.host()?;
    if is_loopback(host) {
        return None;
    }
    let address = proxy::from_environment(uri.scheme_str()?, host)?;
    Proxy::new(&address).ok()
}

/// Where `location` leads from `base` (RFC 3986, section 5.2, without dot segments).
pub(crate) fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let location = location.split('#').next().unwrap_or_default();
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    (!authority.as_str().contains('@')).then_some(uri)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base: Uri = "https://a.b:5/v2/x/blobs/y?z=1".parse().unwrap();
        for (location, expected) in [
            ("https://c/d?e=f", Some("https://c/d?e=f")),
            ("//c/d", Some("https://c/d")),
            ("/d#e", Some("https://a.b:5/d")),
            ("d", Some("https://a.b:5/v2/x/blobs/d")),
            ("https://u:p@c/", None),
            ("http://", None),
        ] {
            let found = resolve(&base, location).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }
}
