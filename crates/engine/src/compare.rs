//! What can be compared with what: containers, images, layers, OCI layouts and directories.

use std::path::{Path, PathBuf};

use oci::Digest;
use store::{Comparison, Image, View};

use crate::Engine;
use crate::container::Container;
use crate::error::{Error, Kind, Result};

/// A tree that somebody named.
#[derive(Debug)]
pub enum Operand {
    /// What a container sees.
    Container(Box<Container>),
    /// What an image shows.
    Image(Box<Image>),
    /// What one layer holds.
    Layer(Digest),
    /// An image in a directory of the OCI layout, by its name or tag there, or the only one.
    Layout(PathBuf, Option<String>),
    /// A directory of this machine.
    Directory(PathBuf),
}

impl Engine {
    /// Finds what is meant by `dir:PATH`, `oci:DIR[:NAME]`, an absolute path or one that starts
    /// with a dot, a container, an image, a layer's digest, or a directory, in this order.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if nothing is called so.
    pub fn operand(&self, text: &str) -> Result<Operand> {
        if let Some(path) = text.strip_prefix("dir:") {
            return Ok(Operand::Directory(path.into()));
        }
        if let Some(layout) = text.strip_prefix("oci:") {
            let named = layout.rsplit_once(':').filter(|(_, name)| !name.contains('/'));
            let (directory, name) = named.map_or((layout, None), |(dir, name)| (dir, Some(name)));
            return Ok(Operand::Layout(directory.into(), name.map(str::to_owned)));
        }
        if text == "." || text == ".." || ["/", "./", "../"].iter().any(|p| text.starts_with(p)) {
            return Ok(Operand::Directory(text.into()));
        }
        match self.find(text) {
            Ok(container) => return Ok(Operand::Container(Box::new(container))),
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            Err(_) => {}
        }
        match self.image(text) {
            Ok(image) => return Ok(Operand::Image(Box::new(image))),
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            Err(_) => {}
        }
        let layer = text.parse::<Digest>().ok().filter(|digest| self.store().has_layer(digest));
        match layer {
            Some(layer) => Ok(Operand::Layer(layer)),
            None if text.contains('/') && Path::new(text).is_dir() => {
                Ok(Operand::Directory(text.into()))
            }
            None => {
                let what = "No such container, image, layer, layout or directory";
                Err(Error::new(Kind::NotFound, format!("{what}: {text}"))
                    .hint("a layout is called oci:DIR[:NAME], a directory of this machine ./DIR"))
            }
        }
    }

    /// Puts two trees side by side; without `old`, one and what it is made from: a container and
    /// its image, an image and nothing, one of its layers and those below.
    ///
    /// `layer` is of every image that is named, counted from 1, the lowest.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a directory alone, or a layer that an operand does not have.
    pub fn compare(
        &self,
        old: Option<&Operand>,
        new: &Operand,
        layer: Option<usize>,
    ) -> Result<Comparison> {
        let is_image = |operand: &&Operand| matches!(operand, Operand::Image(_));
        if layer.is_some() && !old.iter().copied().chain([new]).any(|o| is_image(&o)) {
            return Err(Error::invalid("--layer chooses a layer of an image, and none is named"));
        }
        let (old, new) = match (old, layer) {
            (Some(old), _) => (self.view(old, layer)?, self.view(new, layer)?),
            (None, None) => self.view_with_origin(new)?,
            (None, Some(number)) => {
                let Operand::Image(image) = new else {
                    return Err(Error::invalid("--layer chooses a layer of an image"));
                };
                let layers = image.diff_ids();
                numbered(image, number)?;
                let view = |count: usize| self.store().view_layers(&layers[..count]);
                (view(number - 1)?, view(number)?)
            }
        };
        Ok(Comparison::new(old, new)?)
    }

    /// A tree and what it is made from.
    fn view_with_origin(&self, operand: &Operand) -> Result<(View, View)> {
        match operand {
            Operand::Container(container) => {
                let chain = container.record.chain();
                let rootfs = self.store().rootfs(chain, container.directory(), false)?;
                Ok(self.store().view_rootfs(&rootfs)?)
            }
            Operand::Directory(path) => Err(Error::invalid(format!(
                "the directory {} is made from nothing that is known",
                path.display()
            ))
            .hint("name what to compare it with, as in: cais diff ubuntu dir:rootfs")),
            other => Ok((View::default(), self.view(other, None)?)),
        }
    }

    fn view(&self, operand: &Operand, layer: Option<usize>) -> Result<View> {
        let store = self.store();
        Ok(match operand {
            Operand::Container(container) => {
                store.view_container(&container.record.layers, container.directory())?
            }
            Operand::Image(image) => match layer {
                Some(number) => store.view_layers(&[numbered(image, number)?])?,
                None => store.view_layers(&image.diff_ids())?,
            },
            Operand::Layer(layer) => store.view_layers(&[*layer])?,
            Operand::Layout(directory, name) => store.view_layout(directory, name.as_deref())?,
            Operand::Directory(path) => View::directory(path)?,
        })
    }
}

fn numbered(image: &Image, number: usize) -> Result<Digest> {
    let layer = number.checked_sub(1).and_then(|index| image.layers.get(index));
    layer.map(|layer| layer.diff_id).ok_or_else(|| {
        let count = image.layers.len();
        Error::invalid(format!("image {} has {count} layers, and none is {number}", image.id))
            .hint("`cais image tree` numbers them, from 1, the lowest")
    })
}
