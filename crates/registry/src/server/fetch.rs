//! Blobs that are on their way from another registry: each is fetched once, by a thread of its own,
//! and read by everybody who asked while it arrives.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::http::{StatusCode, header};

use super::digest::AnyDigest;
use super::failure::{Code, Failure};
use super::handler::Registry;
use super::mirror::{Place, Trouble};
use super::range::{Range, requested};
use super::route::RepositoryName;
use super::upload::Upload;
use crate::fault::Fault;
use crate::http::Ask;
use httpd::Head;
use httpd::{Content, Reply};

/// Blobs that are fetched at one time.
const FETCHES_MAX: usize = 64;
/// Bytes of one blob: more than the layers that registries take, and not a whole disk.
const BLOB_BYTES_MAX: u64 = 64 << 30;
/// Attempts at one blob, each from where the last one ended.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
const BUFFER_BYTES: usize = 128 << 10;

type Key = (RepositoryName, String);

/// The blobs that are on their way.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    running: Mutex<HashMap<Key, Arc<Fetch>>>,
}

/// One blob that is on its way.
#[derive(Debug)]
pub(super) struct Fetch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Where it is being written, and how much there is of it in all, if that is known.
    begun: Option<(Arc<File>, Option<u64>)>,
    /// Bytes that are there.
    held: u64,
    outcome: Option<Result<(), Trouble>>,
}

impl State {
    /// Bytes that askers may have: the last one only once the digest is known to be right, so that
    /// nobody takes a blob that lies for a whole one.
    fn ready(&self) -> u64 {
        let size = self.begun.as_ref().and_then(|(_, size)| *size);
        match (&self.outcome, size) {
            (Some(Ok(())), _) | (_, None) => self.held,
            (_, Some(size)) => self.held.min(size.saturating_sub(1)),
        }
    }
}

impl Fetch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Says where the blob is being written, and its size if that is known; once.
    fn begin(&self, upload: &Upload<'_>, size: Option<u64>) -> Result<(), Trouble> {
        if self.has_begun() {
            return Ok(());
        }
        let file = upload.file().try_clone().map_err(|error| Trouble::Ours(error.into()))?;
        self.change(|state| state.begun = Some((Arc::new(file), size)));
        Ok(())
    }

    fn has_begun(&self) -> bool {
        self.lock().begun.is_some()
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The size in bytes, as soon as the other registry has said it.
    pub(super) fn size(&self) -> Result<Option<u64>, Trouble> {
        let mut state = self.lock();
        loop {
            if let Some((_, size)) = &state.begun {
                return Ok(*size);
            }
            if let Some(Err(trouble)) = &state.outcome {
                return Err(trouble.clone());
            }
            state = self.wait(state);
        }
    }
}

/// Reads a blob while it arrives.
struct Arriving {
    fetch: Arc<Fetch>,
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.fetch.lock();
        while state.ready().min(self.end) <= self.at && self.at < self.end {
            match &state.outcome {
                None => state = self.fetch.wait(state),
                Some(Ok(())) => return Ok(0),
                Some(Err(trouble)) => return Err(io::Error::other(format!("{trouble:?}"))),
            }
        }
        let there = state.ready().min(self.end).saturating_sub(self.at);
        drop(state);
        let wanted = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Answers with a blob of `size` bytes that is arriving, or a part of it.
pub(super) fn serve(
    head: &Head,
    fetch: Arc<Fetch>,
    digest: &AnyDigest,
    size: Option<u64>,
) -> Result<Reply, Failure> {
    let tag = format!("\"{digest}\"");
    let whole = Reply::new(200)
        .header("Content-Type", "application/octet-stream")
        .header("Docker-Content-Digest", digest)
        .header("ETag", &tag);
    let range = size.map_or(Range::All, |size| requested(head, &tag, size));
    let file = fetch.lock().begun.as_ref().map(|(file, _)| file.clone());
    let file = file.ok_or_else(|| Failure::new(Code::BlobUnknown, "the blob is gone"))?;
    let arriving = |at, end| Box::new(Arriving { fetch, file, at, end });
    match (range, size) {
        (Range::Part { from, length }, Some(size)) => {
            let last = from + length - 1;
            let content =
                Content::Stream { reader: arriving(from, from + length), length: Some(length) };
            Ok(whole
                .status(206)
                .header("Content-Range", format_args!("bytes {from}-{last}/{size}"))
                .content(content))
        }
        (Range::Unsatisfiable, Some(size)) => {
            Err(Failure::new(Code::SizeInvalid, format!("the blob has {size} bytes"))
                .status(416)
                .header("Content-Range", format!("bytes */{size}")))
        }
        _ => {
            let reader = arriving(0, size.unwrap_or(u64::MAX));
            Ok(whole.content(Content::Stream { reader, length: size }))
        }
    }
}

impl Registry {
    /// Joins the fetch of a blob, or starts it.
    pub(super) fn fetch(
        self: &Arc<Self>,
        place: &Place,
        digest: &AnyDigest,
    ) -> Result<Arc<Fetch>, Failure> {
        let key = (place.name.clone(), digest.to_string());
        let running = &self.mirrors.fetches.running;
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetch) = running.get(&key) {
            return Ok(fetch.clone());
        }
        let busy = || {
            Failure::new(Code::TooManyRequests, "too many blobs are being fetched")
                .header("Retry-After", "5")
        };
        if running.len() >= FETCHES_MAX {
            return Err(busy());
        }
        let fetch = Arc::new(Fetch { state: Mutex::default(), changed: Condvar::new() });
        let (registry, place, digest) = (self.clone(), place.clone(), digest.clone());
        let (ours, place_in) = (fetch.clone(), key.clone());
        let work = move || {
            let outcome = registry.bring(&place, &digest, &ours);
            // Before anybody hears of the end: whoever asks from now on finds the blob itself.
            let running = &registry.mirrors.fetches.running;
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&place_in);
            ours.change(|state| state.outcome = Some(outcome));
        };
        let thread = std::thread::Builder::new().name("mirror".to_owned());
        thread.spawn(work).map_err(|_| busy())?;
        running.insert(key, fetch.clone());
        Ok(fetch)
    }

    /// Brings a blob here.
    fn bring(&self, place: &Place, digest: &AnyDigest, fetch: &Fetch) -> Result<(), Trouble> {
        let repository = self.repositories.get(&place.name);
        let upload = self.uploads.resume(&repository, &partial_name(digest));
        let mut upload = upload.map_err(Trouble::Ours)?;
        fetch.change(|state| state.held = upload.offset());
        match self.receive(place, digest, fetch, &mut upload) {
            Ok(()) => {}
            // Whoever asks next goes on with what is here, be it another process.
            Err(trouble) if trouble.may_pass() => return Err(trouble),
            Err(trouble) => {
                upload.discard();
                return Err(trouble);
            }
        }
        self.finish(&repository, upload, digest).map(drop).map_err(|failure| match failure.status {
            400 => Trouble::Wrong("its blob does not have the digest asked for".to_owned()),
            _ => Trouble::Ours(failure),
        })
    }

    fn receive(
        &self,
        place: &Place,
        digest: &AnyDigest,
        fetch: &Fetch,
        upload: &mut Upload<'_>,
    ) -> Result<(), Trouble> {
        let path = format!("blobs/{digest}");
        if upload.offset() > 0 && *digest == upload.digest().into() {
            // An earlier process was ended between its last byte and making it a blob.
            return fetch.begin(upload, Some(upload.offset()));
        }
        for attempt in 1.. {
            let fault = match receive_rest(place, &path, fetch, upload) {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            let passes = matches!(
                fault,
                Trouble::Unreachable(_) if attempt < ATTEMPTS_MAX && fetch.has_begun()
            );
            if !passes {
                return Err(fault);
            }
            std::thread::sleep(PAUSE * attempt);
        }
        Ok(())
    }
}

/// What of a blob has arrived: an upload whose name no client can say.
fn partial_name(digest: &AnyDigest) -> String {
    format!("fetch-{}", digest.to_string().replace(':', "-"))
}

/// Receives what an upload lacks of the blob at `path`.
fn receive_rest(
    place: &Place,
    path: &str,
    fetch: &Fetch,
    upload: &mut Upload<'_>,
) -> Result<(), Trouble> {
    let from = upload.offset();
    let ask = Ask { from, ..Ask::default() };
    let answer = place.mirror.get(&place.upstream, path, &ask)?;
    let response = answer.response;
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let is_rest = response.status() == StatusCode::PARTIAL_CONTENT;
    let mut skipped = if is_rest { 0 } else { from };
    let size = length.map(|length| if is_rest { from + length } else { length });
    let most = size.unwrap_or(BLOB_BYTES_MAX);
    if most > BLOB_BYTES_MAX {
        return Err(too_long(most));
    }
    fetch.begin(upload, size)?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) => {
                let fault = Fault::Broken(error.to_string());
                return Err(fault.into());
            }
        };
        // A server that cannot start in the middle sends again what we have.
        let known = usize::try_from(skipped).unwrap_or(usize::MAX).min(n);
        skipped -= known as u64;
        if (n - known) as u64 > most.saturating_sub(upload.offset()) {
            return Err(too_long(most));
        }
        upload.add(&buffer[known..n]).map_err(|error| Trouble::Ours(error.into()))?;
        fetch.change(|state| state.held = upload.offset());
    }
    match size {
        Some(size) if upload.offset() < size => {
            Err(Trouble::Unreachable("its connection broke off".to_owned()))
        }
        _ => Ok(()),
    }
}

/// A blob has more than `most` bytes, or says that it has as many.
fn too_long(most: u64) -> Trouble {
    Trouble::Wrong(format!("its blob is too long: {most} bytes, of at most {BLOB_BYTES_MAX}"))
}
