//! Contexts that come as archives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::ResolveFlags;

use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};

/// Of a Dockerfile that comes alone, in bytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// What came.
#[derive(Debug)]
pub enum Received {
    /// Files.
    Archive(ContextArchive),
    /// A Dockerfile alone.
    Text(Vec<u8>),
}

/// A context that was unpacked; it is removed with this.
#[derive(Debug)]
pub struct ContextArchive {
    store: store::Store,
    dir: PathBuf,
    tree: PathBuf,
    committed_s: Option<i64>,
    _lock: File,
}

impl ContextArchive {
    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.tree
    }

    /// When it was committed, in seconds since 1970, if it is of a repository.
    #[must_use]
    pub fn committed_s(&self) -> Option<i64> {
        self.committed_s
    }

    /// Opens a regular file below [`ContextArchive::path`], wherever links lead, but never outside.
    ///
    /// # Errors
    /// As of opening a file; `InvalidInput` for what is none.
    pub fn open(&self, path: &Path) -> std::io::Result<File> {
        open_below(&self.tree, path.strip_prefix(&self.tree).unwrap_or(path))
    }
}

/// Opens a regular file below a directory that somebody else may have filled, wherever links lead,
/// but never outside.
///
/// # Errors
/// As of opening a file; `InvalidInput` for what is none.
pub fn open_below(root: &Path, below: &Path) -> std::io::Result<File> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(store::open_regular(File::open(root)?, below, resolve)?)
}

impl ContextArchive {
    /// Listens on a socket in its place: it, and where it is.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn listen(&self) -> Result<(UnixListener, PathBuf)> {
        let path = self.dir.join("socket");
        let doing = || format!("listen at {}", path.display());
        let (short, _directory) = super::ssh::short(&path).doing(doing)?;
        Ok((UnixListener::bind(short).doing(doing)?, path))
    }
}

impl Drop for ContextArchive {
    fn drop(&mut self) {
        // What stays is swept by the next build.
        let _ = self.store.discard(&self.dir);
    }
}

impl ContextArchive {
    /// Makes a directory below all of it, which was committed then.
    pub(super) fn enter(&mut self, below: &Path, committed_s: Option<i64>) {
        below.clone_into(&mut self.tree);
        self.committed_s = committed_s;
    }
}

impl Engine {
    /// A context without files.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn new_context(&self) -> Result<ContextArchive> {
        let context = self.empty_context()?;
        let path = &context.tree;
        std::fs::create_dir(path).doing(|| format!("create {}", path.display()))?;
        Ok(context)
    }

    /// Gets a context from an address: of a git repository, or of an archive or a Dockerfile; `None`
    /// if it is neither.
    ///
    /// # Errors
    /// As of [`Engine::fetch_context`] and [`Engine::download_context`].
    pub fn context_at(
        &self,
        place: &str,
        secrets: &BTreeMap<String, Vec<u8>>,
        agents: &BTreeMap<String, PathBuf>,
    ) -> Result<Option<Received>> {
        if let Some(source) = build::GitSource::parse(place) {
            let source = source.map_err(|error| Error::invalid(error.to_string()))?;
            let access = super::GitAccess::new(&source, secrets, agents);
            let (context, _) = self.fetch_context(&source, &access)?;
            return Ok(Some(Received::Archive(context)));
        }
        match place.starts_with("http://") || place.starts_with("https://") {
            true => self.download_context(place).map(Some),
            false => Ok(None),
        }
    }

    /// A context without files, whose directory is not there yet.
    pub(super) fn empty_context(&self) -> Result<ContextArchive> {
        let (dir, lock) = self.make_run_dir(&format!("context-{}", crate::id::fresh()?))?;
        let tree = dir.join("tree");
        let store = self.store.clone();
        Ok(ContextArchive { store, dir, tree, committed_s: None, _lock: lock })
    }

    /// Takes what comes: a tar archive, plain or compressed, or a Dockerfile.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an archive that is broken, and if nothing comes.
    pub fn receive_context(&self, from: &mut dyn Read) -> Result<Received> {
        self.receive("standard input", &mut |file| {
            std::io::copy(from, file).map(drop).doing(|| "receive the context".to_owned())
        })
    }

    /// As [`Engine::receive_context`], from an `http://` or `https://` address.
    ///
    /// # Errors
    /// As of it, and if there is nothing at the address.
    pub fn download_context(&self, url: &str) -> Result<Received> {
        self.receive(&oci::redacted(url), &mut |file| {
            let got = registry::download(&self.registry, url, file);
            got.map(drop).map_err(crate::image::from_registry)
        })
    }

    fn receive(
        &self,
        place: &str,
        fill: &mut dyn FnMut(&mut File) -> Result<()>,
    ) -> Result<Received> {
        let doing = || "receive the context".to_owned();
        let context = self.empty_context()?;
        let path = context.dir.join("received");
        let mut file =
            File::options().read(true).write(true).create_new(true).open(&path).doing(doing)?;
        fill(&mut file)?;
        file.seek(SeekFrom::Start(0)).doing(doing)?;
        if store::is_archive(&mut file)? {
            self.store.unpack_files(&mut file, &context.dir)?;
            std::fs::remove_file(&path).doing(doing)?;
            return Ok(Received::Archive(context));
        }
        let mut text = Vec::new();
        file.take(TEXT_BYTES_MAX).read_to_end(&mut text).doing(doing)?;
        match text.is_empty() {
            true => Err(Error::new(Kind::Invalid, format!("the context from {place} is empty"))),
            false => Ok(Received::Text(text)),
        }
    }
}
