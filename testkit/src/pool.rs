//! The pool: images made once, kept in the cache, and served by a registry.
//!
//! ```text
//! .cache/pool/            (or CAIS_TEST_CACHE)
//!   lock                  held while images are made
//!   layout/               every image, as one OCI image layout
//!   registry/             the same, as the storage of docker-registry
//!   programs/             docker-registry, where the machine has none
//!   made/<family>         which recipe a family was made by, written when all its images are in
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::image::{RECIPES, RECIPES_ALL, Recipe};
use crate::layout::Layout;
use crate::registry::RegistryServer;
use crate::{host, registry};

/// The families of images, as `pool make` knows them. Each is a repository or more below
/// `docker.io/library`.
pub const IMAGES: &[&str] = &["busybox", "debian", "python", "nginx", "many-layers", "many-files"];

/// Families that only some tests need, which make them: large ones.
pub const IMAGES_ON_DEMAND: &[&str] = &["services"];

/// A cache of images.
#[derive(Debug, Clone)]
pub struct Pool {
    path: PathBuf,
}

impl Pool {
    /// The cache of this tree, or the one that `CAIS_TEST_CACHE` names.
    #[must_use]
    pub fn open() -> Self {
        let path = std::env::var_os("CAIS_TEST_CACHE").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(".cache").join("pool"),
            PathBuf::from,
        );
        Self { path }
    }

    /// Where the cache lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the images lie as an OCI image layout.
    #[must_use]
    pub fn layout(&self) -> PathBuf {
        self.path.join("layout")
    }

    /// Where the images lie as a registry's storage.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.path.join("registry")
    }

    /// Makes the families of images that are missing, with those that they build on; `say` hears
    /// of each one made. Several processes may call this at once: one makes, the others wait.
    ///
    /// # Errors
    /// A family is unknown, a program is missing, or the package mirror does not answer.
    pub fn make(&self, families: &[&str], say: &(dyn Fn(&str) + Sync)) -> Result<()> {
        fs::create_dir_all(self.path.join("made"))
            .with_context(|| format!("make a pool in {}", self.path.display()))?;
        let lock = File::create(self.path.join("lock")).context("make the pool's lock")?;
        lock.lock().context("lock the pool")?;
        self.discard_older()?;
        let missing: Vec<&Recipe> =
            wanted(families)?.into_iter().filter(|r| !self.has(r)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let layout = Layout::open(&self.layout())?;
        let (first, then): (Vec<_>, Vec<_>) = missing.into_iter().partition(|r| r.base.is_none());
        make_all(&layout, &first, say)?;
        make_all(&layout, &then, say)?;
        let server = RegistryServer::start_writable(self)?;
        for recipe in first.into_iter().chain(then) {
            fill(&layout, &server, recipe.name)?;
            fs::write(self.stamp(recipe), version()?)?;
        }
        Ok(())
    }

    /// Empties a pool that was made by other recipes or from another release's packages.
    fn discard_older(&self) -> Result<()> {
        let current = version()?;
        let stamps: Vec<_> = fs::read_dir(self.path.join("made"))?.collect::<Result<_, _>>()?;
        let older =
            |stamp: &fs::DirEntry| fs::read_to_string(stamp.path()).ok().as_ref() != Some(&current);
        if !stamps.iter().any(older) {
            return Ok(());
        }
        for part in ["layout", "registry", "made"] {
            let path = self.path.join(part);
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir(self.path.join("made")).context("make a pool anew")
    }

    fn has(&self, recipe: &Recipe) -> bool {
        self.stamp(recipe).exists()
    }

    fn stamp(&self, recipe: &Recipe) -> PathBuf {
        self.path.join("made").join(recipe.name)
    }
}

/// What a stamp says: the recipes' version and the release that packages came from.
fn version() -> Result<String> {
    Ok(format!("{RECIPES} {}\n", host::release()?))
}

/// The recipes of `families` and of those that they build on, each once, bases first.
fn wanted(families: &[&str]) -> Result<Vec<&'static Recipe>> {
    let known = |family: &&str| IMAGES.contains(family) || IMAGES_ON_DEMAND.contains(family);
    if let Some(unknown) = families.iter().find(|family| !known(family)) {
        bail!("no family of images is called {unknown}; there are {}", IMAGES.join(", "));
    }
    let needed = |recipe: &Recipe| {
        let builds_on =
            |other: &Recipe| other.base == Some(recipe.name) && families.contains(&other.name);
        families.contains(&recipe.name) || RECIPES_ALL.iter().any(builds_on)
    };
    Ok(RECIPES_ALL.iter().filter(|recipe| needed(recipe)).collect())
}

/// Makes independent families at the same time.
fn make_all(layout: &Layout, recipes: &[&Recipe], say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    thread::scope(|scope| {
        let make = |recipe: &Recipe| {
            (recipe.make)(layout).with_context(|| format!("make the images of {}", recipe.name))?;
            say(recipe.name);
            Ok(())
        };
        let threads: Vec<_> = recipes.iter().map(|&r| scope.spawn(move || make(r))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a recipe returns its errors"))
    })
}

/// Copies a family from the layout into the registry, under its names at Docker Hub.
fn fill(layout: &Layout, server: &RegistryServer, family: &str) -> Result<()> {
    let repositories: &[&str] = match family {
        "debian" => &["debian", "ubuntu"],
        _ => &[family],
    };
    for repository in repositories {
        for name in layout.names(repository)? {
            registry::copy(layout, server, &name, &name, &["--all", "--preserve-digests"])?;
        }
    }
    if family == "busybox" {
        registry::copy(layout, server, "busybox:latest", "busybox:schema2", &["--format", "v2s2"])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_come_along_and_first() {
        let names = |families: &[&str]| -> Vec<&str> {
            wanted(families).unwrap().into_iter().map(|recipe| recipe.name).collect()
        };
        assert_eq!(names(&["nginx"]), ["debian", "nginx"]);
        assert_eq!(names(IMAGES), IMAGES);
        assert!(wanted(&["solitaire"]).is_err());
    }
}
