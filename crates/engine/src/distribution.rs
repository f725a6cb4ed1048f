//! Images on their way out: pushed, copied, saved.

use std::collections::BTreeMap;
use std::io::Write;

use oci::{Digest, Platform, Reference};
use registry::Choice;
use store::{Image, ToSave};

use crate::Engine;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::image::{from_registry, from_store, made_for, moving};

pub use registry::{Place, Pushed};

/// How one end of a copy is reached, where that is not what the configuration says.
#[derive(Debug, Clone, Default)]
pub struct CopyEnd {
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// Accept any certificate, and plain HTTP.
    pub insecure: bool,
}

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// All manifests of an index, instead of the one for a platform.
    pub all: bool,
    /// The platform, if not this machine's.
    pub platform: Option<Platform>,
    /// Where from.
    pub from: CopyEnd,
    /// Where to.
    pub to: CopyEnd,
}

impl Engine {
    /// Brings an image into its registry, with the credentials of `~/.docker/config.json`.
    ///
    /// With a `platform`, what is pushed is the image for it: the one that has the name, or one that
    /// came by the same index. As in Docker, the index itself is not pushed.
    ///
    /// # Errors
    /// By kind: [`Kind::NotFound`], [`Kind::Denied`], [`Kind::Unavailable`], and [`Kind::Invalid`]
    /// for a reference with a digest.
    pub fn push(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &(dyn Fn(registry::Event) + Sync),
    ) -> Result<Pushed> {
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference")
                .hint("give the image a tag with `cais tag`, and push that"));
        }
        let image = self.store.resolve(&reference.to_string()).map_err(|error| match error {
            store::Error::NotFound(_) => self.unpushable(reference),
            other => from_store(other),
        })?;
        let image = self.of_platform(&reference.familiar(), image, platform)?;
        let client = self.registry_client()?;
        let pushed = registry::push(&client, &self.store, &image, reference, progress);
        let pushed =
            pushed.map_err(|error| moving(format!("push {}", reference.familiar()), error))?;
        self.emit(Event::image("push", reference.familiar(), &reference.familiar_name()));
        Ok(pushed)
    }

    /// `image` if it is for `platform`, else another image that came by the same index and is.
    fn of_platform(&self, name: &str, image: Image, platform: Option<&Platform>) -> Result<Image> {
        let Err(other) = made_for(name, &image.config(&self.store)?, platform) else {
            return Ok(image);
        };
        let Some(index) = image.index else { return Err(other) };
        let is_wanted = |image: &Image| {
            let config = image.config(&self.store);
            image.index == Some(index)
                && config.is_ok_and(|config| made_for(name, &config, platform).is_ok())
        };
        self.store.images()?.into_iter().find(is_wanted).ok_or(other)
    }

    /// As Docker tells a repository without tags from a tag that is not there.
    fn unpushable(&self, reference: &Reference) -> Error {
        let all = self.store.images().unwrap_or_default();
        let name = reference.familiar_name();
        let text = match all
            .iter()
            .flat_map(|image| &image.tags)
            .any(|tag| tag.name() == reference.name())
        {
            true => format!("tag does not exist: {}", reference.familiar()),
            false => format!("An image does not exist locally with the tag: {name}"),
        };
        Error::new(Kind::NotFound, text)
            .hint("`cais images` lists what is here, `cais tag` gives it the registry's name")
    }

    /// A client for registries, who is whom `~/.docker/config.json` says, or somebody else.
    pub(crate) fn registry_client(&self) -> Result<registry::Client> {
        let auth = match &self.auth {
            Some(auth) => auth.clone(),
            None => registry::Auth::load().map_err(from_registry)?,
        };
        Ok(registry::Client::new(&self.registry, auth))
    }

    /// The same engine, who is somebody else for registries than `~/.docker/config.json` says.
    #[must_use]
    pub fn with_auth(self, auth: registry::Auth) -> Self {
        Self { auth: Some(auth), ..self }
    }

    /// Asks a registry whether it knows `user` and `password`.
    ///
    /// # Errors
    /// [`Kind::Denied`] if it does not know them, [`Kind::Unavailable`].
    pub fn check_login(&self, registry: &str, user: &str, password: &str) -> Result<()> {
        let checked = registry::check_login(&self.registry, registry, user, password);
        checked.map(drop).map_err(from_registry)
    }

    /// Looks for repositories by name.
    ///
    /// # Errors
    /// As [`search`].
    pub fn search(&self, term: &str, limit: usize) -> Result<Vec<registry::FoundRepository>> {
        registry::search(&self.registry_client()?, term, limit).map_err(from_registry)
    }

    /// The tags that a registry has of a repository.
    ///
    /// # Errors
    /// As [`remote_tags`].
    pub fn tags_of(&self, reference: &Reference) -> Result<Vec<String>> {
        registry::tags(&self.registry_client()?, reference).map_err(from_registry)
    }

    /// The manifest that a name stands for in its registry.
    ///
    /// # Errors
    /// By kind, as of [`Engine::pull`].
    pub fn remote_manifest(&self, reference: &Reference) -> Result<registry::Fetched> {
        registry::fetch_manifest(&self.registry_client()?, reference).map_err(from_registry)
    }

    /// Copies an image between registries, archives, layouts and the store, without unpacking
    /// more than the store needs: the digest of what was copied.
    ///
    /// # Errors
    /// By kind, as of [`Engine::pull`].
    pub fn copy(
        &self,
        from: &Place,
        to: &Place,
        options: &CopyOptions,
        progress: &(dyn Fn(registry::Event) + Sync),
    ) -> Result<Digest> {
        let choice = match options.all {
            true => Choice::All,
            false => Choice::One(options.platform.clone().unwrap_or_else(Platform::host)),
        };
        let copy = registry::Copy {
            store: &self.store,
            from_client: &self.end_client(from, &options.from)?,
            to_client: &self.end_client(to, &options.to)?,
            choice,
            is_pinned: options.platform.is_some(),
        };
        copy.run(from, to, progress).map_err(|error| moving("copy an image".to_owned(), error))
    }

    fn end_client(&self, place: &Place, end: &CopyEnd) -> Result<registry::Client> {
        let mut config = self.registry.clone();
        let mut auth = registry::Auth::load().map_err(from_registry)?;
        if let Place::Registry(reference) = place {
            if let Some((user, password)) = &end.credentials {
                auth = auth.with_password(reference.registry(), user, password);
            }
            if end.insecure {
                config.hosts.entry(reference.registry().to_owned()).or_default().insecure = true;
            }
        }
        Ok(registry::Client::new(&config, auth))
    }

    /// Writes images to an archive, by their names or ids. A repository without a tag stands for
    /// all its tags.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and [`Kind::Internal`] if the archive cannot be written.
    pub fn save<W: Write>(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        out: W,
    ) -> Result<W> {
        let mut found: BTreeMap<usize, ToSave> = BTreeMap::new();
        for name in names {
            for (image, reference) in self.named(name)? {
                let image = self.of_platform(name, image, platform)?;
                let known = found.values().position(|known| known.image.id == image.id);
                let place = known.unwrap_or(found.len());
                let entry =
                    found.entry(place).or_insert_with(|| ToSave { image, names: Vec::new() });
                entry.names.extend(reference.filter(|name| !entry.names.contains(name)));
            }
        }
        let images: Vec<ToSave> = found.into_values().collect();
        let out = self.store.save(&images, out)?;
        for saved in &images {
            let id = saved.image.id.to_string();
            self.emit(self.image_event("save", &saved.image, &id));
        }
        Ok(out)
    }

    /// What a name given to [`Engine::save`] stands for, with the names to save it under.
    fn named(&self, name: &str) -> Result<Vec<(store::Image, Option<Reference>)>> {
        let reference: Option<Reference> = name.parse().ok();
        if let Some(repository) =
            reference.as_ref().filter(|r| !r.has_tag() && r.digest().is_none())
        {
            let mut found = Vec::new();
            for image in self.store.images()? {
                let own = image.tags.iter().filter(|tag| tag.name() == repository.name());
                let own: Vec<Reference> = own.cloned().collect();
                found.extend(own.into_iter().map(|tag| (image.clone(), Some(tag))));
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let image = self.store.resolve(name)?;
        // A name with a tag is saved with it, an id or a digest without any.
        let tag = reference.filter(|name| name.digest().is_none() && image.tags.contains(name));
        Ok(vec![(image, tag)])
    }
}

/// Asks a registry whether it knows `user` and `password`, and keeps them where Docker does.
///
/// # Errors
/// [`Kind::Denied`] if it does not know them, [`Kind::Unavailable`].
pub fn login(
    config: &registry::Config,
    registry: &str,
    user: &str,
    password: &str,
) -> Result<registry::Kept> {
    registry::login(config, registry, user, password).map_err(from_registry)
}

/// The user that is logged in at a registry, with the password where that is kept.
///
/// # Errors
/// [`Kind::Invalid`] if a file or a keychain cannot be read.
pub fn logged_in(registry: &str) -> Result<Option<(String, String)>> {
    registry::logged_in(registry).map_err(from_registry)
}

/// Forgets the credentials for a registry: whether there were any.
///
/// # Errors
/// [`Kind::Invalid`] if a file or a keychain cannot be changed.
pub fn logout(registry: &str) -> Result<bool> {
    registry::logout(registry).map_err(from_registry)
}

/// Looks for repositories by name.
///
/// # Errors
/// [`Kind::Unsupported`] where a registry offers no way to look, [`Kind::Unavailable`].
pub fn search(
    config: &registry::Config,
    term: &str,
    limit: usize,
) -> Result<Vec<registry::FoundRepository>> {
    let auth = registry::Auth::load().map_err(from_registry)?;
    let client = registry::Client::new(config, auth);
    registry::search(&client, term, limit).map_err(from_registry)
}

/// The tags that a registry has of the repository of `reference`.
///
/// # Errors
/// [`Kind::NotFound`] without the repository, [`Kind::Unavailable`].
pub fn remote_tags(config: &registry::Config, reference: &Reference) -> Result<Vec<String>> {
    let auth = registry::Auth::load().map_err(from_registry)?;
    let client = registry::Client::new(config, auth);
    registry::tags(&client, reference).map_err(from_registry)
}
