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
use rustix::fs::{Mode, OFlags};

use crate::disk::{Lease, Part, Scratch, Store, json};
use crate::error::{Doing as _, Error};
use crate::image::{Image, NewImage};
use crate::layer::open_lower;
use crate::made::{Changed, EMPTY_ARCHIVE_BYTES};
use crate::pack::{Tree, pack};
use crate::snapshot::{detached_overlay, open_path, read_only_overlay};
use crate::spool::{Sink, Spooled};

const WRITE_BYTES: usize = 256 * 1024;

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
        let lease = self.lease()?;
        let changed = Changed::of(rootfs)?;
        let scratch = self.scratch(Part::Ingest)?;
        let sink = Sink::create(scratch.path().join("layer"))?;
        let out = BufWriter::with_capacity(WRITE_BYTES, sink);
        let out = pack(changed.root.as_fd(), changed.tree(), out)?;
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
        let layer = self.keep_layer(changes)?;
        let empty_layer = layer.is_none();
        if let Some(blob) = layer {
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

    /// Unpacks changes as a layer and keeps their archive, unless there are none.
    fn keep_layer(&self, changes: &Changes) -> Result<Option<Descriptor>, Error> {
        if changes.archive.size == EMPTY_ARCHIVE_BYTES {
            return Ok(None);
        }
        let blob = changes.archive.layer_descriptor()?;
        changes.archive.adopt(self)?;
        let mut archive = changes.archive.open()?;
        // The archive is not compressed, so its own digest is the diff id.
        self.unpack(&blob.digest, &blob, &mut archive, &mut |_| {})?;
        Ok(Some(blob))
    }

    /// Makes an image of a whole configuration, whose layers are here. Their blobs are those that
    /// the images `of` call them by, where they know them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a layer is missing; [`Error::Io`].
    pub fn compose(&self, config: &ImageConfig, of: &[Image]) -> Result<Image, Error> {
        let _lease = self.lease()?;
        let bytes = json(config)?;
        // What is the same as before need not be written again.
        if let Ok(there) = self.look_up(&Digest::of(&bytes).to_string())
            && there.manifest(self)?.annotations.is_empty()
        {
            return self.resolve(&there.id.to_string());
        }
        let known: Vec<_> = of.iter().flat_map(|image| &image.layers).collect();
        let blob = |diff_id: &Digest| {
            let wanted = known.iter().find(|layer| layer.diff_id == *diff_id);
            self.held(diff_id, wanted.map(|layer| &layer.blob))
        };
        let layers = config.rootfs.diff_ids.iter().map(blob).collect::<Result<_, Error>>()?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: self.put_document(&bytes, media_type::OCI_CONFIG)?,
            layers,
            annotations: Default::default(),
        };
        let manifest = self.put_document(&json(&manifest)?, media_type::OCI_MANIFEST)?;
        let image = self.add_image(NewImage { manifest, index: None, repo_digest: None })?;
        self.resolve(&image.id.to_string())
    }

    /// Mounts a view that [`Store::prepare`] made where nobody sees it: its root directory. It is
    /// gone when the descriptor is closed.
    ///
    /// # Errors
    /// [`Error::Io`], also without privilege.
    pub fn open_view(&self, rootfs: &Rootfs, is_writable: bool) -> Result<OwnedFd, Error> {
        match rootfs {
            Rootfs::Dir(path) => open(path),
            Rootfs::Overlay { lower, upper, work, .. } => {
                let doing = || format!("look through `{}`", upper.display());
                let mut layers = lower.iter().map(open_lower).collect::<Result<Vec<_>, _>>()?;
                let view = match is_writable {
                    true => {
                        let (upper, work) =
                            (open_path(upper).doing(doing)?, open_path(work).doing(doing)?);
                        let view = detached_overlay(&layers, &upper, &work).doing(doing)?;
                        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                        rustix::fs::openat(&view, ".", flags, Mode::empty())
                    }
                    false => {
                        layers.insert(0, open(upper)?);
                        read_only_overlay(&layers)
                    }
                };
                view.doing(doing)
            }
        }
    }

    /// The files of a chain of layers, lowest first, which nobody can write to: their root directory,
    /// mounted where nobody sees it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a layer is missing; [`Error::Io`].
    pub fn open_chain(&self, layers: &[Digest]) -> Result<OwnedFd, Error> {
        let lower = self.chain(layers)?;
        let opened = lower.iter().map(open_lower).collect::<Result<Vec<_>, _>>()?;
        match &opened[..] {
            [_] => Ok(opened.into_iter().next().expect("there is one")),
            _ => read_only_overlay(&opened).doing(|| "look through layers".to_owned()),
        }
    }

    /// Writes the files of a chain of layers, lowest first, as an archive.
    ///
    /// # Errors
    /// As of [`Store::open_chain`].
    pub fn export_chain<W: Write>(&self, layers: &[Digest], out: W) -> Result<W, Error> {
        let _lease = self.lease()?;
        pack(self.open_chain(layers)?.as_fd(), Tree::Whole, out)
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

/// Writes everything in a directory as an archive, with the directory's own owner and mode.
///
/// # Errors
/// [`Error::Invalid`] for what no archive of a layer can hold; [`Error::Io`].
pub fn archive_directory<W: Write>(directory: &PathBuf, out: W) -> Result<W, Error> {
    pack(open(directory)?.as_fd(), Tree::Layer { with_root: true }, out)
}

pub(crate) fn open(path: &PathBuf) -> Result<OwnedFd, Error> {
    File::open(path).map(OwnedFd::from).doing(|| format!("open `{}`", path.display()))
}
