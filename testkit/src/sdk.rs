//! Real libraries that speak Docker's API, as registries of packages have them.
//!
//! What comes is what was looked at: `requirements.txt` and `package-lock.json` name the digest of
//! each package.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::package;
use crate::pool::Pool;

/// Python's `docker` and `testcontainers`, of versions for Python 3.10 and later. Of packages with
/// code for a processor, the plain ones.
const REQUIREMENTS: &str = include_str!("sdk/requirements.txt");

/// npm's `dockerode` and `testcontainers`, of versions for Node 18 and later.
const PACKAGE: &str = include_str!("sdk/package.json");
const PACKAGE_LOCK: &str = include_str!("sdk/package-lock.json");

/// The environment in which Python finds `docker` and `testcontainers`.
///
/// # Panics
/// They cannot be had.
#[must_use]
pub fn python() -> String {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    let fetch = [
        "python3",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--target=packages",
        "--requirement=requirements.txt",
    ];
    let files = [("requirements.txt", REQUIREMENTS)];
    let place = PLACE.get_or_init(|| get("python", &files, &fetch));
    format!("PYTHONPATH={}", place.join("packages").display())
}

/// The environment in which Node finds `dockerode` and `testcontainers`.
///
/// # Panics
/// They cannot be had.
#[must_use]
pub fn node() -> String {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    // No script of a package runs: what they would build is not needed.
    let fetch = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"];
    let files = [("package.json", PACKAGE), ("package-lock.json", PACKAGE_LOCK)];
    let place = PLACE.get_or_init(|| get("node", &files, &fetch));
    format!("NODE_PATH={}", place.join("node_modules").display())
}

/// The directory in the cache, of exactly these versions.
fn get(name: &str, files: &[(&str, &str)], fetch: &[&str]) -> PathBuf {
    let all: String = files.iter().map(|(_, text)| *text).collect();
    let digest = oci::Digest::of(all.as_bytes());
    let place = Pool::open().path().join(format!("sdk-{name}-{}", &digest.hex()[..12]));
    let made = make(&place, files, fetch).with_context(|| format!("get packages for {name}"));
    made.expect("packages can be had; hint: pip and npm must reach theirs");
    place
}

fn make(place: &Path, files: &[(&str, &str)], fetch: &[&str]) -> Result<()> {
    package::cached(place, |unfinished| {
        for (file, text) in files {
            fs::write(unfinished.join(file), text)?;
        }
        package::fetch(fetch, unfinished)?;
        Ok(unfinished.to_owned())
    })
}
