//! Images, as a machine has them: pulled, loaded, tagged, removed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::{ContainerConfig, Digest, ImageConfig, Platform, Reference};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::Errno;
use store::{Collected, Exclusive, INGEST_AGE_MAX, Image, ImageUse, Removed};

use crate::Engine;
use crate::container::SHORT_ID_LENGTH;
use crate::error::{Doing, Error, Kind, Result, disk_hint};
use crate::event::Event;

pub use crate::lazy::{Arriving, Lazily};
pub use registry::Pulled;

impl Engine {
    /// Brings an image from its registry, with the credentials of `~/.docker/config.json`.
    ///
    /// # Errors
    /// By kind: [`Kind::NotFound`], [`Kind::Denied`], [`Kind::Unavailable`], and
    /// [`Kind::Internal`] for a registry that serves something else than it says.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &(dyn Fn(registry::Event) + Sync),
    ) -> Result<Pulled> {
        let client = self.registry_client()?;
        let host = Platform::host();
        let platform = platform.unwrap_or(&host);
        let pulled = registry::pull(&client, &self.store, reference, platform, progress);
        let pulled = pulled.map_err(|error| {
            if is_disk_full(&error) {
                // What came so far is of no use there, and in everybody's way.
                let _ = self.collect(Duration::ZERO);
            }
            moving(format!("pull {}", reference.familiar()), error)
        })?;
        self.emit_pull(reference);
        Ok(pulled)
    }

    pub(crate) fn emit_pull(&self, reference: &Reference) {
        self.emit(Event::image("pull", reference.familiar(), &reference.familiar_name()));
    }

    /// Something that happened to an image, with its labels.
    pub(crate) fn image_event(&self, action: &str, image: &Image, name: &str) -> Event {
        let labels = image.config(&self.store).map(|config| config.config.labels);
        let mut event = Event::image(action, image.id.to_string(), name);
        for (key, value) in labels.unwrap_or_default() {
            event.attributes.entry(key).or_insert(value);
        }
        event
    }

    /// Whether there is no image of this name or id here, or none for this platform.
    #[must_use]
    pub fn lacks_image(&self, name: &str, platform: Option<&Platform>) -> bool {
        match self.store.resolve(name) {
            Err(error) => matches!(error, store::Error::NotFound(_)),
            Ok(image) => image
                .config(&self.store)
                .is_ok_and(|config| made_for(name, &config, platform).is_err()),
        }
    }

    /// Finds an image by its name, its id, or the first digits of its id.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or [`Kind::Invalid`] where several ids start like this.
    pub fn image(&self, name: &str) -> Result<Image> {
        Ok(self.store.resolve(name)?)
    }

    /// As [`Engine::image`], one that is made for this platform, if one is given.
    ///
    /// # Errors
    /// As of [`Engine::image`]; [`Kind::NotFound`] if it is made for another one.
    pub fn image_for(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let image = self.image(name)?;
        if platform.is_some() {
            made_for(name, &image.config(&self.store)?, platform)?;
        }
        Ok(image)
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn images(&self) -> Result<Vec<Image>> {
        let mut images = self.store.images()?;
        images.sort_by(|a, b| b.created.cmp(&a.created));
        Ok(images)
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and [`Kind::Invalid`] for a name with a digest.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<()> {
        if target.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        // Whoever mistypes makes no store.
        self.store.resolve(source)?;
        // Else a collection could take the name away while it is being written.
        let _lease = self.store.lease()?;
        let image = self.store.resolve(source)?;
        self.store.tag(target, &image.id)?;
        self.emit(self.image_event("tag", &image, &target.familiar()));
        Ok(())
    }

    /// Removes a name of an image and, with the last name, the image; then what nothing needs any
    /// more.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and [`Kind::Conflict`] if a container or another name keeps it.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        let uses = self.image_uses()?;
        let removed = self.remove_names(name, force, &uses)?;
        if removed.iter().any(|line| matches!(line, Removed::Deleted(_))) {
            self.collect(INGEST_AGE_MAX)?;
        }
        Ok(removed)
    }

    /// Removes names of an image, and says so.
    pub(crate) fn remove_names(
        &self,
        name: &str,
        force: bool,
        uses: &[ImageUse],
    ) -> std::result::Result<Vec<Removed>, store::Error> {
        let image = self.store.resolve(name)?;
        let id = image.id.to_string();
        let untag = self.image_event("untag", &image, &id);
        // As Docker, which has nothing left to read labels from.
        let delete = Event::image("delete", &id, &id);
        let removed = self.store.remove_image(name, force, uses)?;
        for line in &removed {
            match line {
                Removed::Untagged(_) => self.emit(untag.clone()),
                Removed::Deleted(gone) if *gone == image.id => self.emit(delete.clone()),
                Removed::Deleted(_) => {}
            }
        }
        Ok(removed)
    }

    /// Which images containers were made from.
    pub(crate) fn image_uses(&self) -> Result<Vec<ImageUse>> {
        let containers = self.list()?;
        let used = containers.iter().flat_map(|container| {
            container.record.images().into_iter().map(|image| ImageUse {
                image,
                container: container.record.id[..SHORT_ID_LENGTH].to_owned(),
                is_running: container.is_running(),
            })
        });
        Ok(used.collect())
    }

    /// Removes what neither an image nor a container needs. Somebody else adding content meanwhile
    /// postpones it: what is left is removed by the next collection. Downloads that were
    /// interrupted are kept for `ingest_age`, to be continued.
    pub(crate) fn collect(&self, ingest_age: Duration) -> Result<Collected> {
        match self.store.exclusive() {
            Err(store::Error::Busy(_)) => Ok(Collected::default()),
            outcome => self.collect_under(outcome?, ingest_age),
        }
    }

    /// Removes what neither an image, a container nor a repository of the registry needs.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] while somebody adds content.
    pub fn collect_now(&self) -> Result<Collected> {
        self.collect_under(self.store.exclusive()?, INGEST_AGE_MAX)
    }

    fn collect_under(&self, exclusive: Exclusive, ingest_age: Duration) -> Result<Collected> {
        // Read under the lock: a container that is being created holds a lease.
        let containers = self.list()?;
        let layers = containers.iter().flat_map(|container| container.record.all_layers());
        let in_use: HashSet<Digest> = layers.chain(self.build_layers()).collect();
        Ok(self.store.collect(exclusive, &in_use, ingest_age)?)
    }

    /// Converts the store to another storage driver. Layers of running containers stay as they are.
    /// Nothing can be added or started meanwhile.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] while somebody adds content, [`Kind::Invalid`] if the driver does not
    /// work here.
    pub fn migrate(
        &self,
        driver: store::Driver,
        progress: &mut dyn FnMut(&Digest),
    ) -> Result<store::Migrated> {
        let exclusive = self.store.exclusive()?;
        // Read under the lock: a container that is being started holds a lease.
        let running = self.list()?.into_iter().filter(crate::Container::is_running);
        let in_use: HashSet<Digest> =
            running.flat_map(|container| container.record.all_layers()).collect();
        Ok(self.store.migrate(exclusive, driver, &in_use, progress)?)
    }

    /// Loads the images of an archive, `docker save`'s or an OCI layout, for a platform: this
    /// machine's unless another one is given.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an archive that is neither, or broken, or has no image for it.
    pub fn load(
        &self,
        archive: &mut dyn Read,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<store::Loaded>> {
        let loaded = self.store.load(archive, platform, progress)?;
        for loaded in &loaded {
            let id = loaded.image.id.to_string();
            self.emit(self.image_event("load", &loaded.image, &id));
        }
        Ok(loaded)
    }

    /// Gets what is at an address: a file that has no name, to be read from its beginning.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the server does not give it; if it cannot be written.
    pub fn fetch(&self, url: &str) -> Result<File> {
        let doing = || format!("keep {url}");
        let directory = self.root.join("ingest");
        std::fs::create_dir_all(&directory).doing(doing)?;
        // A hidden name there is collected if we are killed before it is gone.
        let path = directory.join(format!(".{}", crate::id::fresh()?));
        let mut file =
            File::options().read(true).write(true).create_new(true).open(&path).doing(doing)?;
        std::fs::remove_file(&path).doing(doing)?;
        registry::download(&self.registry, url, &mut file).map_err(from_registry)?;
        file.rewind().doing(doing)?;
        Ok(file)
    }

    /// Makes an image of one layer from the archive of a root file system.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a broken archive.
    pub fn import(
        &self,
        archive: &mut dyn Read,
        config: ContainerConfig,
        message: &str,
        platform: Option<&Platform>,
        reference: Option<&Reference>,
    ) -> Result<Image> {
        let import = store::Import {
            config,
            message: message.to_owned(),
            platform: platform.cloned().unwrap_or_else(Platform::host),
            reference: reference.cloned(),
        };
        let image = self.store.import(archive, &import)?;
        self.emit(self.image_event("import", &image, &image.id.to_string()));
        Ok(image)
    }

    /// Bytes of data in a container's writable layer.
    ///
    /// # Errors
    /// If the layer cannot be read.
    pub fn writable_bytes(&self, container: &crate::Container) -> Result<u64> {
        let upper = container.directory().join("upper");
        bytes_below(&upper).doing(|| format!("measure {}", upper.display()))
    }

    /// Bytes of data in the layers of a container's image.
    #[must_use]
    pub fn layers_bytes(&self, container: &crate::Container) -> u64 {
        let layers = container.record.layers.iter();
        layers.filter_map(|layer| self.store.layer(layer).ok()).map(|layer| layer.size).sum()
    }
}

/// Whether an image is made for the platform that was asked for.
///
/// # Errors
/// [`Kind::NotFound`] if not.
pub(crate) fn made_for(name: &str, config: &ImageConfig, wanted: Option<&Platform>) -> Result<()> {
    let actual = Platform {
        os: config.os.clone(),
        architecture: config.architecture.clone(),
        variant: Some(config.variant.clone()).filter(|variant| !variant.is_empty()),
    };
    match wanted {
        Some(wanted) if !wanted.accepts(&actual) => Err(Error::new(
            Kind::NotFound,
            format!("image {name} is here for {actual}, and was asked for {wanted}"),
        )),
        _ => Ok(()),
    }
}

/// Bytes of the files below `dir`, which a container may be changing: what vanishes meanwhile, was
/// put in the place of a directory or lies deeper than a path can say does not count.
pub(crate) fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    let root = std::fs::File::open(dir)?;
    let mut bytes: u64 = 0;
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let dir = match openat2(&root, &path, flags, Mode::empty(), beneath) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => continue,
            opened => opened?,
        };
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Ok(found) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory if matches!(name.to_bytes(), b"." | b"..") => {}
                FileType::Directory => pending.push(path.join(OsStr::from_bytes(name.to_bytes()))),
                // Sparse files may claim more together than there can be.
                _ => bytes = bytes.saturating_add(u64::try_from(found.st_size).unwrap_or(0)),
            }
        }
    }
    Ok(bytes)
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        from_store(error)
    }
}

pub(crate) fn from_store(error: store::Error) -> Error {
    use store::Error as E;
    match error {
        E::NotFound(what) => Error::new(Kind::NotFound, format!("No such {what}"))
            .hint("`cais images` lists what is here, `cais pull` gets more"),
        E::Ambiguous(_) => Error::new(Kind::Invalid, error.to_string()).hint("give more digits"),
        E::Conflict(ref why) => {
            let hint = match why.contains("cannot be forced") {
                true => "stop and remove the container first",
                false => "remove what uses it first, or try --force",
            };
            Error::new(Kind::Conflict, error.to_string()).hint(hint)
        }
        E::Driver { requested, .. } => Error::new(Kind::Conflict, error.to_string()).hint(format!(
            "leave --storage-driver out, or convert the store: cais system migrate --to {requested}"
        )),
        E::Busy(_) => Error::new(Kind::Unavailable, error.to_string()).hint("try again"),
        E::Invalid(_) => Error::new(Kind::Invalid, error.to_string()),
        E::Digest { .. } => Error::new(Kind::Internal, error.to_string())
            .hint("the content was damaged or tampered with; get it again"),
        E::Io { doing, source } => from_io(doing, source),
    }
}

fn from_io(doing: String, source: std::io::Error) -> Error {
    use std::io::ErrorKind as E;
    let kind = match source.kind() {
        E::PermissionDenied => Kind::Denied,
        _ => Kind::Internal,
    };
    let hint = disk_hint(&source).or(match kind {
        Kind::Denied => Some("choose another --root: not even root may do this there"),
        _ => None,
    });
    let failure = Error::caused(kind, doing, source);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    })
}

/// What was being done when a registry failed.
pub(crate) fn moving(doing: String, error: registry::Error) -> Error {
    let failure = from_registry(error);
    let hint = failure.hint_text().map(str::to_owned);
    let outer = Error::caused(failure.kind(), doing, failure);
    match hint {
        Some(hint) => outer.hint(hint),
        None => outer,
    }
}

pub(crate) fn from_registry(error: registry::Error) -> Error {
    use registry::Error as E;
    match error {
        E::Store { what, source } => {
            let inner = from_store(source);
            let hint = inner.hint_text().map(str::to_owned);
            let outer = Error::caused(inner.kind(), format!("keep {what}"), inner);
            match hint {
                Some(hint) => outer.hint(hint),
                None => outer,
            }
        }
        E::NotFound { .. } => {
            Error::new(Kind::NotFound, error.to_string()).hint("check the name and the tag")
        }
        E::Denied { .. } => Error::new(Kind::Denied, error.to_string())
            .hint("check the name, or log in with `cais login`"),
        E::Login { .. } => {
            Error::new(Kind::Denied, error.to_string()).hint("check user and password")
        }
        E::Unsupported { .. } => Error::new(Kind::Unsupported, error.to_string()),
        E::NoPlatform { .. } => Error::new(Kind::NotFound, error.to_string())
            .hint("choose one of these with --platform"),
        E::Mismatch { .. } => Error::new(Kind::Internal, error.to_string())
            .hint("nothing of it was kept; the registry or something on the way to it is broken"),
        E::Unreachable { ref why, .. } if why.contains("status 405") => {
            Error::new(Kind::Unsupported, error.to_string())
                .hint("it takes no such request: it may be read-only, a mirror, or no registry")
        }
        E::Unreachable { .. } => Error::new(Kind::Unavailable, error.to_string())
            .hint("check the name, the network, and `[registry]` in the configuration"),
        E::RateLimited { .. } => Error::new(Kind::Unavailable, error.to_string())
            .hint("wait, log in, or set a mirror in the configuration"),
        E::Invalid(_) => Error::new(Kind::Invalid, error.to_string()),
    }
}

pub(crate) fn from_cgroup(error: runtime::cgroup::Error) -> Error {
    Error::caused(Kind::Internal, "limit the container", error).hint(LIMIT_HINT)
}

const LIMIT_HINT: &str = "this machine does not grant the limit: choose another, or leave it out";

pub(crate) fn from_runtime(error: runtime::Error) -> Error {
    use runtime::Error as E;
    let (kind, doing, hint) = match error {
        E::NotFound { program, .. } => {
            let why = match program.contains('/') {
                true => "no such file or directory",
                false => "executable file not found in $PATH",
            };
            let text = format!("unable to start container process: exec: \"{program}\": {why}");
            return Error::new(Kind::CommandNotFound, text).hint(not_found_hint(&program));
        }
        E::NotExecutable { program, source } => {
            let doing = format!("unable to start container process: exec: \"{program}\"");
            return Error::caused(Kind::CommandNotExecutable, doing, source).hint(
                "it needs the execute permission, the host's architecture, and its interpreter",
            );
        }
        E::Spec(text) => return Error::invalid(text),
        E::Cgroup(_) => (Kind::Internal, "limit the container", Some(LIMIT_HINT)),
        E::Unsupported(_) => (Kind::Unsupported, "start the container", None),
        E::Kernel { .. } | E::Prepare(_) => (Kind::Internal, "start the container", None),
    };
    let failure = Error::caused(kind, doing, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn not_found_hint(program: &str) -> &'static str {
    if program.starts_with('-') {
        "options of cais stand before the image; what follows it is the command"
    } else if program.contains('/') {
        "check the path, and that the image has the interpreter or loader that the program names"
    } else {
        "the program is not in the container's PATH: check its name, or the image"
    }
}
