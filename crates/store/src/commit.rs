//! What a container changed, as a layer of a new image; and a container's files as an archive.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use jiff::Timestamp;
use oci::{
    ContainerConfig, Descriptor, Digest, History, ImageConfig, Manifest, Platform, Reference,
    Rootfs, RootfsSection, media_type,
};

use crate::disk::{Lease, Part, Scratch, Store, json};
use crate::error::{Doing as _, Error, invalid};
use crate::image::{Image, NewImage};
use crate::layer::open_lower;
use crate::pack::{Tree, pack};
use crate::snapshot::read_only_overlay;
use crate::spool::{Sink, Spooled};

const WRITE_BYTES: usize = 256 * 1024;
/// Of an archive that says nothing.
const EMPTY_ARCHIVE_BYTES: u64 = 1024;

/// What a container changed: complete, but part of no image yet.
#[derive(Debug)]
pub struct Changes {
    archive: Spooled,
    _scratch: Scratch,
    _lease: Lease,
}

/// What [`Store::commit`] makes of changes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The layers of the container's image, lowest first.
    pub layers: Vec<Digest>,
    /// That image, unless it was removed.
    pub parent: Option<Image>,
    /// What containers of the new image run, and how.
    pub config: ContainerConfig,
    /// Who made it.
    pub author: String,
    /// The remark in its history.
    pub message: String,
    /// The command in its history.
    pub created_by: String,
    /// Its name, if it gets one.
    pub reference: Option<Reference>,
}

impl Store {
    /// Reads what was changed in a view that [`Store::prepare`] made: the writable directory, as a
    /// canonical archive. Nobody should write to the view meanwhile.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `rootfs` is a plain directory, or holds what no layer can;
    /// [`Error::Io`].
    pub fn changes(&self, rootfs: &Rootfs) -> Result<Changes, Error> {
        let Rootfs::Overlay { lower, upper, .. } = rootfs else {
            return invalid("a plain directory has no image that it could differ from");
        };
        let lease = self.lease()?;
        let scratch = self.scratch(Part::Ingest)?;
        let root = open(upper)?;
        let stat = |fd: &OwnedFd| {
            let found = rustix::fs::fstat(fd).doing(|| format!("inspect `{}`", upper.display()));
            found.map(|found| (found.st_mode, found.st_uid, found.st_gid))
        };
        let with_root = match lower.first() {
            Some(below) => stat(&open_lower(below)?)? != stat(&root)?,
            None => true,
        };
        let sink = Sink::create(scratch.path().join("layer"))?;
        let out = BufWriter::with_capacity(WRITE_BYTES, sink);
        let out = pack(root.as_fd(), Tree::Layer { with_root }, out)?;
        let sink = out.into_inner().map_err(std::io::IntoInnerError::into_error);
        let archive = sink.doing(|| "write a layer")?.finish();
        Ok(Changes { archive, _scratch: scratch, _lease: lease })
    }

    /// Makes an image of a container's layers and its changes, if there are any.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a layer is missing; [`Error::Io`].
    pub fn commit(&self, changes: &Changes, commit: &Commit) -> Result<Image, Error> {
        let parent = match &commit.parent {
            Some(parent) => parent.config(self)?,
            None => ImageConfig::default(),
        };
        let mut diff_ids = commit.layers.clone();
        let mut layers = self.layer_blobs(commit)?;
        let empty_layer = changes.archive.size == EMPTY_ARCHIVE_BYTES;
        if !empty_layer {
            let blob = changes.archive.layer_descriptor()?;
            changes.archive.adopt(self)?;
            let mut archive = changes.archive.open()?;
            // The archive is not compressed, so its own digest is the diff id.
            self.unpack(&blob.digest, &blob, &mut archive, &mut |_| {})?;
            diff_ids.push(blob.digest);
            layers.push(blob);
        }
        let created = Timestamp::now().to_string();
        let host = Platform::host();
        let or_host = |own: &str, host: &str| if own.is_empty() { host } else { own }.to_owned();
        let mut history = parent.history;
        history.push(History {
            created: Some(created.clone()),
            author: commit.author.clone(),
            created_by: commit.created_by.clone(),
            comment: commit.message.clone(),
            empty_layer,
        });
        let config = ImageConfig {
            created: Some(created),
            author: commit.author.clone(),
            architecture: or_host(&parent.architecture, &host.architecture),
            variant: parent.variant,
            os: or_host(&parent.os, &host.os),
            config: commit.config.clone(),
            rootfs: RootfsSection { diff_ids, ..RootfsSection::default() },
            history,
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: self.put_document(&json(&config)?, media_type::OCI_CONFIG)?,
            layers,
            annotations: Default::default(),
        };
        let manifest = self.put_document(&json(&manifest)?, media_type::OCI_MANIFEST)?;
        let image = self.add_image(NewImage { manifest, index: None, repo_digest: None })?;
        if let Some(reference) = &commit.reference {
            self.tag(reference, &image.id)?;
        }
        self.resolve(&image.id.to_string())
    }

    /// The blobs of the layers below: as the parent's manifest has them, else as they are here.
    fn layer_blobs(&self, commit: &Commit) -> Result<Vec<Descriptor>, Error> {
        let known = commit.parent.iter().flat_map(|parent| &parent.layers);
        let known: Vec<_> = known.collect();
        commit
            .layers
            .iter()
            .map(|diff_id| {
                let wanted = known.iter().find(|layer| layer.diff_id == *diff_id);
                self.held(diff_id, wanted.map(|layer| &layer.blob))
            })
            .collect()
    }

    /// Writes all files of a view that [`Store::prepare`] made as an archive.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn export<W: Write>(&self, rootfs: &Rootfs, out: W) -> Result<W, Error> {
        let _lease = self.lease()?;
        let root = match rootfs {
            Rootfs::Dir(path) => open(path)?,
            Rootfs::Overlay { lower, upper, .. } => {
                let lower = lower.iter().map(open_lower);
                let layers: Vec<OwnedFd> =
                    [open(upper)].into_iter().chain(lower).collect::<Result<_, _>>()?;
                read_only_overlay(&layers)
                    .doing(|| format!("look through `{}`", upper.display()))?
            }
        };
        pack(root.as_fd(), Tree::Whole, out)
    }
}

fn open(path: &PathBuf) -> Result<OwnedFd, Error> {
    File::open(path).map(OwnedFd::from).doing(|| format!("open `{}`", path.display()))
}
