//! `--build-context NAME=PLACE`

use std::collections::BTreeMap;
use std::path::PathBuf;

use build::NamedContext;
use engine::{ContextArchive, Engine, Error, Received, Result};
use oci::{Digest, Platform};

use super::context::{Remote, directory};

/// The contexts that have names.
#[derive(Default)]
pub(super) struct Named {
    contexts: BTreeMap<String, NamedContext>,
    /// The images of layouts, one for each platform.
    layouts: BTreeMap<String, Vec<Digest>>,
    /// Where the files of those are that have any.
    pub(super) directories: BTreeMap<String, PathBuf>,
    /// What came from elsewhere, which is removed with this.
    received: Vec<ContextArchive>,
}

impl Named {
    pub(super) fn open(
        engine: &Engine,
        given: &[String],
        platforms: &[Platform],
        from: &Remote<'_>,
    ) -> Result<Self> {
        let mut named = Self::default();
        for text in given {
            let Some((name, place)) = text.split_once('=') else {
                let message = format!("invalid context value: {text}, expected key=value");
                return Err(Error::invalid(message));
            };
            if let Some(image) = place.strip_prefix("docker-image://") {
                named.contexts.insert(name.to_owned(), NamedContext::Image(image.to_owned()));
                continue;
            }
            if let Some(layout) = place.strip_prefix("oci-layout://") {
                let images = platforms.iter().map(|platform| engine.layout_image(layout, platform));
                named.layouts.insert(name.to_owned(), images.collect::<Result<_>>()?);
                continue;
            }
            let files = match from.get(engine, place)? {
                None => directory(place)?,
                Some(Received::Archive(archive)) => {
                    let path = archive.path().to_owned();
                    named.received.push(archive);
                    path
                }
                Some(Received::Text(_)) => {
                    let message = format!("the context {name} from {place} is no archive");
                    return Err(Error::invalid(message).hint("ADD gets a file by its address"));
                }
            };
            named.contexts.insert(name.to_owned(), NamedContext::Files);
            named.directories.insert(name.to_owned(), files);
        }
        Ok(named)
    }

    /// What each of them is, for the platform with this number.
    pub(super) fn contexts(&self, platform: usize) -> BTreeMap<String, NamedContext> {
        let layouts = self.layouts.iter().filter_map(|(name, images)| {
            Some((name.clone(), NamedContext::Image(images.get(platform)?.to_string())))
        });
        self.contexts.clone().into_iter().chain(layouts).collect()
    }
}
