//! Registries as places that images come from and go to.

use std::collections::HashMap;
use std::io::{self, Read};

use oci::{Descriptor, Digest};
use ureq::http::Method;

use super::{Offer, Sink, Source};
use crate::Error;
use crate::client::{Received, Repository, Stop};
use crate::fault::Fault;
use crate::http::{Ask, Content};
use crate::session::{Scope, To};
use crate::upload::{Placed, Upload};

/// A repository that images come from.
pub(crate) struct RemoteSource<'a> {
    pub(crate) repository: Repository<'a>,
}

impl Source for RemoteSource<'_> {
    fn name(&self) -> String {
        self.repository.reference().familiar()
    }

    fn top(&self) -> Result<Received, Error> {
        self.repository.named()
    }

    fn document(&self, wanted: &Descriptor) -> Result<Received, Error> {
        self.repository.document(&wanted.digest.to_string(), Some(&wanted.digest))
    }

    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        let (repository, blob) = (&self.repository, blob.clone());
        Ok(Box::new(Resuming { repository, blob, at: from, attempt: 1, body: None }))
    }

    fn repositories(&self, registry: &str, _: &Digest) -> Vec<String> {
        let own = self.repository.reference();
        let same = own.registry() == registry;
        same.then(|| own.repository().to_owned()).into_iter().collect()
    }
}

/// A blob as it arrives; a connection that breaks is made again.
struct Resuming<'a> {
    repository: &'a Repository<'a>,
    blob: Descriptor,
    at: u64,
    attempt: u32,
    body: Option<Box<dyn Read + Send>>,
}

impl Resuming<'_> {
    fn connect(&self) -> io::Result<Box<dyn Read + Send>> {
        let found = self.repository.blob(&self.blob.digest, self.at, self.blob.size);
        let (response, start) =
            found.map_err(|faults| io::Error::other(self.repository.error(faults).to_string()))?;
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        io::copy(&mut body.by_ref().take(self.at - start), &mut io::sink())?;
        Ok(Box::new(body))
    }
}

impl Read for Resuming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let body = match &mut self.body {
                Some(body) => body,
                None => self.body.insert(self.connect()?),
            };
            let fault = match body.read(buffer) {
                Ok(0) if self.at < self.blob.size && !buffer.is_empty() => {
                    Fault::Broken(format!("blob {} ended early", self.blob.digest))
                }
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(error) => Fault::Broken(error.to_string()),
            };
            let Some(pause) = self.repository.pause(self.attempt, &fault) else {
                return Err(io::Error::other(fault.text()));
            };
            self.attempt += 1;
            self.body = None;
            self.repository.stop().sleep(pause);
        }
    }
}

/// A repository that images go to.
pub(crate) struct RemoteSink<'a> {
    pub(crate) repository: Repository<'a>,
    /// Uploads at the same time.
    pub(crate) width: usize,
    /// Further repositories of the registry, by what is known to be in them.
    pub(crate) mounts: HashMap<Digest, Vec<String>>,
}

impl Sink for RemoteSink<'_> {
    fn put(&self, offer: &Offer<'_, '_>) -> Result<Placed, Error> {
        let own = self.repository.reference();
        let mut mounts = offer.source.repositories(own.registry(), &offer.blob.digest);
        mounts.extend(self.mounts.get(&offer.blob.digest).into_iter().flatten().cloned());
        mounts.retain(|name| name != own.repository());
        mounts.dedup();
        Upload {
            repository: &self.repository,
            blob: offer.blob,
            content: offer.content,
            mounts: &mounts,
            tell: offer.tell,
        }
        .run()
    }

    fn put_document(&self, document: &Received, is_top: bool) -> Result<(), Error> {
        let own = self.repository.reference();
        let target = match own.tag().filter(|_| is_top && own.digest().is_none()) {
            Some(tag) => tag.to_owned(),
            None => document.digest.to_string(),
        };
        self.repository.put_document(document, &target)
    }

    fn width(&self) -> usize {
        self.width
    }

    fn stop(&self) -> &Stop {
        self.repository.stop()
    }
}

impl Repository<'_> {
    /// What the reference names.
    pub(crate) fn named(&self) -> Result<Received, Error> {
        let reference = self.reference();
        let target = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        self.document(&target, reference.digest())
    }

    /// Puts a manifest or an index under `target`, a tag or its digest.
    pub(crate) fn put_document(&self, document: &Received, target: &str) -> Result<(), Error> {
        let repository = self.reference().repository();
        let path = format!("manifests/{target}");
        let kind = document.kind();
        let content = Content::Document { media_type: &kind, bytes: &document.bytes };
        let ask = Ask { method: Method::PUT, content, ..Ask::default() };
        let scope = Scope::Push { to: repository, from: None };
        self.insist(|session| {
            let answer =
                session.ask(self.auth(), scope, To::Repository(repository, &path), &ask)?;
            let said = answer.response.headers().get("docker-content-digest");
            let said: Option<Digest> = said.and_then(|v| v.to_str().ok()?.parse().ok());
            match said.filter(|said| *said != document.digest) {
                None => Ok(()),
                Some(said) => Err(Fault::Mismatch {
                    what: format!("manifest {target} in the registry"),
                    expected: document.digest.to_string(),
                    got: said.to_string(),
                }),
            }
        })
    }
}
