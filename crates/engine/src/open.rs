//! Opening what lies under a pair of roots.

use std::path::Path;

use crate::container::Containers;
use crate::error::{Error, Kind, Result};
use crate::{Engine, file};

impl Engine {
    /// Opens what lies under `root` (kept across reboots) and `run_root` (lost with them).
    ///
    /// `driver` is how the store keeps layers, if that is not left to it.
    ///
    /// Costs next to nothing: directories are made when they are first needed.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the store has another driver. If the roots cannot be used, or others
    /// could: whoever can write there could plant files and links in the place of ours.
    pub fn open(
        root: &Path,
        run_root: &Path,
        driver: Option<store::Driver>,
        registry: registry::Config,
    ) -> Result<Self> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| {
                Error::caused(Kind::Invalid, format!("use {} as a root", path.display()), error)
            })
        };
        let (root, run_root) = (absolute(root)?, absolute(run_root)?);
        let store = store::Store::open(&root)?.with_driver(driver)?;
        let roots = [&root, &run_root];
        roots.into_iter().try_for_each(|root| file::is_ours(root))?;
        let containers = Containers::new(&root, &run_root);
        Ok(Self { root, store, containers, registry, auth: None, adopter: Vec::new() })
    }

    /// The same engine, which leaves it to the kernel when images are written to disk, if `syncs` is
    /// false; else they are before they count as pulled, loaded or made.
    #[must_use]
    pub fn with_sync(self, syncs: bool) -> Self {
        Self { store: self.store.with_sync(syncs), ..self }
    }
}
