//! Removal of images, with Docker's rules about names and use (moby, `image_delete.go`).

use std::collections::HashSet;

use oci::{Digest, Reference};

use crate::disk::{Part, Store, remove_if_there};
use crate::error::Error;
use crate::image::{Image, canonical, record_name};
use crate::snapshot::chain_ids;

/// A container that was made from an image.
#[derive(Debug, Clone)]
pub struct ImageUse {
    /// The image's id.
    pub image: Digest,
    /// The container's id, as messages show it.
    pub container: String,
    /// Whether it runs; even force does not remove the image of a running container.
    pub is_running: bool,
}

/// One step of a removal: a line of `docker rmi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A tag or a repository digest, in its familiar form.
    Untagged(String),
    /// An image id, or the chain id of a layer that no image has any more.
    Deleted(Digest),
}

impl Store {
    /// Removes a name of an image and, with the last name, the image.
    ///
    /// Given an id, all names go if they are of one repository; `force` takes the rest.
    /// Layers and blobs go at the next [`Store::collect`].
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Ambiguous`]; [`Error::Conflict`] if something keeps the image.
    pub fn remove_image(
        &self,
        name: &str,
        force: bool,
        uses: &[ImageUse],
    ) -> Result<Vec<Removed>, Error> {
        let image = self.resolve(name)?;
        let users: Vec<&ImageUse> = uses.iter().filter(|used| used.image == image.id).collect();
        match name.parse::<Reference>() {
            Ok(reference) if is_name_of(&reference, &image) => {
                self.remove_name(&image, &reference, force, &users)
            }
            _ => self.remove_by_id(&image, force, &users),
        }
    }

    fn remove_name(
        &self,
        image: &Image,
        reference: &Reference,
        force: bool,
        users: &[&ImageUse],
    ) -> Result<Vec<Removed>, Error> {
        if let Some(user) = users.first()
            && !force
            && is_single(image)
        {
            return Err(Error::Conflict(format!(
                "unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
                reference.familiar(),
                user.container,
                short(&image.id)
            )));
        }
        let (mut tags, mut pins) = (image.tags.clone(), image.repo_digests.clone());
        let gone = canonical(reference);
        tags.retain(|tag| *tag != gone);
        pins.retain(|pin| *pin != gone);
        let mut gone = vec![gone];
        let is_left = tags.iter().any(|tag| tag.name() == reference.name());
        if reference.digest().is_none() && !is_left {
            gone.extend(pins.extract_if(.., |pin| pin.name() == reference.name()));
        }
        let mut removed: Vec<Removed> = gone.iter().map(untagged).collect();
        // Without a name, the image itself stays only for the containers that need it.
        let is_needed = users.iter().any(|user| user.is_running || !force);
        self.untag_all(&gone)?;
        if tags.is_empty() && pins.is_empty() && !is_needed {
            removed.extend(self.delete(image, &gone)?);
        } else {
            self.unpin(&image.id, &gone)?;
        }
        Ok(removed)
    }

    fn remove_by_id(
        &self,
        image: &Image,
        force: bool,
        users: &[&ImageUse],
    ) -> Result<Vec<Removed>, Error> {
        let unable = |how: &str, why: String| {
            Err(Error::Conflict(format!("unable to delete {} ({how}) - {why}", short(&image.id))))
        };
        if let Some(user) = users.iter().find(|user| user.is_running) {
            let why = format!("image is being used by running container {}", user.container);
            return unable("cannot be forced", why);
        }
        if !force && !is_single(image) {
            return unable("must be forced", "image is referenced in multiple repositories".into());
        }
        if let Some(user) = users.first().filter(|_| !force) {
            let why = format!("image is being used by stopped container {}", user.container);
            return unable("must be forced", why);
        }
        let names: Vec<Reference> = image.tags.iter().chain(&image.repo_digests).cloned().collect();
        self.untag_all(&names)?;
        let mut removed: Vec<Removed> = names.iter().map(untagged).collect();
        removed.extend(self.delete(image, &names)?);
        Ok(removed)
    }

    fn untag_all(&self, names: &[Reference]) -> Result<(), Error> {
        let mut tags = names.iter().filter(|name| name.digest().is_none());
        tags.try_for_each(|tag| self.untag(tag).map(drop))
    }

    fn unpin(&self, id: &Digest, names: &[Reference]) -> Result<(), Error> {
        self.change_repo_digests(id, |pins| pins.retain(|pin| !names.contains(pin)))
    }

    /// Removes an image that has lost its `names`; its repository digests go with its record, which
    /// is not written once more for that.
    fn delete(&self, image: &Image, names: &[Reference]) -> Result<Vec<Removed>, Error> {
        let changing = self.change(Part::Images)?;
        if self.is_tagged(&image.id)? {
            // Somebody gave it a name since we looked.
            drop(changing);
            self.unpin(&image.id, names)?;
            return Ok(Vec::new());
        }
        remove_if_there(&self.part(Part::Images).join(record_name(&image.id)))?;
        let kept: HashSet<Digest> =
            self.records()?.iter().flat_map(|other| chain_ids(&other.diff_ids())).collect();
        let chains = chain_ids(&image.diff_ids());
        let free = chains.into_iter().rev().take_while(|chain| !kept.contains(chain));
        Ok([image.id].into_iter().chain(free).map(Removed::Deleted).collect())
    }
}

fn is_name_of(reference: &Reference, image: &Image) -> bool {
    let name = canonical(reference);
    image.repo_digests.contains(&name) || image.tags.contains(&name)
}

/// Whether there is at most one tag, and all names are of one repository.
fn is_single(image: &Image) -> bool {
    let mut repositories = image.tags.iter().chain(&image.repo_digests).map(Reference::name);
    let first = repositories.next();
    image.tags.len() <= 1 && repositories.all(|name| Some(name) == first)
}

fn untagged(name: &Reference) -> Removed {
    Removed::Untagged(name.familiar())
}

fn short(id: &Digest) -> String {
    id.hex()[..12].to_owned()
}
