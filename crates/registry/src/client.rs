//! The client: endpoints of registries, asked in order, patiently.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use oci::{Descriptor, Digest, Reference};

use crate::auth::Auth;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::http::Ask;
use crate::session::Session;
use crate::{Config, Doing, Error, Event};

/// Attempts at one request, the first included.
const ATTEMPTS_MAX: u32 = 6;
/// First pause between two attempts; each further one is twice as long.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A server that wants a longer pause than this is not waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The largest manifest, index or configuration; registries' own limit for manifests.
pub(crate) const DOCUMENT_SIZE_MAX: u64 = 4 << 20;

/// Everything that a tag may name, most wanted first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// Talks to registries; cheap to make, and keeps connections and tokens while it lives.
pub struct Client {
    config: Config,
    auth: Auth,
    backoff: Duration,
    sessions: Mutex<HashMap<String, Arc<Vec<Session>>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A manifest or an index as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
}

impl Received {
    /// What the document says it is or, where it does not say, what it was announced as.
    pub(crate) fn kind(&self) -> String {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            media_type: Option<String>,
        }
        let said = serde_json::from_slice::<Head>(&self.bytes).ok().and_then(|h| h.media_type);
        let announced = self.media_type.split(';').next().unwrap_or_default().trim();
        said.unwrap_or_else(|| announced.to_owned())
    }

    /// Describes it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.kind(),
            digest: self.digest,
            size: self.bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Client {
    /// A client that reaches registries as `config` says, as `auth`.
    #[must_use]
    pub fn new(config: &Config, auth: Auth) -> Self {
        Self { config: config.clone(), auth, backoff: BACKOFF, sessions: Mutex::default() }
    }

    /// The same with another first pause between attempts; the default is a second.
    #[must_use]
    pub fn with_backoff(self, backoff: Duration) -> Self {
        Self { backoff, ..self }
    }

    pub(crate) fn downloads_max(&self) -> usize {
        self.config.max_concurrent_downloads.max(1)
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The servers of a registry: mirrors first, itself last.
    pub(crate) fn sessions(&self, registry: &str) -> Result<Arc<Vec<Session>>, Error> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sessions.get(registry) {
            return Ok(known.clone());
        }
        let endpoints = Endpoint::all(&self.config, registry)?;
        let open = |endpoint| Session::new(&self.config, registry, endpoint);
        let new: Arc<Vec<_>> = Arc::new(endpoints.into_iter().map(open).collect());
        sessions.insert(registry.to_owned(), new.clone());
        Ok(new)
    }

    pub(crate) fn uploads_max(&self) -> usize {
        self.config.max_concurrent_uploads.max(1)
    }

    /// A conversation about the repository of `reference`.
    pub(crate) fn repository<'a>(
        &'a self,
        doing: Doing,
        reference: &'a Reference,
        tell: &'a (dyn Fn(Event) + Sync),
    ) -> Result<Repository<'a>, Error> {
        let known = self.sessions(reference.registry())?;
        let unreachable = known.iter().map(|_| AtomicBool::new(false)).collect();
        let stop = Stop::default();
        Ok(Repository { client: self, doing, reference, tell, sessions: known, unreachable, stop })
    }
}

/// One repository, on all servers that have it.
pub(crate) struct Repository<'a> {
    client: &'a Client,
    doing: Doing,
    reference: &'a Reference,
    tell: &'a (dyn Fn(Event) + Sync),
    sessions: Arc<Vec<Session>>,
    /// The servers that could not be connected to during this pull: a mirror that is down costs
    /// its time once, not once per blob.
    unreachable: Vec<AtomicBool>,
    stop: Stop,
}

/// What a [`Repository`] was asked for could not be had: by server, in the order of asking.
pub(crate) type Faults = Vec<(String, Fault)>;

impl Repository<'_> {
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The manifest or index that `target`, a tag or a digest, names.
    pub(crate) fn document(
        &self,
        target: &str,
        pinned: Option<&Digest>,
    ) -> Result<Received, Error> {
        let ask = Ask { accept: Some(ACCEPT), ..Ask::default() };
        let path = format!("manifests/{target}");
        self.patiently(|session| {
            let answer =
                session.get(&self.client.auth, self.reference.repository(), &path, &ask)?;
            read_document(answer.response, &path, pinned)
        })
    }

    /// A small blob, whole: `size` bytes with `digest`.
    pub(crate) fn small_blob(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, Error> {
        let what = format!("blob {digest}");
        self.patiently(|session| {
            let response = self.ask_blob(session, digest, 0)?;
            check_length(&response, 0, size, &what)?;
            let bytes = read_body(response, size + 1)?;
            check_size(bytes.len() as u64, size, &what)?;
            check_digest(&Digest::of(&bytes), digest, &what)?;
            Ok(bytes)
        })
    }

    pub(crate) fn reference(&self) -> &Reference {
        self.reference
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.client.auth
    }

    /// The registry itself, the only one that takes content.
    pub(crate) fn origin(&self) -> &Session {
        self.sessions.last().expect("every registry is a server")
    }

    /// Asks every server in order, the last one repeatedly while its trouble may pass.
    fn patiently<T>(&self, mut ask: impl FnMut(&Session) -> Result<T, Fault>) -> Result<T, Error> {
        let mut faults = Faults::new();
        for (place, session) in self.worthwhile() {
            let last = place + 1 == self.sessions.len();
            let fault = match last {
                true => match self.repeatedly(session, &mut ask) {
                    Ok(done) => return Ok(done),
                    Err(fault) => fault,
                },
                false => match ask(session) {
                    Ok(done) => return Ok(done),
                    Err(fault) => fault,
                },
            };
            self.blame(place, session, fault, &mut faults);
        }
        Err(self.error(faults))
    }

    /// Asks the registry itself, repeatedly while its trouble may pass.
    pub(crate) fn insist<T>(
        &self,
        mut ask: impl FnMut(&Session) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.repeatedly(self.origin(), &mut ask).map_err(|fault| self.error(self.fault(fault)))
    }

    fn repeatedly<T>(
        &self,
        session: &Session,
        ask: &mut impl FnMut(&Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut attempt = 1;
        loop {
            let fault = match ask(session) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            let pause = self.pause(attempt, &fault).filter(|_| fault.is_passing(false));
            let Some(pause) = pause else { return Err(fault) };
            let (host, why, in_s) = (session.host(), fault.text(), pause.as_secs());
            (self.tell)(Event::Status(format!("{host}: {why}; retrying in {in_s} seconds")));
            self.stop.sleep(pause);
            attempt += 1;
        }
    }

    /// The servers in order, without mirrors that are known to be down.
    fn worthwhile(&self) -> impl Iterator<Item = (usize, &Session)> {
        let last = self.sessions.len() - 1;
        let down = move |place: usize| self.unreachable[place].load(Ordering::Relaxed);
        self.sessions.iter().enumerate().filter(move |(place, _)| *place == last || !down(*place))
    }

    /// Asks no mirror any more; whether one was being asked.
    pub(crate) fn distrust_mirrors(&self) -> bool {
        let (_, mirrors) = self.unreachable.split_last().expect("every registry is a server");
        mirrors.iter().filter(|down| !down.swap(true, Ordering::Relaxed)).count() > 0
    }

    fn blame(&self, place: usize, session: &Session, fault: Fault, faults: &mut Faults) {
        if matches!(fault, Fault::Unconnected { .. }) {
            self.unreachable[place].store(true, Ordering::Relaxed);
        }
        faults.push((session.host().to_owned(), fault));
    }

    /// How long to wait after the failed `attempt`, the first being 1; `None` to give up.
    pub(crate) fn pause(&self, attempt: u32, fault: &Fault) -> Option<Duration> {
        if attempt >= ATTEMPTS_MAX {
            return None;
        }
        let wanted = match fault {
            Fault::Limited { after: Some(after), .. } if *after > RETRY_AFTER_MAX => return None,
            Fault::Limited { after: Some(after), .. } => *after,
            _ => Duration::ZERO,
        };
        let usual = self.client.backoff.saturating_mul(1 << (attempt - 1).min(16));
        Some(usual.min(BACKOFF_MAX).max(wanted))
    }

    /// Asks the servers in turn for the blob `digest` from byte `from` on.
    ///
    /// The answer starts there or, where the server cannot, at byte 0, which is returned too.
    pub(crate) fn blob(
        &self,
        digest: &Digest,
        from: u64,
        size: u64,
    ) -> Result<(Response<Body>, u64), Faults> {
        let mut faults = Faults::new();
        for (place, session) in self.worthwhile() {
            match self.blob_of(session, digest, from, size) {
                Ok(found) => return Ok(found),
                Err(fault) => self.blame(place, session, fault, &mut faults),
            }
        }
        Err(faults)
    }

    fn blob_of(
        &self,
        session: &Session,
        digest: &Digest,
        from: u64,
        size: u64,
    ) -> Result<(Response<Body>, u64), Fault> {
        let what = format!("blob {digest}");
        if from > 0 {
            match self.ask_blob(session, digest, from) {
                Ok(response) if response.status() != StatusCode::PARTIAL_CONTENT => {
                    check_length(&response, 0, size, &what)?;
                    return Ok((response, 0));
                }
                Ok(response) if continues(&response, from, size) => return Ok((response, from)),
                // A range we did not ask for, or none at all: ask for everything instead.
                Ok(_) | Err(Fault::Wrong(_) | Fault::Refused { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        let response = self.ask_blob(session, digest, 0)?;
        check_length(&response, 0, size, &what)?;
        Ok((response, 0))
    }

    fn ask_blob(
        &self,
        session: &Session,
        digest: &Digest,
        from: u64,
    ) -> Result<Response<Body>, Fault> {
        let ask = Ask { from, ..Ask::default() };
        let path = format!("blobs/{digest}");
        match session.get(&self.client.auth, self.reference.repository(), &path, &ask) {
            Ok(answer) => Ok(answer.response),
            Err(Fault::Missing(_)) => Err(Fault::Missing(format!("blob {digest} is missing"))),
            Err(fault) => Err(fault),
        }
    }

    /// The bytes of `range` of a blob as they come, and perhaps more behind them.
    ///
    /// # Errors
    /// [`Error::Invalid`] from a server that sends whole blobs only.
    pub(crate) fn part(
        &self,
        blob: &Descriptor,
        range: std::ops::Range<u64>,
    ) -> Result<Box<dyn std::io::Read>, Error> {
        let path = format!("blobs/{}", blob.digest);
        let ask = Ask { from: range.start, until: Some(range.end), ..Ask::default() };
        let response = self.patiently(|session| {
            let auth = &self.client.auth;
            let answer = session.get(auth, self.reference.repository(), &path, &ask)?.response;
            let is_part = answer.status() == StatusCode::PARTIAL_CONTENT
                && continues(&answer, range.start, blob.size);
            match is_part {
                true => Ok(answer),
                false => Err(Fault::Wrong("the server sends whole blobs only".to_owned())),
            }
        })?;
        Ok(Box::new(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    /// `fault`, which the last server in the list is blamed for.
    pub(crate) fn fault(&self, fault: Fault) -> Faults {
        let host = self.sessions.last().map_or(self.reference.registry(), Session::host);
        vec![(host.to_owned(), fault)]
    }

    /// Whether any of `faults` may pass by itself, in the middle of a pull.
    pub(crate) fn may_pass(&self, faults: &Faults) -> bool {
        let answered = self.sessions.iter().any(Session::has_answered);
        faults.iter().any(|(_, fault)| fault.is_passing(answered))
    }

    /// The last server is the registry itself, so its fault is the one to tell; the others are
    /// told behind it.
    pub(crate) fn error(&self, mut faults: Faults) -> Error {
        let (host, fault) = faults.pop().unwrap_or_else(|| {
            (self.reference.registry().to_owned(), Fault::Wrong("no server to ask".to_owned()))
        });
        let tried: String = faults
            .iter()
            .map(|(host, fault)| format!("; tried {host}: {}", fault.text()))
            .collect();
        fault.into_error(self.doing, self.reference, &host, &tried)
    }
}

fn read_document(
    response: Response<Body>,
    path: &str,
    pinned: Option<&Digest>,
) -> Result<Received, Fault> {
    let text = |name| {
        let value = response
            .headers()
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let media_type = text("content-type");
    let announced: Option<Digest> = text("docker-content-digest").parse().ok();
    let bytes = read_body(response, DOCUMENT_SIZE_MAX)?;
    let digest = Digest::of(&bytes);
    for expected in [pinned, announced.as_ref()].into_iter().flatten() {
        check_digest(&digest, expected, path)?;
    }
    Ok(Received { bytes, media_type, digest })
}

pub(crate) fn read_body(mut response: Response<Body>, limit: u64) -> Result<Vec<u8>, Fault> {
    match response.body_mut().with_config().limit(limit).read_to_vec() {
        Ok(bytes) => Ok(bytes),
        Err(ureq::Error::BodyExceedsLimit(limit)) => {
            Err(Fault::Wrong(format!("its answer is longer than {limit} bytes")))
        }
        Err(error) => Err(Fault::from_transport(&error)),
    }
}

/// Whether a partial answer is the rest of the blob (RFC 9110, section 14.4).
fn continues(response: &Response<Body>, from: u64, size: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
    let Some(rest) = range.and_then(|range| range.trim().strip_prefix("bytes ")) else {
        return false;
    };
    let Some((span, total)) = rest.split_once('/') else { return false };
    let Some((start, end)) = span.split_once('-') else { return false };
    start.trim().parse() == Ok(from)
        && end.trim().parse::<u64>().is_ok_and(|end| end < size)
        && (total.trim() == "*" || total.trim().parse() == Ok(size))
}

/// Refuses at once what announces another size than the descriptor.
fn check_length(response: &Response<Body>, from: u64, size: u64, what: &str) -> Result<(), Fault> {
    match response.body().content_length() {
        Some(length) => check_size(from + length, size, what),
        None => Ok(()),
    }
}

fn check_size(got: u64, expected: u64, what: &str) -> Result<(), Fault> {
    if got == expected {
        return Ok(());
    }
    let bytes = |n| format!("{n} bytes");
    Err(Fault::Mismatch { what: what.to_owned(), expected: bytes(expected), got: bytes(got) })
}

fn check_digest(got: &Digest, expected: &Digest, what: &str) -> Result<(), Fault> {
    if got == expected {
        return Ok(());
    }
    Err(Fault::Mismatch {
        what: what.to_owned(),
        expected: expected.to_string(),
        got: got.to_string(),
    })
}

/// Tells the threads of a pull that one of them failed; pauses end early.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `time`, or until stopped.
    pub(crate) fn sleep(&self, time: Duration) {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout_while(stopped, time, |stopped| !*stopped);
    }
}
