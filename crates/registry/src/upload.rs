//! One blob on its way into a registry (distribution-spec, "Pushing Blobs").

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci::Descriptor;
use ureq::http::{Method, StatusCode, Uri, header};

use crate::Error;
use crate::client::Repository;
use crate::fault::Fault;
use crate::http::{Answer, Ask, Content, resolve};
use crate::session::{Scope, Session, To};

/// Blobs up to this size go in one request behind the first.
const MONOLITHIC_MAX: u64 = 1 << 20;
/// What a server that refuses a large body is sent at a time, or half as much again and again.
const CHUNK_SIZE: u64 = 32 << 20;
/// A server that refuses even this takes nothing.
const CHUNK_SIZE_MIN: u64 = 64 << 10;
/// An attempt that brought this much starts the count of attempts anew.
const PROGRESS_SIZE: u64 = 1 << 20;
/// Progress is told no more often than this.
const TELL_INTERVAL: Duration = Duration::from_millis(50);
/// Repositories of the same registry that a blob is looked for in.
const MOUNTS_MAX: usize = 3;

/// Opens a blob at an offset.
pub(crate) type Reopen<'a> = dyn Fn(u64) -> Result<Box<dyn Read + Send + 'a>, Error> + Sync + 'a;

/// How a blob came to be in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It was there.
    Exists,
    /// From another repository of the registry.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// What is told of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Bytes that were sent.
    Sent(u64),
    /// Seconds until the next attempt.
    Retrying(u64),
}

/// A blob to bring into a repository.
pub(crate) struct Upload<'a, 'c> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) blob: &'a Descriptor,
    pub(crate) content: &'a Reopen<'c>,
    /// Other repositories of this registry that are known to have it.
    pub(crate) mounts: &'a [String],
    pub(crate) tell: &'a (dyn Fn(Moved) + Sync),
}

/// An upload that the server knows: where it goes on, and what it has.
#[derive(Default)]
struct Progress {
    location: Option<Uri>,
    offset: u64,
    /// The most that one request may carry.
    chunk: Option<u64>,
    /// Whether the server has just opened it, so that there is nothing to ask.
    is_fresh: bool,
}

impl Upload<'_, '_> {
    /// Brings the blob into the repository, unless it is there.
    pub(crate) fn run(&self) -> Result<Placed, Error> {
        if self.repository.insist(|session| self.exists(session))? {
            return Ok(Placed::Exists);
        }
        let mut progress = Progress::default();
        for from in self.mounts.iter().take(MOUNTS_MAX) {
            if self.mount(from, &mut progress) {
                return Ok(Placed::Mounted(from.clone()));
            }
        }
        self.send(progress)?;
        Ok(Placed::Sent)
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Push { to: self.repository.reference().repository(), from: None }
    }

    fn ask(&self, session: &Session, to: To<'_>, ask: &Ask<'_>) -> Result<Answer, Fault> {
        session.ask(self.repository.auth(), self.scope(), to, ask)
    }

    fn exists(&self, session: &Session) -> Result<bool, Fault> {
        let ask = Ask { method: Method::HEAD, ..Ask::default() };
        let path = format!("blobs/{}", self.blob.digest);
        let to = To::Repository(self.repository.reference().repository(), &path);
        match self.ask(session, to, &ask) {
            Ok(answer) => {
                let length = answer.response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
                match length.filter(|length| *length != self.blob.size) {
                    None => Ok(true),
                    Some(length) => Err(Fault::Mismatch {
                        what: format!("blob {} in the registry", self.blob.digest),
                        expected: format!("{} bytes", self.blob.size),
                        got: format!("{length} bytes"),
                    }),
                }
            }
            Err(Fault::Missing(_)) => Ok(false),
            // Where nobody has pushed yet, some registries refuse to say what is missing.
            Err(Fault::Refused { status: 405, .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Asks the registry to take the blob from its repository `from`. One that does not opens an
    /// upload instead, which is used.
    fn mount(&self, from: &str, progress: &mut Progress) -> bool {
        let to = self.repository.reference().repository();
        let path = format!("blobs/uploads/?mount={}&from={from}", self.blob.digest);
        let ask = Ask { method: Method::POST, content: Content::Empty, ..Ask::default() };
        let scope = Scope::Push { to, from: Some(from) };
        let session = self.repository.origin();
        let answer = session.ask(self.repository.auth(), scope, To::Repository(to, &path), &ask);
        // Whatever is wrong here, sending the blob will show.
        let Ok(answer) = answer else { return false };
        if answer.response.status() == StatusCode::CREATED {
            return true;
        }
        progress.location = progress.location.take().or(location(&answer));
        progress.is_fresh = progress.location.is_some();
        false
    }

    /// Sends the blob, going on where an earlier attempt was broken off.
    fn send(&self, mut progress: Progress) -> Result<(), Error> {
        let (mut attempt, mut mark) = (1, 0);
        loop {
            let failed: Mutex<Option<Error>> = Mutex::new(None);
            let fault = match self.attempt(&mut progress, &failed) {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(error);
            }
            let passes = match &fault {
                // The server has forgotten the upload, or knows another length of it.
                Fault::Missing(_) | Fault::Refused { status: 416, .. }
                    if progress.location.is_some() =>
                {
                    progress.location = None;
                    // Its last answer may have been lost, and the blob be there.
                    if self.repository.insist(|session| self.exists(session))? {
                        return Ok(());
                    }
                    true
                }
                Fault::Refused { status: 413, .. } => {
                    let refused = progress.chunk.unwrap_or(self.blob.size);
                    let chunk = (refused / 2).min(CHUNK_SIZE);
                    progress.chunk = Some(chunk.max(1));
                    attempt = 1;
                    chunk >= CHUNK_SIZE_MIN
                }
                fault => fault.is_passing(self.repository.origin().has_answered()),
            };
            if progress.offset.saturating_sub(mark) >= PROGRESS_SIZE {
                (attempt, mark) = (1, progress.offset);
            }
            let pause = self.repository.pause(attempt, &fault).filter(|_| passes);
            let Some(pause) = pause else {
                return Err(self.repository.error(self.repository.fault(fault)));
            };
            (self.tell)(Moved::Retrying(pause.as_secs()));
            self.repository.stop().sleep(pause);
            attempt += 1;
        }
    }

    fn attempt(&self, progress: &mut Progress, failed: &Mutex<Option<Error>>) -> Result<(), Fault> {
        let session = self.repository.origin();
        self.locate(session, progress)?;
        let size = self.blob.size;
        if progress.offset == 0 && size <= MONOLITHIC_MAX && progress.chunk.is_none() {
            return self.complete(session, progress, 0, failed);
        }
        while progress.offset < size {
            let end = progress.chunk.map_or(size, |chunk| size.min(progress.offset + chunk));
            self.patch(session, progress, end, failed)?;
        }
        self.complete(session, progress, size, failed)
    }

    /// Begins an upload, or asks how far the one that was begun has come.
    fn locate(&self, session: &Session, progress: &mut Progress) -> Result<(), Fault> {
        if std::mem::take(&mut progress.is_fresh) {
            return Ok(());
        }
        if let Some(known) = &progress.location {
            let answer = self.ask(session, To::Location(known), &Ask::default())?;
            progress.offset = received(&answer).unwrap_or(0);
            if let Some(next) = location(&answer) {
                progress.location = Some(next);
            }
            if progress.offset <= self.blob.size {
                return Ok(());
            }
        }
        progress.offset = 0;
        let ask = Ask { method: Method::POST, content: Content::Empty, ..Ask::default() };
        let to = To::Repository(self.repository.reference().repository(), "blobs/uploads/");
        let answer = self.ask(session, to, &ask)?;
        progress.location = Some(location(&answer).ok_or_else(nowhere)?);
        // The least that a chunk may be (distribution-spec, "Pushing a blob in chunks").
        let least = answer.response.headers().get("oci-chunk-min-length");
        let least = least.and_then(|v| v.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
        progress.chunk = progress.chunk.map(|chunk| chunk.max(least));
        Ok(())
    }

    /// Sends the bytes up to `end`.
    fn patch(
        &self,
        session: &Session,
        progress: &mut Progress,
        end: u64,
        failed: &Mutex<Option<Error>>,
    ) -> Result<(), Fault> {
        let from = progress.offset;
        let open = || self.open(from, end, failed);
        let ask = Ask {
            method: Method::PATCH,
            span: Some((from, end - 1)),
            content: Content::Stream { open: &open, length: end - from },
            ..Ask::default()
        };
        let to = progress.location.clone().ok_or_else(nowhere)?;
        let answer = self.ask(session, To::Location(&to), &ask)?;
        progress.location = location(&answer).or(Some(to));
        let taken = received(&answer).unwrap_or(end);
        if taken <= from || taken > end {
            return Err(Fault::Broken(format!("it took {taken} of {end} bytes")));
        }
        progress.offset = taken;
        Ok(())
    }

    /// Sends the bytes from `from` on, and has the server compare the digest.
    fn complete(
        &self,
        session: &Session,
        progress: &Progress,
        from: u64,
        failed: &Mutex<Option<Error>>,
    ) -> Result<(), Fault> {
        let size = self.blob.size;
        let open = || self.open(from, size, failed);
        let content = match from < size {
            true => Content::Stream { open: &open, length: size - from },
            false => Content::Empty,
        };
        let ask = Ask { method: Method::PUT, content, ..Ask::default() };
        let to = progress.location.as_ref().ok_or_else(nowhere)?;
        let separator = if to.query().is_some() { '&' } else { '?' };
        let address = format!("{to}{separator}digest={}", self.blob.digest);
        let address: Uri = address.parse().map_err(|_| nowhere())?;
        self.ask(session, To::Location(&address), &ask).map(drop)
    }

    fn open<'s>(
        &'s self,
        from: u64,
        end: u64,
        failed: &'s Mutex<Option<Error>>,
    ) -> io::Result<Box<dyn Read + 's>> {
        let content = (self.content)(from).map_err(|error| {
            let text = error.to_string();
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            io::Error::other(text)
        })?;
        Ok(Box::new(Counted { upload: self, content, at: from, end, failed, told: Instant::now() }))
    }
}

/// The bytes of a blob as they are sent.
struct Counted<'a, 'u, 'c> {
    upload: &'a Upload<'u, 'c>,
    content: Box<dyn Read + Send + 'c>,
    at: u64,
    end: u64,
    failed: &'a Mutex<Option<Error>>,
    told: Instant,
}

impl Counted<'_, '_, '_> {
    fn fail(&self, error: Error) -> io::Error {
        let text = error.to_string();
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        io::Error::other(text)
    }
}

impl Read for Counted<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let digest = &self.upload.blob.digest;
        if self.upload.repository.stop().is_set() {
            return Err(self.fail(Error::Invalid("stopped".to_owned())));
        }
        let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.content.read(&mut buffer[..wanted]);
        let n = read.map_err(|source| {
            let doing = format!("read blob {digest}");
            self.fail(Error::store("blob", digest)(store::Error::Io { doing, source }))
        })?;
        if n == 0 && wanted > 0 {
            let (at, size) = (self.at, self.upload.blob.size);
            return Err(self.fail(Error::Mismatch {
                what: format!("blob {digest}"),
                expected: format!("{size} bytes"),
                got: format!("{at} bytes"),
            }));
        }
        self.at += n as u64;
        if self.told.elapsed() >= TELL_INTERVAL {
            self.told = Instant::now();
            (self.upload.tell)(Moved::Sent(self.at));
        }
        Ok(n)
    }
}

/// Where an answer says that the upload goes on.
fn location(answer: &Answer) -> Option<Uri> {
    let text = answer.response.headers().get(header::LOCATION)?.to_str().ok()?;
    resolve(&answer.uri, text)
}

/// How many bytes the server has, from `Range: 0-LAST`. Servers that have none say `0-0`.
fn received(answer: &Answer) -> Option<u64> {
    let text = answer.response.headers().get(header::RANGE)?.to_str().ok()?;
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let last: u64 = text.split_once('-')?.1.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

fn nowhere() -> Fault {
    Fault::Wrong("it does not say where the upload goes".to_owned())
}
