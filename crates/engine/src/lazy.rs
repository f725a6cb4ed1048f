//! Containers that start while the layers of their image are still arriving.
//!
//! A process of its own serves the layers ([`serve`]), brings them into the store as a pull does, and
//! ends with the last container that was started before they were there.

mod pieces;
mod serve;

use oci::{ImageConfig, Platform, Reference};
use runtime::FileDevice;
use store::{Driver, Lease};

use crate::container::Container;
use crate::create::Origin;
use crate::error::Result;
use crate::image::moving;
use crate::settings::Settings;
use crate::start::fork_monitor;
use crate::{Engine, Pulled};

/// What a lazy pull has come to.
#[derive(Debug)]
pub enum Lazily {
    /// The image is here as after any pull.
    Whole(Pulled),
    /// Containers can be made of the image; some of its layers are on their way.
    Arriving(Box<Arriving>),
}

/// An image of which some layers are on their way.
#[derive(Debug)]
pub struct Arriving {
    origin: Origin,
    config: ImageConfig,
    /// How many of its layers are not here yet.
    pub missing: usize,
    /// Until a container refers to the layers.
    lease: Lease,
}

impl Engine {
    /// Pulls an image, without waiting for layers that can be read in parts: those have a table of
    /// contents, and a server that sends ranges. Without such layers, or where this machine cannot
    /// show them, it pulls the whole image, and says why.
    ///
    /// # Errors
    /// As of [`Engine::pull`].
    pub fn pull_lazily(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &(dyn Fn(registry::Event) + Sync),
    ) -> Result<Lazily> {
        let failed = |error| moving(format!("pull {}", reference.familiar()), error);
        let host = Platform::host();
        let mut lease = Some(self.store.lease()?);
        let client = self.registry_client()?;
        let platform = platform.unwrap_or(&host);
        let outlined = registry::outline(&client, &self.store, reference, platform, progress);
        let outlined = outlined.map_err(failed)?;
        if let Some(why) = self.why_not_lazily(&outlined)? {
            progress(registry::Event::Status(format!("Starting when all layers are here: {why}")));
            let pulled = outlined.complete(&client, &self.store, progress).map_err(failed)?;
            self.emit_pull(reference);
            return Ok(Lazily::Whole(pulled));
        }
        let origin = || Origin {
            image_id: outlined.image_id(),
            layers: outlined.layers.iter().map(|layer| layer.diff_id).collect(),
            manifest: Some(outlined.manifest()),
        };
        let arriving = |lease| Arriving {
            origin: origin(),
            config: outlined.config.clone(),
            missing: outlined.layers.iter().filter(|layer| layer.outline.is_some()).count(),
            lease,
        };
        // Connections are not shared with a child.
        drop(client);
        fork_monitor(|started| {
            if let Some(inherited) = lease.take() {
                inherited.leave_to_parent().map_err(|error| {
                    crate::Error::caused(crate::Kind::Internal, "close a lock", error)
                })?;
            }
            self.serve_layers(&outlined, reference, started).map(|()| 0)
        })?;
        let lease = lease.map_or_else(|| self.store.lease(), Ok)?;
        Ok(Lazily::Arriving(Box::new(arriving(lease))))
    }

    /// Why the layers have to be here first, if so.
    fn why_not_lazily(&self, outlined: &registry::Outlined) -> Result<Option<&'static str>> {
        if !outlined.is_partial() {
            return Ok(Some(
                "none of them can be read in parts (the formats zstd:chunked and eStargz can)",
            ));
        }
        if self.store.driver()? != Driver::Erofs {
            return Ok(Some("the storage driver is not erofs"));
        }
        Ok(FileDevice::make().is_err().then_some("this machine has no FUSE"))
    }

    /// As [`Engine::create`], of an image that is on its way.
    ///
    /// # Errors
    /// As of [`Engine::create`].
    pub fn create_arriving(&self, settings: Settings, arriving: Arriving) -> Result<Container> {
        let Arriving { origin, config, lease, .. } = arriving;
        let created = self.create_of(settings, origin, &config);
        drop(lease);
        created
    }
}
