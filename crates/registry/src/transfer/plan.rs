//! What there is to move: all documents that belong to an image, and their blobs.

use std::collections::HashSet;

use oci::{Descriptor, Digest, Document, Index, Platform};

use super::{Choice, Source};
use crate::Error;
use crate::client::Received;

/// Indexes of indexes: one level is in use, more is a loop.
const INDEX_DEPTH_MAX: usize = 3;
/// Manifests of one index with all below it.
const DOCUMENTS_MAX: usize = 1024;
/// Bytes of all manifests and indexes together.
const DOCUMENTS_SIZE_MAX: usize = 64 << 20;
/// Layers and configurations of all manifests.
const BLOBS_MAX: usize = 16 << 10;

/// What there is to move.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Manifests and indexes, parts before what they are part of; the last is the one asked for.
    pub(crate) documents: Vec<Received>,
    /// Each once.
    pub(crate) blobs: Vec<Descriptor>,
}

impl Plan {
    /// Reads all documents of what `source` has.
    pub(crate) fn new(source: &dyn Source, choice: &Choice) -> Result<Self, Error> {
        let mut gather = Gather {
            source,
            documents: Vec::new(),
            seen: HashSet::new(),
            blobs: Vec::new(),
            size: 0,
        };
        let mut top = source.top()?;
        for _ in 0..=INDEX_DEPTH_MAX {
            let (Choice::One(platform), Document::Index(index)) = (choice, gather.parse(&top)?)
            else {
                gather.add(top, 0)?;
                return Ok(Self { documents: gather.documents, blobs: gather.blobs });
            };
            top = gather.document(select(source, &index, platform)?)?;
        }
        Err(gather.invalid("its indexes lead to further indexes"))
    }

    /// Whether it is one image, and no index of several.
    pub(crate) fn is_one(&self) -> bool {
        let top = self.top();
        matches!(Document::parse(&top.bytes, &top.media_type), Ok(Document::Manifest(_)))
    }

    /// The document that was asked for.
    pub(crate) fn top(&self) -> &Received {
        self.documents.last().expect("a plan has the document that was asked for")
    }
}

struct Gather<'a> {
    source: &'a dyn Source,
    documents: Vec<Received>,
    seen: HashSet<Digest>,
    blobs: Vec<Descriptor>,
    size: usize,
}

impl Gather<'_> {
    fn invalid(&self, why: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: {why}", self.source.name()))
    }

    fn parse(&self, document: &Received) -> Result<Document, Error> {
        Document::parse(&document.bytes, &document.media_type).map_err(|error| match error {
            oci::ManifestError::Json(why) => {
                self.invalid(format_args!("malformed manifest: {why}"))
            }
            other => self.invalid(other),
        })
    }

    fn document(&self, wanted: &Descriptor) -> Result<Received, Error> {
        let found = self.source.document(wanted)?;
        if found.bytes.len() as u64 == wanted.size {
            return Ok(found);
        }
        Err(Error::Mismatch {
            what: format!("manifest {}", wanted.digest),
            expected: format!("{} bytes", wanted.size),
            got: format!("{} bytes", found.bytes.len()),
        })
    }

    /// Adds a document behind everything that it names.
    fn add(&mut self, document: Received, depth: usize) -> Result<(), Error> {
        if !self.seen.insert(document.digest) {
            return Ok(());
        }
        self.size += document.bytes.len();
        if self.size > DOCUMENTS_SIZE_MAX || self.seen.len() > DOCUMENTS_MAX + BLOBS_MAX {
            return Err(self.invalid("it has too many manifests"));
        }
        match self.parse(&document)? {
            Document::Manifest(manifest) => {
                for blob in manifest.layers.into_iter().chain([manifest.config]) {
                    self.blob(blob)?;
                }
            }
            Document::Index(_) if depth == INDEX_DEPTH_MAX => {
                return Err(self.invalid("its indexes are nested too deeply"));
            }
            Document::Index(index) => {
                for part in &index.manifests {
                    let part = self.document(part)?;
                    self.add(part, depth + 1)?;
                }
            }
        }
        self.documents.push(document);
        if self.documents.len() > DOCUMENTS_MAX {
            return Err(self.invalid("it has too many manifests"));
        }
        Ok(())
    }

    fn blob(&mut self, blob: Descriptor) -> Result<(), Error> {
        let kind = blob.media_type.as_str();
        // Such layers come from elsewhere, and registries need not have them.
        if kind.contains("foreign") || kind.contains("nondistributable") {
            return Ok(());
        }
        if self.blobs.len() == BLOBS_MAX {
            return Err(self.invalid("it has too many layers"));
        }
        if self.seen.insert(blob.digest) {
            self.blobs.push(blob);
        }
        Ok(())
    }
}

/// The manifest of an index for a platform.
fn select<'i>(
    source: &dyn Source,
    index: &'i Index,
    platform: &Platform,
) -> Result<&'i Descriptor, Error> {
    let unnamed = || index.manifests.iter().find(|d| d.platform.is_none());
    index.select(platform).or_else(unnamed).ok_or_else(|| Error::NoPlatform {
        reference: source.name(),
        wanted: platform.clone(),
        // Attestations are filed under a platform that does not exist.
        available: index
            .manifests
            .iter()
            .filter_map(|d| d.platform.clone())
            .filter(|platform| platform.os != "unknown")
            .collect(),
    })
}
