//! A pull-through cache of other registries: what is missing here is fetched there, by the client
//! side, and kept in a repository that starts with the other registry's name.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci::Digest;
use ureq::http::{Method, header};

use super::digest::AnyDigest;
use super::document::{Document, MANIFEST_BYTES_MAX};
use super::error::ServeError;
use super::failure::{Code, Failure};
use super::fetch::Fetches;
use super::handler::Registry;
use super::manifest::Pushed;
use super::repository::Record;
use super::route::{RepositoryName, Target};
use crate::auth::Auth;
use crate::client::ACCEPT;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::http::{Answer, Ask};
use crate::session::Session;
use crate::{Config, HostConfig};
use httpd::Head;
use httpd::{Content, Reply};

const HUB: &str = "docker.io";
/// Tags of which it is remembered when they were looked at.
const CHECKS_MAX: usize = 10_000;

/// A registry to mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorConfig {
    /// As references name it, `docker.io`; also the first part of its repositories' names here.
    pub name: String,
    /// Where it is, `[http[s]://]HOST[:PORT][/PREFIX]`, if not where its name or the configuration
    /// says.
    pub location: Option<String>,
}

/// One registry that is mirrored.
pub(super) struct Mirror {
    name: String,
    session: Session,
    auth: Auth,
}

impl Mirror {
    fn new(mirror: &MirrorConfig, config: &Config, auth: &Auth) -> Result<Self, ServeError> {
        let MirrorConfig { name, location } = mirror;
        let failed = |why: String| ServeError::Mirror { name: name.clone(), why };
        if RepositoryName::new(name).is_none() || name.contains('/') {
            let why = "its name cannot be the first part of a repository's";
            return Err(failed(why.to_owned()));
        }
        let mut config = config.clone();
        let host: &mut HostConfig = config.hosts.entry(name.clone()).or_default();
        // This server may be one of them: it would ask itself.
        host.mirrors.clear();
        if location.is_some() {
            host.location.clone_from(location);
        }
        let endpoints = Endpoint::all(&config, name).map_err(|error| failed(error.to_string()))?;
        let origin = endpoints.into_iter().next_back();
        let origin = origin.ok_or_else(|| failed("no server to ask".to_owned()))?;
        let session = Session::new(&config, name, origin);
        Ok(Self { name: name.clone(), session, auth: auth.clone() })
    }

    pub(super) fn get(&self, repository: &str, path: &str, ask: &Ask) -> Result<Answer, Fault> {
        self.session.get(&self.auth, repository, path, ask)
    }
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Mirror").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All registries that are mirrored.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    all: Vec<Arc<Mirror>>,
    /// For how long a tag is served without a look at where it comes from.
    fresh: Duration,
    /// When tags were looked at last.
    checked: Mutex<HashMap<(RepositoryName, String), Instant>>,
    pub(super) fetches: Fetches,
}

/// A repository of a mirrored registry.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) mirror: Arc<Mirror>,
    /// Its name here.
    pub(super) name: RepositoryName,
    /// Its name there.
    pub(super) upstream: String,
}

impl Mirrors {
    pub(super) fn new(
        mirrors: &[MirrorConfig],
        fresh: Duration,
        config: &Config,
        auth: &Auth,
    ) -> Result<Self, ServeError> {
        let all: Result<_, _> =
            mirrors.iter().map(|mirror| Mirror::new(mirror, config, auth).map(Arc::new)).collect();
        Ok(Self { all: all?, fresh, ..Self::default() })
    }

    /// Fails unless the repository `name` is our own. What is mirrored is written by fetching it
    /// alone: whoever could push there would give everybody else other images than they ask for.
    pub(super) fn check_own(&self, name: &RepositoryName, head: &Head) -> Result<(), Failure> {
        if self.all.is_empty() {
            return Ok(());
        }
        if let Some(namespace) = head.parameter("ns") {
            let what = format!("a push to a mirror names no namespace, not {namespace} either");
            return Err(Failure::new(Code::Unsupported, what));
        }
        if self.is_own(name) {
            return Ok(());
        }
        let what = format!(
            "repository {name} mirrors another registry: it cannot be pushed to; names that begin \
             with localhost/ or with another host, as in registry.lan/app, are free"
        );
        Err(Failure::new(Code::Unsupported, what))
    }

    /// Whether `name` by itself is no mirrored registry's. As in references, its first part names
    /// a registry if it has a dot or is `localhost`; all other names are the first mirror's.
    fn is_own(&self, name: &RepositoryName) -> bool {
        let Some((host, _)) = name.as_str().split_once('/') else { return self.all.is_empty() };
        let is_host = host.contains('.') || host == "localhost";
        self.all.is_empty() || (is_host && self.all.iter().all(|mirror| mirror.name != host))
    }

    /// The name that `name` has here.
    pub(super) fn local(
        &self,
        name: &RepositoryName,
        head: &Head,
    ) -> Result<RepositoryName, Failure> {
        Ok(self.place(name, head)?.map_or_else(|| name.clone(), |place| place.name))
    }

    /// Where `name` comes from, if it is not a repository of our own: containerd's `?ns=` says it,
    /// or its first part. The first mirrored registry is meant where none is named, as Docker's
    /// `registry-mirrors` needs it. Without mirrors a namespace means nothing.
    pub(super) fn place(
        &self,
        name: &RepositoryName,
        head: &Head,
    ) -> Result<Option<Place>, Failure> {
        let Some(first) = self.all.first() else { return Ok(None) };
        let text = name.as_str();
        let (mirror, rest) = if let Some(namespace) = head.parameter("ns") {
            let mirror = self.all.iter().find(|mirror| mirror.name == namespace);
            let what = || format!("namespace {namespace} is not mirrored here");
            (mirror.ok_or_else(|| Failure::new(Code::NameUnknown, what()))?, text)
        } else if self.is_own(name) {
            return Ok(None);
        } else {
            let named = self.all.iter().find_map(|mirror| {
                Some((mirror, text.strip_prefix(&mirror.name)?.strip_prefix('/')?))
            });
            named.unwrap_or((first, text))
        };
        let too_long = || Failure::new(Code::NameInvalid, format!("the name {name} is too long"));
        place(mirror, rest).map(Some).ok_or_else(too_long)
    }

    fn is_fresh(&self, place: &Place, tag: &str) -> bool {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let last = checked.get(&(place.name.clone(), tag.to_owned()));
        last.is_some_and(|last| last.elapsed() < self.fresh)
    }

    fn note_check(&self, place: &Place, tag: &str) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKS_MAX {
            checked.clear();
        }
        checked.insert((place.name.clone(), tag.to_owned()), Instant::now());
    }
}

fn place(mirror: &Arc<Mirror>, rest: &str) -> Option<Place> {
    // Docker Hub's own images have a first part that people leave out.
    let official = mirror.name == HUB && !rest.contains('/');
    let upstream = if official { format!("library/{rest}") } else { rest.to_owned() };
    let name = RepositoryName::new(&format!("{}/{upstream}", mirror.name))?;
    Some(Place { mirror: mirror.clone(), name, upstream })
}

/// A manifest as it came from the other registry.
struct Received {
    bytes: Vec<u8>,
    media_type: String,
}

impl Registry {
    pub(super) fn mirror_manifest(
        &self,
        place: &Place,
        head: &Head,
        target: &Target,
    ) -> Result<Reply, Failure> {
        let repository = self.repositories.get(&place.name);
        let held = self.manifest(&repository, target)?;
        let held = match (held, target) {
            (Some((digest, record)), _) if self.store.has_blob(&digest) => Some((digest, record)),
            _ => None,
        };
        let is_current = match (&held, target) {
            (None, _) => false,
            (Some(_), Target::Digest(_)) => true,
            (Some(_), Target::Tag(tag)) => self.mirrors.is_fresh(place, tag),
        };
        let fetched = match &held {
            Some((digest, record)) if is_current => Ok((*digest, record.clone())),
            _ => self.refresh(place, target, held.as_ref()),
        };
        match (fetched, held) {
            (Ok((digest, record)), _) => self.serve_manifest(head, target, &digest, &record),
            // What we have is better than nothing while nobody can be asked.
            (Err(trouble), Some((digest, record))) if trouble.may_pass() => {
                let mut reply = self.serve_manifest(head, target, &digest, &record)?;
                reply.log = Some(format!("served from the cache: {trouble:?}"));
                Ok(reply)
            }
            (Err(trouble), _) => Err(trouble.told(&place.mirror.name)),
        }
    }

    /// The manifest that `target` names in the other registry now, kept here.
    fn refresh(
        &self,
        place: &Place,
        target: &Target,
        held: Option<&(Digest, Record)>,
    ) -> Result<(Digest, Record), Trouble> {
        let path = match target {
            Target::Tag(tag) => format!("manifests/{tag}"),
            Target::Digest(digest) => format!("manifests/{digest}"),
        };
        if let (Some((digest, record)), Target::Tag(tag)) = (held, target)
            && self.still_names(place, &path, digest)?
        {
            self.mirrors.note_check(place, tag);
            return Ok((*digest, record.clone()));
        }
        let ask = Ask { accept: Some(ACCEPT), ..Ask::default() };
        let answer = place.mirror.get(&place.upstream, &path, &ask);
        let received = read_manifest(answer?)?;
        if let Target::Digest(digest) = target
            && digest.like(&received.bytes) != *digest
        {
            return Err(Trouble::Wrong("its manifest does not have the digest asked for".into()));
        }
        let kept = self.keep_mirrored(place, target, &received)?;
        if let Target::Tag(tag) = target {
            self.mirrors.note_check(place, tag);
        }
        Ok(kept)
    }

    /// Whether a tag names what it did: asked by `HEAD`, which costs no share of a rate limit.
    fn still_names(&self, place: &Place, path: &str, digest: &Digest) -> Result<bool, Trouble> {
        let ask = Ask { method: Method::HEAD, accept: Some(ACCEPT), ..Ask::default() };
        let answer = match place.mirror.get(&place.upstream, path, &ask) {
            // Some servers do not know `HEAD`; the document itself will tell.
            Err(Fault::Wrong(_)) => return Ok(false),
            answer => answer?,
        };
        let said = answer.response.headers().get("docker-content-digest");
        let said = said.and_then(|said| said.to_str().ok()?.parse::<Digest>().ok());
        Ok(said == Some(*digest))
    }

    fn keep_mirrored(
        &self,
        place: &Place,
        target: &Target,
        received: &Received,
    ) -> Result<(Digest, Record), Trouble> {
        let document = Document::parse(&received.bytes, &received.media_type)
            .map_err(|_| Trouble::Wrong("what it serves is no manifest".to_owned()))?;
        let canonical = Digest::of(&received.bytes);
        let (digest, tags) = match target {
            Target::Tag(tag) => (canonical.into(), BTreeSet::from([tag.clone()])),
            Target::Digest(digest) => (digest.clone(), BTreeSet::new()),
        };
        let needed = document.blobs.iter().chain(&document.manifests);
        let needs = needed.filter_map(|needed| match &needed.digest {
            AnyDigest::Sha256(digest) => Some(*digest),
            // It has no name of the store's yet; it is kept for as long as it is asked for.
            AnyDigest::Sha512(_) => None,
        });
        let needs = needs.collect();
        let repository = self.repositories.get(&place.name);
        let pushed =
            Pushed { bytes: &received.bytes, canonical, digest: &digest, document: &document };
        let keep = || {
            let _lease = self.store.lease()?;
            let _changing = repository.change()?;
            self.add_manifest(&repository, &pushed, needs, &tags)?;
            Ok::<_, Failure>(repository.record(&canonical)?)
        };
        match keep().map_err(Trouble::Ours)? {
            Some(record) => Ok((canonical, record)),
            None => Err(Trouble::Wrong("its manifest was removed meanwhile".to_owned())),
        }
    }

    /// A blob that is not here yet: passed on while it arrives.
    pub(super) fn mirror_blob(
        self: &Arc<Self>,
        place: &Place,
        head: &Head,
        digest: &AnyDigest,
    ) -> Result<Reply, Failure> {
        if let Some(file) = self.blob(&self.repositories.get(&place.name), digest)? {
            return super::blob::serve(head, file, digest);
        }
        if head.method == "HEAD" {
            return self.mirror_blob_head(place, digest);
        }
        let fetch = self.fetch(place, digest)?;
        let size = fetch.size().map_err(|trouble| blob_told(trouble, place, digest))?;
        super::fetch::serve(head, fetch, digest, size)
    }

    fn mirror_blob_head(&self, place: &Place, digest: &AnyDigest) -> Result<Reply, Failure> {
        let ask = Ask { method: Method::HEAD, ..Ask::default() };
        let answer = place.mirror.get(&place.upstream, &format!("blobs/{digest}"), &ask);
        let answer = answer.map_err(|fault| blob_told(fault.into(), place, digest))?;
        let length = answer.response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let content = Content::Stream { reader: Box::new(std::io::empty()), length };
        Ok(Reply::new(200)
            .header("Content-Type", "application/octet-stream")
            .header("Docker-Content-Digest", digest)
            .content(content))
    }
}

fn blob_told(trouble: Trouble, place: &Place, digest: &AnyDigest) -> Failure {
    match trouble {
        Trouble::Missing => super::blob::unknown(digest),
        trouble => trouble.told(&place.mirror.name),
    }
}

fn read_manifest(answer: Answer) -> Result<Received, Trouble> {
    let media_type = answer.response.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let mut bytes = Vec::new();
    let mut body = answer.response.into_body().into_reader().take(MANIFEST_BYTES_MAX + 1);
    body.read_to_end(&mut bytes).map_err(|error| Trouble::Unreachable(error.to_string()))?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Trouble::Wrong("its manifest is too long".to_owned()));
    }
    Ok(Received { bytes, media_type })
}

/// Why another registry's content could not be had.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// It does not have it.
    Missing,
    /// It does not let us have it.
    Denied(String),
    /// It wants fewer requests.
    Limited(Option<Duration>),
    /// It cannot be asked now.
    Unreachable(String),
    /// What it answers is no good.
    Wrong(String),
    /// It is not its fault.
    Ours(Failure),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        let text = fault.text();
        match fault {
            Fault::Missing(_) => Self::Missing,
            Fault::Denied(why) => Self::Denied(why),
            Fault::Limited { after, .. } => Self::Limited(after),
            Fault::Unconnected { .. } | Fault::Broken(_) | Fault::Failing(_) => {
                Self::Unreachable(text)
            }
            _ => Self::Wrong(text),
        }
    }
}

impl Trouble {
    /// Whether asking again later may help.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Limited(_))
    }

    /// What the client is told; `name` is the other registry.
    pub(super) fn told(self, name: &str) -> Failure {
        match self {
            Self::Missing => {
                let what = format!("{name} does not have it");
                Failure::new(Code::ManifestUnknown, what)
            }
            Self::Denied(why) => Failure::new(Code::Denied, format!("{name} refuses: {why}")),
            Self::Limited(after) => {
                let after = after.unwrap_or(Duration::from_secs(60)).as_secs();
                let what = format!("{name} wants fewer requests");
                Failure::new(Code::TooManyRequests, what).header("Retry-After", after.to_string())
            }
            Self::Unreachable(why) => {
                let what = format!("{name} cannot be reached: {why}");
                Failure::new(Code::Unknown, what).status(502)
            }
            Self::Wrong(why) => {
                let what = format!("{name} cannot be mirrored: {why}");
                Failure::new(Code::Unknown, what).status(502)
            }
            Self::Ours(failure) => failure,
        }
    }
}
